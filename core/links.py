"""Who is whom: identities on several accounts that belong to one person.

A link leads from one identity to another, the root, which is linked to nobody. The root's conversation is the one that
goes on; the linked identity's own rests. Both sides agree to a link: one by entering a code that only the other was
shown, the other by confirming after it saw who that was. Names and addresses are never compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import structlog

from core.archive import Archive, Link, LinkOffer
from core.clock import Clock
from core.codes import code_digest, new_code
from core.latest import Latest
from core.messages import AccountId, ConversationKey, Person, UserId

log = structlog.get_logger(__name__)

VALID_FOR = timedelta(minutes=10)
"""How long a code may be entered, and how long after that the link may be confirmed."""

MOST_TRIES = 5
"""Unknown codes that one person may enter within `VALID_FOR`."""

_REMEMBERED = 10_000
"""People whose unknown codes are counted."""


class Refusal(StrEnum):
    """Why a step towards a link was not taken."""

    LINKED = "linked"
    """Whoever asks is linked already."""
    UNKNOWN_CODE = "unknown_code"
    """Mistyped, used or too old: nobody is told which."""
    TOO_MANY_TRIES = "too_many_tries"
    OWN_CODE = "own_code"
    SAME_ACCOUNT = "same_account"
    """The owner of the code has an identity on that account: two people of one account are never joined."""
    NOT_SHOWN = "not_shown"
    """Whoever is to confirm has not seen yet who entered the code."""
    NOTHING_TO_CONFIRM = "nothing_to_confirm"
    TOO_LATE = "too_late"
    """One of the two was linked otherwise after the code was entered."""


@dataclass(slots=True)
class _Tries:
    count: int
    until: datetime


class Links:
    """All links, in memory. Changes are written first. One for each store, since the process owns its database."""

    def __init__(self, archive: Archive, clock: Clock) -> None:
        self._archive = archive
        self._clock = clock
        self._links: dict[Person, Link] = {}
        self._identities: dict[Person, list[Person]] = {}
        """What is linked to each root."""
        self._offers: dict[Person, LinkOffer] = {}
        self._owners: dict[bytes, Person] = {}
        """Of the codes that nobody has entered yet, by their digests."""
        self._shown: set[Person] = set()
        """Who has seen by whom their code was entered. Not stored: after a restart they are shown it once more."""
        self._tries: Latest[Person, _Tries] = Latest(_REMEMBERED)
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read what is stored; called once, before anything is asked. Raises StorageUnavailable."""
        for link in await self._archive.links():
            self._add(link)
        for offer in await self._archive.link_offers():
            self._keep(offer)

    def person(self, account: AccountId, user: UserId) -> Person:
        """Whom an identity belongs to: itself, unless it is linked."""
        link = self._links.get(Person(account, user))
        return Person(account, user) if link is None else link.to

    def shared(self, conversation: ConversationKey) -> bool:
        """Whether several identities converse there."""
        if not self._identities or conversation.user is None:
            return False
        return Person(conversation.account, conversation.user) in self._identities

    def others(self, person: Person) -> Sequence[Person]:
        """The other identities of the same person, the root first."""
        root = self.person(*person)
        return [one for one in (root, *self._identities.get(root, ())) if one != person]

    def all(self) -> Sequence[Link]:
        """Every link, the oldest first."""
        return sorted(self._links.values(), key=lambda link: (link.linked_at, link.person))

    # On the way to a link. All raise StorageUnavailable, and have changed nothing then.

    async def offer(self, person: Person, name: str) -> str | Refusal:
        """A new code for `person`, whose conversation is to go on elsewhere; an earlier one is no longer valid."""
        async with self._changing:
            self._expire()
            if person in self._links:
                return Refusal.LINKED
            code = new_code()
            offer = LinkOffer(person=person, name=name, digest=code_digest(code), expires_at=self._soon())
            await self._archive.put_link_offer(offer)
            self._drop(person)
            self._keep(offer)
            return code

    async def enter(self, person: Person, name: str, code: str) -> LinkOffer | Refusal:
        """`person` enters a code. The link is made when the code's owner confirms it."""
        async with self._changing:
            self._expire()
            if self._tried(person) >= MOST_TRIES:
                return Refusal.TOO_MANY_TRIES
            digest = code_digest(code)
            owner = self._owners.get(digest)
            if owner is None:
                return self._answered_by(person, digest) or self._wrong(person)
            if owner == person:
                return Refusal.OWN_CODE
            if not self._is_single(person):
                return Refusal.LINKED
            if person.account in self._accounts(owner):
                return Refusal.SAME_ACCOUNT
            offer = replace(self._offers[owner], other=person, other_name=name, expires_at=self._soon())
            await self._archive.put_link_offer(offer)
            self._drop(owner)
            self._keep(offer)
            return offer

    def answered(self, person: Person) -> LinkOffer | None:
        """Who entered the code of `person`, so that it can be shown: only then can it be confirmed."""
        self._expire()
        offer = self._offers.get(person)
        if offer is None or offer.other is None:
            return None
        self._shown.add(person)
        return offer

    async def confirm(self, person: Person) -> LinkOffer | Refusal:
        """The owner of a code agrees: the link holds from the next message on."""
        async with self._changing:
            self._expire()
            offer = self._offers.get(person)
            if offer is None or offer.other is None:
                return Refusal.NOTHING_TO_CONFIRM
            if person not in self._shown:
                return Refusal.NOT_SHOWN
            other = offer.other
            if person in self._links or not self._is_single(other) or other.account in self._accounts(person):
                await self._archive.remove_link_offer(person)
                self._drop(person)
                return Refusal.TOO_LATE
            link = Link(person=other, to=person, linked_at=self._clock.now())
            await self._archive.add_link(link)
            self._add(link)
            ended = (owner for owner, known in self._offers.items() if owner in (person, other) or known.other == other)
            for owner in list(ended):
                self._drop(owner)
            log.info("two identities were linked", person=tuple(other), to=tuple(person))
            return offer

    async def withdraw(self, person: Person) -> bool:
        """Neither the code of `person` leads to a link any more, entered or not, nor one that they entered. False: there
        was none."""
        async with self._changing:
            self._expire()
            owners = [owner for owner, offer in self._offers.items() if person in (owner, offer.other)]
            for owner in owners:
                await self._archive.remove_link_offer(owner)
                self._drop(owner)
            return bool(owners)

    async def burn(self, code: str) -> None:
        """A code was shown where others can read it: it is no longer valid."""
        owner = self._owners.get(code_digest(code))
        if owner is not None:
            await self.withdraw(owner)

    async def unlink(self, person: Person) -> Sequence[Link]:
        """End the link of `person`, or all that lead to them; those that were there. Raises StorageUnavailable."""
        async with self._changing:
            own = self._links.get(person)
            ended = [own] if own is not None else [self._links[one] for one in self._identities.get(person, ())]
            if ended:
                await self._archive.remove_links(person)
            for link in ended:
                self._remove(link)
                log.info("two identities are no longer linked", person=tuple(link.person), to=tuple(link.to))
            return ended

    # What is in memory

    def _is_single(self, person: Person) -> bool:
        return person not in self._links and person not in self._identities

    def _accounts(self, root: Person) -> set[AccountId]:
        return {root.account, *(one.account for one in self._identities.get(root, ()))}

    def _add(self, link: Link) -> None:
        self._links[link.person] = link
        self._identities.setdefault(link.to, []).append(link.person)

    def _remove(self, link: Link) -> None:
        del self._links[link.person]
        self._identities[link.to].remove(link.person)
        if not self._identities[link.to]:
            del self._identities[link.to]

    def _keep(self, offer: LinkOffer) -> None:
        self._offers[offer.person] = offer
        if offer.other is None:
            self._owners[offer.digest] = offer.person

    def _drop(self, person: Person) -> None:
        offer = self._offers.pop(person, None)
        if offer is not None:
            self._owners.pop(offer.digest, None)
            self._shown.discard(person)

    def _expire(self) -> None:
        """Offers stand in the order in which they end; the store lets go of them with the next one."""
        now = self._clock.now()
        while self._offers and (first := next(iter(self._offers.values()))).expires_at <= now:
            self._drop(first.person)

    def _soon(self) -> datetime:
        return self._clock.now() + VALID_FOR

    def _answered_by(self, person: Person, digest: bytes) -> LinkOffer | None:
        """Entering a code once more changes nothing: a command may be carried out again after a crash."""
        entered = (offer for offer in self._offers.values() if offer.digest == digest and offer.other == person)
        return next(entered, None)

    def _tried(self, person: Person) -> int:
        tries = self._tries.get(person)
        return 0 if tries is None or tries.until <= self._clock.now() else tries.count

    def _wrong(self, person: Person) -> Refusal:
        tries = self._tries.pop(person, None)
        if tries is None or tries.until <= self._clock.now():
            tries = _Tries(0, self._soon())
        tries.count += 1
        self._tries[person] = tries
        return Refusal.UNKNOWN_CODE
