"""The sign that an answer is being written: the reaction `Typing` on the question, as long as there is no answer.

https://open.feishu.cn/document/server-docs/im-v1/message-reaction/create, …/delete, …/list. It stays until somebody
takes it away; one that a process left behind when it died goes with the answer that the next process gives, and one that
could not be taken away with the answer, or whose question ended without one, a little later.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import quote

import structlog

from adapters.feishu.address import Address
from adapters.feishu.api import FeishuApi
from adapters.feishu.errors import NO_SCOPE, WRONG_REACTION, FeishuError
from core.clock import Clock
from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain, RateLimited
from core.latest import Latest

log = structlog.get_logger(__name__)

EMOJI = "Typing"
_TIMEOUT = 5.0
"""Seconds that it may take to put a sign up, and that an answer waits for it to be taken away."""
_LAPSED = 60.0
"""Seconds without a further call for it, after which nobody will answer: the core repeats it every 5."""
_LOOK = 10.0
"""Seconds between two looks for signs that are still to go."""
_KEPT = 5_000


@dataclass(slots=True)
class _Sign:
    putting: asyncio.Task[str]
    """Puts it up and knows its id; that is empty where nobody knows whether it is up."""
    wanted: float
    """When it was last asked for."""


class Signs:
    """Of all questions of one account. Enter it for each sign-in, so that those go whose answer did not take them."""

    def __init__(self, api: FeishuApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._able = True
        self._signs: Latest[str, _Sign | None] = Latest(_KEPT)
        """By question; None once there is an answer, or nothing of a sign is left."""
        self._owed: Latest[str, None] = Latest(_KEPT)
        """Questions whose sign may still be there though it was to go."""

    async def __aenter__(self) -> Self:
        self._clearing = asyncio.create_task(self._keep_clearing())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clearing.cancel()
        await asyncio.gather(self._clearing, return_exceptions=True)

    async def put(self, address: Address) -> None:
        """Put it up once."""
        question, now = address.message_id, self._clock.monotonic()
        if not self._able or not question:
            return
        if question in self._signs:
            if (sign := self._signs[question]) is not None:
                sign.wanted = now
            return
        putting = asyncio.create_task(self._put(question))
        self._signs[question] = _Sign(putting, now)
        try:
            await asyncio.shield(putting)
        except DeliveryError:
            self._signs.pop(question, None)
            raise
        finally:
            await asyncio.wait([putting])  # for whoever gives up on it, too: it ends soon

    async def take_away(self, address: Address, *, earlier: bool) -> None:
        """There is an answer. `earlier`: the question is older than this process, whose predecessor may have put one
        up. Raises nothing: no answer fails for its sign."""
        question = address.message_id
        known = question in self._signs
        sign = self._signs.get(question)
        if not question or (sign is None and (known or not earlier)):
            return
        self._signs[question] = None
        await self._clear(question, sign, left_behind=earlier)

    async def _clear(self, question: str, sign: _Sign | None, *, left_behind: bool) -> bool:
        """Whether nothing of ours is on the question any more, or it never can be taken away."""
        self._owed.pop(question, None)
        try:
            async with asyncio.timeout(_TIMEOUT):
                reaction = "" if sign is None else await asyncio.shield(sign.putting)
                if reaction:
                    await self._take(question, reaction)
                if left_behind or not reaction:
                    await self._take_any(question)
        except (RateLimited, DeliveryUnavailable, DeliveryUncertain, TimeoutError) as error:
            log.debug("a typing sign is taken away later", error=str(error))
            self._owed[question] = None
            return False
        except DeliveryError as error:
            log.debug("a typing sign could not be taken away", error=str(error))
        return True

    async def _keep_clearing(self) -> None:
        while True:
            await self._clock.sleep(_LOOK)
            lapsed = self._clock.monotonic() - _LAPSED
            for question in [*self._owed, *(at for at, sign in self._signs.items() if sign and sign.wanted < lapsed)]:
                sign = self._signs.get(question)
                if sign is not None:
                    self._signs[question] = None
                if not await self._clear(question, sign, left_behind=False):
                    break  # the others would do no better

    async def _put(self, question: str) -> str:
        path = f"/open-apis/im/v1/messages/{quote(question, safe='')}/reactions"
        try:
            async with asyncio.timeout(_TIMEOUT):
                data = await self._api.call("POST", path, body={"reaction_type": {"emoji_type": EMOJI}})
        except FeishuError as error:
            self._able = error.code not in (NO_SCOPE, WRONG_REACTION)
            raise
        except (DeliveryUncertain, TimeoutError) as error:
            log.debug("whether a typing sign is up is not known", error=str(error))
            return ""
        return str((data.get("data") or {}).get("reaction_id") or "")

    async def _take(self, question: str, reaction: str) -> None:
        path = f"/open-apis/im/v1/messages/{quote(question, safe='')}/reactions/{quote(reaction, safe='')}"
        await self._api.call("DELETE", path)

    async def _take_any(self, question: str) -> None:
        """Whatever sign of ours there is: left behind by another process, or put up by a call whose answer got lost."""
        path = f"/open-apis/im/v1/messages/{quote(question, safe='')}/reactions"
        data = await self._api.call("GET", path, params={"reaction_type": EMOJI, "page_size": "50"})
        for item in (data.get("data") or {}).get("items") or ():
            operator = item.get("operator") or {}
            if operator.get("operator_type") == "app" and operator.get("operator_id") == self._api.app_id:
                await self._take(question, str(item.get("reaction_id")))
