"""Tables for platforms that have none: aligned in code, or as records where they are too wide."""

from __future__ import annotations

from core.markdown.links import safe
from core.markdown.measure import width
from core.markdown.plaintext import plain
from core.markdown.tree import (
    Block,
    Break,
    CodeBlock,
    Emphasis,
    Image,
    Inlines,
    Item,
    Link,
    List,
    Paragraph,
    Strike,
    Strong,
    Table,
    Text,
)

_WIDEST = 76
"""Columns that fit a chat window on a screen without wrapping; phones scroll or wrap."""


def without_table(table: Table) -> tuple[Block, ...]:
    """The table as an aligned block of code where it is narrow enough, else as records."""
    lines = aligned(table)
    if max(map(width, lines)) <= _WIDEST:
        return (CodeBlock("", "\n".join(lines) + "\n"),)
    return records(table)


def aligned(table: Table) -> list[str]:
    """Lines of a monospaced table; Chinese characters and emoji count as two columns."""
    rows = [[words(cell) for cell in row] for row in (table.header, *table.rows)]
    columns = range(len(table.header))
    widths = [max(width(row[column]) for row in rows) for column in columns]

    def line(row: list[str]) -> str:
        return " | ".join(_padded(row[column], widths[column], table.align[column]) for column in columns).rstrip()

    return [line(rows[0]), "-|-".join("-" * wide for wide in widths), *map(line, rows[1:])]


def _padded(text: str, wide: int, align: str) -> str:
    space = wide - width(text)
    before = {"right": space, "center": space // 2}.get(align, 0)
    return " " * before + text + " " * (space - before)


def words(cell: Inlines) -> str:
    """One line of plain text with the targets of links."""
    pieces = []
    for inline in cell:
        match inline:
            case Link(target, children):
                label = words(children)
                pieces.append(
                    label if label == target or (not label.strip() and not target) else f"{label} ({target})".strip()
                )
            case Image(source, alt):
                pieces.append(f"{alt} ({source})".strip())
            case Emphasis(children) | Strong(children):
                pieces.append(words(children))
            case Strike(children):
                pieces.append(f"~{words(children)}~")
            case Break():
                pieces.append(" ")
            case _:
                pieces.append(inline.text)
    return "".join(pieces).strip()


def records(table: Table) -> tuple[Block, ...]:
    """The header as a line, then one item per row: its cells, each with the name of its column."""
    names = [name for name in table.header if plain(name).strip()]
    header = tuple(inline for name in names for inline in (Text(" | "), *name))[1:]
    items = []
    for row in table.rows:
        pairs = [(name, cell) for name, cell in zip(table.header, row, strict=True) if cell]
        lines: list[Inlines] = [
            (Strong(_styleless(name)), Text(": "), *cell) if plain(name).strip() else cell for name, cell in pairs
        ]
        joined = tuple(inline for line in lines for inline in (Break(hard=True), *line))[1:]
        if joined:
            items.append(Item((Paragraph(joined),)))
    blocks: list[Block] = [Paragraph((Strong(_styleless(header)),))] if header else []
    if items:
        blocks.append(List(None, True, tuple(items)))
    return tuple(blocks)


def _styleless(inlines: Inlines) -> Inlines:
    return (Text(words(inlines)),)


def is_linked(inlines: Inlines) -> bool:
    """Whether there is a link in it that somebody may want to follow."""
    return any(
        (isinstance(inline, Link) and safe(inline.target))
        or (isinstance(inline, Emphasis | Strong | Strike) and is_linked(inline.children))
        for inline in inlines
    )
