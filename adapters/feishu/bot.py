"""The bot that an app is, or is not yet.

https://open.feishu.cn/document/ukTMukTMukTM/uAjMxEjLwITMx4CMyETM tells who it is once the feature Bot is added and published.
The console saves that events come by a long connection while the app is connected, and has to have saved it before the
version is made that is published: so an app connects before anybody knows its bot. Direct messages are understood without
that; in groups it takes the bot's id to know who is mentioned.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from adapters.feishu.api import FeishuApi
from adapters.feishu.errors import CredentialsRefused, FeishuError, sign_in_error
from adapters.feishu.identity import Identity
from core.clock import Clock
from core.errors import ConnectionLost, DeliveryError
from core.messages import AccountId
from core.untrusted import part_in, text_in

log = structlog.get_logger(__name__)

MISSING = (
    "Feishu knows no bot of the app: add the feature Bot in the developer console, then create a version and publish it"
)
_NO_BOT = 11205
"""https://open.feishu.cn/document/ukTMukTMukTM/ugjM14COyUjL4ITN"""
_ASK_AGAIN = 60.0
"""Seconds between two questions, while nothing is known."""
_WITHIN = 1.0
"""Seconds that an event may wait for the answer; Feishu wants its acknowledgement within 3."""


class Bot:
    """Lives as long as its adapter."""

    def __init__(self, api: FeishuApi, account: AccountId, clock: Clock) -> None:
        self._api = api
        self._account = account
        self._clock = clock
        self._told = False
        self._asked: float | None = None
        """When an event last had it asked for."""
        self._asking = asyncio.Lock()
        self.info: Mapping[str, Any] = {}
        """What Feishu tells of it; empty while there is no bot."""
        self.tenant = ""
        """The organisation that it belongs to, once an event has named it."""

    @property
    def identity(self) -> Identity:
        """With an empty `open_id` while that is not known."""
        return Identity(
            open_id=text_in(self.info, "open_id"),
            name=text_in(self.info, "app_name"),
            app_id=self._api.app_id,
            tenant=self.tenant,
        )

    async def ask(self) -> None:
        """At sign-in. Raises AuthenticationError or ConnectionLost; that there is no bot is said in the log."""
        self.info, self._asked = {}, None
        try:
            known = await self._ask()
        except CredentialsRefused as error:
            raise sign_in_error(error) from None
        except DeliveryError as error:
            raise ConnectionLost(f"Feishu: {error}") from None
        if not known and not self._told:
            self._told = True
            log.warning("mentions in groups are not understood yet", account=self._account, reason=MISSING)

    async def ask_again(self) -> None:
        """When an event comes. Once a minute at most, and not for long; raises nothing."""
        async with self._asking:
            now = self._clock.monotonic()
            if self.identity.open_id or (self._asked is not None and now - self._asked < _ASK_AGAIN):
                return
            self._asked = now
            try:
                async with asyncio.timeout(_WITHIN):
                    if await self._ask():
                        log.info("mentions in groups are understood from now on", account=self._account)
            except (DeliveryError, TimeoutError) as error:
                log.info("who the bot is cannot be found out", account=self._account, error=str(error))

    async def _ask(self) -> bool:
        """Whether it is known now."""
        try:
            self.info = part_in(await self._api.call("GET", "/open-apis/bot/v3/info"), "bot")
        except FeishuError as error:
            if error.code != _NO_BOT:
                raise
        return text_in(self.info, "open_id") != ""
