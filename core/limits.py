"""What each may use: messages a minute, kept in memory, and the budgets that the store enforces."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

from core.budgets import UNLIMITED, Allowance, Spent, Whose
from core.chat import Usage
from core.clock import Clock
from core.latest import Latest
from core.messages import Person
from core.prices import Prices

T = TypeVar("T")

_REMEMBERED = 50_000
"""People whose bucket is kept; a forgotten bucket is a full one."""


class Rates:
    """Messages per minute and person. The bucket holds a minute's worth and refills evenly."""

    def __init__(self, per_minute: int | None, clock: Clock) -> None:
        self.per_minute = per_minute
        """May be changed while running; None is unlimited."""
        self._clock = clock
        self._buckets: Latest[str, tuple[float, float]] = Latest(_REMEMBERED)

    def take(self, person: str) -> float | None:
        """Count one message of `person`: None if it fits, else the seconds until one would."""
        return self.take_of(person, self.per_minute)

    def take_of(self, name: str, per_minute: int | None) -> float | None:
        """The same with a rate of its own."""
        if per_minute is None:
            return None
        now, size = self._clock.monotonic(), float(per_minute)
        level, at = self._buckets.pop(name, (size, now))
        level = min(size, level + (now - at) * size / 60)
        wait = None if level >= 1 else (1 - level) * 60 / size
        self._buckets[name] = (level - 1 if wait is None else level, now)
        return wait

    def give_back(self, person: str) -> None:
        """One message did not count after all (it was a redelivery)."""
        if person in self._buckets:
            level, at = self._buckets[person]
            self._buckets[person] = (level + 1, at)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSettings:
    """What the configuration says of limits."""

    per_minute: int | None = None
    """Messages of one person."""
    account_per_minute: Mapping[str, int] = field(default_factory=dict)
    """Of all people of an account together; those without a limit are not in it."""
    total_per_minute: int | None = None
    person: Allowance = UNLIMITED
    accounts: Mapping[str, Allowance] = field(default_factory=dict)
    total: Allowance = UNLIMITED
    exempt_admins: bool = False
    """Admins are free of the limits per person; what an account or everybody may use binds them too."""
    tokens_per_prompt: int = 8000
    """The most that history and instructions weigh in a prompt."""
    tokens_per_answer: int = 16_000
    """The most that an answer should cost."""
    model: str = ""
    """The one that answers where a conversation chose none."""
    prices: Prices = field(default_factory=lambda: Prices({}))
    unpriced: tuple[str, ...] = ()
    """Models that may answer and of which nobody knows the price: where there are any, money cannot be counted."""

    @property
    def priced(self) -> bool:
        """Whether the configured model costs anything that is known."""
        price = self.prices.of(self.model)
        return price is not None and sum(price) > 0


class Own(Protocol):
    """What was set for one person; None is as configured."""

    @property
    def messages_per_day(self) -> int | None: ...

    @property
    def tokens_per_day(self) -> int | None: ...

    @property
    def money_per_month(self) -> float | None: ...


class Limits:
    """The limits that hold at the moment; satisfies core.budgets.Budgets. Changed by replacing `settings`."""

    def __init__(
        self,
        settings: LimitSettings,
        *,
        own: Callable[[Person], Own] = lambda _: UNLIMITED,
        is_admin: Callable[[Person], bool] = lambda _: False,
    ) -> None:
        """Both callables are lookups; they are asked on the store's thread."""
        self.settings = settings
        self._own = own
        self._is_admin = is_admin

    def exempt(self, person: Person) -> bool:
        """Whether the limits per person do not bind them."""
        return self.settings.exempt_admins and self._is_admin(person)

    def allowances(self, sender: Person, payer: Person) -> tuple[Allowance, Allowance, Allowance]:
        """See core.budgets.Budgets."""
        settings = self.settings
        return (
            UNLIMITED if self.exempt(sender) else self._of(payer),
            settings.accounts.get(sender.account, UNLIMITED),
            settings.total,
        )

    def _of(self, payer: Person) -> Allowance:
        configured, own = self.settings.person, self._own(payer)
        if own.messages_per_day is None and own.tokens_per_day is None and own.money_per_month is None:
            return configured
        return Allowance(
            messages_per_day=_first(own.messages_per_day, configured.messages_per_day),
            tokens_per_day=_first(own.tokens_per_day, configured.tokens_per_day),
            money_per_month=_first(own.money_per_month, configured.money_per_month),
        )

    def reserve(self, model: str | None, weight: int) -> Spent:
        """See core.budgets.Budgets. A byte is at least what a token is made of, so `weight` bytes are so many tokens."""
        settings = self.settings
        usage = Usage(settings.tokens_per_prompt + weight, settings.tokens_per_answer)
        return Spent(usage.input_tokens + usage.output_tokens, self.cost(usage, model))

    def spent(self, usage: Usage, *models: str | None) -> Spent:
        """What `usage` comes to: with the model that answered, else with the one that was asked."""
        return Spent(usage.input_tokens + usage.output_tokens, self.cost(usage, *models))

    def cost(self, usage: Usage, *models: str | None) -> float:
        """In money; None stands for the configured model."""
        settings = self.settings
        return settings.prices.cost(usage, *(model or settings.model for model in models))


def _first(own: T | None, configured: T | None) -> T | None:
    return configured if own is None else own


class TooFast(NamedTuple):
    """A rate that a message ran into."""

    seconds: float
    """Until one would fit."""
    whose: Whose


class MessageRates:
    """Messages per minute of a person, of an account and of everybody: one message counts to all three or to none.

    Chat commands cost no answer, so they count apart: a person may give as many a minute as they may send messages, and
    what others write keeps nobody from `/stop`, and no admin from `/block`.
    """

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._limits = limits
        self._buckets = Rates(None, clock)

    def take(self, sender: Person, payer: Person | None = None, *, command: bool = False) -> TooFast | None:
        """Count one message of `sender`: None if it fits. `payer` is whom they are linked to, where they are."""
        settings = self._limits.settings
        per_person = None if self._limits.exempt(sender) else settings.per_minute
        if command:
            wait = self._buckets.take_of(_commands(sender, payer), per_person)
            return None if wait is None else TooFast(wait, Whose.PERSON)
        rates = (
            (Whose.PERSON, per_person),
            (Whose.ACCOUNT, settings.account_per_minute.get(sender.account)),
            (Whose.EVERYBODY, settings.total_per_minute),
        )
        taken: list[str] = []
        for whose, per_minute in rates:
            if per_minute is None:
                continue
            name = _bucket(whose, sender, payer)
            wait = self._buckets.take_of(name, per_minute)
            if wait is not None:
                for other in taken:
                    self._buckets.give_back(other)
                return TooFast(wait, whose)
            taken.append(name)
        return None

    def give_back(self, sender: Person, payer: Person | None = None, *, command: bool = False) -> None:
        """One message did not count after all (it was a redelivery)."""
        if command:
            self._buckets.give_back(_commands(sender, payer))
            return
        for whose in Whose:
            self._buckets.give_back(_bucket(whose, sender, payer))


def _commands(sender: Person, payer: Person | None) -> str:
    return "//" + "/".join(payer or sender)  # no account's name begins with a slash


def _bucket(whose: Whose, sender: Person, payer: Person | None) -> str:
    match whose:
        case Whose.PERSON:
            return "/".join(payer or sender)
        case Whose.ACCOUNT:
            return sender.account
        case Whose.EVERYBODY:
            return ""
