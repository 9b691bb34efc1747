"""`make bench`: the gateway beside a bare script, against a model that answers at once, in the same run.

Medians of interleaved rounds; ratios matter, absolute numbers depend on the machine. `make bench ARGS=quick` is shorter.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import load
from bench.processes import Process, bare_script, gateway, model_server


async def main(*, quick: bool) -> None:
    rounds, requests, sessions, starts = (3, 1_000, 2_000, 3) if quick else (7, 3_000, 10_000, 7)
    with tempfile.TemporaryDirectory(prefix="chatgpt-ms-bench-") as name:
        folder = Path(name)
        async with model_server(folder, _free_port()) as model:
            await _start_up(folder, model.url, starts)
            async with (
                gateway(folder / "gateway", _free_port(), model.url) as ours,
                bare_script(folder, _free_port(), model.url) as bare,
            ):
                _row("memory when idle, MB", [ours.memory], [bare.memory], unit="{:.0f}")
                await load.run(ours.url, users=8, requests=500)
                await load.run(bare.url, users=8, requests=500)
                await _latency(ours, bare, rounds)
                await _throughput(ours, bare, rounds, requests)
                await _memory(ours, sessions)


async def _start_up(folder: Path, model: str, starts: int) -> None:
    ours, bare = [], []
    for _ in range(starts):
        async with gateway(folder / "start", _free_port(), model) as process:
            ours.append(process.ready_after)
        async with bare_script(folder, _free_port(), model) as process:
            bare.append(process.ready_after)
    _row("from start to ready, s", ours, bare, unit="{:.2f}")


async def _latency(ours: Process, bare: Process, rounds: int) -> None:
    """One user at a time."""
    figures: dict[str, tuple[list[float], list[float]]] = {"p50": ([], []), "p99": ([], [])}
    for _ in range(rounds):
        for index, process in enumerate((ours, bare)):
            result = await load.run(process.url, users=1, requests=300)
            figures["p50"][index].append(result.percentile(0.50) * 1000)
            figures["p99"][index].append(result.percentile(0.99) * 1000)
    for name, (mine, theirs) in figures.items():
        _row(f"latency at one user, {name}, ms", mine, theirs, unit="{:.2f}")
        added = [one - other for one, other in zip(mine, theirs, strict=True)]
        print(f"{'  added by the gateway, ' + name + ', ms':<44}{statistics.median(added):>10.2f}")


async def _throughput(ours: Process, bare: Process, rounds: int, requests: int) -> None:
    """64 users, each with a session of their own."""
    rates: tuple[list[float], list[float]] = ([], [])
    costs: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for index, process in enumerate((ours, bare)):
            before = process.cpu
            result = await load.run(process.url, users=64, requests=requests)
            rates[index].append(result.rate)
            costs[index].append((process.cpu - before) * 1000 / requests)
    _row("messages per second at 64 users", *rates, unit="{:.0f}")
    _row("processor ms per message", *costs, unit="{:.2f}")


async def _memory(ours: Process, sessions: int) -> None:
    before = ours.memory
    await load.run(ours.url, users=64, requests=sessions, sessions=sessions, offset=1_000_000)
    print(f"{f'memory after {sessions:,} more sessions, MB':<44}{ours.memory:>10.0f}   (before: {before:.0f})")


def _row(name: str, ours: Sequence[float], bare: Sequence[float], *, unit: str) -> None:
    mine, theirs = statistics.median(ours), statistics.median(bare)
    print(f"{name:<44}{unit.format(mine):>10}   bare {unit.format(theirs):>8}   ratio {mine / theirs:.2f}", flush=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    asyncio.run(main(quick="quick" in sys.argv[1:]))
