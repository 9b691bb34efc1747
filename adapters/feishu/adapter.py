"""The adapter: sign in, receive by a connection of our own or by HTTP, answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import structlog
from aiohttp import web

from adapters.feishu.address import Address
from adapters.feishu.api import FeishuApi
from adapters.feishu.bot import Bot
from adapters.feishu.chats import Chats
from adapters.feishu.config import Config
from adapters.feishu.diagnosis import diagnose
from adapters.feishu.files import fetch
from adapters.feishu.history import missed
from adapters.feishu.link import Link
from adapters.feishu.reception import Reception
from adapters.feishu.reply import FeishuReply, reply_to
from adapters.feishu.sdk import load_decrypt
from adapters.feishu.signature import Signatures
from adapters.feishu.verdict import REFUSED, Verdict
from adapters.feishu.webhook import Webhook
from core.adapter import (
    Adapter,
    AdapterSpec,
    CatchesUp,
    Diagnoses,
    FetchesFiles,
    Heard,
    Inbox,
    Place,
    ReplyChannel,
    ServesHttp,
)
from core.clock import Clock, SystemClock
from core.ending import run_until
from core.errors import AuthenticationError, ConnectionLost, FileUnavailable
from core.fetching import Files
from core.messages import AccountId, Attachment, InboundMessage, ReplyAddress

log = structlog.get_logger(__name__)


class FeishuAdapter(Adapter, CatchesUp, FetchesFiles, Diagnoses):
    """What both ways of receiving have in common."""

    def __init__(self, account: AccountId, config: Config, *, clock: Clock | None = None) -> None:
        self._account = account
        self._config = config
        self._clock = clock or SystemClock()
        secret = config.app_secret.get_secret_value()
        self._api = FeishuApi(config.app_id, secret, url=config.api_url, proxy=config.proxy, clock=self._clock)
        self._chats = Chats(self._api, self._clock)
        self._bot = Bot(self._api, account, self._clock)
        self._files: Files | None = None
        self._reception: Reception | None = None
        self._gaps = 0

    async def __aenter__(self) -> Self:
        self._gaps = 0
        async with AsyncExitStack() as stack:
            await self._api.open()
            stack.push_async_callback(self._api.close)
            await self._api.sign_in()
            await self._bot.ask()
            await stack.enter_async_context(self._chats.signs)
            # A file's address is made here, so no host but the API's is asked for one.
            files = Files(hosts=(), api_url=self._config.api_url, proxy=self._api.proxy)
            self._files = await stack.enter_async_context(files)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._files = None

    async def run(self, inbox: Inbox) -> None:
        everything = self._config.access.listens_in
        reception = Reception(self._account, self._bot, self._api, self._clock, inbox, everything=everything)
        async with reception:
            self._reception = reception
            try:
                if await run_until(self._api.refused, self._receive(reception)):
                    raise AuthenticationError("Feishu refuses the app; its secret was replaced, or it was switched off")
            finally:
                self._reception = None

    async def _receive(self, reception: Reception) -> None:
        raise NotImplementedError

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        return reply_to(self._chats, Address.load(address))

    # Gaps

    def gaps(self) -> int:
        return self._gaps

    async def missed(self, since: datetime, places: Sequence[Place]) -> AsyncGenerator[InboundMessage, None]:
        if self._reception is None:
            raise ConnectionLost("the account is not receiving")
        async with aclosing(missed(self._api, self._reception, self._clock, since, places)) as messages:
            async for message in messages:
                yield message

    # Files

    async def fetch(self, attachment: Attachment, *, most_bytes: int) -> bytes:
        if self._files is None:
            raise FileUnavailable("files cannot be fetched while the account is not signed in")
        return await fetch(attachment, self._files, self._api, url=self._config.api_url, most_bytes=most_bytes)

    # What is missing

    async def diagnose(self) -> Sequence[str]:
        return await diagnose(self._api, self._config, self._bot.info)


class SocketAdapter(FeishuAdapter, Heard):
    """Receives over a long connection."""

    def __init__(self, account: AccountId, config: Config, *, clock: Clock | None = None) -> None:
        super().__init__(account, config, clock=clock)
        self.deaf_after = timedelta(seconds=35)  # pongs come every 20 s
        self._link: Link | None = None
        self._heard: datetime | None = None

    async def __aenter__(self) -> Self:
        self._heard = None
        return await super().__aenter__()

    def last_heard(self) -> datetime | None:
        if self._link is not None and self._link.heard is not None:
            self._heard = self._link.heard
        return self._heard

    async def _receive(self, reception: Reception) -> None:
        async with Link(self._api, self._config, self._clock, reception.take) as link:
            self._link = link
            self._gaps += 1
            try:
                reason = await asyncio.shield(link.over)
            finally:
                self.last_heard()
                self._link = None
        raise ConnectionLost(f"the long connection is over: {reason}")


class WebhookAdapter(FeishuAdapter, ServesHttp):
    """Receives events by HTTP. Requests get 503 while it does not run: Feishu sends them again."""

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        key = self._config.encrypt_key.get_secret_value()
        if not key:
            return []  # nothing could be verified
        token = self._config.verification_token.get_secret_value()
        webhook = Webhook(Signatures(key, self._clock), load_decrypt(key), token, self._take)
        return [web.post(f"/webhooks/{self._account}", webhook.serve)]

    async def _take(self, payload: Mapping[str, Any]) -> Verdict:
        reception = self._reception
        return REFUSED if reception is None else await reception.take(payload)

    async def _receive(self, reception: Reception) -> None:
        del reception
        self._gaps += 1
        await asyncio.get_running_loop().create_future()  # until cancelled: requests come to us


def create(account: AccountId, config: Config) -> FeishuAdapter:
    """The adapter for the configured way of receiving."""
    return SocketAdapter(account, config) if config.mode == "websocket" else WebhookAdapter(account, config)


SPEC = AdapterSpec("feishu", Config, create, reply=FeishuReply)
