"""A model of the journal that random sequences of calls, crashes and redeliveries are compared with.

The model is small enough to be read as the specification: what waits, what runs, what is unsent, what is history.
Subclass `JournalMachine` with an engine of one's own.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from core.adapter import Receipt
from core.chat import Usage
from core.journal import (
    Exchange,
    InboxId,
    InboxState,
    OutboxPart,
    OutboxState,
    Outcome,
    Quota,
    Turn,
    TurnState,
)
from core.memory import Summary
from core.messages import InboundMessage, MessageId
from tests.clock import HeldClock
from tests.contract.journal_scenes import WORK, Engine, Store, inbound, key

T = TypeVar("T")

USERS = ("ann", "bob", "cy")
TERMINAL = {InboxState.DONE, InboxState.DEAD, InboxState.EXPIRED}
QUEUED = 4


@dataclass
class Row:
    """An accepted message."""

    message: InboundMessage
    user: str
    state: InboxState = InboxState.NEW
    attempts: int = 0
    received: float = 0.0
    turn: Begun | None = None
    failed: bool = False
    """Its last turn ended with a failure or too late: it may be reopened."""


@dataclass(eq=False)
class Begun:
    """A turn as its owner has it."""

    turn: Turn
    rows: list[InboxId]
    preview: str | None = None
    parts: list[OutboxPart] = field(default_factory=list)
    """Not yet sent or buried."""


@dataclass
class Conversation:
    """One person's."""

    generation: int = 1
    running: Begun | None = None
    broken_off: Begun | None = None
    unsent: list[Begun] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)
    summed_up: int = 0
    """How many of the oldest exchanges are in its summary."""


users = st.sampled_from(USERS)


