"""One transaction of several operations: each of them is stored wholly or not at all, whatever becomes of the others."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
"""Runs in the writer's thread, inside a transaction. It must not commit, and may be run once more where another one of the
same transaction failed."""

_OF_THE_DISK = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
    }
)
OF_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def code(error: sqlite3.Error) -> int:
    """SQLite's primary result code, 0 for an error of the module's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the extended codes are in the upper bits


class Job(Generic[T]):
    """An operation, who waits for it, and what came of it."""

    __slots__ = ("alone", "done", "error", "future", "lasting", "operation", "result", "undo")

    def __init__(
        self,
        operation: Operation[T],
        future: asyncio.Future[T],
        *,
        undo: Callable[[T], Operation[Any]] | None,
        alone: bool,
        lasting: bool,
    ) -> None:
        self.operation = operation
        self.future = future
        self.undo = undo
        self.alone = alone
        self.lasting = lasting
        self.done = False
        self.result: T
        self.error: Exception | None = None


def commit(db: sqlite3.Connection, group: list[Job[Any]]) -> None:
    """Carry out all that nobody has cancelled. What fails gets its error, and the others are stored all the same.

    Raises sqlite3.Error where the whole transaction is lost; roll it back then.
    """
    try:
        _transact(db, group, _perform)
    except _HalfDone:
        roll_back(db)
        _transact(db, group, _perform_apart)


class _HalfDone(Exception):
    """An operation failed after it had written something."""


def _transact(
    db: sqlite3.Connection, group: list[Job[Any]], perform: Callable[[sqlite3.Connection, Job[Any]], None]
) -> None:
    """One transaction of all of them. Raises sqlite3.Error where it is lost, and what `perform` raises."""
    db.execute("BEGIN")
    for job in group:
        job.done, job.error = False, None
        if not job.future.cancelled():
            perform(db, job)
    db.execute("COMMIT")


def _perform(db: sqlite3.Connection, job: Job[Any]) -> None:
    """Run one operation without a savepoint, which would cost a fifth of it. Raises _HalfDone where it needed one: then
    everything is done again, by _perform_apart."""
    before = db.total_changes
    try:
        job.result = job.operation(db)
        job.done = True
    except Exception as error:
        if _loses_all(error):
            raise
        if db.total_changes != before:
            raise _HalfDone from error
        job.error = error


def _perform_apart(db: sqlite3.Connection, job: Job[Any]) -> None:
    """Run one operation in a savepoint, so that what it wrote is taken back where it fails."""
    db.execute("SAVEPOINT operation")
    try:
        job.result = job.operation(db)
        job.done = True
    except Exception as error:
        if _loses_all(error):
            raise
        job.error = error
        db.execute("ROLLBACK TO operation")
    db.execute("RELEASE operation")


def _loses_all(error: Exception) -> bool:
    """Whether the whole transaction is lost."""
    return isinstance(error, sqlite3.Error) and code(error) in _OF_THE_DISK | OF_DAMAGE


def roll_back(db: sqlite3.Connection) -> None:
    """Whatever is open; what cannot even be rolled back is for the next operation to find."""
    if db.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
