"""What was forgotten is in no byte of the file or its WAL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.journal import Outcome, TurnState
from core.memory import Summary
from core.storage.sqlite import SqliteStore
from tests.clock import HeldClock
from tests.contract.journal_scenes import accept, answered, begin, deliver, exchange, key

CANARY = "canary-7d1f"
NEIGHBOUR = "neighbour-55aa"


def _found(path: Path, text: str) -> int:
    files = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
    return sum(file.read_bytes().count(text.encode()) for file in files)


async def _sum_up(store: SqliteStore, user: str, text: str) -> None:
    """Everything so far, in words that are in no other text."""
    memory = await store.memory(key(user), 1, most=99)
    of = tuple(exchange.turn for exchange in memory.exchanges if exchange.turn is not None)
    first = of[0] if memory.summary is None else memory.summary.first
    summary = Summary(text=f"sum-{text}", first=first, upto=of[-1], turns=len(of))
    assert await store.sum_up(key(user), 1, summary, instead_of=memory.summary, of=of)


async def _talk(store: SqliteStore, user: str, secret: str, length: int) -> None:
    """Every kind of row that holds a text, of about `length` characters."""
    text = (secret + " ") * max(1, length // len(secret))
    await exchange(store, text, text, user=user)
    await _sum_up(store, user, text)
    await accept(store, text, user=user)
    await deliver(
        store,
        await store.finish(await begin(store, user), Outcome(state=TurnState.FAILED, parts=(text,), error=secret)),
    )
    await accept(store, text, user=user)
    await store.finish(await begin(store, user), Outcome(state=TurnState.FAILED, error=secret, dead=True))
    await accept(store, text, user=user)
    await store.finish(await begin(store, user), replace(answered(text, question=text), parts=(text, text)))
    await accept(store, text, user=user)
    await begin(store, user)
    await accept(store, text, user=user)


@pytest.mark.parametrize("length", [20, 400, 3_000, 30_000])
async def test_forget_leaves_no_byte_of_a_text(tmp_path: Path, clock: HeldClock, length: int) -> None:
    path = tmp_path / "journal.db"
    async with SqliteStore(path, clock=clock) as store:
        for number in range(20):
            await _talk(store, f"before{number}", NEIGHBOUR, 300)
            if number % 4 == 0:
                await _talk(store, "ann", CANARY, length)
        assert _found(path, CANARY) > 0
        assert await store.forget(key("ann")) > 0
        assert _found(path, CANARY) == 0
        assert _found(path, NEIGHBOUR) > 0
    assert _found(path, CANARY) == 0


async def test_a_sweep_leaves_no_byte_of_a_text(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    async with SqliteStore(path, clock=clock) as store:
        for number in range(30):
            await exchange(store, CANARY * 30, CANARY * 30, user=f"user{number}")
            await _sum_up(store, f"user{number}", CANARY * 30)
        await clock.advance(40 * 86_400)
        await exchange(store, NEIGHBOUR, NEIGHBOUR, user="bob")
        while await store.sweep(older_than=clock.now() - timedelta(days=30), most=10):
            pass
        assert _found(path, CANARY) == 0
        assert _found(path, NEIGHBOUR) > 0


@pytest.mark.parametrize("how", ["renewed", "rested"])
async def test_a_summary_that_nobody_is_told_any_more_is_not_kept(tmp_path: Path, clock: HeldClock, how: str) -> None:
    async with SqliteStore(tmp_path / "journal.db", clock=clock) as store:
        await exchange(store, "q", "a")
        await _sum_up(store, "ann", "text")
        if how == "renewed":
            await store.renew(key(), before=None)
        else:
            await clock.advance(7200)
            await accept(store, "q")
            await begin(store, idle_after=timedelta(hours=1))
        assert await store._writer.run(lambda db: db.execute("SELECT text FROM summary").fetchall()) == []
