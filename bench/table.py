"""Tables as the documents have them: Markdown, each row printed as soon as it is known."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


class Table:
    """Prints its heading at once."""

    def __init__(self, title: str, *columns: str) -> None:
        self._widths = [40, *(max(12, len(column)) for column in columns)]
        print(f"\n## {title}\n", flush=True)
        self.row("", *columns)
        self.row("-" * 3, *("-" * 3 for _ in columns))

    def row(self, *cells: str) -> None:
        """One row."""
        padded = (cell.ljust(width) for cell, width in zip(cells, self._widths, strict=False))
        print(f"| {' | '.join(padded)} |", flush=True)


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of them stay below; not a number if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def median(values: Sequence[float]) -> float:
    """Of the rounds; not a number if there are none."""
    return statistics.median(values) if values else float("nan")
