"""What a platform understands: how text is written there and how much fits into one message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.adapter import TextLimits
from core.markdown.parse import parse
from core.markdown.recent import Recent
from core.markdown.tree import Blocks
from core.markdown.writer import Writer

_Write = Callable[[Blocks], str]

_WRITTEN = Recent[tuple[_Write, str], str](1_000_000)
"""A part is written when it is cut, for its size, and sent soon after. Weighed in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one kind of message is written."""

    name: str
    """For documents and messages of errors."""
    limits: TextLimits
    """How much of it one message holds, counted after rendering. At least 200 of its units."""
    write: _Write
    """A parsed answer in the dialect. What it returns mentions nobody and holds every visible character."""
    verbatim: bool = False
    """Render text as it is instead of parsing and writing it; `write` must be CommonMark then."""

    def render(self, text: str) -> str:
        """CommonMark in the dialect, for one message: `split` first."""
        if self.verbatim:
            return text
        key = (self.write, text)
        written = _WRITTEN.get(key)
        if written is None:
            written = self.write(parse(text))
            _WRITTEN.keep(key, written, len(text) + len(written))
        return written

    def size(self, text: str) -> int:
        """How much of a message `text` (CommonMark) takes."""
        return self.limits.count(self.render(text))


def plain_markdown(limits: TextLimits) -> Dialect:
    """CommonMark as it is, for channels whose reader renders it."""
    return Dialect(name="markdown", limits=limits, write=Writer().document, verbatim=True)


def forget() -> None:
    """Let go of what was written: measurements begin with that."""
    _WRITTEN.clear()
