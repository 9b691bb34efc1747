"""The store of a single machine: one SQLite file, one connection, one writer thread."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog

from core.budgets import UNBOUNDED, Ahead, Budgets, Exhausted, Spent, nobody_ahead
from core.clock import Clock
from core.errors import StorageUnavailable
from core.journal import (
    Accepted,
    ConversationState,
    Exchange,
    InboxId,
    InboxRow,
    LastTurn,
    OutboxPart,
    OutboxState,
    Outcome,
    Quota,
    Reached,
    Recovery,
    Reserved,
    Turn,
    TurnId,
)
from core.memory import Memory, Summary
from core.messages import AccountId, ConversationKey, EventId, InboundMessage, MessageId, Person
from core.storage import admission, inbound, outbound, recovery, spending, statements, summaries, turns, upkeep
from core.storage.codec import day, encode, micros, name, storable
from core.storage.load import watch_load
from core.storage.lock import LockFile
from core.storage.opening import make_folder, open_database
from core.storage.spending import watch_spending
from core.storage.sqlite_archive import SqliteArchive
from core.storage.transaction import Operation
from core.storage.writer import Writer

_MICROSECOND = timedelta(microseconds=1)


class SqliteStore(SqliteArchive):
    """Satisfies core.journal.Journal, core.archive.Archive and core.memory.Memories. Entered once.

    Raises on entering: ConfigError (the path is not usable), StorageBusy (another process has it), StorageDamaged.
    """

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._lock = LockFile(path)
        self._instance = ""
        self._calls = 0
        self._last_sent: dict[AccountId, datetime] = {}
        self._writer = Writer(self._open, clock=clock, what=repr(str(path)))

    @property
    def path(self) -> Path:
        """The database file; beside it lie its WAL and its lock file."""
        return self._path

    @property
    def instance(self) -> str:
        """A random name that this database got when it was made."""
        return self._instance

    @property
    def available(self) -> bool:
        """False from a failed write until one succeeds again."""
        return self._writer.available

    async def __aenter__(self) -> Self:
        make_folder(self._path)
        self._lock.acquire()
        try:
            await self._writer.start()
        except BaseException:
            self._lock.release()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._writer.stop()
        finally:
            self._lock.release()

    def _open(self) -> sqlite3.Connection:
        opened = open_database(self._path, monotonic=self._clock.monotonic)
        watch_load(opened.connection)
        watch_spending(opened.connection)
        (self._instance,) = opened.connection.execute("SELECT value FROM meta WHERE name = 'instance'").fetchone()
        if opened.unchecked:
            structlog.get_logger("storage").info(
                "the database is large: only part of it was checked for damage", database=str(self._path)
            )
        return opened.connection

    # Journal

    async def accept(
        self,
        message: InboundMessage,
        conversation: ConversationKey,
        quota: Quota,
        *,
        budgets: Budgets = UNBOUNDED,
        command: bool = False,
        lasting: bool = True,
        at_once: Ahead | None = None,
        idle_after: timedelta | None = None,
    ) -> Accepted:
        """See core.journal.Journal, also for the methods below."""
        now = self._clock.now()
        body = encode(message)
        arrival = admission.Arrival(
            message=message,
            conversation=conversation,
            body=body,
            bytes=len(body) if body.isascii() else len(body.encode()),
            command=command,
            now=micros(now),
            today=day(now),
        )
        begin = None
        if at_once is not None:
            begin = self._beginning(conversation, 1, idle_after, budgets, at_once, now)
        accept = partial(admission.accept, arrival=arrival, quota=quota, budgets=budgets, at_once=begin)
        return await self._writer.run(accept, lasting=lasting)

    async def lose(self, message: InboundMessage, reason: str) -> None:
        try:
            body = encode(message)
        except Exception:  # noqa: BLE001 - it may be the very reason
            body = None
        now = micros(self._clock.now())
        await self._writer.run(lambda db: admission.lose(db, message, body, reason, now))

    async def recover(self, *, resuming: bool = True) -> Recovery:
        conversations, commands = await self._writer.run(partial(recovery.recover, resuming=resuming))
        return Recovery(
            conversations=tuple(ConversationKey.parse(key) for key in conversations),
            commands=tuple((InboxId(id), ConversationKey.parse(key)) for id, key in commands),
        )

    async def begin(
        self,
        conversation: ConversationKey,
        *,
        most: int,
        idle_after: timedelta | None,
        budgets: Budgets = UNBOUNDED,
        ahead: Ahead = nobody_ahead,
    ) -> Turn | None:
        now = self._clock.now()
        beginning = self._beginning(conversation, most, idle_after, budgets, ahead, now)
        begun = await self._writer.run(partial(inbound.begin, beginning=beginning), undo=_give_back, lasting=False)
        return None if begun is None else begun.turn()

    def _beginning(
        self,
        conversation: ConversationKey,
        most: int,
        idle_after: timedelta | None,
        budgets: Budgets,
        ahead: Ahead,
        now: datetime,
    ) -> inbound.Beginning:
        return inbound.Beginning(
            key=str(conversation),
            most=most,
            idle=None if idle_after is None else idle_after // _MICROSECOND,
            budgets=budgets,
            ahead=ahead,
            now=micros(now),
            today=day(now),
            instance=self._instance,
        )

    async def begin_command(self, inbox: InboxId) -> Turn | None:
        begun = await self._writer.run(
            partial(inbound.begin_command, inbox=inbox, now=self._now(), instance=self._instance),
            undo=_give_back,
            lasting=False,
        )
        return None if begun is None else begun.turn()

    async def release(self, turn: Turn, spent: Spent | None = None) -> None:
        today = day(self._clock.now())
        await self._writer.run(
            partial(inbound.release, turn=turn.id, epoch=turn.epoch, payers=turn.payers, spent=spent, today=today),
            lasting=spent is not None,
        )

    async def preview(self, turn: Turn, message: MessageId) -> None:
        await self._writer.run(lambda db: _execute(db, statements.PREVIEW, (name(message), turn.id, turn.epoch)))

    async def finish(self, turn: Turn, outcome: Outcome) -> tuple[OutboxPart, ...]:
        now = self._clock.now()
        parts = await self._writer.run(
            partial(turns.finish, turn=turn, outcome=outcome, now=micros(now), today=day(now))
        )
        if outcome.kept_text:
            await self._leave_nothing_behind()
        return parts

    async def reserve(
        self,
        person: Person,
        *,
        budgets: Budgets,
        model: str | None,
        weight: int,
        message: bool = True,
        ahead: Ahead = nobody_ahead,
    ) -> Reserved | Exhausted:
        self._calls += 1
        today = day(self._clock.now())
        return await self._writer.run(
            partial(
                spending.reserve,
                id=-self._calls,
                person=person,
                budgets=budgets,
                reserve=budgets.reserve(model, weight),
                today=today,
                ahead=ahead,
                message=message,
            ),
            undo=partial(_set_free, today=today),
            lasting=False,
        )

    async def charge(self, reserved: Reserved, spent: Spent) -> None:
        today = day(self._clock.now())
        await self._writer.run(partial(spending.settle, reserved=reserved, spent=spent, today=today))

    async def unsent(self, conversation: ConversationKey) -> tuple[OutboxPart, ...]:
        return await self._writer.run(partial(outbound.unsent, conversation=conversation))

    async def sending(self, part: OutboxPart) -> None:
        await self._writer.run(partial(outbound.sending, part=part.id, now=self._now()))

    async def sent(self, part: OutboxPart, message: MessageId | None) -> None:
        shown = None if message is None else name(message)
        await self._writer.run(partial(outbound.sent, part=part, message=shown, now=self._now()))
        if part.tells_code:
            await self._leave_nothing_behind()
        self._last_sent[part.account] = self._clock.now()

    async def _leave_nothing_behind(self) -> None:
        """What was overwritten is in no file any more. Where that fails, the next checkpoint or the end brings it about."""
        with suppress(StorageUnavailable):
            await self._writer.run(upkeep.truncate, alone=True)

    async def postpone(self, part: OutboxPart, until: datetime, error: str, *, state: OutboxState) -> OutboxPart:
        await self._writer.run(
            partial(outbound.postpone, part=part.id, state=state, until=micros(until), error=storable(error))
        )
        return replace(part, state=state, attempts=part.attempts + 1, next_at=until)

    async def hold(self, part: OutboxPart, error: str, *, state: OutboxState) -> None:
        await self._writer.run(partial(outbound.hold, part=part.id, state=state, error=storable(error)))

    async def bury(self, part: OutboxPart, error: str) -> None:
        await self._writer.run(
            partial(outbound.bury, turn=part.turn, number=part.number, error=storable(error), now=self._now())
        )

    async def history(self, conversation: ConversationKey, generation: int, *, most: int) -> tuple[Exchange, ...]:
        rows = await self._writer.run(
            lambda db: db.execute(statements.HISTORY, (str(conversation), generation, most)).fetchall()
        )
        return tuple(Exchange(question=question, answer=answer) for question, answer in reversed(rows))

    async def memory(self, conversation: ConversationKey, generation: int, *, most: int) -> Memory:
        return await self._writer.run(
            partial(summaries.memory, key=str(conversation), generation=generation, most=most)
        )

    async def sum_up(
        self,
        conversation: ConversationKey,
        generation: int,
        summary: Summary,
        *,
        instead_of: Summary | None,
        of: tuple[TurnId, ...],
    ) -> bool:
        return await self._writer.run(
            partial(
                summaries.sum_up,
                key=str(conversation),
                generation=generation,
                summary=summary,
                instead_of=instead_of,
                of=of,
            )
        )

    async def state(self, conversation: ConversationKey) -> ConversationState:
        return await self._writer.run(partial(turns.state, key=str(conversation)))

    async def renew(self, conversation: ConversationKey, *, before: InboxId | None) -> tuple[InboxRow, ...]:
        rows = await self._writer.run(partial(inbound.renew, key=str(conversation), before=before, now=self._now()))
        return tuple(inbound.to_row(row) for row in rows)

    async def expire(
        self, conversation: ConversationKey, *, received_before: datetime, account: AccountId
    ) -> tuple[InboxRow, ...]:
        rows = await self._writer.run(
            partial(
                inbound.expire,
                key=str(conversation),
                received_before=micros(received_before),
                account=account,
                now=self._now(),
            )
        )
        return tuple(inbound.to_row(row) for row in rows)

    async def choose_model(self, conversation: ConversationKey, model: str | None) -> None:
        await self._writer.run(partial(turns.choose_model, key=str(conversation), model=model, now=self._now()))

    async def choose_persona(self, conversation: ConversationKey, persona: str | None) -> None:
        await self._writer.run(partial(turns.choose_persona, key=str(conversation), persona=persona, now=self._now()))

    async def last_turn(self, conversation: ConversationKey) -> LastTurn | None:
        return await self._writer.run(partial(turns.last_turn, key=str(conversation)))

    async def reached(self, account: AccountId, event: EventId) -> Reached | None:
        return await self._writer.run(partial(turns.reached, account=name(account), event=name(event)))

    async def reopen(self, inbox: InboxId) -> bool:
        return await self._writer.run(partial(inbound.reopen, inbox=inbox, now=self._now()))

    async def forget(self, conversation: ConversationKey) -> int:
        return await self._writer.run(partial(upkeep.forget, key=str(conversation), now=self._now()), alone=True)


def _execute(db: sqlite3.Connection, statement: str, values: tuple[Any, ...]) -> None:
    db.execute(statement, values)


def _set_free(reserved: Reserved | Exhausted, today: int) -> Operation[None]:
    """What frees what was set aside for somebody who is gone."""
    if isinstance(reserved, Exhausted):
        return lambda _: None
    return partial(spending.settle, reserved=reserved, spent=Spent(), today=today)


def _give_back(begun: inbound.Begun | None) -> Operation[None]:
    """What takes a beginning back that nobody waits for any more."""
    if begun is None:
        return lambda _: None
    return partial(inbound.release, turn=begun.id, epoch=begun.epoch, payers=begun.payers)
