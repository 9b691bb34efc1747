"""The adapter: sign in, receive over the stream, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import structlog
from yarl import URL

from adapters.dingtalk.address import Address
from adapters.dingtalk.api import DingTalkApi
from adapters.dingtalk.cards import Cards
from adapters.dingtalk.config import Config
from adapters.dingtalk.diagnosis import diagnose
from adapters.dingtalk.failures import CredentialsRefused, DingTalkError
from adapters.dingtalk.files import HOSTS, fetch
from adapters.dingtalk.link import ANNOUNCED, Link, no_stream
from adapters.dingtalk.messages import Messages
from adapters.dingtalk.reception import Reception
from adapters.dingtalk.reply import CardReply, Doubts, reply_to
from adapters.dingtalk.signs import Signs
from adapters.dingtalk.webhook import Webhooks
from core.adapter import Adapter, AdapterSpec, Diagnoses, FetchesFiles, Heard, Inbox, ReplyChannel
from core.clock import Clock, SystemClock
from core.ending import run_until
from core.errors import AuthenticationError, ConnectionLost, DeliveryError, FileUnavailable, RateLimited
from core.fetching import Files
from core.limits import Rates
from core.messages import AccountId, Attachment, ReplyAddress

log = structlog.get_logger(__name__)

_RECONNECTS_PER_MINUTE = 20
"""Connections that are replaced at once: DingTalk pushes nothing to nobody. More are the supervisor's, with its pauses."""
_RETIRE = 12.0
"""Seconds after the announcement of its end for which an old connection is kept: DingTalk closes it after ten."""


class DingTalkAdapter(Adapter, Heard, FetchesFiles, Diagnoses):
    """One robot. Two connections overlap where DingTalk announces that one is to be replaced."""

    def __init__(self, account: AccountId, config: Config, *, clock: Clock | None = None) -> None:
        self.deaf_after = timedelta(seconds=30)  # we ping every 5 s
        self._account = account
        self._config = config
        self._clock = clock or SystemClock()
        self._api = DingTalkApi(
            config.client_id,
            config.client_secret.get_secret_value(),
            url=config.api_url,
            proxy=config.proxy,
            clock=self._clock,
        )
        webhooks = Webhooks(self._api, self._clock, origins=(config.api_url, config.oapi_url))
        self._messages = Messages(self._api, webhooks, config.robot)
        self._cards = Cards(self._api, self._clock, template=config.template, robot=config.robot)
        self._signs = Signs(self._api, self._clock, config.robot)
        self._doubts = Doubts()
        self._files: Files | None = None
        self._links: list[Link] = []
        self._heard: datetime | None = None

    async def __aenter__(self) -> Self:
        self._heard = None
        async with AsyncExitStack() as stack:
            await self._api.open()
            stack.push_async_callback(self._api.close)
            await self._sign_in()
            proxy = self._api.proxy_of(URL(self._config.api_url))
            self._files = await stack.enter_async_context(Files(hosts=HOSTS, api_url=self._config.api_url, proxy=proxy))
            await stack.enter_async_context(self._signs)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files = None
        await self._stack.aclose()

    async def _sign_in(self) -> None:
        try:
            await self._api.token()
        except CredentialsRefused as error:
            raise self._refused(error.code) from None
        except RateLimited:
            raise
        except DeliveryError as error:
            raise ConnectionLost(f"DingTalk: {error}") from None

    def _refused(self, code: str = "") -> AuthenticationError:
        reason = f" ({code})" if code else ""
        if code.endswith("IpNotInWhiteList"):
            return AuthenticationError(
                f"accounts.{self._account}: this machine's address is not on the app's list of addresses; "
                "add it in the developer console under Security Settings"
            )
        return AuthenticationError(
            f"accounts.{self._account}: DingTalk refuses client_id and client_secret{reason}; "
            "copy both from the developer console, Credentials and Basic Information"
        )

    async def run(self, inbox: Inbox) -> None:
        reception = Reception(self._account, self._clock, inbox)
        if await run_until(self._api.refused, self._receive(reception)):
            raise self._refused()

    async def _receive(self, reception: Reception) -> None:
        quick = Rates(_RECONNECTS_PER_MINUTE, self._clock)
        retiring: set[asyncio.Task[None]] = set()
        try:
            link = await self._opened(reception)
            while True:
                reason = await asyncio.shield(link.over)
                log.info("a connection ends", account=self._account, reason=reason)
                if quick.take("") is not None:
                    raise ConnectionLost(f"the stream: {reason}")
                old, link = link, await self._replaced(link, reason, reception)
                if reason == ANNOUNCED:
                    task = asyncio.create_task(self._retire(old))
                    retiring.add(task)
                    task.add_done_callback(retiring.discard)
        finally:
            for task in retiring:
                task.cancel()
            closing = (self._closed(each) for each in tuple(self._links))
            await asyncio.gather(*retiring, *closing, return_exceptions=True)

    async def _replaced(self, old: Link, reason: str, reception: Reception) -> Link:
        """The next connection: beside the old one if that still has something to say."""
        if reason != ANNOUNCED:
            await self._closed(old)
        return await self._opened(reception)

    async def _opened(self, reception: Reception) -> Link:
        try:
            link = await Link(self._api, self._clock, reception.take).__aenter__()
        except CredentialsRefused as error:
            raise self._refused(error.code) from None
        except RateLimited:
            raise
        except DingTalkError as error:
            raise ConnectionLost(no_stream(error)) from None
        except DeliveryError as error:
            raise ConnectionLost(f"the stream: {error}") from None
        self._links.append(link)
        return link

    async def _closed(self, link: Link) -> None:
        if link in self._links:
            self.last_heard()
            self._links.remove(link)
            await link.__aexit__(None, None, None)

    async def _retire(self, link: Link) -> None:
        """The old connection still takes acknowledgements, and brings what was on its way."""
        await link.closed(within=_RETIRE)
        await self._closed(link)

    def last_heard(self) -> datetime | None:
        self._heard = max((link.heard for link in self._links if link.heard), default=self._heard)
        return self._heard

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        return reply_to(self._cards, self._doubts, self._messages, self._signs, Address.load(address))

    async def fetch(self, attachment: Attachment, *, most_bytes: int) -> bytes:
        if self._files is None:
            raise FileUnavailable("files cannot be fetched while the account is not signed in")
        return await fetch(attachment, self._files, self._api, self._config.robot, most_bytes=most_bytes)

    async def diagnose(self) -> Sequence[str]:
        return await diagnose(self._api, self._config)


def create(account: AccountId, config: Config) -> DingTalkAdapter:
    """The adapter of an account."""
    return DingTalkAdapter(account, config)


SPEC = AdapterSpec("dingtalk", Config, create, reply=CardReply)
