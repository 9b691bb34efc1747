"""The contract of durable storage, on SQLite."""

from __future__ import annotations

import shutil
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from core.clock import Clock
from core.storage.sqlite import SqliteStore
from tests.clock import HeldClock
from tests.contract.journal_scenes import Engine, Store
from tests.contract.journal_suite import JournalContract


class SqliteEngine(Engine):
    """A file in a folder of its own. A crash copies the file and its WAL as they are; the next start finds the copy."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._crashes = 0

    @property
    def path(self) -> Path:
        """The database that the next `open` opens."""
        return self._folder / f"{self._crashes}" / "journal.db"

    def open(self) -> AbstractAsyncContextManager[Store]:
        return SqliteStore(self.path, clock=self._clock)

    async def crash(self, store: Store) -> None:
        left = self.path
        self._crashes += 1
        self.path.parent.mkdir(parents=True)
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{left}{suffix}", f"{self.path}{suffix}")


class TestSqlite(JournalContract):
    @pytest.fixture
    def engine(self, tmp_path: Path, clock: HeldClock) -> Engine:
        return SqliteEngine(tmp_path, clock)
