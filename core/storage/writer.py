"""One thread that owns the connection: it takes what waits into one transaction and commits it as a group.

Waiting for nothing makes a lone operation fast; taking everything that came meanwhile makes many operations cheap,
for they share one sync of the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from core.clock import Clock
from core.errors import StorageUnavailable
from core.storage.transaction import OF_DAMAGE, Job, Operation, code, commit, roll_back

T = TypeVar("T")

GROUP = 64
"""Operations in one transaction at most."""

WAITING = 1024
"""Operations that wait at most; further callers wait outside."""

_PROBE_SECONDS = 1.0
_LOG_SECONDS = 60.0


class Writer:
    """Runs operations on one connection, in the order they came. Started once, stopped once."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, clock: Clock, what: str) -> None:
        """`connect` runs in the thread; `what` names the database in errors and in the log."""
        self._connect = connect
        self._clock = clock
        self._what = what
        self._log = structlog.get_logger("storage")
        self._queue: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._slots = asyncio.Semaphore(WAITING)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._opened: asyncio.Future[None]
        self._ended: asyncio.Future[None]
        self._closing = False
        self._available = False
        self._damaged = False
        self._lasting = True
        self._logged_at: float | None = None
        self._probing: asyncio.Task[None] | None = None
        self.commits = 0
        """Transactions committed so far."""

    @property
    def available(self) -> bool:
        """False from a failed write until one succeeds again, and for good once the file is found damaged."""
        return self._available

    async def start(self) -> None:
        """Open the connection. Raises what `connect` raises."""
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._ended = self._loop.create_future()
        self._thread = threading.Thread(target=self._live, name="storage", daemon=True)
        self._thread.start()
        try:
            await asyncio.shield(self._opened)
        except BaseException:
            await self.stop()
            _forget(self._opened)
            raise
        self._available = True

    async def stop(self) -> None:
        """Carry out what waits, fold the WAL into the file, close. May be called twice."""
        if self._thread is None:
            return
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        cancelled = False
        while not self._ended.done():  # nobody may take the file while the thread still writes to it
            try:
                await asyncio.shield(self._ended)
            except asyncio.CancelledError:
                cancelled = True
        self._thread.join()
        self._available = False
        if cancelled:
            raise asyncio.CancelledError

    async def run(
        self,
        operation: Operation[T],
        *,
        undo: Callable[[T], Operation[Any]] | None = None,
        alone: bool = False,
        lasting: bool = True,
    ) -> T:
        """Carry out `operation` and return its result once it is committed and on the disk.

        `lasting=False` is for what a power failure may take back, as if it had not happened: it is committed, outlives
        the process, and reaches the disk with the next commit that waits for it. That saves a sync of the disk.

        A caller that is cancelled leaves it either whole or not done; where it was done and nobody is there to take
        the result, `undo` makes the operation that takes it back. `alone` runs it outside any transaction.
        Raises StorageUnavailable, and whatever the operation raises (it alone is rolled back then).
        """
        async with self._slots:
            future = self._submit(operation, undo=undo, alone=alone, lasting=lasting)
            try:
                return await future
            except asyncio.CancelledError:
                if undo is not None and future.done() and not future.cancelled():
                    # It was done, and the caller cancelled before it could take the result.
                    self._take_back(undo(future.result()))
                raise

    def _submit(
        self,
        operation: Operation[T],
        *,
        undo: Callable[[T], Operation[Any]] | None = None,
        alone: bool = False,
        lasting: bool = True,
    ) -> asyncio.Future[T]:
        if self._closing or self._thread is None:
            raise StorageUnavailable(f"storage: {self._what} is closed")
        if self._damaged:
            raise StorageUnavailable(f"storage: {self._what} is damaged; stop the program and restore a backup")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(Job(operation, future, undo=undo, alone=alone, lasting=lasting))
        return future

    # In the thread.

    def _live(self) -> None:
        try:
            db = self._connect()
        except BaseException as error:  # noqa: BLE001 - handed to `start`
            self._tell(self._settle, self._opened, error)
            self._tell(self._end)
            return
        self._tell(self._settle, self._opened, None)
        try:
            self._serve(db)
        finally:
            with contextlib.suppress(sqlite3.Error):
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            with contextlib.suppress(sqlite3.Error):
                db.close()
            self._tell(self._end)

    def _serve(self, db: sqlite3.Connection) -> None:
        while (job := self._queue.get()) is not None:
            ending = self._take(db, job)
            if ending:
                return

    def serve_waiting(self, db: sqlite3.Connection) -> None:
        """For an operation that runs alone and long: let the ones that wait pass, between two of its steps."""
        with contextlib.suppress(queue.Empty):
            job = self._queue.get_nowait()
            if job is None or job.alone:
                self._queue.put(job)  # after the long one
                return
            if self._take(db, job):
                self._queue.put(None)

    def _take(self, db: sqlite3.Connection, first: Job[Any]) -> bool:
        """Commit what waits, beginning with `first`; True if the end was among it."""
        group = [first]
        ending = False
        with contextlib.suppress(queue.Empty):
            while len(group) < GROUP and not group[-1].alone:
                job = self._queue.get_nowait()
                if job is None:
                    ending = True
                    break
                group.append(job)
        last = group.pop() if group[-1].alone else None
        if group:
            self._commit(db, group)
        if last is not None:
            self._run_alone(db, last)
        return ending

    def _commit(self, db: sqlite3.Connection, group: list[Job[Any]]) -> None:
        before = db.total_changes
        failure: sqlite3.Error | None = None
        try:
            self._synchronise(db, any(job.lasting for job in group))
            commit(db, group)
            self.commits += 1
        except sqlite3.Error as error:
            failure = error
            roll_back(db)
        self._tell(self._deliver, group, db.total_changes != before, failure)

    def _synchronise(self, db: sqlite3.Connection, lasting: bool) -> None:
        """Whether the commits that follow wait for the disk. A sync takes earlier commits along."""
        if lasting is not self._lasting:
            db.execute(f"PRAGMA synchronous = {'FULL' if lasting else 'NORMAL'}")
            self._lasting = lasting

    def _run_alone(self, db: sqlite3.Connection, job: Job[Any]) -> None:
        before = db.total_changes
        failure: sqlite3.Error | None = None
        try:
            self._synchronise(db, lasting=True)
            if not job.future.cancelled():
                job.result = job.operation(db)
                job.done = True
        except sqlite3.Error as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - handed to the caller
            job.error = error
        roll_back(db)
        self._tell(self._deliver, [job], db.total_changes != before, failure)

    def _tell(self, callback: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it everybody who waits
            self._loop.call_soon_threadsafe(callback, *arguments)

    # In the loop.

    @staticmethod
    def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def _end(self) -> None:
        """The thread is gone. Normally nothing waits any more; after a mistake in the thread nobody may hang."""
        self._closing = True
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._queue.get_nowait()
                if job is not None and not job.future.done():
                    job.future.set_exception(StorageUnavailable(f"storage: {self._what} is closed"))
        self._settle(self._ended, None)

    def _deliver(self, group: list[Job[Any]], wrote: bool, failure: sqlite3.Error | None) -> None:
        if failure is not None:
            self._failed(failure)
        elif wrote and not self._available and not self._closing:
            self._available = True
            self._log.warning("storage is available again", database=self._what)
        for job in group:
            if failure is not None:
                if not job.future.done():
                    error = StorageUnavailable(f"storage: {self._what} cannot be written: {failure}")
                    error.__cause__ = failure
                    job.future.set_exception(error)
            elif job.future.done():
                if job.done and job.undo is not None:
                    self._take_back(job.undo(job.result))
            elif job.error is not None:
                job.future.set_exception(job.error)
            elif job.done:
                job.future.set_result(job.result)

    def _take_back(self, operation: Operation[Any]) -> None:
        if not self._closing:  # what is not taken back now is found by the next start
            self._submit(operation, lasting=False).add_done_callback(_forget)

    def _failed(self, failure: sqlite3.Error) -> None:
        self._available = False
        if code(failure) in OF_DAMAGE and not self._damaged:
            self._damaged = True
            self._log.critical(
                "the database is damaged; stop the program and restore a backup",
                database=self._what,
                error=str(failure),
            )
            return
        now = self._clock.monotonic()
        if self._logged_at is None or now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            self._log.error("storage cannot be written; trying again", database=self._what, error=str(failure))
        if self._probing is None and not self._closing and not self._damaged:
            self._probing = self._loop.create_task(self._probe())

    async def _probe(self) -> None:
        """Try a small write until one succeeds, so that `available` turns True without anybody's message."""
        try:
            while not self._available and not self._damaged:
                await self._clock.sleep(_PROBE_SECONDS)
                with contextlib.suppress(StorageUnavailable):
                    await self.run(_touch)
        finally:
            self._probing = None


def _touch(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO meta (name, value) VALUES ('touched', '') ON CONFLICT (name) DO UPDATE SET value = ''")


def _forget(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
