"""Random sequences of everything that spends, with crashes: no budget is ever exceeded by more than one turn.

The model is one number for each subject: what was charged. Subclass `BudgetMachine` with an engine of one's own.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from abc import abstractmethod
from collections import Counter
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from core.adapter import Receipt
from core.budgets import Allowance, BudgetInUse, Exhausted, Measure, Spent, Subject, Whose
from core.journal import Outcome, Quota, Reserved, Turn, TurnState
from core.messages import AccountId, ChannelId, ConversationKey, Person, UserId
from tests.clock import HeldClock
from tests.contract.journal_budgets import Caps
from tests.contract.journal_scenes import Engine, Store, inbound

T = TypeVar("T")

ONE = Spent(10, 1.0)
"""What a call may cost at the most, and what is set aside for it."""
TOKENS = {"person": 12, "account": 25, "total": 33}
MONEY = {"person": 1.5, "account": 2.5, "total": 3.75}
BUDGETS = Caps(
    person=Allowance(tokens_per_day=TOKENS["person"], money_per_month=MONEY["person"], messages_per_day=12),
    account=Allowance(tokens_per_day=TOKENS["account"], money_per_month=MONEY["account"]),
    total=Allowance(tokens_per_day=TOKENS["total"], money_per_month=MONEY["total"]),
    one=ONE,
)
users = st.sampled_from(("ann", "bob", "cy"))
accounts = st.sampled_from(("work", "other"))
places = st.sampled_from(("a", "b", "c"))
costs = st.builds(Spent, st.sampled_from((10, 10, 5, 1, 0)), st.sampled_from((1.0, 1.0, 0.25, 0.0)))

Place = tuple[str, str]


class BudgetMachine(RuleBasedStateMachine):
    """Three people on two accounts, each account with three conversations that they share."""

    @abstractmethod
    def make_engine(self, folder: Path, clock: HeldClock) -> Engine:
        """An engine with an empty database in `folder`."""

    @initialize()
    def open(self) -> None:
        """The first start."""
        self.folder = Path(tempfile.mkdtemp())
        self.clock = HeldClock()
        self.loop = asyncio.new_event_loop()
        self.engine = self.make_engine(self.folder, self.clock)
        self.running: dict[Place, Turn] = {}
        self.calls: list[tuple[Person, Reserved]] = []
        self.broken_off: set[Place] = set()
        """Conversations whose turn a crash broke off: what was set aside for it still is."""
        self.tokens: Counter[Subject] = Counter()
        self.money: Counter[Subject] = Counter()
        self.messages: Counter[Subject] = Counter()
        self.run(self._open())

    async def _open(self) -> None:
        self.context: AbstractAsyncContextManager[Store] = self.engine.open()
        self.store = await self.context.__aenter__()
        await self.store.recover()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for it."""
        return self.loop.run_until_complete(work)

    def key(self, place: Place) -> ConversationKey:
        """A conversation that everybody on the account shares."""
        return ConversationKey(AccountId(place[0]), channel=ChannelId(place[1]))

    def paid(self, subjects: tuple[Subject, ...], spent: Spent) -> None:
        """A call has ended."""
        for subject in subjects:
            self.tokens[subject] += spent.tokens
            self.money[subject] += spent.money  # type: ignore[assignment]  # a Counter counts floats as well
        for subject, name in zip(subjects, ("person", "account", "total"), strict=True):
            assert self.tokens[subject] <= TOKENS[name] + ONE.tokens
            assert self.money[subject] <= MONEY[name] + ONE.money + 1e-9

    @rule(account=accounts, user=users, place=places)
    def accept(self, account: str, user: str, place: str) -> None:
        """Somebody writes. What is used up is refused, and nothing else is."""
        message = inbound(user=user, account=account)
        accepted = self.run(self.store.accept(message, self.key((account, place)), Quota(), budgets=BUDGETS))
        subjects = (Subject(account, user), Subject(account, ""), Subject("", ""))
        if accepted.receipt is Receipt.ACCEPTED:
            for subject in subjects:
                self.messages[subject] += 1
            assert not self._used_up(subjects)
            assert self.messages[subjects[0]] <= 12
        else:
            assert accepted.exhausted is not None
            self._check(accepted.exhausted, subjects)

    def _used_up(self, subjects: tuple[Subject, ...]) -> bool:
        names = ("person", "account", "total")
        return any(
            self.tokens[subject] >= TOKENS[name] or self.money[subject] >= MONEY[name] - 1e-9
            for subject, name in zip(subjects, names, strict=True)
        )

    def _check(self, exhausted: Exhausted, subjects: tuple[Subject, ...]) -> None:
        """It is as used up as it says."""
        subject = dict(zip(Whose, subjects, strict=True))[exhausted.whose]
        match exhausted.measure:
            case Measure.MESSAGES:
                assert self.messages[subject] >= exhausted.cap
            case Measure.TOKENS:
                assert self.tokens[subject] >= exhausted.cap
            case Measure.MONEY:
                assert self.money[subject] >= exhausted.cap - 1e-9

    @rule(account=accounts, place=places, most=st.integers(1, 3))
    def begin(self, account: str, place: str, most: int) -> None:
        """The next turn of a conversation, where none runs."""
        where = (account, place)
        if where in self.running:
            return
        try:
            turn = self.run(self.store.begin(self.key(where), most=most, idle_after=None, budgets=BUDGETS))
        except BudgetInUse:
            assert self.running or self.calls or self.broken_off, "nobody would ever wake it"
            return
        if turn is None:
            return
        self.broken_off.discard(where)
        self.running[where] = turn
        assert len({row.message.sender.id for row in turn.rows}) == 1
        if turn.exhausted is not None:
            self._check(turn.exhausted, turn.payers.subjects)

    @rule(account=accounts, user=users)
    def ask_everywhere(self, account: str, user: str) -> None:
        """Somebody asks in all conversations at once."""
        for place in ("a", "b", "c"):
            self.accept(account, user, place)
            self.begin(account, place, 1)

    @precondition(lambda self: self.running or self.calls)
    @rule(cost=costs)
    def finish_all(self, cost: Spent) -> None:
        """Everything that runs ends."""
        for turn in self.running.values():
            spent = Spent() if turn.exhausted is not None else cost
            self.run(self.store.finish(turn, Outcome(state=TurnState.COMPLETE, spent=spent)))
            self.paid(turn.payers.subjects, spent)
        for _, reserved in self.calls:
            self.run(self.store.charge(reserved, cost))
            self.paid(reserved.payers.subjects, cost)
        self.running, self.calls = {}, []

    @rule()
    def next_month(self) -> None:
        """Everything starts afresh. What is being written counts to the month in which it ends."""
        self.run(self.clock.advance(31 * 86_400))
        for counter in (self.tokens, self.money, self.messages):
            counter.clear()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), cost=costs, state=st.sampled_from((TurnState.COMPLETE, TurnState.STOPPED, TurnState.FAILED)))
    def finish(self, data: st.DataObject, cost: Spent, state: TurnState) -> None:
        """A turn ends, however."""
        where = data.draw(st.sampled_from(sorted(self.running)))
        turn = self.running.pop(where)
        spent = Spent() if turn.exhausted is not None else cost
        self.run(self.store.finish(turn, Outcome(state=state, spent=spent)))
        self.paid(turn.payers.subjects, spent)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), cost=costs, shown=st.booleans())
    def make_way(self, data: st.DataObject, cost: Spent, shown: bool) -> None:
        """A turn is put back; what it had cost is paid."""
        where = data.draw(st.sampled_from(sorted(self.running)))
        turn = self.running.pop(where)
        if shown:
            self.run(self.store.preview(turn, turn.last.id))
        spent = Spent() if turn.exhausted is not None else cost
        self.run(self.store.release(turn, spent))
        self.paid(turn.payers.subjects, spent)

    @rule(account=accounts, place=places)
    def forget(self, account: str, place: str) -> None:
        """/forget, perhaps while an answer is being written."""
        self.run(self.store.forget(self.key((account, place))))
        self.broken_off.discard((account, place))

    @rule(account=accounts, place=places)
    def renew(self, account: str, place: str) -> None:
        """/new: what waits is dropped."""
        self.run(self.store.renew(self.key((account, place)), before=None))
        self.broken_off.discard((account, place))

    @rule(account=accounts, user=users)
    def reserve(self, account: str, user: str) -> None:
        """A call that is no turn begins."""
        person = Person(AccountId(account), UserId(user))
        subjects = (Subject(account, user), Subject(account, ""), Subject("", ""))
        try:
            reserved = self.run(self.store.reserve(person, budgets=BUDGETS, model=None, weight=1))
        except BudgetInUse:
            assert self.running or self.calls or self.broken_off
            return
        if isinstance(reserved, Exhausted):
            self._check(reserved, subjects)
            return
        for subject in subjects:
            self.messages[subject] += 1
        self.calls.append((person, reserved))

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), cost=costs)
    def charge(self, data: st.DataObject, cost: Spent) -> None:
        """And ends."""
        _, reserved = self.calls.pop(data.draw(st.integers(0, len(self.calls) - 1)))
        self.run(self.store.charge(reserved, cost))
        self.paid(reserved.payers.subjects, cost)

    @rule()
    def crash(self) -> None:
        """kill -9 and a new start."""

        async def crash() -> None:
            await self.engine.crash(self.store)
            await self.context.__aexit__(None, None, None)

        self.run(crash())
        self.broken_off.update(self.running)
        self.running, self.calls = {}, []
        self.run(self._open())

    @rule()
    def compare(self) -> None:
        """The store says what was charged."""
        for account in ("work", "other"):
            for user in ("ann", "bob", "cy"):
                person = Person(AccountId(account), UserId(user))
                subjects = (Subject(account, user), Subject(account, ""), Subject("", ""))
                for subject, (today, _) in zip(subjects, self.run(self.store.used(person)), strict=True):
                    assert (today.messages, today.tokens) == (self.messages[subject], self.tokens[subject])
                    assert abs(today.money - self.money[subject]) < 1e-9

    def teardown(self) -> None:
        """When everything has ended, nothing is set aside: whoever has something left can begin."""
        if not hasattr(self, "store"):
            return
        try:
            for turn in self.running.values():
                self.run(self.store.finish(turn, Outcome(state=TurnState.STOPPED)))
            for _, reserved in self.calls:
                self.run(self.store.charge(reserved, Spent()))
            for account in ("work", "other"):
                for place in ("a", "b", "c"):
                    self.run(self.store.renew(self.key((account, place)), before=None))
            for account in ("work", "other"):
                person = Person(AccountId(account), UserId("new"))
                call = self.run(self.store.reserve(person, budgets=BUDGETS, model=None, weight=1, message=False))
                if isinstance(call, Reserved):
                    self.run(self.store.charge(call, Spent()))
            self.compare()
        finally:
            self.run(self.context.__aexit__(None, None, None))
            self.loop.close()
            shutil.rmtree(self.folder)
