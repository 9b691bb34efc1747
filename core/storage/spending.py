"""What is spent, what is set aside, and whether something is left: all of it inside the caller's transaction.

What is set aside stands in temporary tables: they take part in transactions and savepoints, so they roll back with what
they count. A restart begins with what belongs to the turns that are begun again, so nothing stays set aside for ever.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import date

from core.budgets import (
    NOBODY,
    Ahead,
    Allowance,
    BudgetInUse,
    Budgets,
    Exhausted,
    Measure,
    Payers,
    Spent,
    Subject,
    Used,
    Whose,
)
from core.journal import Reserved
from core.messages import AccountId, Person, UserId
from core.storage import statements
from core.storage.codec import name

KEPT_DAYS = 400
"""Usage rows hold no texts; a year of them and a month can be looked up, whatever the retention of texts."""

_DAY_ZERO = date(1970, 1, 1).toordinal()

_SETUP = """
CREATE TEMP TABLE reserved (
    id INTEGER PRIMARY KEY,                 -- the turn; of calls that are no turns, below 0
    payer_account TEXT NOT NULL,
    payer_user TEXT NOT NULL,
    account TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    cost REAL NOT NULL
);

CREATE TEMP TABLE in_flight (
    account TEXT NOT NULL,
    user TEXT NOT NULL,
    calls INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    cost REAL NOT NULL,
    PRIMARY KEY (account, user)
) WITHOUT ROWID;

CREATE TEMP TRIGGER reserved_added AFTER INSERT ON reserved BEGIN
    INSERT INTO in_flight (account, user, calls, tokens, cost)
    VALUES (new.payer_account, new.payer_user, 1, new.tokens, new.cost),
           (new.account, '', 1, new.tokens, new.cost),
           ('', '', 1, new.tokens, new.cost)
    ON CONFLICT (account, user) DO UPDATE SET
        calls = calls + 1, tokens = tokens + excluded.tokens, cost = cost + excluded.cost;
END;

CREATE TEMP TRIGGER reserved_removed AFTER DELETE ON reserved BEGIN
    UPDATE in_flight SET calls = calls - 1, tokens = tokens - old.tokens, cost = cost - old.cost
    WHERE account = old.payer_account AND user = old.payer_user;
    UPDATE in_flight SET calls = calls - 1, tokens = tokens - old.tokens, cost = cost - old.cost
    WHERE account = old.account AND user = '';
    UPDATE in_flight SET calls = calls - 1, tokens = tokens - old.tokens, cost = cost - old.cost
    WHERE account = '' AND user = '';
    DELETE FROM in_flight WHERE account = old.payer_account AND user = old.payer_user AND calls = 0;
END;

CREATE TEMP TRIGGER reserved_ended AFTER UPDATE OF state ON main.turn WHEN old.state = 'running' BEGIN
    DELETE FROM reserved WHERE id = old.id;
