"""Plain text for channels that render nothing, WeChat among them.

WeChat shows what it is sent; it cuts at about 2,000 characters without a word, and 1,800 are safe.
"""

from __future__ import annotations

from core.adapter import TextLimits
from core.markdown.chatwriter import ChatWriter
from core.markdown.dialect import Dialect
from core.markdown.measure import utf16_units
from core.markdown.mentions import defuse
from core.markdown.tables import words
from core.markdown.tree import Blocks, Inlines, Table


class PlainWriter(ChatWriter):
    """Bullets, numbers, `words (address)`; a heading in brackets; a row of a table as one line."""

    def document(self, blocks: Blocks) -> str:
        return defuse(super().document(blocks))

    def heading(self, level: int, children: Inlines) -> str:  # noqa: ARG002
        return f"【{self.inlines(children)}】"

    def quote(self, children: Blocks) -> str:
        return "\n".join(f"│ {line}".rstrip() for line in self.blocks(children).split("\n"))

    def marker(self, number: int | None, *, other: bool) -> str:  # noqa: ARG002
        return "• " if number is None else f"{number}. "

    def line(self, line: str) -> str:
        return line.lstrip(" \t")

    def text(self, text: str) -> str:
        return text

    def styled(self, mark: str, children: Inlines, before: str) -> str:  # noqa: ARG002
        return f"~{self.span(children)}~" if mark == "~~" else self.span(children)

    def code(self, text: str) -> str:
        return text

    def code_block(self, info: str, body: str) -> str:  # noqa: ARG002
        return body.rstrip("\n")

    def table(self, table: Table) -> str:
        return "\n".join(" | ".join(words(cell) for cell in row) for row in (table.header, *table.rows))

    def address(self, target: str) -> str:
        return target.removeprefix("mailto:")

    def line_break(self, *, hard: bool) -> str:  # noqa: ARG002
        return "\n"


def plain_text(limits: TextLimits) -> Dialect:
    """Plain text for any channel."""
    return Dialect(name="plain text", limits=limits, write=PlainWriter().document)


WECHAT = plain_text(TextLimits(max_length=1800, count=utf16_units))
