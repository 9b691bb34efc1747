"""What an account sends: one message after the other, as fast as a person would.

Accounts that write like a machine are banned, as people who ran them tell.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import OrderedDict
from contextlib import suppress
from typing import Any

from grpclib.const import Status
from wechaty_grpc.wechaty import puppet

from adapters.wechat.address import Address
from adapters.wechat.files import request_of
from adapters.wechat.service import PuppetService, Refused
from adapters.wechat.wire import Sent
from core.adapter import IdempotencyKey, OutboundFile
from core.clock import Clock
from core.errors import (
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    HeldBack,
    RateLimited,
    TargetGone,
)
from core.messages import MessageId

_LEAST, _MOST = 1.0, 3.0
"""Seconds before each message at pace 1."""
_A_CHARACTER = 0.004
"""Seconds more for each of its characters."""

_LONGEST_TURN = 12.0
"""Seconds that a message waits for its turn here; the core gives a call 30."""
_TURNS = 10_000

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
        self._next = 0.0
        self._turns: OrderedDict[IdempotencyKey, float] = OrderedDict()
        """Of messages that were asked to come back."""
        self._under_way = 0
        self._settled = asyncio.Event()
        self.service: PuppetService | None = None
        self.ready = False
        self.waiting = False

    async def settle(self, seconds: float) -> None:
        """Before the connection is closed: let messages that are on their way be answered. One that is broken off would
        be in doubt."""
        self._settled.clear()
        if self._under_way:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._settled.wait()

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
        """Wait as long as a person would need to write it, after all that was written before. Who would wait too long
        is asked to come back, and has a turn of its own then."""
        if not self._pace:
            return
        now = self._clock.monotonic()
        begins = self._turns.pop(key, None)
        if begins is None:
            pause = random.uniform(_LEAST, _MOST) + length * _A_CHARACTER  # noqa: S311 - no secret
            begins = self._next = max(now, self._next) + pause * self._pace
        if begins - now > _LONGEST_TURN:
            self._turns[key] = begins
            if len(self._turns) > _TURNS:
                self._turns.popitem(last=False)
            raise RateLimited("other messages go first", retry_after=begins - now)
        if begins > now:
            await self._clock.sleep(begins - now)

    async def _call(self, method: str, request: Any) -> MessageId | None:
        service = self._connected()
        self._under_way += 1
        try:
            sent = await service.call(method, request, Sent)
        except Refused as refused:
            raise _explained(refused) from None
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._settled.set()
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