END;
"""


def watch_spending(db: sqlite3.Connection) -> None:
    """Nothing is set aside yet. Called after opening."""
    db.executescript(_SETUP)


def set_aside_again(db: sqlite3.Connection) -> None:
    """What an earlier process had set aside for turns that it did not end, until they are begun again or dropped."""
    db.execute(
        """
        INSERT INTO reserved (id, payer_account, payer_user, account, tokens, cost)
        SELECT id, payer_account, payer_user, account, reserved_tokens, reserved_cost FROM turn
        WHERE id IN (SELECT turn FROM inbox WHERE state = 'new' AND turn > 0) AND reserved_tokens IS NOT NULL
        """
    )


def is_set_aside(db: sqlite3.Connection, turn: int) -> bool:
    """Whether something is set aside for this turn."""
    return db.execute(statements.RESERVED, (turn,)).fetchone() is not None


def payers_of(db: sqlite3.Connection, account: str, user: str) -> Payers:
    """Who pays for what `user` asks through `account`."""
    linked = db.execute(statements.PAYER, (account, user)).fetchone()
    payer_account, payer_user = linked if linked is not None else (account, user)
    return Payers(person=Person(AccountId(payer_account), UserId(payer_user)), account=AccountId(account))


def count_message(db: sqlite3.Connection, payers: Payers, today: int) -> None:
    """One more message of the three that pay."""
    _use(db, payers, today, messages=1)


def charge(db: sqlite3.Connection, payers: Payers, spent: Spent, today: int) -> None:
    """Write down what a call cost."""
    if payers is not NOBODY and (spent.tokens or spent.money):
        _use(db, payers, today, tokens=spent.tokens, money=spent.money)


def exhausted(
    db: sqlite3.Connection, budgets: Budgets, sender: Person, payers: Payers, today: int, *, messages: bool
) -> Exhausted | None:
    """The first budget of which nothing is left, the person's own before everybody's. `messages`: their count too."""
    for whose, subject, allowance in _limited(budgets, sender, payers):
        if allowance.tokens_per_day is not None or (messages and allowance.messages_per_day is not None):
            requests, tokens = db.execute(statements.USED_TODAY, (*subject, today)).fetchone() or (0, 0)
            if messages and allowance.messages_per_day is not None and requests >= allowance.messages_per_day:
                return Exhausted(whose=whose, measure=Measure.MESSAGES, cap=allowance.messages_per_day)
            if allowance.tokens_per_day is not None and tokens >= allowance.tokens_per_day:
                return Exhausted(whose=whose, measure=Measure.TOKENS, cap=allowance.tokens_per_day)
        if allowance.money_per_month is not None:
            money = _money_of_month(db, subject, today)
            if money >= allowance.money_per_month:
                return Exhausted(whose=whose, measure=Measure.MONEY, cap=allowance.money_per_month)
    return None


def check_room(
    db: sqlite3.Connection,
    budgets: Budgets,
    sender: Person,
    payers: Payers,
    reserve: Spent,
    today: int,
    ahead: Ahead,
) -> None:
    """Nothing, where `reserve` may be set aside of every budget. Raises BudgetInUse."""
    for _, subject, allowance in _limited(budgets, sender, payers):
        if allowance.tokens_per_day is None and allowance.money_per_month is None:
            continue
        if ahead(subject):
            raise BudgetInUse(subject)
        in_flight = db.execute(statements.IN_FLIGHT, subject).fetchone()
        if in_flight is None or in_flight[0] == 0:
            continue  # alone it may begin as long as anything is left
        _, tokens, cost = in_flight
        if allowance.tokens_per_day is not None:
            _, used = db.execute(statements.USED_TODAY, (*subject, today)).fetchone() or (0, 0)
            if used + tokens + reserve.tokens > allowance.tokens_per_day:
                raise BudgetInUse(subject)
        if allowance.money_per_month is not None:
            used = _money_of_month(db, subject, today)
            if used + cost + reserve.money > allowance.money_per_month:
                raise BudgetInUse(subject)


def set_aside(db: sqlite3.Connection, id: int, payers: Payers, reserve: Spent) -> None:
    """Of every budget, until the turn `id` ends or is put back."""
    db.execute(statements.RESERVE, (id, *payers.person, payers.account, reserve.tokens, reserve.money))


def free(db: sqlite3.Connection, id: int) -> None:
    """Nothing is set aside for `id` any more."""
    db.execute(statements.UNRESERVE, (id,))


def free_waiting(db: sqlite3.Connection, conversation: int) -> None:
    """The turns of a conversation that wait to be begun again are about to be dropped."""
    db.execute(
        """
        DELETE FROM reserved WHERE id IN (
            SELECT turn FROM inbox WHERE conversation = ? AND command = 0 AND turn > 0 AND state = 'new')
        """,
        (conversation,),
    )


def charge_forgotten(db: sqlite3.Connection, turn: int, payers: Payers, spent: Spent | None, today: int) -> None:
    """A running turn that /forget deleted has ended: what it cost is paid, once, and nothing of it is kept."""
    exists = db.execute("SELECT 1 FROM turn WHERE id = ?", (turn,)).fetchone() is not None
    if not exists and db.execute(statements.UNRESERVE, (turn,)).rowcount and spent is not None:
        charge(db, payers, spent, today)


def reserve(
    db: sqlite3.Connection,
    id: int,
    person: Person,
    budgets: Budgets,
    reserve: Spent,
    today: int,
    ahead: Ahead,
    *,
    message: bool,
) -> Reserved | Exhausted:
    """For a call that is no turn; `id` is below 0."""
    payers = payers_of(db, name(person.account), name(person.user))
    left = exhausted(db, budgets, person, payers, today, messages=message)
    if left is not None:
        return left
    check_room(db, budgets, person, payers, reserve, today, ahead)
    set_aside(db, id, payers, reserve)
    if message:
        count_message(db, payers, today)
    return Reserved(id=id, payers=payers)


def settle(db: sqlite3.Connection, reserved: Reserved, spent: Spent, today: int) -> None:
    """The end of a call that is no turn."""
    free(db, reserved.id)
    charge(db, reserved.payers, spent, today)


def used(db: sqlite3.Connection, person: Person, today: int) -> list[tuple[Used, Used]]:
    """Today and this month: of whom `person` pays as, of the account, of everybody."""
    payers = payers_of(db, name(person.account), name(person.user))
    first = month_of(today)
    return [(_used(db, subject, today), _used(db, subject, first)) for subject in payers.subjects]


def used_by_person(
    db: sqlite3.Connection, account: str | None, since: int, limit: int
) -> list[tuple[str, str, int, int, float]]:
    """Account, user, messages, tokens and money since a day, those who spent most first."""
    return db.execute(
        """
        SELECT account, user, sum(requests), sum(tokens), sum(cost) FROM usage
        WHERE day >= ? AND user <> '' AND account = coalesce(?, account)
        GROUP BY account, user ORDER BY sum(cost) DESC, sum(tokens) DESC, sum(requests) DESC, account, user LIMIT ?
        """,
        (since, account, limit),
    ).fetchall()


def month_of(day: int) -> int:
    """The first day of the month that `day` is in; both are days since 1970."""
    return day - date.fromordinal(_DAY_ZERO + day).day + 1


def _use(
    db: sqlite3.Connection, payers: Payers, today: int, *, messages: int = 0, tokens: int = 0, money: float = 0.0
) -> None:
    person, account, everybody = payers.subjects
    db.execute(statements.USE, (today, messages, tokens, money, *person, *account, *everybody))


def _limited(budgets: Budgets, sender: Person, payers: Payers) -> Iterator[tuple[Whose, Subject, Allowance]]:
    return zip(Whose, payers.subjects, budgets.allowances(sender, payers.person), strict=True)


def _money_of_month(db: sqlite3.Connection, subject: Subject, today: int) -> float:
    _, _, money = db.execute(statements.USED_SINCE, (*subject, month_of(today))).fetchone()
    return float(money)


def _used(db: sqlite3.Connection, subject: Subject, since: int) -> Used:
    messages, tokens, money = db.execute(statements.USED_SINCE, (*subject, since)).fetchone()
    return Used(messages=messages, tokens=tokens, money=money)
