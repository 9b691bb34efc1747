"""The thinking sign on a question, from the first sign of life until the answer is there.

The call is not documented; it is what clients of the field use
(https://github.com/soimy/openclaw-channel-dingtalk, src/ack-reaction-service.ts). Where DingTalk refuses it, it is not
tried again until the next sign-in. A sign does not fade by itself: it is taken away when the answer is shown, or when
none has come for minutes; one that a process left behind when it died goes with the answer that the next process gives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from adapters.dingtalk.address import Address
from adapters.dingtalk.api import DingTalkApi
from adapters.dingtalk.failures import DingTalkError
from core.clock import Clock
from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain, RateLimited, TargetGone
from core.latest import Latest

log = structlog.get_logger(__name__)

T = TypeVar("T")

_NAME = "🤔思考中"
_EMOTION = {"emotionId": "2659900", "emotionName": _NAME, "text": _NAME, "backgroundId": "im_bg_1"}
_FADES = 180.0
"""Seconds after the last sign of life; a whole answer may take 120."""
_LOOK = 30.0
_LATER = (2.0, 10.0, 30.0, 90.0)
"""Seconds after which one is taken away again where that failed."""
_MOST = 1_000
"""Calls that are under way."""
_KEPT = 5_000
"""Questions that are remembered."""
_LEAVE = 0.5
"""Seconds that the calls under way may take when the account signs out."""


@dataclass(slots=True)
class _Sign:
    address: Address
    call: asyncio.Task[bool]
    """Puts it up; whether it may be there."""
    seen: float


class Signs:
    """The signs of one account. Enter it for each sign-in: leaving ends the calls that are under way."""

    def __init__(self, api: DingTalkApi, clock: Clock, robot: str) -> None:
        self._api = api
        self._clock = clock
        self._robot = robot
        self._born = clock.now().timestamp() * 1000
        self._usable = False
        self._signs: Latest[str, _Sign | None] = Latest(_KEPT)
        """By question; None once there is an answer."""
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._usable = True
        self._fading = self._begin(self._keep_fading())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._usable = False
        self._fading.cancel()
        tasks = tuple(self._tasks)
        try:
            await asyncio.wait(tasks, timeout=_LEAVE)  # a sign that is not taken away now stays for ever
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def show(self, address: Address) -> None:
        """Put the sign on the question, if it is not there."""
        if not self._usable or not address.message:
            return
        sign = self._signs.get(address.message)
        if sign is not None:
            sign.seen = self._clock.monotonic()
        elif address.message not in self._signs and len(self._tasks) < _MOST:
            call = self._begin(self._put(address))
            self._signs[address.message] = _Sign(address, call, self._clock.monotonic())
            await asyncio.shield(call)  # whoever waits may go: the sign has to be known

    def answered(self, address: Address) -> None:
        """The answer is there: the sign goes."""
        known, sign = address.message in self._signs, self._signs.get(address.message)
        left_behind = bool(address.message) and not known and address.asked < self._born
        if (sign is not None or left_behind) and self._usable and len(self._tasks) < _MOST:
            self._signs[address.message] = None
            self._begin(self._take_away(address, sign))

    async def _keep_fading(self) -> None:
        while True:
            await self._clock.sleep(_LOOK)
            old = self._clock.monotonic() - _FADES
            for sign in [sign for sign in self._signs.values() if sign is not None and sign.seen < old]:
                self.answered(sign.address)

    async def _take_away(self, address: Address, sign: _Sign | None) -> None:
        if sign is not None:
            await asyncio.wait({sign.call})
        if sign is not None and not sign.call.cancelled() and not sign.call.result():
            return
        for pause in (0.0, *_LATER):
            await self._clock.sleep(pause)
            try:
                await self._call(address, "recall")
            except (RateLimited, DeliveryUnavailable, DeliveryUncertain) as error:
                log.debug("a thinking sign is taken away later", error=str(error))
            except DeliveryError as error:
                log.debug("a thinking sign cannot be taken away", error=str(error))
                return
            else:
                return

    async def _put(self, address: Address) -> bool:
        """Whether it may be there now."""
        try:
            await self._call(address, "reply")
        except (DingTalkError, TargetGone) as error:
            if self._usable:
                log.info("there is no thinking sign here", error=str(error))
                self._usable = False
            return False
        except DeliveryError as error:
            log.debug("a thinking sign failed", error=str(error))
            return isinstance(error, DeliveryUncertain)
        return True

    async def _call(self, address: Address, what: str) -> None:
        body = {
            "robotCode": address.robot or self._robot,
            "openMsgId": address.message,
            "openConversationId": address.conversation,
            "emotionType": 2,
            "emotionName": _NAME,
            "textEmotion": _EMOTION,
        }
        await self._api.call("POST", f"/v1.0/robot/emotion/{what}", body)

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
