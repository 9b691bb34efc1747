"""A model of the usual speed and 200 people at once: what they wait beyond the model's own time, and what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import streams
from bench.processes import Lines, Model, gateway, lines
from bench.roads import ROADS, Road
from bench.table import Table, percentile

FIRST, EVERY, WORDS = 0.3, 0.02, 100
"""Seconds to the first token; between two; tokens."""
USERS = 200
_QUESTION = WORDS - 2
"""Words, to which the model adds two."""


async def measure(folder: Path, model: Model, names: Iterable[str], *, quick: bool) -> None:
    """All roads named; `http` is the one without a platform."""
    users, each = (50, 1) if quick else (USERS, 3)
    title = (
        f"{users} users, model of {FIRST * 1000:g} ms to the first token and {1 / EVERY:g} tokens a second × {WORDS}"
    )
    table = Table(
        title,
        *("first text beyond the model's, p50, ms", "p99", "end beyond the model's, p50, ms", "p99"),
        *("answers", "lost", "doubled", "misordered", "damaged", "processor, ms an answer", "of platform and people"),
    )
    await model.pace(FIRST, EVERY)
    try:
        for name in names:
            if name == "http":
                await _over_http(folder, model, table, users, each)
            else:
                await _over_platform(folder, model, table, ROADS[name], users, each)
    finally:
        await model.pace(0.0, 0.0)


async def _over_http(folder: Path, model: Model, table: Table, users: int, each: int) -> None:
    async with gateway(folder / "paced-http", model.url) as ours:
        await streams.run(ours.url, users=users, each=1, words=2, offset=10_000_000)
        await model.times()
        before, mine = ours.cpu, time.process_time()
        found = await streams.run(ours.url, users=users, each=each, words=_QUESTION)
        costs = (ours.cpu - before, time.process_time() - mine)
        answers = [(one.mark, one.asked, one.first, one.whole) for one in found]
        damaged = sum(one.whole is not None and not one.right for one in found)
        lost = sum(one.whole is None for one in found)
        wrong = {"lost": lost, "doubled": 0, "misordered": 0, "damaged": damaged}
        _row(table, "HTTP, POST /chat-stream", answers, await model.times(), wrong, costs)


async def _over_platform(folder: Path, model: Model, table: Table, road: Road, users: int, each: int) -> None:
    async with lines("bench.people", road.name) as people:
        accounts = {name: await people.do("account", name=name) for name in road.bots}
        async with gateway(folder / f"paced-{road.name}", model.url, accounts=accounts) as ours:
            await people.do("listens", url=ours.url)
            await people.do("listening", names=road.bots)
            await _ask(people, users, 1, words=2)
            await model.times()
            before, theirs = ours.cpu, people.cpu
            found = await _ask(people, users, each, words=_QUESTION)
            costs = (ours.cpu - before, people.cpu - theirs)
            burst = await people.do("ask_at_once", people=users, each=each, words=_QUESTION, offset=users)
            wrong = {kind: found[kind] + burst[kind] for kind in ("lost", "doubled", "misordered", "damaged")}
            _row(table, road.title, found["answers"], await model.times(), wrong, costs)
            if complaints := await people.do("complaints"):
                print(f"complaints of the platform: {'; '.join(complaints)}")


async def _ask(people: Lines, users: int, each: int, *, words: int) -> Any:
    return await people.do("ask", users=users, requests=users * each, people=users, words=words)


def _row(
    table: Table,
    title: str,
    answers: Iterable[Any],
    times: dict[str, tuple[float, float]],
    wrong: dict[str, int],
    costs: tuple[float, float],
) -> None:
    firsts, ends, count = [], [], 0
    for mark, _, first, whole in answers:
        count += 1
        if mark in times and first is not None and whole is not None:
            firsts.append((first - times[mark][0]) * 1000)
            ends.append((whole - times[mark][1]) * 1000)
    figures = (percentile(each, share) for each in (firsts, ends) for share in (0.5, 0.99))
    table.row(
        title,
        *(f"{each:.0f}" for each in figures),
        str(count),
        *(str(wrong[kind]) for kind in ("lost", "doubled", "misordered", "damaged")),
        *(f"{seconds * 1000 / count:.1f}" for seconds in costs),
    )
