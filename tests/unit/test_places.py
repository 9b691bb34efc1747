"""Where an account was written to is looked up, not searched."""

from __future__ import annotations

from pathlib import Path

from core.storage.records import PLACES
from core.storage.sqlite import SqliteStore
from tests.clock import HeldClock


async def test_the_newest_messages_of_an_account_are_a_lookup(tmp_path: Path, clock: HeldClock) -> None:
    async with SqliteStore(tmp_path / "journal.db", clock=clock) as store:
        plan = await store._writer.run(
            lambda db: [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {PLACES}", ("work",))]
        )
    assert any("inbox_account" in step for step in plan), plan
    assert not any("TEMP B-TREE" in step or "SCAN" in step for step in plan), plan
