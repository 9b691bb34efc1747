"""The writer's thread: groups, failures that stay alone, a disk that is full, and the end."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from core.adapter import Receipt
from core.errors import StorageUnavailable
from core.journal import Outcome, TurnState
from core.storage import writer
from core.storage.sqlite import SqliteStore
from tests.clock import HeldClock
from tests.contract.journal_scenes import QUOTA, accept, answered, begin, inbound, key


@pytest.fixture
async def store(tmp_path: Path, clock: HeldClock) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "journal.db", clock=clock) as store:
        yield store


def _available(store: SqliteStore) -> bool:
    """The property, which a type checker would take for unchanging."""
    return store.available


async def _commits(store: SqliteStore) -> int:
    return await store._writer.run(lambda _: store._writer.commits)


async def test_operations_that_come_together_share_commits(store: SqliteStore) -> None:
    before = await _commits(store)
    await asyncio.gather(*(accept(store, user=f"user{number}") for number in range(1000)))
    commits = await _commits(store) - before
    assert 1000 / writer.GROUP <= commits < 100


async def test_operations_that_come_one_by_one_are_committed_one_by_one(store: SqliteStore) -> None:
    before = await _commits(store)
    for number in range(10):
        await accept(store, user=f"user{number}")
    assert await _commits(store) - before == 11  # and the one that asked


async def test_an_operation_that_fails_is_rolled_back_alone(store: SqliteStore) -> None:
    def mistaken(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO meta (name, value) VALUES ('mistaken', '')")
        raise ZeroDivisionError

    def refused(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO meta (name, value) VALUES ('refused', '')")
        db.execute("INSERT INTO meta (name, value) VALUES ('refused', '')")

    results = await asyncio.gather(
        accept(store, user="ann"),
        store._writer.run(mistaken),
        accept(store, user="bob"),
        store._writer.run(refused),
        accept(store, user="cy"),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [int, ZeroDivisionError, int, sqlite3.IntegrityError, int]
    names = await store._writer.run(lambda db: db.execute("SELECT name FROM meta").fetchall())
    assert ("mistaken",) not in names
    assert ("refused",) not in names
    assert _available(store)
    assert (await store.figures()).waiting == 3


async def test_a_refusal_that_wrote_nothing_makes_nobody_run_twice(store: SqliteStore) -> None:
    runs = {"counted": 0, "refusing": 0}

    def counted(db: sqlite3.Connection) -> None:
        runs["counted"] += 1
        db.execute("INSERT INTO meta (name, value) VALUES ('counted', '')")

    def refusing(db: sqlite3.Connection) -> None:
        runs["refusing"] += 1
        db.execute("SELECT name FROM meta").fetchall()
        raise ZeroDivisionError

    run = store._writer.run
    found = await asyncio.gather(run(counted), run(refusing), accept(store), return_exceptions=True)
    assert isinstance(found[1], ZeroDivisionError)
    assert runs == {"counted": 1, "refusing": 1}
    assert await run(lambda db: db.execute("SELECT count(*) FROM meta WHERE name = 'counted'").fetchone()) == (1,)


async def test_more_callers_than_may_wait_are_all_served(store: SqliteStore) -> None:
    count = writer.WAITING * 2
    await asyncio.gather(*(store.state(key(f"user{number}")) for number in range(count)))


# A disk that is full


async def _fill_up(store: SqliteStore) -> None:
    """From now on the file may not grow: SQLite reports what a full disk reports."""

    def limit(db: sqlite3.Connection) -> None:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    await store._writer.run(limit, alone=True)


async def _make_room(store: SqliteStore) -> None:
    await store._writer.run(lambda db: db.execute("PRAGMA max_page_count = 1000000").fetchall(), alone=True)


async def test_a_full_disk_stores_nothing_says_so_once_a_minute_and_passes_by_itself(
    store: SqliteStore, clock: HeldClock
) -> None:
    kept = inbound("kept")
    await store.accept(kept, key(), QUOTA)
    await _fill_up(store)
    with capture_logs() as logs:
        big = inbound("x" * 100_000, user="bob")
        for _ in range(5):
            with pytest.raises(StorageUnavailable, match=r"journal\.db.*full"):
                await store.accept(big, key("bob"), QUOTA)
        assert not _available(store)
        assert len(await store.waiting(key())) == 1  # reading goes on
        assert not _available(store)
        await clock.advance(61)
        with pytest.raises(StorageUnavailable):
            await store.accept(big, key("bob"), QUOTA)
    assert [entry["log_level"] for entry in logs if "cannot be written" in entry["event"]] == ["error", "error"]
    await _make_room(store)
    assert await store.reached(big.account, big.event) is None
    assert await accept(store, "x" * 100_000, user="bob")
    assert _available(store)
    assert (await store.figures()).waiting == 2


async def test_a_database_that_turned_read_only_is_as_good_as_a_full_one(store: SqliteStore, clock: HeldClock) -> None:
    def allow(db: sqlite3.Connection, writing: bool) -> None:
        db.execute(f"PRAGMA query_only = {'OFF' if writing else 'ON'}")  # then SQLite says what it says of such a file

    await store._writer.run(lambda db: allow(db, False), alone=True)
    message = inbound("hello")
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(StorageUnavailable, match="readonly"):
                await store.accept(message, key(), QUOTA)
        assert not _available(store)
        await store._writer.run(lambda db: allow(db, True), alone=True)
        while not clock.sleeping:
            await asyncio.sleep(0)
        await clock.advance(1)
        await store.figures()  # behind the probe
        assert _available(store)
    assert [entry["event"] for entry in logs] == [
        "storage cannot be written; trying again",
        "storage is available again",
    ]
    assert (await store.accept(message, key(), QUOTA)).receipt is Receipt.ACCEPTED


async def test_a_full_disk_fails_the_group_and_none_is_acknowledged(store: SqliteStore) -> None:
    await _fill_up(store)
    messages = [inbound("x" * 20_000, user=f"user{number}") for number in range(20)]
    results = await asyncio.gather(
        *(store.accept(message, key(message.sender.id), QUOTA) for message in messages), return_exceptions=True
    )
    assert any(isinstance(result, StorageUnavailable) for result in results)
    await _make_room(store)
    for message, result in zip(messages, results, strict=True):
        stored = await store.reached(message.account, message.event) is not None
        assert stored is not isinstance(result, BaseException)


async def test_availability_returns_without_anybody_s_message(store: SqliteStore, clock: HeldClock) -> None:
    await _fill_up(store)
    with pytest.raises(StorageUnavailable):
        await store.accept(inbound("x" * 100_000), key(), QUOTA)
    await _make_room(store)
    while not clock.sleeping:
        await asyncio.sleep(0)
    assert not _available(store)
    with capture_logs() as logs:
        await clock.advance(1)
        await store.figures()  # behind the probe
        assert _available(store)
    assert [entry["event"] for entry in logs] == ["storage is available again"]


async def test_a_store_that_is_unavailable_can_be_closed(tmp_path: Path, clock: HeldClock) -> None:
    async with SqliteStore(tmp_path / "journal.db", clock=clock) as store:
        await _fill_up(store)
        with pytest.raises(StorageUnavailable):
            await store.accept(inbound("x" * 100_000), key(), QUOTA)
    assert not _available(store)


async def test_a_file_that_is_damaged_while_it_is_used_stops_the_store_loudly(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    async with SqliteStore(path, clock=clock) as store:
        for number in range(300):
            await accept(store, "x" * 500, user=f"user{number}")
    async with SqliteStore(path, clock=clock) as store:
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        with capture_logs() as logs, pytest.raises(StorageUnavailable, match=r"journal\.db"):
            await accept(store)
        assert [entry["log_level"] for entry in logs] == ["critical"]
        assert not _available(store)
        with pytest.raises(StorageUnavailable, match="restore a backup"):
            await store.state(key())


# The end


async def test_what_waits_at_the_end_is_stored_before_the_end(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    async with SqliteStore(path, clock=clock) as store:
        tasks = [asyncio.create_task(accept(store, user=f"user{number}")) for number in range(300)]
        await asyncio.sleep(0)  # all have asked
    await asyncio.gather(*tasks)
    assert not Path(f"{path}-wal").exists()
    async with SqliteStore(path, clock=clock) as store:
        assert (await store.figures()).waiting == 300


async def test_a_closed_store_refuses(tmp_path: Path, clock: HeldClock) -> None:
    async with SqliteStore(tmp_path / "journal.db", clock=clock) as store:
        await accept(store)
        turn = await begin(store)
    assert not _available(store)
    with pytest.raises(StorageUnavailable, match="closed"):
        await store.finish(turn, answered())


async def test_leaving_waits_for_the_thread_even_when_it_is_cancelled(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    store = await SqliteStore(path, clock=clock).__aenter__()
    tasks = [asyncio.create_task(accept(store, user=f"user{number}")) for number in range(300)]
    await asyncio.sleep(0)
    leaving = asyncio.create_task(store.__aexit__(None, None, None))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    await asyncio.gather(*tasks)
    async with SqliteStore(path, clock=clock) as again:  # the lock is free, and nobody writes any more
        assert (await again.figures()).waiting == 300


async def test_a_cancelled_opening_leaves_no_lock(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    opening = asyncio.create_task(SqliteStore(path, clock=clock).__aenter__())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    async with SqliteStore(path, clock=clock):
        pass


async def test_a_message_that_nobody_is_told_of_waits_for_no_disk_and_the_reply_takes_it_along(
    tmp_path: Path, clock: HeldClock
) -> None:
    async with SqliteStore(tmp_path / "x.db", clock=clock) as store:
        synchronous: list[bool] = []
        synchronise = store._writer._synchronise

        def watched(db: sqlite3.Connection, lasting: bool) -> None:
            synchronous.append(lasting)
            synchronise(db, lasting)

        store._writer._synchronise = watched  # type: ignore[method-assign]
        await store.accept(inbound(), key(), QUOTA, lasting=False)
        turn = await store.begin(key(), most=1, idle_after=None)
        assert turn is not None
        assert synchronous == [False, False]
        await store.finish(turn, Outcome(state=TurnState.COMPLETE, parts=("answer",)))
        assert synchronous == [False, False, True]
