"""Being let in by a code: a stranger is told one, and whoever runs the bot approves it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from core.archive import Archive, PairingRequest
from core.clock import Clock
from core.codes import code_digest, new_code
from core.messages import AccountId, Person, ReplyAddress
from core.people import People
from core.texts import Language

log = structlog.get_logger(__name__)

VALID_FOR = timedelta(hours=1)
"""How long a code may be approved, and how long its person gets no other."""

MOST_WAITING = 3
"""People of one account that wait at the same time; nobody else is told a code meanwhile."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a stranger is told."""

    notice: str
    """The text's name."""
    code: str = field(default="", repr=False)
    """Empty where there is none for them."""


class Pairing:
    """The codes that are valid now. They are in memory and in the store, as SHA-256 only.

    What changes something raises StorageUnavailable, and then nothing has changed.
    """

    def __init__(self, archive: Archive, people: People, clock: Clock) -> None:
        self.approved: Callable[[PairingRequest], None] = lambda _: None
        """Called when somebody was let in by their code; whoever tells them sets it."""
        self._archive = archive
        self._people = people
        self._clock = clock
        self._requests: dict[Person, PairingRequest] = {}
        self._changing = asyncio.Lock()

    async def load(self) -> None:
        """Read what is stored. Raises StorageUnavailable."""
        self._requests = {request.person: request for request in await self._archive.pairings()}

    def waits(self, person: Person) -> bool:
        """Whether this person was told a code that is still valid."""
        request = self._requests.get(person)
        return request is not None and self._valid(request)

    def full(self, account: AccountId) -> bool:
        """Whether nobody else is told a code on this account for now."""
        return len(self.waiting(account)) >= MOST_WAITING

    def waiting(self, account: AccountId | None = None) -> Sequence[PairingRequest]:
        """Who waits on one account or on all, oldest first."""
        found = (request for request in self._requests.values() if account is None or request.person.account == account)
        return sorted((request for request in found if self._valid(request)), key=lambda request: request.created_at)

    async def offer(
        self, person: Person, name: str, *, reply_to: ReplyAddress | None = None, language: Language = "en"
    ) -> Offer:
        """A fresh code for a stranger, unless they wait already or too many others do. `reply_to`: where they are told."""
        async with self._changing:
            if self.waits(person):
                return Offer("pairing_waits")
            if self.full(person.account):
                log.warning("nobody else is told a code", account=person.account, person=person.user, most=MOST_WAITING)
                return Offer("pairing_full")
            code, now = new_code(), self._clock.now()
            request = PairingRequest(
                person=person,
                name=name,
                digest=code_digest(code),
                created_at=now,
                expires_at=now + VALID_FOR,
                reply_to=reply_to,
                language=language,
            )
            await self._archive.add_pairing(request)
            self._requests = {one.person: one for one in self._requests.values() if self._valid(one)}
            self._requests[person] = request
        log.info("somebody waits to be let in", account=person.account, person=person.user)
        return Offer("pairing", code)

    async def approve(self, code: str, *, by: str, account: AccountId | None = None) -> PairingRequest | None:
        """Let in whoever was told this code, on one account or on any. None: no code like that is valid."""
        request = self._found(code, account)
        if request is not None:
            await self._people.allow(request.person, by=by, name=request.name)
            await self.withdraw(request.person)
            self.approved(request)
        return request

    async def reject(self, code: str, *, by: str, account: AccountId | None = None) -> PairingRequest | None:
        """The code is void; its person may be told another one. None: no code like that is valid."""
        request = self._found(code, account)
        if request is not None:
            await self.withdraw(request.person)
            log.info("a code was rejected", account=request.person.account, person=request.person.user, by=by)
        return request

    async def withdraw(self, person: Person) -> None:
        """This person waits no more: they could not be told the code, or it was decided otherwise."""
        async with self._changing:
            if person in self._requests:
                await self._archive.remove_pairing(person)
                del self._requests[person]

    def _found(self, code: str, account: AccountId | None) -> PairingRequest | None:
        digest = code_digest(code)
        return next((request for request in self.waiting(account) if request.digest == digest), None)

    def _valid(self, request: PairingRequest) -> bool:
        return self._clock.now() < request.expires_at
