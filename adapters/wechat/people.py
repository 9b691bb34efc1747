"""Who people are: looked up when they write, and remembered for a while.

Each question may go all the way to WeChat, so none is asked twice without need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from wechaty_grpc.wechaty import puppet

from adapters.wechat.service import PuppetService, Refused
from core.clock import Clock
from core.errors import DeliveryError
from core.latest import Latest

log = structlog.get_logger(__name__)

_LOOK = 3.0
"""Seconds for one question. A message does not wait longer to learn a name."""
_FRESH = 1800.0
"""Seconds for which an answer is believed; servers tell of changes (`dirty`), but not all of them."""
_UNKNOWN = 60.0
"""Seconds after which a question that got no answer is asked again."""
_REMEMBERED = 10_000

_CONTACT, _ROOM, _MEMBER = 2, 3, 4
"""What a `dirty` event is about: https://github.com/wechaty/puppet/blob/main/src/schemas/dirty.ts"""

Found = dict[str, Any] | None
"""What is known of somebody; None where the server did not say."""


class People:
    """One account's: contacts, and members of rooms."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: Latest[tuple[str, str], tuple[Found, float]] = Latest(_REMEMBERED)
        """Room (empty for a contact) and person, to what is known and until when."""

    async def names(self, service: PuppetService, room: str, me: str) -> dict[str, str]:
        """Those that the bot goes by in a room: `name`, `room_alias`. Raises DeliveryError where the server does not answer:
        a name that is not known now may be the one that the bot is called by."""
        contact, member = await asyncio.gather(
            self.contact(service, me, insist=True), self.member(service, room, me, insist=True)
        )
        contact, member = contact or {}, member or {}
        return {"name": contact.get("name") or member.get("name", ""), "room_alias": member.get("room_alias", "")}

    async def contact(self, service: PuppetService, id: str, *, insist: bool = False) -> Found:
        """`id`, `name` and `type` (2: an official account). With `insist` it raises DeliveryError where nothing is
        answered."""

        async def ask() -> Found:
            request = puppet.ContactPayloadRequest(id=id)
            found = await service.call("ContactPayload", request, puppet.ContactPayloadResponse, seconds=_LOOK)
            return {"id": id, "name": found.name, "type": int(found.type)}

        return await self._looked_up(("", id), ask, insist=insist)

    async def member(self, service: PuppetService, room: str, id: str, *, insist: bool = False) -> Found:
        """`id`, `name`, and `room_alias`: what they go by in the room, if that is another name. `insist` as above."""

        async def ask() -> Found:
            request = puppet.RoomMemberPayloadRequest(id=room, member_id=id)
            found = await service.call("RoomMemberPayload", request, puppet.RoomMemberPayloadResponse, seconds=_LOOK)
            return {"id": id, "name": found.name, "room_alias": found.room_alias}

        return await self._looked_up((room, id), ask, insist=insist)

    def changed(self, kind: Any, id: Any) -> None:
        """A `dirty` event: what is known is known no longer. `id` of a member begins with that of the room, or is it."""
        if kind == _CONTACT:
            self._known.pop(("", str(id)), None)
        elif kind in (_ROOM, _MEMBER):
            for key in [key for key in self._known if key[0] and key[0] in str(id)]:
                del self._known[key]

    async def _looked_up(self, key: tuple[str, str], ask: Callable[[], Awaitable[Found]], *, insist: bool) -> Found:
        found, until = self._known.get(key, (None, 0.0))
        if self._clock.monotonic() < until:
            return found
        try:
            found, lasts = await ask(), _FRESH
        except DeliveryError as error:
            if insist and not isinstance(error, Refused):
                raise
            log.info("a name is not known", person=key[1], room=key[0] or None, error=str(error))
            found, lasts = None, _UNKNOWN
        self._known[key] = found, self._clock.monotonic() + lasts
        return found
