"""An answer as messages: each within its platform's limit, none with half a fence, no character lost."""

from __future__ import annotations

from collections.abc import Iterable

from core.markdown.cut import cut
from core.markdown.dialect import Dialect
from core.markdown.parse import parse
from core.markdown.pieces import Piece, in_a_row, sourced
from core.markdown.tree import Blocks, Heading, List, Paragraph
from core.markdown.visible import visible
from core.markdown.writer import LiteralWriter, Writer

_WRITER = Writer()
_LITERAL_WRITER = LiteralWriter()


def split(text: str, dialect: Dialect) -> list[str]:
    """Cut an answer (CommonMark) into parts (CommonMark) that `dialect` can send as one message each.

    Every part renders to at most `dialect.limits.max_length`. Cuts lie between blocks where that leaves no part nearly
    empty, else between items, rows, lines, sentences, words, and in the end between what a reader sees as characters.
    Returns an empty list for an answer with nothing to show.
    """
    pieces = sourced(text)
    if _is_one_paragraph(pieces) and (whole := in_a_row(pieces)) and dialect.size(whole) <= dialect.limits.max_length:
        return [whole]  # as most short answers are: what is sent is what was measured, written once
    splitter = Splitter(dialect)
    splitter.extend(pieces)
    return splitter.finish()


def _is_one_paragraph(pieces: list[Piece]) -> bool:
    return len(pieces) == 1 and isinstance(pieces[0].block, Paragraph)


class Splitter:
    """Fills one part after the other. What it makes of the pieces so far never depends on later ones."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._room = dialect.limits.max_length
        self._gap = dialect.limits.count("\n\n")
        """What the blank line between two blocks takes."""
        self._parts: list[str] = []
        self._pieces: list[Piece] = []
        self._used = 0
        self._ready: list[Piece] = []
        """The pieces of the unfinished part with a source each, kept so that trials need not write them again."""
        self._is_trial = False
        self._measured = 0
        """How full the part was when its size was last compared with the sum of its blocks' sizes."""
        self._excess = 1.0

    @property
    def parts(self) -> list[str]:
        """The parts that are complete."""
        return self._parts

    def trial(self) -> Splitter:
        """One that begins with this one's unfinished part, to try something on; its checks are coarser."""
        for piece in self._pieces[len(self._ready) :]:
            if piece.source is None:
                piece = Piece(piece.block, compose([piece]) + "\n\n", as_read=False)  # noqa: PLW2901
            self._ready.append(piece)
        if self._used - self._measured > self._room // 10:
            self._measured = self._used
            size = self._dialect.size("".join(piece.source or "" for piece in self._ready))
            self._excess = max(1.0, size / self._used)
        other = Splitter(self._dialect)
        other._pieces, other._used, other._is_trial = list(self._ready), int(self._used * self._excess), True
        return other

    def extend(self, pieces: Iterable[Piece]) -> None:
        """Add the next blocks."""
        waiting = list(pieces)[::-1]
        while waiting:
            piece = waiting.pop()
            rest = self._add(piece)
            waiting.extend(reversed(rest))

    def finish(self) -> list[str]:
        """All parts."""
        while self._pieces:
            self._close(last=True)
        return self._parts

    def _add(self, piece: Piece) -> list[Piece]:
        """Put the piece, or what fits of it, into the part; return what is left."""
        size = self._piece_size(piece)
        free = self._room - self._used
        if size <= free:
            self._append(piece, size)
            return []
        # Fill what is left with a beginning of the block, or move it whole? A list is as good in two parts.
        full = 0.85 if isinstance(piece.block, List) else 0.5
        if self._used > self._room * full and size <= self._room:
            self._close()
            return [piece]
        head, rest = cut(piece.block, free, self._size, force=not self._pieces)
        if not head and self._pieces:
            self._close()
            return [piece]
        self._pieces.extend(Piece(block, None) for block in head or (piece.block,))
        self._close()
        return [Piece(block, None) for block in rest] if head else []

    def _append(self, piece: Piece, size: int) -> None:
        self._pieces.append(piece)
        self._used += size + self._gap

    def _size(self, blocks: Blocks) -> int:
        if self._dialect.verbatim:
            return self._dialect.limits.count(compose([Piece(block, None) for block in blocks]))
        return self._dialect.limits.count(self._dialect.write(blocks))

    def _piece_size(self, piece: Piece) -> int:
        if self._dialect.verbatim and piece.source is not None:
            return self._dialect.limits.count(piece.source)
        return self._size((piece.block,))

    def _close(self, *, last: bool = False) -> None:
        """Complete the part. A heading at its end moves to the next one, if there is to be one."""
        pieces, moved = self._pieces, list[Piece]()
        while not last and len(pieces) > 1 and isinstance(pieces[-1].block, Heading):
            moved.insert(0, pieces.pop())
        text, room = compose(pieces), self._room
        # Sizes of blocks do not add up exactly. A trial is repeated often and has measured how far they are off.
        trusted = self._is_trial and self._used <= self._room and all(piece.source is not None for piece in pieces)
        while not trusted:
            excess = self._dialect.size(text) - self._room
            if excess <= 0:
                break
            if len(pieces) > 1:
                while len(pieces) > 1 and excess > 0:
                    moved.insert(0, pieces.pop())
                    excess -= self._piece_size(moved[0])
            else:
                room = room * 9 // 10
                head, rest = cut(pieces[0].block, room, self._size, force=True)
                if not head or room < self._room // 4:
                    break
                pieces = [Piece(block, None) for block in head]
                moved = [Piece(block, None) for block in rest] + moved
            text = compose(pieces)
        if text.strip():
            self._parts.append(text)
        self._pieces, self._ready, self._used, self._measured, self._excess = [], [], 0, 0, 1.0
        for piece in moved:
            self._append(piece, self._piece_size(piece))


def compose(pieces: list[Piece]) -> str:
    """CommonMark that is read as these blocks: their own source where that does, written anew where it does not."""
    if (text := in_a_row(pieces)) is not None:
        return text
    blocks = tuple(piece.block for piece in pieces)
    wanted = _WRITER.document(blocks)
    if any(piece.source is not None for piece in pieces):
        text = _joined(pieces)
        if _reads_as(text, blocks, wanted):
            return text
    if _reads_as(wanted, blocks, wanted):
        return wanted
    return _LITERAL_WRITER.document(blocks)


def _joined(pieces: list[Piece]) -> str:
    return "".join(
        _WRITER.document((piece.block,)) + "\n\n" if piece.source is None else piece.source for piece in pieces
    ).strip("\n")


def _reads_as(text: str, blocks: Blocks, wanted: str) -> bool:
    parsed = parse(text)
    return parsed == blocks or (visible(parsed) == visible(blocks) and _WRITER.document(parsed) == wanted)
