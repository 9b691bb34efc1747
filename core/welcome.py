"""Telling people that they were let in, where they were told their code."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from core.adapter import CanFail, IdempotencyKey, ReplyChannel
from core.archive import PairingRequest
from core.delivery import SEND_TIMEOUT
from core.errors import DeliveryError
from core.messages import AccountId, ReplyAddress
from core.texts import say

log = structlog.get_logger(__name__)


class Welcome:
    """Tells each once, and nobody waits for it: letting somebody in does not fail because of it."""

    def __init__(self, reply: Callable[[AccountId, ReplyAddress], ReplyChannel]) -> None:
        self._reply = reply
        self._telling: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._telling:
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    def begin(self, request: PairingRequest) -> None:
        """Somebody was let in who had been told a code."""
        if request.reply_to is not None:
            task = asyncio.create_task(self._tell(request, request.reply_to))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def _tell(self, request: PairingRequest, address: ReplyAddress) -> None:
        person = request.person
        try:
            reply = self._reply(person.account, address)
            if isinstance(reply, CanFail):
                return  # their request was answered long ago, and they cannot be told anything more
            async with asyncio.timeout(SEND_TIMEOUT):
                key = IdempotencyKey(f"welcome-{secrets.token_hex(4)}")
                await reply.send(say("welcome", request.language), key=key)
        except (DeliveryError, TimeoutError) as error:
            log.info("somebody was not told that they were let in", **person._asdict(), error=str(error))
        except Exception:
            log.exception("telling somebody that they were let in failed", **person._asdict())
