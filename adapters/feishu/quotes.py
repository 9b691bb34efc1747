"""Messages that are replied to, which events name by id alone: asked for, as data with their author.

https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/reference/im-v1/message/get. In groups that needs the permission
to read all messages (im:message.group_msg); without it questions come without what they refer to.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import structlog

from adapters.feishu.api import FeishuApi
from adapters.feishu.bot import Bot
from adapters.feishu.parse import Original, original_of
from adapters.feishu.text import is_key
from core.clock import Clock
from core.errors import DeliveryError
from core.latest import Latest
from core.untrusted import items_in

log = structlog.get_logger(__name__)

_KEPT = 1_000
_FRESH = 60.0
"""Seconds after which a message is asked for again: it may have been changed, or grown."""
_AT_ONCE = 20


class Quotes:
    """Enter it to ask, leave it to end what is under way."""

    def __init__(self, api: FeishuApi, bot: Bot, clock: Clock) -> None:
        self._api = api
        self._bot = bot
        self._clock = clock
        self._known: Latest[str, tuple[Original | None, float]] = Latest(_KEPT)
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def of(self, message: str, *, within: float) -> Original | None:
        """The message with the id `message`; None where it cannot be had `within` so many seconds."""
        if not is_key(message):
            return None
        known = self._known.get(message)
        if known is None or self._clock.monotonic() - known[1] >= _FRESH:
            task = self._asking.get(message)
            if task is None and len(self._asking) < _AT_ONCE:
                task = self._asking[message] = asyncio.create_task(self._ask(message))
            if task is not None:
                await asyncio.wait({task}, timeout=within)
            known = self._known.get(message)
        return known[0] if known else None

    async def _ask(self, message: str) -> None:
        try:
            answer = await self._api.call(
                "GET",
                f"/open-apis/im/v1/messages/{message}",
                params={"user_id_type": "open_id", "card_msg_content_type": "user_card_content"},
            )
            found = original_of(items_in(answer.get("data"), "items"), self._bot.identity)
        except DeliveryError as error:
            log.info("a quoted message cannot be read", message=message, error=str(error))
            found = None
        finally:
            del self._asking[message]
        self._known[message] = (found, self._clock.monotonic())
