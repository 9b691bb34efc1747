"""What an account sends: one message after the other, at a pace, and counted against what the platform takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.weixin.address import Address
from adapters.weixin.api import THROTTLED, IlinkApi, Refused
from adapters.weixin.media import item_of
from adapters.weixin.people import People
from core.adapter import IdempotencyKey, OutboundFile
from core.clock import Clock
from core.departures import Departures
from core.errors import DeliveryError, DeliveryUnavailable, HeldBack
from core.latest import Latest
from core.messages import MessageId

_GAP = 1.5
"""Seconds between two messages at pace 1: three within a second are refused."""

_TICKETS = 1_000
_TICKET_LIFETIME = 12 * 3600.0
"""Seconds; the vendor's client keeps one for up to 24 hours."""

_TYPING, _TYPING_OVER = 1, 2
_AGAIN = (0.3, 0.6)
"""Seconds before the sign is taken away once more where that failed; the core gives 2 for all of it."""


class Outgoing:
    """Shared by the replies of an account. `ready`: signed in."""

    def __init__(self, api: IlinkApi, people: People, clock: Clock, *, cdn_url: str, pace: float) -> None:
        self._api = api
        self._people = people
        self._clock = clock
        self._cdn_url = cdn_url
        self._gap = _GAP * pace
        self._tickets: Latest[str, tuple[str, float]] = Latest(_TICKETS)
        self.departures = Departures(clock)
        self.ready = False

    async def send(self, address: Address, item: Mapping[str, Any], key: IdempotencyKey) -> MessageId | None:
        """One message of one item. Raises DeliveryError."""
        self._check(address)
        await self.departures.wait(key, after=self._gap)
        message = {
            "from_user_id": "",
            "to_user_id": address.user,
            "client_id": f"chatgpt-ms:{key}",
            "message_type": 2,
            "message_state": 2,
            "context_token": self._check(address),
            "item_list": [item],
        }
        with self.departures.under_way():
            try:
                answer = await self._api.call("sendmessage", {"msg": message})
            except Refused as refused:
                raise self._explained(refused, address) from None
        self._people.answered(address)
        id = answer.get("message_id")
        return MessageId(str(id)) if isinstance(id, int | str) and id else None

    async def attach(self, address: Address, file: OutboundFile, key: IdempotencyKey) -> MessageId | None:
        """Upload a file and show it."""
        self._check(address)
        try:
            item = await item_of(file, self._api, self._cdn_url, address.user)
        except Refused as refused:
            raise self._explained(refused, address) from None
        return await self.send(address, item, key)

    async def typing(self, address: Address) -> None:
        """Show that an answer is being written, for some seconds."""
        context = self._check(address)
        ticket, until = self._tickets.get(address.user, ("", 0.0))
        if self._clock.monotonic() > until:
            answer = await self._api.call("getconfig", {"ilink_user_id": address.user, "context_token": context})
            ticket = str(answer.get("typing_ticket") or "")
            self._tickets[address.user] = ticket, self._clock.monotonic() + _TICKET_LIFETIME
        if ticket:
            await self._sign(address, ticket, _TYPING)

    async def typing_over(self, address: Address) -> None:
        """Take the sign away: it stays up where nobody says so
        (https://github.com/NousResearch/hermes-agent/issues/38085)."""
        ticket, _ = self._tickets.get(address.user, ("", 0.0))
        if not ticket or not self.ready:
            return
        for pause in _AGAIN:
            try:
                await self._sign(address, ticket, _TYPING_OVER)
            except DeliveryError:
                await self._clock.sleep(pause)
            else:
                return
        await self._sign(address, ticket, _TYPING_OVER)

    async def _sign(self, address: Address, ticket: str, status: int) -> None:
        try:
            body = {"ilink_user_id": address.user, "typing_ticket": ticket, "status": status}
            await self._api.call("sendtyping", body)
        except Refused:
            self._tickets.pop(address.user, None)
            raise

    def _check(self, address: Address) -> str:
        """The token of the conversation. Raises where nothing can be sent now."""
        if not self.ready:  # what is kept is tried as soon as it is, however long that takes
            raise HeldBack("the account is not connected")
        return self._people.context(address)

    def _explained(self, refused: Refused, address: Address) -> DeliveryError:
        """iLink says in `ret` what it will not do; an HTTP status comes from what stands before it, and may pass."""
        if refused.code in (THROTTLED, 429):
            return self._people.refused(address)
        return DeliveryUnavailable(str(refused))
