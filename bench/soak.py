"""Thousands of people over a long time on one gateway, over HTTP and on Discord: what stays behind of each turn in memory.

`python -m bench.soak [SESSIONS [TURNS]]` prints the slope of the memory after a warm-up, in MB for 10,000 turns, and how tasks
and descriptors changed; 10,000 sessions of 20 turns take about half an hour. tests/scenario/test_soak.py runs it short in CI.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import load
from bench.processes import Lines, Model, Process, free_port, lines, model_server, started
from bench.roads import ROADS
from bench.subjects import wrong_of
from gateway import log
from gateway.app import App
from gateway.config import load as read

_AT_ONCE = 32
"""People who wait for an answer at any time, over HTTP."""

_ON_DISCORD = 0.1
"""Of all turns; a message there costs the simulator far more than the gateway."""

_WARM_UP = 0.3
"""Of all turns: caches and the allocator have grown to their size then."""

_SAMPLES = 30
"""Looks at the gateway, at least."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The gateway between two batches, when nobody is being answered."""

    turns: int
    """So far."""
    memory: float
    """Resident, in MB."""
    tasks: int
    threads: int
    descriptors: int
    hot: int
    """Histories in memory."""
    hot_characters: int


@dataclass(frozen=True, slots=True)
class Soak:
    """What was seen."""

    samples: Sequence[Sample]
    seconds: float
    wrong: int
    """Answers on Discord that were lost, doubled, misordered or damaged."""

    @property
    def warm(self) -> Sequence[Sample]:
        """After the warm-up."""
        return [each for each in self.samples if each.turns >= _WARM_UP * self.samples[-1].turns]

    @property
    def slope(self) -> float:
        """MB for 10,000 turns, by least squares over what is warm."""
        count = len(self.warm)
        x = sum(each.turns for each in self.warm) / count
        y = sum(each.memory for each in self.warm) / count
        square = sum((each.turns - x) ** 2 for each in self.warm)
        return 10_000 * sum((each.turns - x) * (each.memory - y) for each in self.warm) / square if square else 0.0

    def spread(self, what: str) -> int:
        """The difference between the most and the least, once warm."""
        values = [int(getattr(each, what)) for each in self.warm]
        return max(values) - min(values)

    def __str__(self) -> str:
        last = self.samples[-1]
        return (
            f"R7: {last.turns:,} turns in {self.seconds:.0f} s, memory {self.warm[0].memory:.0f} to {last.memory:.0f} MB, "
            f"{self.slope:+.2f} MB for 10,000 turns after the warm-up; tasks ±{self.spread('tasks')}, descriptors "
            f"±{self.spread('descriptors')}, threads ±{self.spread('threads')}, {last.hot:,} histories in memory, "
            f"{self.wrong} wrong"
        )


async def soak(folder: Path, *, sessions: int, turns: int) -> Soak:
    """`sessions` people ask `turns` questions each, block by block; some of them on Discord, in places of their own."""
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(model_server(folder))
        people = await stack.enter_async_context(lines("bench.people", "discord"))
        process = await stack.enter_async_context(_gateway(folder, model, people))
        parts = max(1, _SAMPLES // turns)
        block = max(1, sessions // parts)
        samples, done, wrong = [await _look(process, folder, 0)], 0, 0
        began = time.monotonic()
        for number in range(parts * turns):
            there = max(1, int(block * _ON_DISCORD))
            found, _ = await asyncio.gather(
                people.do("ask", users=min(8, there), requests=there, people=min(64, there), bare=False),
                load.run(
                    process.url,
                    users=min(_AT_ONCE, block),
                    requests=block - there,
                    sessions=block,
                    offset=number % parts * block,
                ),
            )
            wrong += wrong_of(found)
            done += block
            samples.append(await _look(process, folder, done))
        return Soak(samples, time.monotonic() - began, wrong)


@asynccontextmanager
async def _gateway(folder: Path, model: Model, people: Lines) -> AsyncIterator[Process]:
    road = ROADS["discord"]
    port = free_port()
    config = folder / "config.yaml"
    none = ("messages_per_minute", "messages_per_day", "tokens_per_day", "same_text_per_minute")
    settings = {
        "chat": {"base_url": f"{model.url}/v1", "api_key": "bench-key", "model": "gpt-test"},
        "storage": {"url": f"sqlite:{folder}/data/gateway.db"},
        "server": {"port": port},
        "limits": {**dict.fromkeys(none), "channel_messages_per_minute": None},
        "accounts": {name: await people.do("account", name=name) for name in road.bots},
    }
    config.write_text(json.dumps(settings))
    command = (sys.executable, "-m", "bench.soak", "serve", str(config), str(folder / "look.json"))
    url = f"http://127.0.0.1:{port}"
    async with started(command, url=url, ready="/readyz", cwd=Path.cwd(), log=folder / "gateway.log") as process:
        await people.do("listens", url=process.url)
        await people.do("listening", names=road.bots)
        yield process


async def _look(process: Process, folder: Path, turns: int) -> Sample:
    """Once nobody is being answered any more."""
    report, before = folder / "look.json", 0
    for _ in range(1000):
        report.unlink(missing_ok=True)
        process.child.send_signal(signal.SIGUSR1)
        while not report.exists():
            await asyncio.sleep(0.005)
        found = json.loads(report.read_text())
        if not found.pop("busy") and found["tasks"] == before:  # connections that are being closed have a task, too
            descriptors = len(list(Path(f"/proc/{process.child.pid}/fd").iterdir()))
            return Sample(turns=turns, memory=process.memory, descriptors=descriptors, **found)
        before = found["tasks"]
        await asyncio.sleep(0.05)
    raise RuntimeError("the gateway never comes to rest")


async def serve(config: str, report: str) -> None:
    """The gateway, which writes down how it is on SIGUSR1."""
    log.configure("error", "json")
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    async with App(read(Path(config), {})) as app:

        def look() -> None:
            found = {
                "tasks": len(asyncio.all_tasks()),
                "threads": threading.active_count(),
                "hot": len(app.sessions._hot),
                "hot_characters": app.sessions._hot_characters,
                "busy": bool(app.dispatcher.workers or app.dispatcher._errands),
            }
            fresh = Path(f"{report}.new")
            fresh.write_text(json.dumps(found))
            fresh.replace(report)

        loop.add_signal_handler(signal.SIGTERM, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, look)
        await stop.wait()


async def main(sessions: int, turns: int) -> None:
    with tempfile.TemporaryDirectory(prefix="chatgpt-ms-soak-") as name:
        print(await soak(Path(name), sessions=sessions, turns=turns))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(*sys.argv[2:]))
    else:
        asyncio.run(
            main(*[int(word) for word in (*sys.argv[1:], "10000", "20")[:2]])
            if len(sys.argv) < 2
            else main(*map(int, sys.argv[1:3]))
        )
