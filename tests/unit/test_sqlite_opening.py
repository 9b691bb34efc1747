"""Opening a database: what is refused, in which words, and that a refused file stays as it is."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import resource
import shutil
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from core.errors import ConfigError, StorageBusy, StorageDamaged
from core.storage import migrations
from core.storage.opening import APPLICATION_ID, open_database
from core.storage.sqlite import SqliteStore
from tests.clock import HeldClock
from tests.contract.journal_scenes import QUOTA, accept, exchange, inbound, key

VERSION_1 = Path(__file__).parent.parent / "payloads" / "journal-1.sql"


async def _fill(path: Path, clock: HeldClock, rows: int = 200) -> None:
    async with SqliteStore(path, clock=clock) as store:
        for number in range(rows):
            await accept(store, "x" * 500, user=f"user{number}")


async def _refused(path: Path, clock: HeldClock, error: type[Exception], match: str) -> None:
    before = path.read_bytes()
    with pytest.raises(error, match=match):
        async with SqliteStore(path, clock=clock):
            pass
    assert path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} <= {path.name, f"{path.name}.lock", f"{path.name}-wal"}


# Whose it is


async def test_a_second_process_is_told_who_has_the_database_and_what_to_do(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    async with SqliteStore(path, clock=clock) as store:
        with pytest.raises(StorageBusy, match=rf"journal\.db.*process {os.getpid()}.*storage\.url") as caught:
            async with SqliteStore(path, clock=clock):
                pass
        assert caught.value.exit_code == 2
        assert json.loads((tmp_path / "journal.db.lock").read_text()) == {"pid": os.getpid()}
        await accept(store)
    async with SqliteStore(path, clock=clock):
        pass


async def test_another_program_cannot_open_the_file_meanwhile(tmp_path: Path, clock: HeldClock) -> None:
    async with SqliteStore(tmp_path / "journal.db", clock=clock) as store:
        await accept(store)
        other = sqlite3.connect(tmp_path / "journal.db", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("SELECT * FROM inbox").fetchall()
        other.close()


async def test_a_database_that_another_program_holds_is_busy(
    tmp_path: Path, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.storage.opening._BUSY_SECONDS", 0.01)
    path = tmp_path / "journal.db"
    await _fill(path, clock, rows=1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE meta SET value = value")
    try:
        with pytest.raises(StorageBusy, match="another program"):
            async with SqliteStore(path, clock=clock):
                pass
    finally:
        other.close()
    async with SqliteStore(path, clock=clock):
        pass


# Where it lies


async def test_file_and_folder_are_private(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "data" / "journal.db"
    async with SqliteStore(path, clock=clock) as store:
        await accept(store)
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    await _fill(path, clock, rows=1)
    path.chmod(0o644)
    async with SqliteStore(path, clock=clock):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("place", "match"),
    [
        (lambda folder: folder, "is a folder"),
        (lambda folder: folder / "file" / "journal.db", "cannot create the folder"),
        (lambda folder: Path("/proc/nowhere/journal.db"), "cannot create the folder"),
        (lambda folder: folder / "pipe", "not a regular file"),
    ],
)
async def test_a_path_that_cannot_be_a_database_is_a_config_error(
    tmp_path: Path, clock: HeldClock, place: Callable[[Path], Path], match: str
) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=match):
        async with SqliteStore(place(tmp_path), clock=clock):
            pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_folder_that_cannot_be_written_to_is_a_config_error(tmp_path: Path, clock: HeldClock) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigError, match="cannot"):
            async with SqliteStore(tmp_path / "journal.db", clock=clock):
                pass
    finally:
        tmp_path.chmod(0o700)


async def test_an_empty_file_becomes_a_database(tmp_path: Path, clock: HeldClock) -> None:
    (tmp_path / "journal.db").touch()
    await _fill(tmp_path / "journal.db", clock, rows=1)


async def test_what_a_killed_creation_left_is_no_hindrance(tmp_path: Path, clock: HeldClock) -> None:
    (tmp_path / "journal.db.new").write_bytes(b"half")
    (tmp_path / "journal.db.new-journal").write_bytes(b"half")
    (tmp_path / "journal.db-wal").write_bytes(b"of a database that was deleted")
    await _fill(tmp_path / "journal.db", clock, rows=1)
    assert not list(tmp_path.glob("*.new*"))


# What it is


async def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"Dear diary, " * 1000)
    await _refused(path, clock, StorageDamaged, "not an SQLite database")


async def test_a_database_of_another_program_is_refused_untouched(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE inbox (id INTEGER)")
    other.close()
    await _refused(path, clock, StorageDamaged, "another program.*storage.url")


@pytest.mark.parametrize("version", [0, 999])
async def test_an_unknown_schema_version_is_refused_untouched(tmp_path: Path, clock: HeldClock, version: int) -> None:
    path = tmp_path / "journal.db"
    await _fill(path, clock, rows=1)
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA user_version = {version}")
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    other.close()
    await _refused(path, clock, StorageDamaged, f"schema version {version}")


async def test_a_damaged_page_is_refused_untouched_with_the_way_to_repair(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    await _fill(path, clock)
    pages = path.stat().st_size // 4096
    with path.open("r+b") as file:
        for page in range(pages // 2, pages // 2 + 3):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    await _refused(path, clock, StorageDamaged, r"damaged.*restore a backup.*\.recover")
    assert StorageDamaged.exit_code == 78


async def test_a_file_that_was_cut_short_is_refused_untouched(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    await _fill(path, clock)
    os.truncate(path, path.stat().st_size // 2)
    await _refused(path, clock, StorageDamaged, r"restore a backup")


async def test_an_overwritten_beginning_is_refused_untouched(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    await _fill(path, clock)
    with path.open("r+b") as file:
        file.write(b"\0" * 4096)
    await _refused(path, clock, StorageDamaged, "not an SQLite database")


async def test_a_cut_wal_costs_only_what_was_cut(tmp_path: Path, clock: HeldClock) -> None:
    path, copy = tmp_path / "journal.db", tmp_path / "copy" / "journal.db"
    copy.parent.mkdir()
    async with SqliteStore(path, clock=clock) as store:
        for number in range(20):
            await accept(store, user=f"user{number}")
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
    wal = Path(f"{copy}-wal")
    os.truncate(wal, wal.stat().st_size - 5000)
    async with SqliteStore(copy, clock=clock) as store:
        waiting = (await store.recover()).conversations
        assert waiting == tuple(key(f"user{number}") for number in range(len(waiting)))
        assert 0 < len(waiting) < 20


async def test_the_check_for_damage_is_bounded_and_says_so(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    await _fill(path, clock, rows=1000)
    jumps = itertools.count(0, 10)
    opened = open_database(path, monotonic=lambda: float(next(jumps)))
    opened.connection.close()
    assert opened.unchecked
    opened = open_database(path, monotonic=time.monotonic, check_seconds=60)
    opened.connection.close()
    assert not opened.unchecked
    clock.monotonic = lambda: float(next(jumps))  # type: ignore[method-assign]  # time flies while the file is read
    with capture_logs() as logs:
        async with SqliteStore(path, clock=clock):
            pass
    assert [entry["event"] for entry in logs] == ["the database is large: only part of it was checked for damage"]


async def test_the_file_is_marked_as_ours_and_synced_to_the_disk(tmp_path: Path, clock: HeldClock) -> None:
    async with SqliteStore(tmp_path / "journal.db", clock=clock) as store:

        def pragmas(db: sqlite3.Connection) -> dict[str, object]:
            names = ("application_id", "journal_mode", "synchronous", "foreign_keys", "secure_delete", "locking_mode")
            return {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in names}

        assert await store._writer.run(pragmas) == {
            "application_id": APPLICATION_ID,
            "journal_mode": "wal",
            "synchronous": 2,  # FULL
            "foreign_keys": 1,
            "secure_delete": 1,
            "locking_mode": "exclusive",
        }


# Versions


async def test_a_database_of_version_1_is_opened(tmp_path: Path, clock: HeldClock) -> None:
    path = tmp_path / "journal.db"
    db = sqlite3.connect(path)
    db.executescript(VERSION_1.read_text(encoding="utf-8"))
    db.close()
    async with SqliteStore(path, clock=clock) as store:
        recovery = await store.recover()
        assert recovery.conversations == (key("bob"), key("cy"))
        assert [turn.answer for turn in await store.turns(key("ann"))] == ["the first answer"]
        assert [waiting.message.text for waiting in await store.waiting(key("bob"))] == ["the second question"]
        assert [part.text for part in await store.unsent(key("cy"))] == ["the third answer"]
        assert len(await store.api_keys()) == 1
        assert await exchange(store, "q", "a") > 3


async def test_a_new_database_has_the_tables_of_its_migrations(tmp_path: Path, clock: HeldClock) -> None:
    await _fill(tmp_path / "journal.db", clock, rows=1)
    db = sqlite3.connect(tmp_path / "journal.db")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    db.close()
    assert version == migrations.newest() >= 1
    assert tables >= {"inbox", "conversation", "turn", "outbox", "exchange", "usage", "api_key", "meta", "leader"}


async def test_an_older_database_is_brought_up_in_one_transaction(
    tmp_path: Path, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.db"
    await _fill(path, clock, rows=1)
    first = migrations.scripts()
    half = "ALTER TABLE inbox ADD COLUMN colour TEXT; CREATE TABLE inbox (id INTEGER);"
    monkeypatch.setattr(migrations, "scripts", lambda: (*first, half))
    with pytest.raises(ConfigError, match="already exists"):
        async with SqliteStore(path, clock=clock):
            pass
    monkeypatch.setattr(migrations, "scripts", lambda: (*first, "ALTER TABLE inbox ADD COLUMN colour TEXT;"))
    async with SqliteStore(path, clock=clock) as store:
        assert await store._writer.run(lambda db: db.execute("SELECT colour FROM inbox").fetchall()) == [(None,)]
        assert (await store.accept(inbound(), key(), QUOTA)).inbox is not None
    monkeypatch.setattr(migrations, "scripts", lambda: first)
    await _refused(path, clock, StorageDamaged, "schema version")


# Backups


async def test_a_backup_taken_under_load_opens_and_is_private(tmp_path: Path, clock: HeldClock) -> None:
    source, target = tmp_path / "journal.db", tmp_path / "copy.db"
    await _fill(source, clock, rows=2000)
    async with SqliteStore(source, clock=clock) as store:
        async with asyncio.TaskGroup() as tasks:
            backup = tasks.create_task(store.backup(target))
            for number in range(200):
                tasks.create_task(accept(store, user=f"late{number}"))
        assert backup.result() == target.stat().st_size
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert not (tmp_path / "copy.db.part").exists()
    async with SqliteStore(target, clock=clock) as copy:
        assert (await copy.figures()).waiting >= 2000


async def test_a_backup_onto_a_full_disk_says_so_and_harms_nothing(tmp_path: Path, clock: HeldClock) -> None:
    async with SqliteStore(tmp_path / "data" / "x.db", clock=clock) as store:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, hard))
        try:
            with pytest.raises(ConfigError, match=r"backup: cannot write .*backup\.db\.part"):
                await store.backup(tmp_path / "backup.db")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert store.available
        assert list(tmp_path.glob("backup*")) == []
        assert await store.backup(tmp_path / "backup.db") > 16 * 1024
