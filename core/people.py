"""What was decided about people: who was let in or kept out, and what each may use.

All of it is in memory, loaded once: the process owns the store. Changes go through here and are stored first.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import structlog

from core.access import Standing
from core.archive import Archive, KnownPerson, PersonBudget
from core.clock import Clock
from core.messages import AccountId, InboundMessage, Person, UserId

log = structlog.get_logger(__name__)

LONGEST_ID = 200
"""Characters of an id that is decided about."""

_MENTION = re.compile(r"<?@(?!@?[0-9a-f]{10})")
"""How a name begins that a platform did not turn into an id. There are platforms whose ids begin with @, too: digits and
letters up to f follow."""

_NOTHING = PersonBudget()


def sender_of(message: InboundMessage) -> Person:
    """Who wrote it."""
    return Person(message.account, message.sender.id)


def id_of(typed: str, like: re.Pattern[str]) -> UserId:
    """A person's id as somebody typed or copied it; the account's ids are `like` that. Raises ValueError for what cannot be
    one, and for a name with @: whoever reads that `@Bob` is kept out now would believe that Bob is."""
    id = typed.strip().strip("`").strip()
    if _MENTION.match(id):
        raise ValueError(f"a name is not a person's id: {typed[:40]!r}")
    if not id or len(id) > LONGEST_ID or not id.isprintable():
        raise ValueError(f"not a person's id: {typed[:40]!r}, expected one line of at most {LONGEST_ID} characters")
    if not like.fullmatch(id):
        raise ValueError(f"not a person's id: {typed[:40]!r}")
    return UserId(id)


class People:
    """Standings and budgets of people. What changes raises StorageUnavailable, and then nothing has changed."""

    def __init__(self, archive: Archive, clock: Clock, *, is_admin: Callable[[Person], bool]) -> None:
        """`is_admin`: by the configuration, or because the account is theirs."""
        self.is_admin = is_admin
        self._archive = archive
        self._clock = clock
        self._known: dict[Person, KnownPerson] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read what is stored. Raises StorageUnavailable."""
        self._known = {known.person: known for known in await self._archive.people()}

    def standing(self, person: Person) -> Standing:
        """What holds for this person on that account."""
        if self.is_admin(person):
            return Standing.ADMIN
        known = self._known.get(person)
        return Standing.UNDECIDED if known is None else known.standing

    def budget(self, person: Person) -> PersonBudget:
        """What this person may use, where that differs from the configuration."""
        known = self._known.get(person)
        return _NOTHING if known is None else known.budget

    def known(self, person: Person) -> KnownPerson | None:
        """Everything that was decided about somebody; None where nothing was."""
        return self._known.get(person)

    def all(self, account: AccountId | None = None) -> Sequence[KnownPerson]:
        """Everybody about whom something was decided, on one account or on all, by account and id."""
        return sorted(
            (known for known in self._known.values() if account is None or known.person.account == account),
            key=lambda known: known.person,
        )

    async def allow(self, person: Person, *, by: str, name: str = "") -> None:
        """Let somebody in. `by` is for the list and the log: `user@account`, or where the command was given."""
        await self._change(person, by, name, standing=Standing.ALLOWED)

    async def block(self, person: Person, *, by: str, name: str = "") -> None:
        """Keep somebody out. Of no effect on an admin: the callers refuse that."""
        await self._change(person, by, name, standing=Standing.BLOCKED)

    async def set_budget(self, person: Person, budget: PersonBudget, *, by: str) -> None:
        """What somebody may use from now on; `PersonBudget()` is as the configuration says."""
        await self._change(person, by, "", budget=budget)

    async def forget(self, person: Person, *, by: str) -> bool:
        """Nothing is decided about this person any more. False: nothing was."""
        async with self._changing:
            if person not in self._known:
                return False
            await self._archive.remove_person(person)
            del self._known[person]
        log.info("a person was forgotten", account=person.account, person=person.user, by=by)
        return True

    async def _change(self, person: Person, by: str, name: str, **changes: Any) -> None:
        async with self._changing:
            now = self._clock.now()
            known = self._known.get(person) or KnownPerson(person=person, decided_by=by, decided_at=now)
            known = replace(known, name=name or known.name, decided_by=by, decided_at=now, **changes)
            await self._archive.keep_person(known)
            self._known[person] = known
        log.info(
            "a person is known differently", account=person.account, person=person.user, by=by, standing=known.standing
        )
