"""An answer on its way, cut where nothing before can change any more."""

from __future__ import annotations

import re

from core.markdown.parse import clean, sections
from core.markdown.pieces import Piece, pieces_of, sourced
from core.markdown.unfinished import presentable

_OPENING_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[^`\n]*\n")


def _closed(fence: str, source: str) -> bool:
    return source.find(fence, source.index(fence) + len(fence)) >= 0


class BlockStream:
    """Holds the growing end of an answer and lets go of every block that later text cannot change.

    Only complete lines decide: a line that is still being written may yet turn out to continue the block above
    (`2` may become `2. …`). All but the last block of the complete lines are settled; the grammar resolves no
    references, so nothing that follows reaches back.
    """

    def __init__(self) -> None:
        self._open = ""
        self._held = ""
        self._fence = ""
        """The closing fence that is waited for, while the growing block is code: no need to parse until it comes."""

    def feed(self, piece: str) -> list[Piece]:
        """Take the next piece of text; return the blocks that are settled by it, often none."""
        piece = self._held + piece
        self._held = "\r" if piece.endswith("\r") else ""  # half of a line end
        piece = clean(piece.removesuffix("\r"))
        self._open += piece
        if "\n" not in piece or (self._fence and self._fence not in self._open[-len(piece) - len(self._fence) :]):
            return []
        self._fence = ""
        lines = self._open.split("\n")
        found = sections("\n".join(lines[:-1]) + "\n")
        if len(found) < 2:
            if (opening := _OPENING_FENCE.match(self._open)) and not _closed(opening[1], self._open):
                self._fence = opening[1]
            return []
        cut = found[-1].first
        self._open = "\n".join(lines[cut:])
        return pieces_of(found[:-1], lines, cut)

    def preview(self) -> str:
        """The source of the growing block, as it may be shown now."""
        return presentable(self._open)

    def finish(self) -> list[Piece]:
        """The blocks that are left. The stream is empty then."""
        rest, self._open = self._open + ("\n" if self._held else ""), ""
        self._held = ""
        return sourced(rest)
