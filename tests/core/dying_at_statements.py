"""A program that dies at each statement of one operation of the store, and tells what the next process finds then.

`python -m tests.core.dying_at_statements FOLDER OPERATION [split]` prints one line of JSON: the statements of the operation,
and for each of them which content was found: "before", "after", or what is neither. `split` makes the mistake: each
statement is a transaction of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from core.adapter import Receipt
from core.budgets import nobody_ahead
from core.journal import InboxId, OutboxPart, Turn
from core.messages import MessageId
from core.storage.sqlite import SqliteStore
from tests.clock import HeldClock
from tests.contract.journal_scenes import QUOTA, answered, inbound, key

DIED = 77
"""How a process ends that dies at a statement."""

MESSAGE = inbound("hello", event="e1", id="m1")
NEXT = inbound("and then?", event="e2", id="m2")

_BEGUN: dict[str, Any] = {"most": 1, "idle_after": timedelta(hours=24)}


async def _accepted(store: SqliteStore) -> InboxId:
    accepted = await store.accept(MESSAGE, key(), QUOTA)
    assert accepted.receipt is Receipt.ACCEPTED
    assert accepted.inbox is not None
    return accepted.inbox


async def _begun(store: SqliteStore) -> Turn:
    await _accepted(store)
    await store.accept(NEXT, key(), QUOTA)
    turn = await store.begin(key(), **_BEGUN)
    assert turn is not None
    await store.preview(turn, MessageId("shown"))
    return turn


async def _finished(store: SqliteStore) -> tuple[OutboxPart, ...]:
    parts = await store.finish(await _begun(store), replace(answered(), parts=("one", "two")))
    await store.sending(parts[0])
    return parts


async def _all_but_sent(store: SqliteStore) -> OutboxPart:
    first, last = await _finished(store)
    await store.sent(first, MessageId("p1"))
    await store.sending(last)
    return last


Scene = tuple[Callable[[SqliteStore], Awaitable[Any]], Callable[[SqliteStore, Any], Awaitable[Any]]]

SCENES: dict[str, Scene] = {
    "accept": (lambda _: asyncio.sleep(0), lambda store, _: store.accept(MESSAGE, key(), QUOTA)),
    "accept and begin": (
        lambda _: asyncio.sleep(0),
        lambda store, _: store.accept(MESSAGE, key(), QUOTA, at_once=nobody_ahead),
    ),
    "begin": (_accepted, lambda store, _: store.begin(key(), **_BEGUN)),
    "release": (_begun, lambda store, turn: store.release(turn)),
    "finish": (_begun, lambda store, turn: store.finish(turn, replace(answered(), parts=("one", "two")))),
    "sending": (_finished, lambda store, parts: store.sending(parts[1])),
    "sent": (_all_but_sent, lambda store, part: store.sent(part, MessageId("p2"))),
    "bury": (_finished, lambda store, parts: store.bury(parts[0], "gone")),
    "renew": (_begun, lambda store, _: store.renew(key(), before=None)),
}
"""What comes before each operation, and the operation."""

_TABLES = ("conversation", "exchange", "inbox", "outbox", "turn", "usage")


def content(file: Path) -> list[Any]:
    """What is stored there, as the next process finds it."""
    db = sqlite3.connect(file)
    try:
        (sound,) = db.execute("PRAGMA integrity_check").fetchone()
        return [sound, *(db.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for table in _TABLES)]
    finally:
        db.close()


async def operate(file: Path, operation: str, dies_at: int, *, split: bool) -> int:
    """Carry the operation out and die at its `dies_at`-th statement, counted from 0; returns how many it has."""
    before, work = SCENES[operation]
    count, counting = itertools.count(), False
    seen = 0

    def trace(_: str) -> None:
        nonlocal seen
        if counting:
            seen = next(count)
            if seen == dies_at:
                os._exit(DIED)

    async with SqliteStore(file, clock=HeldClock()) as store:
        given = await before(store)
        await store._writer.run(lambda db: db.set_trace_callback(trace))
        await store.figures()  # the end of that transaction has been traced as well
        if split:
            run = store._writer.run
            store._writer.run = lambda what, **how: run(what, alone=True)  # type: ignore[method-assign]
        counting = True
        await work(store, given)
        counting = False
    return seen + 1


def _apart(work: Callable[[], object]) -> int:
    """Do that in a process of its own; how it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - the child must not go on as its parent
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path, operation: str, *, split: bool) -> dict[str, Any]:
    """Die everywhere."""

    def run(name: str, work: Callable[[Path], object], ends: int = 0) -> list[Any]:
        file = folder / name / "test.db"
        file.parent.mkdir(mode=0o700)
        ended = _apart(lambda: work(file))
        assert ended == ends, f"{name}: ended with {ended}"
        found = content(file)
        shutil.rmtree(file.parent)
        return found

    async def prepare(file: Path) -> None:
        shutil.copy(empty, file)
        async with SqliteStore(file, clock=HeldClock()) as store:
            await SCENES[operation][0](store)

    async def make(file: Path) -> None:
        async with SqliteStore(file, clock=HeldClock()):
            pass

    empty = folder / "empty" / "test.db"
    empty.parent.mkdir(mode=0o700)
    assert _apart(lambda: asyncio.run(make(empty))) == 0

    def go(file: Path, dies_at: int) -> None:
        shutil.copy(empty, file)
        statements = asyncio.run(operate(file, operation, dies_at, split=split))
        (folder / "statements").write_text(str(statements))

    before = run("before", lambda file: asyncio.run(prepare(file)))
    after = run("after", lambda file: go(file, -1))
    statements = int((folder / "statements").read_text())
    assert before != after
    names = {json.dumps(before): "before", json.dumps(after): "after"}
    found = [
        names.get(json.dumps(run(f"at{number}", lambda file, at=number: go(file, at), DIED)), "neither")  # type: ignore[misc]
        for number in range(statements)
    ]
    return {"statements": statements, "found": found}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], split="split" in sys.argv[3:])))
