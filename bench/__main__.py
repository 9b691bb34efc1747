"""`make bench`: the whole road of a message, measured on this machine; prints tables, takes about half an hour.

`make bench ARGS="quick"` is shorter; `ARGS="http"`, `ARGS="slack discord quick"` and so on choose parts: `floor`, `start`,
`http`, `slack` (`slack-http`, `slack-socket`), `discord`, `feishu`, `paced`, `scale`. A road's name with `paced` paces
that road alone.

Everything runs on loopback, each program in a process of its own. Rounds of those that are compared take turns, and
medians are printed: ratios matter, absolute numbers depend on the machine. docs/performance.md explains the figures.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import floor, paced, scale, starting, traffic
from bench.processes import Model, model_server
from bench.roads import ROADS
from bench.subjects import over_http, over_platform

_ALONE = ("floor", "start", "paced", "scale")


def chosen(words: Sequence[str]) -> tuple[list[str], list[str], bool]:
    """The parts, the roads (`http` is one), and whether it shall be short. Raises ValueError for a word that means nothing."""
    roads = ["http", *ROADS]
    parts: list[str] = []
    named: list[str] = []
    for word in words:
        if word == "quick":
            continue
        if word in _ALONE:
            parts.append(word)
        elif found := [road for road in roads if road == word or road.startswith(f"{word}-")]:
            named += found
        else:
            raise ValueError(f"there is no part {word!r}; there are {', '.join(('quick', *_ALONE, *roads))}")
    if not parts and not named:
        parts = list(_ALONE)
    return parts, named or roads, "quick" in words


async def main(words: Sequence[str]) -> None:
    """Measure what the words choose."""
    parts, roads, quick = chosen(words)
    every = set(parts) == set(_ALONE)
    with tempfile.TemporaryDirectory(prefix="chatgpt-ms-bench-") as name:
        folder = Path(name)
        async with model_server(folder) as model:
            if "floor" in parts:
                await floor.measure(folder, model, quick=quick)
            if "start" in parts:
                await starting.measure(folder, model, quick=quick)
            if every or not parts:
                for road in roads:
                    await _traffic(folder, model, road, quick=quick)
            if "paced" in parts:
                await paced.measure(folder, model, roads, quick=quick)
            if "scale" in parts:
                await scale.measure(folder, model, quick=quick)


async def _traffic(folder: Path, model: Model, road: str, *, quick: bool) -> None:
    size = traffic.size_of(quick=quick, http=road == "http")
    opened = over_http(folder, model) if road == "http" else over_platform(folder, model, ROADS[road])
    async with opened as subjects:
        await traffic.measure(subjects, size)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1:]))
    except ValueError as error:
        sys.exit(f"bench: {error}")
