"""Commands of an account's admins: who may talk there, and how much each may use. They act on that account alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from core.access import Standing
from core.account import AccountConfig
from core.archive import PersonBudget
from core.clock import Clock
from core.commands.asked import Asked, Handlers
from core.commands.names import BUDGETS, DEFAULT, sets_budget
from core.limits import Limits
from core.links import Links
from core.loop_guard import LoopGuard
from core.messages import AccountId, Person, UserId
from core.pairing import Pairing
from core.people import LONGEST_ID, People, id_of
from core.texts import Language, say

_LISTED = 20
"""People that a list in a chat names; the others are counted."""

_LONGEST_NAME = 60


class AdminCommands:
    """`/access`, `/approve`, `/allow`, `/block`, `/budget`."""

    def __init__(
        self,
        people: People,
        pairing: Pairing,
        guard: LoopGuard,
        links: Links,
        limits: Limits,
        clock: Clock,
        *,
        account: Callable[[AccountId], AccountConfig],
        owner: Callable[[AccountId], UserId | None],
    ) -> None:
        """`owner`: whose account it is, where an adapter tells."""
        self._people = people
        self._pairing = pairing
        self._guard = guard
        self._limits = limits
        self._clock = clock
        self._account = account
        self._owner = owner
        self._links = links

    def handlers(self) -> Handlers:
        """What is carried out here."""
        return {
            "access": self._access,
            "approve": self._approve,
            "allow": self._allow,
            "block": self._block,
            "budget": self._budget,
        }

    async def _access(self, asked: Asked) -> str:
        account, language = asked.message.account, asked.language
        access, owner = self._account(account).access, self._owner(account)
        admins = dict.fromkeys((*access.admins, *(() if owner is None else (owner,))))
        known, now = self._people.all(account), self._clock.now()

        def decided(standing: Standing) -> list[str]:
            return [_who(one.person.user, one.name) for one in known if one.standing is standing]

        def minutes(id: str, seconds: float) -> str:
            return say("access_minutes", language, id=id, minutes=max(1, round(seconds / 60)))

        waiting = self._pairing.waiting(account)
        lists = {
            "access_always": [_shown(id) for id in access.always],
            "access_listed": [_shown(id) for id in access.allow],
            "access_admins": [_shown(id) for id in admins],
            "access_allowed": decided(Standing.ALLOWED),
            "access_blocked": decided(Standing.BLOCKED),
            "access_waiting": [
                minutes(_who(one.person.user, one.name), (now - one.created_at).total_seconds()) for one in waiting
            ],
            "access_resting": [minutes(_shown(id), left) for id, left in self._guard.paused(account).items()],
        }
        rules = say(
            "access_rules",
            language,
            direct=access.direct,
            channels=access.channels,
            guests=access.guests,
            refusals=access.refusals,
        )
        lines = [say(name, language, ids=_listed(ids, language)) for name, ids in lists.items() if ids]
        title = say("access_title", language, account=_shown(account))
        return "\n".join((f"**{title}**", "", *(f"- {line}" for line in (rules, *lines))))

    async def _approve(self, asked: Asked) -> str:
        if not asked.argument:
            return say("approve_usage", asked.language)
        code = asked.argument.strip("`")
        request = await self._pairing.approve(code, by=_by(asked), account=asked.message.account)
        if request is None:
            return say("approve_unknown", asked.language)
        return say("approved", asked.language, person=_who(request.person.user, request.name))

    async def _allow(self, asked: Asked) -> str:
        person = self._person(asked, asked.argument)
        if person is None:
            return say("no_person", asked.language, longest=LONGEST_ID)
        await self._people.allow(person, by=_by(asked), name=self._name(person))
        await self._pairing.withdraw(person)
        return say("approved", asked.language, person=self._who(person))

    async def _block(self, asked: Asked) -> str:
        person = self._person(asked, asked.argument)
        if person is None:
            return say("no_person", asked.language, longest=LONGEST_ID)
        if self._people.is_admin(person):
            return say("block_admin", asked.language, person=self._who(person))
        await self._people.block(person, by=_by(asked), name=self._name(person))
        await self._pairing.withdraw(person)
        return say("blocked", asked.language, person=self._who(person))

    async def _budget(self, asked: Asked) -> str:
        id, changes = _split(asked.argument)
        person = self._person(asked, id)
        if person is None:
            return say("budget_usage" if not id else "no_person", asked.language, longest=LONGEST_ID)
        if self._links.person(*person).account != person.account:  # which one is nobody else's business
            return say("budget_linked", asked.language, person=self._who(person))
        budget = self._people.budget(person)
        if changes:
            try:
                budget = _changed(budget, changes)
            except ValueError:
                return say("budget_usage", asked.language)
            unpriced = self._limits.settings.unpriced
            if unpriced and budget.money_per_month is not None and _speaks_of_money(changes):
                return say("budget_unpriced", asked.language, models=_listed(map(_shown, unpriced), asked.language))
            await self._people.set_budget(person, budget, by=_by(asked))
        as_configured = say("budget_default", asked.language)
        return say(
            "budget_of",
            asked.language,
            person=self._who(person),
            messages=as_configured if budget.messages_per_day is None else budget.messages_per_day,
            tokens=as_configured if budget.tokens_per_day is None else budget.tokens_per_day,
            money=as_configured if budget.money_per_month is None else f"{budget.money_per_month:g}",
        )

    def _person(self, asked: Asked, typed: str) -> Person | None:
        """Nobody for what is no id."""
        account = asked.message.account
        try:
            return Person(account, id_of(typed, self._account(account).ID))
        except ValueError:
            return None

    def _name(self, person: Person) -> str:
        """The name under which somebody asked to be let in."""
        waiting = self._pairing.waiting(person.account)
        return next((request.name for request in waiting if request.person == person), "")

    def _who(self, person: Person) -> str:
        known = self._people.known(person)
        return _who(person.user, known.name if known else "")


def _by(asked: Asked) -> str:
    return f"{asked.message.sender.id} in the chat"


def _split(argument: str) -> tuple[str, list[str]]:
    """The id, which may have blanks in it, and the words after it that say what to set."""
    words = [word for word in argument.split(" ") if word]  # any other blank makes an id that is none
    if words and sets_budget(words[0]):
        return "", words
    end = len(words)
    while end > 1 and (words[end - 1].lower() in (*DEFAULT, *BUDGETS) or "=" in words[end - 1]):
        end -= 1
    return " ".join(words[:end]), words[end:]


def _changed(budget: PersonBudget, changes: Sequence[str]) -> PersonBudget:
    """Raises ValueError for what is not understood."""
    for change in changes:
        if change.lower() in DEFAULT:
            budget = PersonBudget()
            continue
        name, _, value = change.partition("=")
        if name.lower() not in BUDGETS:
            raise ValueError(f"no such limit: {name!r}")
        key, value = BUDGETS[name.lower()], value.replace(",", "").lower()
        read = float if key == "money_per_month" else int
        budget = PersonBudget(**(asdict(budget) | {key: None if value in DEFAULT else read(value)}))
    return budget


def _speaks_of_money(changes: Sequence[str]) -> bool:
    return any(change.lower().startswith("money") for change in changes)


def _listed(ids: Iterable[str], language: Language) -> str:
    found = list(ids)
    more = [say("access_more", language, count=len(found) - _LISTED)] if len(found) > _LISTED else []
    return say("comma", language).join((*found[:_LISTED], *more))


def _who(id: str, name: str) -> str:
    """Somebody's id, and beside it the name that they chose."""
    named = _shown(name[:_LONGEST_NAME])
    return _shown(id) if named in ("``", _shown(id)) else f"{_shown(id)} ({named})"


def _shown(text: str) -> str:
    """What somebody chose, so that it can be shown: as code, on one line."""
    return f"`{' '.join(text.replace('`', '').split())}`"
