"""What no program can go below: one model call, one commit, one event read. `python -m bench floor`."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import ClientSession

from bench.processes import Model
from bench.table import Table, median

_EVENT = Path(__file__).parents[1] / "tests/payloads/slack"


async def measure(folder: Path, model: Model, *, quick: bool) -> None:
    """Each several times; medians."""
    rounds, count = (3, 200) if quick else (7, 1000)
    table = Table("Raw costs", "time, ms", "processor, ms")
    for name, figures in (
        ("one model call by aiohttp, streamed", await _model_calls(model, rounds, count)),
        ("one commit (SQLite, WAL, synced)", _rounds(_commits(folder), rounds, count)),
        ("one event of Slack's read (json.loads)", _rounds(_parses(), rounds, count)),
    ):
        wall, cpu = zip(*figures, strict=True)
        table.row(name, f"{median(wall):.3f}", f"{median(cpu):.3f}")


async def _model_calls(model: Model, rounds: int, count: int) -> list[tuple[float, float]]:
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": "q0x"}], "stream": True}
    found = []
    async with ClientSession(model.url) as session:
        for _ in range(rounds):
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(count):
                pieces = []
                async with session.post("/v1/chat/completions", json=body) as answer:
                    async for line in answer.content:
                        if line.startswith(b"data: {"):
                            pieces += [each["delta"].get("content") or "" for each in json.loads(line[6:])["choices"]]
            found.append(_per_call(wall, cpu, count))
            await asyncio.sleep(0)
    return found


def _per_call(wall: float, cpu: float, count: int) -> tuple[float, float]:
    """Milliseconds since then, for each of so many calls."""
    return (time.perf_counter() - wall) * 1000 / count, (time.process_time() - cpu) * 1000 / count


def _rounds(work: Callable[[], object], rounds: int, count: int) -> list[tuple[float, float]]:
    found = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            work()
        found.append(_per_call(wall, cpu, count))
    return found


def _commits(folder: Path) -> Callable[[], object]:
    """One row a commit, as the journal's settings have it."""
    database = sqlite3.connect(folder / "floor.db", isolation_level=None)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE row (body TEXT)"):
        database.execute(statement)
    body = "x" * 500

    def commit() -> None:
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO row VALUES (?)", (body,))
        database.execute("COMMIT")

    return commit


def _parses() -> Callable[[], object]:
    text = min(_EVENT.glob("*.json")).read_bytes()
    return lambda: json.loads(text)
