"""Tables in the terminal."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import click

from core.markdown.measure import clusters
from core.markdown.measure import width as width_of

_GAP = "  "
_UNLIMITED = 10_000
"""Columns, where the output is not a terminal: one line a row, for other programs."""


def show(rows: Sequence[Mapping[str, Any]], *, empty: str) -> None:
    """Print `rows` (all with the same keys) as a table that fits the terminal, or the sentence `empty`."""
    if not rows:
        click.echo(empty)
        return
    cells = [[*rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
    wide = shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNLIMITED
    widths = _widths(cells, wide)
    for number, row in enumerate(cells):
        folded = [_fold(cell, width) for cell, width in zip(row, widths, strict=True)]
        for line in zip_longest(*folded, fillvalue=""):
            padded = (text + " " * (width - width_of(text)) for text, width in zip(line, widths, strict=True))
            click.echo(_GAP.join(padded).rstrip())
        if number == 0:
            click.echo("─" * (sum(widths) + len(_GAP) * (len(widths) - 1)))


def _widths(cells: Sequence[Sequence[str]], wide: int) -> list[int]:
    """As wide as the widest cell; where that is too much, the widest columns give way first."""
    widths = [max(width_of(row[column]) for row in cells) for column in range(len(cells[0]))]
    while sum(widths) + len(_GAP) * (len(widths) - 1) > wide and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    return widths


def _fold(cell: str, width: int) -> list[str]:
    lines, used = [""], 0
    for cluster in clusters(cell):
        if used + width_of(cluster) > width and used:
            lines.append("")
            used = 0
        lines[-1] += cluster
        used += width_of(cluster)
    return lines


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    return "" if value is None else " ".join(str(value).split())
