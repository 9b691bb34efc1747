"""Every statement finds its rows by an index, so a message costs the same however many are stored."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.journal import OutboxState, Outcome, TurnState
from core.memory import Summary
from core.messages import EventId, MessageId
from core.storage import statements
from core.storage.sqlite import SqliteStore
from tests.clock import HeldClock
from tests.contract.journal_scenes import FAILED, WORK, accept, answered, begin, deliver, exchange, key

HOT = {name: text for name, text in vars(statements).items() if name.isupper() and isinstance(text, str)}


def slow_steps(db: sqlite3.Connection, statement: str) -> list[str]:
    """Steps of the plan that read a whole table or sort. Short are the table of the load and rows that are written out."""
    numbered = max(map(int, re.findall(r"\?(\d+)", statement)), default=0)
    values = (None,) * (numbered or statement.count("?"))
    steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
    short = re.compile(r"SCAN (load|\d+ CONSTANT ROWS)")
    return [step for step in steps if ("SCAN" in step and not short.fullmatch(step)) or "TEMP B-TREE" in step]


@pytest.fixture
async def store(tmp_path: Path, clock: HeldClock):  # type: ignore[no-untyped-def]  # an async generator of the store
    async with SqliteStore(tmp_path / "journal.db", clock=clock) as store:
        yield store


@pytest.mark.parametrize("name", sorted(HOT))
async def test_a_statement_of_the_hot_path_is_a_lookup(store: SqliteStore, name: str) -> None:
    assert await store._writer.run(lambda db: slow_steps(db, HOT[name])) == []


async def test_a_statement_without_an_index_is_seen(store: SqliteStore) -> None:
    for statement in ("SELECT id FROM inbox WHERE body = ?", "SELECT id FROM inbox WHERE turn = ? ORDER BY user"):
        assert await store._writer.run(lambda db, statement=statement: slow_steps(db, statement)) != []  # type: ignore[misc]  # mypy cannot infer a lambda with a default


async def test_everything_a_conversation_can_do_is_lookups(store: SqliteStore, clock: HeldClock) -> None:
    seen: set[str] = set()
    await store._writer.run(lambda db: db.set_trace_callback(seen.add))
    await exchange(store, "q", "a")
    (first,) = await store.turns(key())
    summary = Summary(text="s", first=first.id, upto=first.id, turns=1)
    assert await store.sum_up(key(), 1, summary, instead_of=None, of=(first.id,))
    await store.memory(key(), 1, most=5)
    inbox = await accept(store, "two")
    turn = await begin(store, idle_after=timedelta(hours=1))
    await store.preview(turn, MessageId("p"))
    await store.release(turn)
    turn = await begin(store)
    parts = await store.finish(turn, replace(FAILED, parts=("1", "2")))
    await store.postpone(parts[0], clock.now(), "later", state=OutboxState.UNKNOWN)
    await store.bury(parts[0], "gone")
    assert await store.retry_part(parts[0].id) == key()
    await deliver(store, await store.unsent(key()))
    assert await store.reopen(inbox)
    last = await store.last_turn(key())
    await store.finish(await begin(store), replace(answered(), replaces=last.id if last else None))
    command = await store.begin_command(await accept(store, "/new", command=True))
    assert command is not None
    await accept(store, "three")
    await store.expire(key(), received_before=clock.now(), account=WORK)
    await store.renew(key(), before=None)
    await store.finish(command, Outcome(state=TurnState.COMMAND, parts=("new",)))
    await store.choose_model(key(), "big")
    await store.state(key())
    await store.history(key(), 1, most=5)
    await store.reached(WORK, EventId("e"))
    await store.waiting(key())
    await store.turns(key())
    await store.trace(inbox)
    await store.conversation_of(inbox)
    await store.figures()
    await store.forget(key())
    await store._writer.run(lambda db: db.set_trace_callback(None))
    kept_small = (  # counted through indexes that hold only what is unfinished or dead
        "SELECT count(*) FROM inbox WHERE state = 'running'",
        "SELECT count(*) FROM outbox WHERE state IN ('pending', 'sending', 'unknown')",
        "SELECT count(*) FROM inbox WHERE state = 'dead'",
    )
    verbs = ("SELECT", "INSERT", "UPDATE", "DELETE")
    asked = sorted(text for text in seen if text.split()[0] in verbs and text not in kept_small)
    assert len(asked) > 50

    def slow(db: sqlite3.Connection) -> list[tuple[str, list[str]]]:
        return [(text, steps) for text in asked if (steps := slow_steps(db, text.replace("?", "_")))]

    assert await store._writer.run(slow) == []


async def test_sessions_of_one_channel_or_person_are_lookups(store: SqliteStore) -> None:
    await exchange(store, "q", "a")
    seen: list[str] = []
    await store._writer.run(lambda db: db.set_trace_callback(seen.append))
    await store.sessions(account=WORK, user=key().user)
    await store._writer.run(lambda db: db.set_trace_callback(None))
    (listing,) = [text for text in seen if "FROM conversation" in text]
    plan = await store._writer.run(lambda db: [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {listing}")])
    assert any("conversation_user" in step for step in plan), plan
