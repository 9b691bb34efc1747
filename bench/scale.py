"""Whether a message costs the same however much is stored, and a thousand answers at once: `python -m bench scale`."""

from __future__ import annotations

import json
import signal
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path

from bench import load, streams
from bench.processes import Model, gateway
from bench.table import Table, median, percentile

_NEW = 1_000_000
_FIRST, _EVERY, _WORDS = 0.3, 0.05, 100
"""The model's pace for the thousand: seconds to the first token, between two, and tokens."""


async def measure(folder: Path, model: Model, *, quick: bool) -> None:
    """Two tables."""
    await _stored(folder, model, quick=quick)
    await _at_once(folder, model, 200 if quick else 1000)


async def _stored(folder: Path, model: Model, *, quick: bool) -> None:
    """Three gateways side by side; in each round each gets the same messages of people who are new to it."""
    sizes = (10, 1000, 5000) if quick else (10, 1000, 100_000)
    rounds, people, each = (3, 100, 5) if quick else (7, 200, 10)
    costs, rates = (defaultdict[int, list[float]](list) for _ in range(2))
    async with AsyncExitStack() as stack:
        gateways = {
            size: await stack.enter_async_context(gateway(folder / f"stored-{size}", model.url)) for size in sizes
        }
        for size, process in gateways.items():
            await load.run(process.url, users=min(64, size), requests=size, sessions=size)
        for number in range(-1, rounds):  # the first one warms up
            for size, process in gateways.items():
                before = process.cpu
                result = await load.run(
                    process.url, users=16, requests=people * each, sessions=people, offset=_NEW + number * people
                )
                if number >= 0:
                    costs[size].append((process.cpu - before) * 1000 / (people * each))
                    rates[size].append(result.rate)
        table = Table(
            "Cost by what is stored", "processor, ms a message", "to the first", "messages a second", "memory, MB"
        )
        for size, process in gateways.items():
            cost, first = median(costs[size]), median(costs[sizes[0]])
            rate = f"{median(rates[size]):.0f}"
            table.row(f"{size:,} sessions", f"{cost:.2f}", f"{cost / first:.2f}", rate, f"{process.memory:.0f}")


async def _at_once(folder: Path, model: Model, users: int) -> None:
    """Streams over HTTP on one process, with every callback of its loop timed."""
    await model.pace(_FIRST, _EVERY)
    try:
        async with gateway(folder / "at-once", model.url, watched=True) as ours:
            await streams.run(ours.url, users=users, each=1, words=2, offset=10_000_000, spread=2.0)
            ours.child.send_signal(signal.SIGUSR1)
            await model.times()
            before, mine, theirs, began = ours.cpu, time.process_time(), model.process.cpu, time.monotonic()
            found = await streams.run(ours.url, users=users, each=1, words=_WORDS - 2, spread=0.5)
            seconds = time.monotonic() - began
            cpu, mine, theirs = ours.cpu - before, time.process_time() - mine, model.process.cpu - theirs
            memory, times = ours.memory, await model.times()
        report = json.loads((folder / "at-once/report.json").read_text())
    finally:
        await model.pace(0.0, 0.0)
    whole = [one for one in found if one.whole is not None and one.first is not None and one.mark in times]
    firsts = [(one.first - times[one.mark][0]) * 1000 for one in whole if one.first is not None]
    ends = [(one.whole - times[one.mark][1]) * 1000 for one in whole if one.whole is not None]
    table = Table(f"{users} streams at once, {_FIRST * 1000:g} ms and {1 / _EVERY:g} tokens a second × {_WORDS}", "")
    table.row("answered, as the model wrote", f"{sum(one.right for one in found)} of {users}")
    for title, values in (("first text", firsts), ("end", ends)):
        shown = f"{percentile(values, 0.5):.0f} / {percentile(values, 0.99):.0f}"
        table.row(f"{title} beyond the model's, p50 / p99, ms", shown)
    table.row("all took, s", f"{seconds:.1f}")
    table.row("processor of gateway / model / readers, s", f"{cpu:.1f} / {theirs:.1f} / {mine:.1f}")
    table.row("memory, MB (most: with the start)", f"{memory:.0f} ({report['memory']:.0f})")
    table.row("longest hold of the loop, ms", f"{report['longest'] * 1000:.1f}")
    table.row("callbacks over 10 ms", f"{report['over_10_ms']} of {report['callbacks']:,}")
    print(f"longest: {'; '.join(report['worst'])}", flush=True)
