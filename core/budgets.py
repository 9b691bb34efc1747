"""Who pays for an answer, what each may spend, and when that starts afresh.

Every answer is paid by three at once: the person who asked, the account that it came through, and everybody together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from core.messages import AccountId, Person, UserId


class Whose(StrEnum):
    """Whose budget it is."""

    PERSON = "person"
    ACCOUNT = "account"
    EVERYBODY = "everybody"


class Measure(StrEnum):
    """What is counted, and over which time."""

    MESSAGES = "messages_per_day"
    TOKENS = "tokens_per_day"
    MONEY = "money_per_month"


class Subject(NamedTuple):
    """One of the three that pay. Without a user it is the account, without both it is everybody."""

    account: str
    user: str


EVERYBODY = Subject("", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What one subject may use, by UTC days and months. None is unlimited."""

    messages_per_day: int | None = None
    tokens_per_day: int | None = None
    """Input and output together."""
    money_per_month: float | None = None


UNLIMITED = Allowance()


@dataclass(frozen=True, slots=True)
class Spent:
    """What a call of the model cost, or may cost."""

    tokens: int = 0
    money: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    """A budget of which nothing is left."""

    whose: Whose
    measure: Measure
    cap: float

    def resets(self, now: datetime) -> datetime:
        """When it starts afresh: the next midnight, or the first of the next month, in UTC."""
        day = now.date()
        if self.measure is Measure.MONEY:
            following = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        else:
            following = day + timedelta(days=1)
        return datetime.combine(following, time(), tzinfo=now.tzinfo)

    @property
    def notice(self) -> str:
        """The name of the text that tells it (core/texts)."""
        return f"{self.measure}_{self.whose}"

    def told(self, now: datetime) -> dict[str, Any]:
        """What that text speaks of."""
        count = write_money(self.cap) if self.measure is Measure.MONEY else f"{self.cap:.0f}"
        return {"count": count, "reset": f"{self.resets(now):%Y-%m-%d %H:%M}"}


def write_money(amount: float) -> str:
    """An amount to be read: to the cent, a small one to a tenth of a cent."""
    return f"{amount:.2f}" if amount >= 1 or amount == 0 else f"{amount:.4f}"


class BudgetInUse(Exception):
    """A budget has something left, but answers that are being written may need it: try again when one of them ends."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(f"the budget of {subject!r} is set aside for answers that are being written")
        self.subject = subject


class Budgets(Protocol):
    """What the store asks while it decides, inside its transaction and on its own thread: lookups, no I/O."""

    def allowances(self, sender: Person, payer: Person) -> tuple[Allowance, Allowance, Allowance]:
        """Of the person who pays for `sender`, of the sender's account, and of everybody."""
        ...

    def reserve(self, model: str | None, weight: int) -> Spent:
        """The most that a question of `weight` bytes should cost with `model` (None: the configured one)."""
        ...


class Unlimited:
    """Budgets that allow everything."""

    def allowances(self, sender: Person, payer: Person) -> tuple[Allowance, Allowance, Allowance]:
        """See Budgets."""
        del sender, payer
        return UNLIMITED, UNLIMITED, UNLIMITED

    def reserve(self, model: str | None, weight: int) -> Spent:
        """See Budgets."""
        del model, weight
        return Spent()


UNBOUNDED = Unlimited()

Ahead = Callable[[Subject], bool]
"""Whether somebody waits for a subject's budget who came earlier; asked on the store's thread."""


def nobody_ahead(subject: Subject) -> bool:
    """Where nobody waits."""
    del subject
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Payers:
    """Who pays for one answer."""

    person: Person
    """The one who asked, or whom they are linked to."""
    account: AccountId
    """That the question came through, also where the person is linked to another account."""

    @property
    def subjects(self) -> tuple[Subject, Subject, Subject]:
        """The three budgets, the narrowest first."""
        return Subject(*self.person), Subject(self.account, ""), EVERYBODY


NOBODY = Payers(person=Person(AccountId(""), UserId("")), account=AccountId(""))
"""Of commands, which cost nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """What a subject has used."""

    messages: int = 0
    tokens: int = 0
    money: float = 0.0
