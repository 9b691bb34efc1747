"""What limits and budgets cost each message: `python -m bench.limits`.

µs of processor time per message, the median of interleaved rounds. On the store's thread: accept, begin and finish of one
message, with the budgets that hold. "One row" is what was done before there were budgets: one look-up and two writes of
the sender's own row, nothing set aside. On the event loop: the rates, a ticket for the budget, and the price.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import monotonic, thread_time
from typing import Any

from core.budgets import UNBOUNDED, Allowance, Budgets, Payers, Spent, nobody_ahead
from core.chat import Usage
from core.clock import SystemClock
from core.headroom import Headroom
from core.journal import Exchange, Outcome, Quota, TurnState
from core.limits import Limits, LimitSettings, MessageRates, Rates
from core.messages import (
    AccountId,
    ChannelId,
    ConversationKey,
    EventId,
    InboundMessage,
    MessageId,
    Person,
    ReplyAddress,
    Sender,
    UserId,
)
from core.prices import Prices
from core.storage import admission, inbound, spending, turns
from core.storage.codec import day, encode, micros
from core.storage.load import watch_load
from core.storage.opening import open_database
from core.storage.spending import watch_spending

_MESSAGES = 400
_ROUNDS = 15
_PEOPLE = 200
_NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
_ACCOUNT = AccountId("work")

_ONE_LOOK_UP = "SELECT requests, tokens FROM usage WHERE account = ? AND user = ? AND day = ?"
_COUNT = """
INSERT INTO usage (account, user, day, requests) VALUES (?, ?, ?, 1)
ON CONFLICT (account, user, day) DO UPDATE SET requests = requests + 1"""
_CHARGE = """
INSERT INTO usage (account, user, day, tokens, cost) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (account, user, day) DO UPDATE SET tokens = tokens + excluded.tokens, cost = cost + excluded.cost"""
_MANY = 10**12


def _all_of(money: float | None) -> Allowance:
    return Allowance(messages_per_day=_MANY, tokens_per_day=_MANY, money_per_month=money)


_PERSON = Limits(LimitSettings(person=_all_of(None), model="gpt-5-mini"))
_EVERYTHING = Limits(
    LimitSettings(person=_all_of(1e9), accounts={"work": _all_of(1e9)}, total=_all_of(1e9), model="gpt-5-mini")
)


@contextmanager
def _one_row() -> Iterator[None]:
    """The store as it was."""
    kept = {
        name: getattr(spending, name) for name in ("payers_of", "exhausted", "count_message", "charge", "set_aside")
    }

    def exhausted(
        db: sqlite3.Connection, _: Budgets, person: Person, __: Payers, today: int, *, messages: bool
    ) -> None:
        if messages:
            db.execute(_ONE_LOOK_UP, (person.account, person.user, today)).fetchone()

    def count_message(db: sqlite3.Connection, payers: Payers, today: int) -> None:
        db.execute(_COUNT, (*payers.person, today))

    def charge(db: sqlite3.Connection, payers: Payers, spent: Spent, today: int) -> None:
        db.execute(_CHARGE, (*payers.person, today, spent.tokens, spent.money))

    changes: dict[str, Callable[..., Any]] = {
        "payers_of": lambda _, account, user: Payers(person=Person(account, user), account=account),
        "exhausted": exhausted,
        "count_message": count_message,
        "charge": charge,
        "set_aside": lambda *_: None,
    }
    for name, function in changes.items():
        setattr(spending, name, function)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(spending, name, function)


class _Store:
    """One database, and the messages that go through it."""

    def __init__(self, path: Path, budgets: Budgets) -> None:
        self.db = open_database(path, monotonic=monotonic).connection
        watch_load(self.db)
        watch_spending(self.db)
        self.budgets = budgets
        self.number = 0

    def round(self) -> float:
        """µs per message."""
        spent = 0.0
        for _ in range(_MESSAGES // 20):
            work = [self._prepared() for _ in range(20)]
            self.db.execute("BEGIN")
            begun = thread_time()
            for arrival, beginning in work:
                self._one(arrival, beginning)
            spent += thread_time() - begun
            self.db.execute("COMMIT")
        return spent / _MESSAGES * 1e6

    def _prepared(self) -> tuple[admission.Arrival, inbound.Beginning]:
        self.number += 1
        user = UserId(f"u{self.number % _PEOPLE}")
        message = InboundMessage(
            id=MessageId(f"m{self.number}"),
            event=EventId(f"e{self.number}"),
            account=_ACCOUNT,
            sender=Sender(id=user),
            channel=ChannelId("c"),
            is_direct=True,
            mentions_bot=False,
            text="What does a budget cost? " * 4,
            sent_at=_NOW,
            reply_to=ReplyAddress("{}"),
        )
        key = ConversationKey(_ACCOUNT, user=user)
        body, now, today = encode(message), micros(_NOW), day(_NOW)
        arrival = admission.Arrival(
            message=message, conversation=key, body=body, bytes=len(body), command=False, now=now, today=today
        )
        beginning = inbound.Beginning(
            key=str(key),
            most=1,
            idle=None,
            budgets=self.budgets,
            ahead=nobody_ahead,
            now=now,
            today=today,
            instance="bench",
        )
        return arrival, beginning

    def _one(self, arrival: admission.Arrival, beginning: inbound.Beginning) -> None:
        admission.accept(self.db, arrival, Quota(), self.budgets)
        begun = inbound.begin(self.db, beginning)
        assert begun is not None
        outcome = Outcome(
            state=TurnState.COMPLETE,
            parts=("an answer",),
            exchange=Exchange(question="q", answer="a"),
            usage=Usage(100, 50),
            spent=Spent(150, 0.001),
        )
        turns.finish(self.db, begun.turn(), outcome, arrival.now, arrival.today)


def _each(work: Callable[[Person], object]) -> float:
    people = [Person(_ACCOUNT, UserId(f"u{number}")) for number in range(_PEOPLE)] * 50
    rounds = []
    for _ in range(_ROUNDS):
        begun = thread_time()
        for person in people:
            work(person)
        rounds.append((thread_time() - begun) / len(people) * 1e6)
    return median(rounds)


def _ticket(headroom: Headroom) -> Callable[[Person], None]:
    def begin_and_end(person: Person) -> None:
        ticket = headroom.ticket()
        ticket.attempt()
        ticket.close()
        headroom.ended(Payers(person=person, account=person.account).subjects)

    return begin_and_end


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        stores = {
            "one row, as before": _Store(Path(folder) / "before.db", UNBOUNDED),
            "no limits": _Store(Path(folder) / "none.db", UNBOUNDED),
            "messages and tokens per person (the default)": _Store(Path(folder) / "person.db", _PERSON),
            "messages, tokens and money of person, account and all": _Store(Path(folder) / "all.db", _EVERYTHING),
        }
        rounds: dict[str, list[float]] = {name: [] for name in stores}
        for _ in range(_ROUNDS):
            for number, (name, store) in enumerate(stores.items()):
                if number == 0:
                    with _one_row():
                        rounds[name].append(store.round())
                else:
                    rounds[name].append(store.round())
        for name, times in rounds.items():
            print(f"store, {name}: {median(times):.0f} µs")
    clock = SystemClock()
    old, rates = Rates(10**9, clock), MessageRates(Limits(LimitSettings(per_minute=10**9)), clock)
    print(
        f"loop, rate of a person, as before: {_each(lambda person: old.take(f'{person.account}/{person.user}')):.1f} µs"
    )
    print(f"loop, rates of person, account and all: {_each(rates.take):.1f} µs")
    print(f"loop, a ticket and its end: {_each(_ticket(Headroom())):.1f} µs")
    usage, limits = Usage(100, 50), Limits(LimitSettings(model="gpt-5-mini", prices=Prices({})))
    print(f"loop, the price: {_each(lambda _: limits.spent(usage, 'gpt-5-mini-2025-08-07', 'gpt-5-mini')):.1f} µs")


if __name__ == "__main__":
    main()
