"""`/usage`: what somebody used today and this month, and how much is left."""

from __future__ import annotations

from collections.abc import Callable

from core.archive import Archive
from core.budgets import Allowance, Exhausted, Measure, Used, Whose, write_money
from core.clock import Clock
from core.commands.asked import Asked, Handlers
from core.limits import Limits
from core.messages import AccountId, InboundMessage, Person, UserId
from core.texts import Language, say


class UsageCommands:
    """`/usage`. Admins see what their account and everybody used, too."""

    def __init__(
        self,
        archive: Archive,
        limits: Limits,
        clock: Clock,
        *,
        payer: Callable[[AccountId, UserId], Person],
        is_admin: Callable[[InboundMessage], bool],
    ) -> None:
        """`payer`: whom an identity is linked to, which may be itself."""
        self._archive = archive
        self._limits = limits
        self._clock = clock
        self._payer = payer
        self._is_admin = is_admin

    def handlers(self) -> Handlers:
        """What is carried out here."""
        return {"usage": self._usage}

    async def _usage(self, asked: Asked) -> str:
        language, person = asked.language, asked.person
        allowances = self._limits.allowances(person, self._payer(person.account, person.user))
        used = await self._archive.used(person)
        shown = 3 if self._is_admin(asked.message) else 1
        lines: list[str] = []
        for whose, allowance, (today, month) in list(zip(Whose, allowances, used, strict=True))[:shown]:
            lines += self._lines(say(f"usage_{whose}", language), allowance, today, month, language)
        now = self._clock.now()
        day, month_ends = (
            Exhausted(whose=Whose.PERSON, measure=measure, cap=0).told(now)["reset"]
            for measure in (Measure.TOKENS, Measure.MONEY)
        )
        lines.append(say("usage_resets", language, day=day, month=month_ends))
        return "\n".join(lines).replace("\n", "  \n")

    def _lines(self, title: str, allowance: Allowance, today: Used, month: Used, language: Language) -> list[str]:
        money = ""
        if self._limits.settings.priced or month.money or allowance.money_per_month is not None:
            cap = None if allowance.money_per_month is None else write_money(allowance.money_per_month)
            money = say("usage_cost", language, money=_of(write_money(month.money), cap, language))
        return [
            say(
                "usage_today",
                language,
                title=title,
                messages=_of(_count(today.messages), _cap(allowance.messages_per_day), language),
                tokens=_of(_count(today.tokens), _cap(allowance.tokens_per_day), language),
            ),
            say(
                "usage_month",
                language,
                title=title,
                messages=_count(month.messages),
                tokens=_count(month.tokens),
                money=money,
            ),
        ]


def _of(used: str, cap: str | None, language: Language) -> str:
    return used if cap is None else say("usage_of", language, used=used, cap=cap)


def _cap(cap: int | None) -> str | None:
    return None if cap is None else _count(cap)


def _count(number: int) -> str:
    return f"{number:,}"