class JournalMachine(RuleBasedStateMachine):
    """Random calls, each compared with the model."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")  # a disk's sync would be most of the time
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.loop = asyncio.new_event_loop()
        self.clock = HeldClock()
        self.engine = self.make_engine(self.folder, self.clock)
        self.context: AbstractAsyncContextManager[Store]
        self.store: Store
        self.rows: dict[InboxId, Row] = {}
        self.conversations = {user: Conversation() for user in USERS}
        self.sent_keys: list[str] = []
        self.lost_owners: list[Turn] = []
        self.keys: set[str] = set()

    @abstractmethod
    def make_engine(self, folder: Path, clock: HeldClock) -> Engine:
        """The engine under test, with an empty database in `folder`."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Let the store do one thing."""
        return self.loop.run_until_complete(work)

    async def _open(self) -> None:
        self.context = self.engine.open()
        self.store = await self.context.__aenter__()
        recovery = await self.store.recover()
        expected = {
            key(user)
            for user, conversation in self.conversations.items()
            if conversation.broken_off or conversation.unsent or self._waiting(user)
        }
        assert set(recovery.conversations) == expected
        assert len(recovery.conversations) == len(expected)

    @initialize()
    def start(self) -> None:
        """An empty journal."""
        self.run(self._open())

    # What the model knows

    def _waiting(self, user: str) -> list[InboxId]:
        """Fresh messages, oldest first; those of a broken-off turn are not among them."""
        return [
            id for id, row in self.rows.items() if row.user == user and row.state is InboxState.NEW and row.turn is None
        ]

    def _pick(self, data: st.DataObject, rows: list[InboxId]) -> InboxId:
        return data.draw(st.sampled_from(sorted(rows)))

    def _end(self, begun: Begun, state: InboxState, *, failed: bool = False) -> None:
        for id in begun.rows:
            self.rows[id].state = state
            self.rows[id].failed = failed

    # Rules

    @rule(user=users)
    def accept(self, user: str) -> None:
        """A new message, refused where the queue is full."""
        message = inbound(user=user)
        conversation = self.conversations[user]
        queued = len(self._waiting(user)) + (len(conversation.broken_off.rows) if conversation.broken_off else 0)
        accepted = self.run(self.store.accept(message, key(user), Quota(queued=QUEUED)))
        if queued >= QUEUED:
            assert accepted.receipt is Receipt.REFUSED
            return
        assert accepted.receipt is Receipt.ACCEPTED
        assert accepted.inbox is not None
        assert all(accepted.inbox > known for known in self.rows)
        self.rows[accepted.inbox] = Row(message, user, received=self.clock.monotonic())

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), other_event=st.booleans())
    def redeliver(self, data: st.DataObject, other_event: bool) -> None:
        """A message comes again, also as another event about the same message."""
        id = self._pick(data, list(self.rows))
        message = self.rows[id].message
        if other_event:
            message = inbound(user=self.rows[id].user, id=message.id)
        accepted = self.run(self.store.accept(message, key(self.rows[id].user), Quota(queued=0)))
        assert (accepted.receipt, accepted.inbox) == (Receipt.DUPLICATE, id)

    @rule(user=users, most=st.integers(1, 3))
    def begin(self, user: str, most: int) -> None:
        """The dispatcher begins the next turn where none runs."""
        conversation = self.conversations[user]
        if conversation.running is None:
            self._begun(user, self.run(self.store.begin(key(user), most=most, idle_after=None)), most)

    @rule(user=users, steps=st.integers(0, 3))
    def begin_and_be_cancelled(self, user: str, steps: int) -> None:
        """The dispatcher is cancelled while it begins, and puts back what it got all the same: nothing has happened."""
        conversation = self.conversations[user]
        if conversation.running is not None:
            return

        async def cancelled() -> None:
            task = asyncio.ensure_future(self.store.begin(key(user), most=1, idle_after=None))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            (result,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(result, Turn):
                await self.store.release(result)
            for _ in range(2):  # until what is taken back is taken back
                await self.store.state(key(user))

        self.run(cancelled())
        if conversation.broken_off is not None:
            self.lost_owners.append(conversation.broken_off.turn)

    def _begun(self, user: str, turn: Turn | None, most: int) -> None:
        conversation = self.conversations[user]
        broken = conversation.broken_off
        expected = broken.rows if broken is not None else self._waiting(user)[:most]
        if not expected:
            assert turn is None
            return
        assert turn is not None
        assert [row.id for row in turn.rows] == expected
        if broken is not None:
            assert (turn.id, turn.key, turn.generation) == (broken.turn.id, broken.turn.key, broken.turn.generation)
            assert turn.epoch > broken.turn.epoch
            assert turn.preview == broken.preview
            begun = broken
            begun.turn = turn
        else:
            assert turn.generation == conversation.generation
            begun = Begun(turn, expected)
        for row in turn.rows:
            known = self.rows[row.id]
            known.state, known.turn = InboxState.RUNNING, begun
            known.attempts += 1
            assert row.attempts == known.attempts
            assert row.message == known.message
        conversation.running, conversation.broken_off = begun, None

    @rule(user=users)
    def preview(self, user: str) -> None:
        """Something of the answer is shown."""
        begun = self.conversations[user].running
        if begun is not None:
            begun.preview = f"shown-{begun.turn.id}"
            self.run(self.store.preview(begun.turn, MessageId(begun.preview)))

    @rule(user=users)
    def interrupt(self, user: str) -> None:
        """The running turn makes way. One that nobody has seen dissolves; another keeps its identity."""
        conversation = self.conversations[user]
        begun = conversation.running
        if begun is None:
            return
        self.run(self.store.release(begun.turn))
        conversation.running = None
        for id in begun.rows:
            self.rows[id].state = InboxState.NEW
            self.rows[id].attempts -= 1
        if begun.turn.epoch > 1 or begun.preview is not None:
            conversation.broken_off = begun
            self.lost_owners.append(begun.turn)
        else:
            for id in begun.rows:
                self.rows[id].turn = None

    @rule(
        user=users,
        state=st.sampled_from((TurnState.COMPLETE, TurnState.COMPLETE, TurnState.STOPPED, TurnState.FAILED)),
        count=st.integers(0, 3),
        dead=st.booleans(),
    )
    def finish(self, user: str, state: TurnState, count: int, dead: bool) -> None:
        """The running turn ends."""
        conversation = self.conversations[user]
        begun = conversation.running
        if begun is None:
            return
        turn = begun.turn
        dead = dead and state is TurnState.FAILED
        exchange = Exchange(question=f"q{turn.id}", answer=f"a{turn.id}") if state is TurnState.COMPLETE else None
        parts = tuple(f"{turn.id}.{number}" for number in range(count))
        usage = Usage(input_tokens=1, output_tokens=1)
        outcome = Outcome(state=state, parts=parts, exchange=exchange, usage=usage, dead=dead, error="why")
        committed = self.run(self.store.finish(turn, outcome))
        conversation.running = None
        if turn.generation != conversation.generation and state is not TurnState.STOPPED:
            assert committed == ()
            self._end(begun, InboxState.EXPIRED, failed=True)
            return
        if exchange is not None:
            conversation.exchanges.append(exchange)
        if dead:
            assert committed == ()
            self._end(begun, InboxState.DEAD, failed=True)
            return
        assert tuple(part.text for part in committed) == parts
        assert [part.edits for part in committed] == [begun.preview, None, None][:count]
        assert not self.keys & {part.key for part in committed}
        self.keys |= {part.key for part in committed}
        begun.parts = list(committed)
        failed = state is TurnState.FAILED
        self._end(begun, InboxState.ANSWERED if parts else InboxState.DONE, failed=failed)
        if parts:
            conversation.unsent.append(begun)

    @precondition(lambda self: self.lost_owners)
    @rule(data=st.data())
    def a_lost_owner_writes(self, data: st.DataObject) -> None:
        """Somebody who owned a turn before a crash finishes it, too late."""
        turn = self.lost_owners[data.draw(st.integers(0, len(self.lost_owners) - 1))]
        owners = [conversation.running for conversation in self.conversations.values() if conversation.running]
        if any((owner.turn.id, owner.turn.epoch) == (turn.id, turn.epoch) for owner in owners):
            return
        ghost = Outcome(state=TurnState.COMPLETE, parts=("ghost",), exchange=Exchange(question="g", answer="g"))
        self.run(self.store.preview(turn, MessageId("ghost")))
        assert self.run(self.store.finish(turn, ghost)) == ()

    @rule(user=users, arrives=st.booleans())
    def send(self, user: str, arrives: bool) -> None:
        """The next part goes out, and arrives or has to wait."""
        conversation = self.conversations[user]
        if not conversation.unsent:
            return
        begun = conversation.unsent[0]
        part = begun.parts[0]
        self.run(self.store.sending(part))
        if not arrives:
            until = self.clock.now() + timedelta(seconds=1)
            begun.parts[0] = self.run(self.store.postpone(part, until, "later", state=OutboxState.UNKNOWN))
            return
        assert part.key not in self.sent_keys
        self.sent_keys.append(part.key)
        self.run(self.store.sent(part, MessageId(f"p{part.id}")))
        begun.parts.pop(0)
        if not begun.parts:
            conversation.unsent.remove(begun)
            self._end(begun, InboxState.DONE, failed=self.rows[begun.rows[0]].failed)

    @rule(user=users)
    def bury(self, user: str) -> None:
        """The next part will never arrive."""
        conversation = self.conversations[user]
        if conversation.unsent:
            begun = conversation.unsent.pop(0)
            self.run(self.store.bury(begun.parts[0], "gone"))
            begun.parts = []
            self._end(begun, InboxState.DEAD, failed=True)

    @rule(user=users)
    def renew(self, user: str) -> None:
        """/new: everything that waits expires, what runs is late."""
        conversation = self.conversations[user]
        gone = sorted(self._waiting(user) + (conversation.broken_off.rows if conversation.broken_off else []))
        known = (
            bool(self.run(self.store.state(key(user))).last_active) or bool(gone) or conversation.running is not None
        )
        dropped = self.run(self.store.renew(key(user), before=None))
        assert [row.id for row in dropped] == gone
        self._expired(conversation, gone)
        if known or any(row.user == user for row in self.rows.values()):
            conversation.generation += 1
            conversation.exchanges = []
            conversation.summed_up = 0

    @rule(user=users, most=st.integers(1, 4), late=st.booleans(), renewed=st.booleans())
    def sum_up(self, user: str, most: int, late: bool, renewed: bool) -> None:
        """The oldest exchanges are summed up; not where that comes too late: for a summary, or a generation, before."""
        conversation = self.conversations[user]
        generation, earlier = conversation.generation, conversation.summed_up
        memory = self.run(self.store.memory(key(user), generation, most=1000))
        assert (memory.summary.turns if memory.summary is not None else 0) == earlier
        of = tuple(exchange.turn for exchange in memory.exchanges[:most] if exchange.turn is not None)
        if not of:
            return
        if renewed:
            self.renew(user)
        first = of[0] if memory.summary is None else memory.summary.first
        summary = Summary(text=f"of {earlier + len(of)}", first=first, upto=of[-1], turns=earlier + len(of))
        for again in (False, True) if late else (False,):
            stored = self.run(self.store.sum_up(key(user), generation, summary, instead_of=memory.summary, of=of))
            assert stored is not (again or renewed)
        if not renewed:
            conversation.summed_up = summary.turns

    @rule(user=users)
    def expire(self, user: str) -> None:
        """What waits for longer than ten seconds is too old."""
        conversation = self.conversations[user]
        candidates = sorted(self._waiting(user) + (conversation.broken_off.rows if conversation.broken_off else []))
        gone = [id for id in candidates if self.rows[id].received < self.clock.monotonic() - 10]
        before = self.clock.now() - timedelta(seconds=10)
        dropped = self.run(self.store.expire(key(user), received_before=before, account=WORK))
        assert [row.id for row in dropped] == gone
        self._expired(conversation, gone)

    def _expired(self, conversation: Conversation, gone: list[InboxId]) -> None:
        for id in gone:
            self.rows[id].state, self.rows[id].failed = InboxState.EXPIRED, True
        broken = conversation.broken_off
        if broken is not None:
            broken.rows = [id for id in broken.rows if id not in gone]
            if not broken.rows:
                conversation.broken_off = None

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        """Somebody asks for a message again."""
        id = self._pick(data, list(self.rows))
        row = self.rows[id]
        begun = row.turn
        siblings = [other for other, known in self.rows.items() if begun is not None and known.turn is begun]
        if begun is not None and any(
            self.rows[other].state in (InboxState.NEW, InboxState.RUNNING) for other in siblings
        ):
            return  # a merged turn of which a part expired; whether it may be reopened is the engine's choice
        may = row.failed and row.state not in (InboxState.NEW, InboxState.RUNNING)
        assert self.run(self.store.reopen(id)) is may
        if not may:
            return
        for other in siblings or [id]:
            known = self.rows[other]
            known.state, known.attempts, known.turn, known.failed = InboxState.NEW, 0, None, False
            known.received = self.clock.monotonic()
        for conversation in self.conversations.values():
            if begun is not None and begun in conversation.unsent:
                conversation.unsent.remove(begun)

    @rule(seconds=st.sampled_from((0.001, 1.0, 11.0)))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.run(self.clock.advance(seconds))

    @rule()
    def crash(self) -> None:
        """kill -9 and a new start."""

        async def crash() -> None:
            await self.engine.crash(self.store)
            await self.context.__aexit__(None, None, None)

        self.run(crash())
        self._restarted()

    @rule()
    def restart(self) -> None:
        """An orderly stop, with turns still running, and a new start."""
        self.run(self.context.__aexit__(None, None, None))
        self._restarted()

    def _restarted(self) -> None:
        for conversation in self.conversations.values():
            begun = conversation.running
            if begun is not None:
                self.lost_owners.append(begun.turn)
                for id in begun.rows:
                    self.rows[id].state = InboxState.NEW
                conversation.running, conversation.broken_off = None, begun
        self.run(self._open())

    # What holds at any time

    @rule()
    def compare(self) -> None:
        """The store says what the model says. A rule and not an invariant: it costs as much as ten others."""
        self.run(self._compare())

    async def _compare(self) -> None:
        for row in self.rows.values():
            reached = await self.store.reached(row.message.account, row.message.event)
            assert reached is not None, "a row was lost"
            assert reached.state is row.state
        for user, conversation in self.conversations.items():
            assert [(part.key, part.text) for part in await self.store.unsent(key(user))] == [
                (part.key, part.text) for begun in conversation.unsent for part in begun.parts
            ]
            exchanges = await self.store.history(key(user), conversation.generation, most=1000)
            assert exchanges == tuple(conversation.exchanges)
            state = await self.store.state(key(user))
            assert (state.generation, state.turns) == (conversation.generation, len(conversation.exchanges))
            memory = await self.store.memory(key(user), conversation.generation, most=1000)
            assert memory.exchanges == tuple(conversation.exchanges[conversation.summed_up :])
            assert state.summed_up == conversation.summed_up
        states = [row.state for row in self.rows.values()]
        figures = await self.store.figures()
        assert figures.waiting == states.count(InboxState.NEW)
        assert figures.running == states.count(InboxState.RUNNING)
        assert figures.dead == states.count(InboxState.DEAD)
        assert figures.unsent == sum(
            len(begun.parts) for conversation in self.conversations.values() for begun in conversation.unsent
        )
        assert (figures.pending_bytes > 0) is bool(figures.waiting + figures.running)

    def teardown(self) -> None:
        """Let everything come to its end: each accepted message has exactly one, and every part went out once."""
        try:
            if hasattr(self, "store"):
                self.run(self._compare())
                for user, conversation in self.conversations.items():
                    for _ in range(3 * len(self.rows) + 1):
                        self.finish(user, TurnState.COMPLETE, 1, dead=False)
                        self.begin(user, 2)
                    while conversation.unsent:
                        self.send(user, arrives=True)
                self.run(self._compare())
                assert all(row.state in TERMINAL for row in self.rows.values())
                assert len(self.sent_keys) == len(set(self.sent_keys))
        finally:
            if hasattr(self, "store"):
                self.run(self.context.__aexit__(None, None, None))
            self.loop.close()
            shutil.rmtree(self.folder)
