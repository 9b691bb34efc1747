"""The blocks of an answer, each with the CommonMark it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.markdown.parse import Section, clean, parse, remember, sections
from core.markdown.tree import Block, CodeBlock, List, Quote


@dataclass(frozen=True, slots=True)
class Piece:
    """A block and the CommonMark it stands for; no source if it was cut from another one."""

    block: Block
    source: str | None
    as_read: bool = True
    """The block is what its source was read as. A source written for a block may be read a little otherwise."""


def sourced(text: str) -> list[Piece]:
    """The blocks of `text` with their lines, each with the blank ones below it."""
    text = clean(text)
    lines = text.removesuffix("\n").split("\n")
    return pieces_of(sections(text), lines, len(lines))


def pieces_of(found: Sequence[Section], lines: Sequence[str], end: int) -> list[Piece]:
    """The sections of `lines`, the last one up to, not including, line `end`."""
    ends = [*(section.first for section in found[1:]), end]
    return [
        Piece(section.block, "\n".join(lines[section.first : end]) + "\n")
        for section, end in zip(found, ends, strict=False)
    ]


def in_a_row(pieces: Sequence[Piece]) -> str | None:
    """The source of pieces that stood in a row; None if one has none.

    It need not be parsed again: blocks of the top level do not depend on each other, as nothing resolves references. All
    that can differ are the blank lines at the end, which code without an end takes for its own.
    """
    text = "".join(piece.source or "" for piece in pieces).strip("\n")
    if not pieces or any(piece.source is None for piece in pieces):
        return None
    last = pieces[-1]
    source = (last.source or "").strip("\n")
    ends_well = not _may_end_in_code(last.block, source) or parse(source) == (last.block,)
    if ends_well and all(piece.as_read for piece in pieces):
        remember(text, tuple(piece.block for piece in pieces))
    return text


def _may_end_in_code(block: Block, source: str) -> bool:
    return isinstance(block, CodeBlock | List | Quote) and ("```" in source or "~~~" in source)
