"""What is done now and then."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

from core.storage.sqlite import SqliteStore
from gateway.maintenance import Maintenance
from tests.clock import HeldClock
from tests.contract.journal_scenes import exchange, key
from tests.core.gateway import until


async def test_texts_that_are_too_old_go_from_the_store_and_then_from_memory(tmp_path: Path, clock: HeldClock) -> None:
    told: list[int] = []
    async with SqliteStore(tmp_path / "journal.db", clock=clock) as store:
        await exchange(store, "q", "a")
        maintenance = Maintenance(store, clock, retention=lambda: timedelta(days=1), swept=lambda: told.append(1))
        running = asyncio.create_task(maintenance.run())
        for hours in (1, 30):  # nothing is old yet; something is
            await until(lambda: clock.sleeping)
            assert told == []
            await clock.advance(hours * 3600)
        while not told:  # batch after batch, until nothing more is
            await until(lambda: clock.sleeping or told)
            await clock.advance(1)
        assert await store.history(key(), 1, most=1) == ()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert told == [1]
