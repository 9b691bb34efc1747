"""From a path to a connection that can be relied on, or to an error that says what to do.

An existing file is examined through a read-only connection first, so a foreign, newer or damaged file is refused
without a byte of it changed. A new database is built beside its place and renamed into it: it exists whole or not.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from core.errors import ConfigError, StorageBusy, StorageDamaged
from core.storage.migrations import migrate, newest

APPLICATION_ID = 0x63676D73
"""Marks the file as ours (`PRAGMA application_id`): "cgms"."""

_MAGIC = b"SQLite format 3\0"
_BUSY_SECONDS = 2.0

_PRAGMAS = (
    "PRAGMA locking_mode = EXCLUSIVE",  # before the first access: then the WAL index needs no shared memory
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA secure_delete = ON",  # removed text is overwritten with zeros
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -4096",  # KiB
    "PRAGMA wal_autocheckpoint = 1000",  # pages
    "PRAGMA journal_size_limit = 8388608",  # bytes that an idle WAL may keep
)


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening came to."""

    connection: sqlite3.Connection
    created: bool
    unchecked: bool
    """The check for damage ran out of time; what it saw was whole."""


def open_database(path: Path, *, monotonic: Callable[[], float], check_seconds: float = 1.0) -> Opened:
    """Open, or create, the database at `path`; the caller holds its lock file.

    `check_seconds` bounds the check for damage. Raises ConfigError, StorageDamaged, StorageBusy.
    """
    with _errors(path):
        check_usable(path)
        created = not path.exists() or path.stat().st_size == 0
        if created:
            _create(path)
            unchecked = False
        else:
            unchecked = not _examine(path, monotonic, check_seconds)
        _keep_private(path)
        db = _connect(path)
        try:
            for pragma in _PRAGMAS:
                db.execute(pragma).fetchall()
            migrate(db)
        except BaseException:
            db.close()
            raise
    return Opened(db, created, unchecked)


def make_folder(path: Path) -> None:
    """Create the folder of `path`, for nobody else to read. Raises ConfigError."""
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"storage: cannot create the folder {str(folder)!r}: {error.strerror}; set storage.url to another place"
        ) from error


def check_usable(path: Path) -> None:
    """Raises ConfigError where `path` cannot be a database of ours."""
    if path.is_dir():
        raise ConfigError(f"storage: {str(path)!r} is a folder; storage.url must name a file in it")
    if path.exists() and not path.is_file():
        raise ConfigError(f"storage: {str(path)!r} is not a regular file; set storage.url to another place")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise ConfigError(f"storage: {str(path)!r} cannot be read and written; change its owner or permissions")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(f"storage: the folder {str(path.parent)!r} cannot be written to; change its permissions")


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        timeout=_BUSY_SECONDS,
    )


def _create(path: Path) -> None:
    fresh = path.with_name(path.name + ".new")
    for leftover in (fresh, fresh.with_name(fresh.name + "-wal"), fresh.with_name(fresh.name + "-journal")):
        leftover.unlink(missing_ok=True)
    os.close(os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    db = _connect(fresh)
    try:
        db.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
        db.execute("PRAGMA synchronous = OFF")  # the file is synced once, below
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        migrate(db)
        db.execute("INSERT INTO meta (name, value) VALUES ('instance', ?)", (secrets.token_hex(16),))
        db.execute("PRAGMA journal_mode = WAL").fetchall()
    finally:
        db.close()
    sync(fresh)
    for suffix in ("-wal", "-shm"):  # of a database that was taken away
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    fresh.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep_private(path: Path) -> None:
    mode = path.stat().st_mode
    if stat.S_IMODE(mode) & 0o077:
        path.chmod(stat.S_IMODE(mode) & 0o700)


def _examine(path: Path, monotonic: Callable[[], float], seconds: float) -> bool:
    """Refuse what is not a sound database of ours; False where there was no time to look at all of it."""
    with path.open("rb") as file:
        header = file.read(100)
    if not header.startswith(_MAGIC):
        raise StorageDamaged(
            f"storage: {str(path)!r} is not an SQLite database, or its beginning is overwritten; {_remedy(path)}"
        )
    db = _connect(path, read_only=True)
    try:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise StorageDamaged(
                f"storage: {str(path)!r} is a database of another program (application id {application:#x}); "
                "set storage.url to another file"
            )
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if not 1 <= version <= newest():
            raise StorageDamaged(
                f"storage: {str(path)!r} has schema version {version}, this program knows 1 to {newest()}; "
                "run the newer program, or restore a backup of the older one"
            )
        return _check(db, path, monotonic, seconds)
    finally:
        db.close()
        # A read-only connection cannot remove the WAL index it made; the exclusive one that follows needs none.
        path.with_name(path.name + "-shm").unlink(missing_ok=True)


def _check(db: sqlite3.Connection, path: Path, monotonic: Callable[[], float], seconds: float) -> bool:
    deadline = monotonic() + seconds
    late = False

    def watch() -> bool:
        nonlocal late
        late = monotonic() > deadline
        return late

    db.set_progress_handler(watch, 10_000)
    try:
        found = db.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError:
        if late:
            return False
        raise
    finally:
        db.set_progress_handler(None, 0)
    if found != ("ok",):
        what = " ".join(found[0].split())  # SQLite writes several lines
        raise StorageDamaged(f"storage: {str(path)!r} is damaged ({what}); {_remedy(path)}")
    return True


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StorageBusy(
                f"storage: {str(path)!r} is open in another program ({error}); close it there and start again"
            ) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StorageDamaged(f"storage: {str(path)!r} is damaged ({error}); {_remedy(path)}") from error
        raise ConfigError(f"storage: {str(path)!r} cannot be opened: {error}; is the disk full or failing?") from error
    except OSError as error:
        raise ConfigError(f"storage: {str(path)!r} cannot be opened: {error.strerror}") from error


def _remedy(path: Path) -> str:
    return (
        f"restore a backup, or save what can be read with: sqlite3 {path.name} .recover | sqlite3 recovered.db "
        "(and put recovered.db in its place)"
    )
