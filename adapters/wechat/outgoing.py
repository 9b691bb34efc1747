"""What an account sends: one message after the other, as fast as a person would.

Accounts that write like a machine are banned, as people who ran them tell.
"""

from __future__ import annotations

import random
import re
from typing import Any

from grpclib.const import Status
from wechaty_grpc.wechaty import puppet

from adapters.wechat.address import Address
from adapters.wechat.files import request_of
from adapters.wechat.service import PuppetService, Refused
from adapters.wechat.wire import Sent
from core.adapter import IdempotencyKey, OutboundFile
from core.clock import Clock
from core.departures import Departures
from core.errors import (
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    HeldBack,
    TargetGone,
)
from core.messages import MessageId

_LEAST, _MOST = 1.0, 3.0
"""Seconds before each message at pace 1."""
_A_CHARACTER = 0.004
"""Seconds more for each of its characters."""

_PASSES = re.compile(r"time[d ]*out|ECONN|EAI_AGAIN|ENETUNREACH|socket hang up", re.IGNORECASE)
"""What a puppet throws when it lost WeChat in the middle of a send."""
_NOT_LOGGED_IN = re.compile(r"not log(?:ged)?.?in", re.IGNORECASE)
_GONE = re.compile(r"not found|no such|not exist", re.IGNORECASE)


class Outgoing:
    """Shared by the replies of an account. `service`: the connection, if there is one; `ready`: it is logged in;
    `waiting`: for a person who scans."""

    def __init__(self, clock: Clock, *, pace: float) -> None:
        self._clock = clock
        self._pace = pace
        self.departures = Departures(clock)
        self.service: PuppetService | None = None
        self.ready = False
        self.waiting = False

    async def send(self, address: Address, text: str, key: IdempotencyKey) -> MessageId | None:
        """One message of text. Raises DeliveryError."""
        self._connected()
        await self._turn(key, len(text))
        request = puppet.MessageSendTextRequest(conversation_id=address.conversation, text=text)
        return await self._call("MessageSendText", request)

    async def attach(self, address: Address, file: OutboundFile, key: IdempotencyKey) -> MessageId | None:
        """One file; WeChat shows pictures as such. Raises DeliveryError."""
        self._connected()
        request = request_of(file, address.conversation)
        await self._turn(key, 0)
        return await self._call("MessageSendFile", request)

    def _connected(self) -> PuppetService:
        """Raises where nothing can be sent now."""
        if self.waiting:
            raise HeldBack("the account waits for a scan")
        if self.service is None or not self.ready:
            raise DeliveryUnavailable("the account is not connected")
        return self.service

    async def _turn(self, key: IdempotencyKey, length: int) -> None:
        """Wait as long as a person would need to write it, after all that was written before."""
        pause = random.uniform(_LEAST, _MOST) + length * _A_CHARACTER  # noqa: S311 - no secret
        await self.departures.wait(key, before=pause * self._pace)

    async def _call(self, method: str, request: Any) -> MessageId | None:
        service = self._connected()
        with self.departures.under_way():
            try:
                sent = await service.call(method, request, Sent)
            except Refused as refused:
                raise _explained(refused) from None
        id = sent.new_id or sent.old_id.value
        return MessageId(id) if id else None


def _explained(refused: Refused) -> DeliveryError:
    """What a puppet threw comes as UNKNOWN with its words, which differ from puppet to puppet."""
    if refused.status is Status.RESOURCE_EXHAUSTED or _NOT_LOGGED_IN.search(refused.detail):
        return DeliveryUnavailable(str(refused))
    if _PASSES.search(refused.detail):
        return DeliveryUncertain(str(refused))
    if _GONE.search(refused.detail):
        return TargetGone(f"{refused}: it knows no such conversation")
    return refused
