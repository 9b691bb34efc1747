"""A WeChat bot over iLink: signed in by a scan, reads by long polls from a cursor that moves on after the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import structlog
from yarl import URL

from adapters.weixin.address import Address
from adapters.weixin.api import IlinkApi, Refused, SignInExpired
from adapters.weixin.config import Config
from adapters.weixin.keeper import Credentials, Keeper
from adapters.weixin.login import Login, new_code
from adapters.weixin.media import HOSTS, fetch
from adapters.weixin.outgoing import Outgoing
from adapters.weixin.parse import parse_message
from adapters.weixin.people import People
from adapters.weixin.reply import WeixinReply
from core.adapter import (
    Adapter,
    AdapterSpec,
    AwaitsScan,
    Diagnoses,
    FetchesFiles,
    HasFolder,
    HasOwner,
    Heard,
    Inbox,
    LoginCode,
    ReplyChannel,
    TakesDigits,
)
from core.clock import Clock, SystemClock
from core.errors import (
    ConnectionLost,
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    FileUnavailable,
)
from core.fetching import Files
from core.handover import hand_over
from core.messages import AccountId, Attachment, ReplyAddress, UserId
from core.proxy import proxy_for

log = structlog.get_logger(__name__)

_HELD = 35.0
"""Seconds for which the platform holds a poll, unless it tells otherwise."""
_LONGEST_HELD = 60.0
_SLACK = 10.0
"""Seconds beyond that until a poll counts as lost."""

_QUICK = 1.0
_IDLE = 0.5
"""A poll that brings nothing new within `_QUICK` seconds was not held; the next one waits `_IDLE` seconds."""

_COURTESY = 5.0
"""Seconds for telling the platform that the bot comes online; nothing is received before."""

_SETTLE = 0.5
"""Seconds for messages on their way when the link is over."""

_FAREWELL = 1.0
"""Seconds for telling the platform that the bot goes offline."""


class WeixinAdapter(Adapter, Heard, FetchesFiles, Diagnoses, AwaitsScan, TakesDigits, HasFolder, HasOwner):
    """One bot. What the platform takes for each person is remembered from one connection to the next."""

    def __init__(self, account: AccountId, config: Config, clock: Clock | None = None) -> None:
        self.deaf_after = timedelta(seconds=100)  # polls are held for 35 s, and for `_LONGEST_HELD` at most
        self._account = account
        self._config = config
        self._clock = clock or SystemClock()
        self._api = IlinkApi(config.api_url, proxy=config.proxy, account=account)
        self._people = People(self._clock)
        self._outgoing = Outgoing(self._api, self._people, self._clock, cdn_url=config.cdn_url, pace=config.pace)
        self._keeper: Keeper | None = None
        self._login: Login | None = None
        self._files: Files | None = None
        self._heard: datetime | None = None
        self._still_bound = True
        """Whether the platform may be told of a stale token with a new code: it may answer that it is bound still."""

    def use_folder(self, folder: Path) -> None:
        self._keeper = Keeper(folder)

    @property
    def _kept(self) -> Keeper:
        if self._keeper is None:
            raise RuntimeError("the adapter was entered before it got its folder")
        return self._keeper

    def owner(self) -> UserId | None:
        """Who scanned the code, until somebody else does; also while the sign-in has expired."""
        credentials = self._keeper.credentials() if self._keeper is not None else None
        return UserId(credentials.owner) if credentials is not None and credentials.owner else None

    async def __aenter__(self) -> Self:
        """Nothing is asked of the platform yet: what it has to say comes with the first poll, or with a scan."""
        self._heard = None
        proxy = proxy_for(URL(self._config.cdn_url), self._config.proxy, setting=f"accounts.{self._account}.proxy")
        files = Files(hosts=HOSTS, api_url=self._config.cdn_url, proxy=str(proxy) if proxy else None)
        await self._api.open()
        self._files = await files.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        files, self._files = self._files, None
        try:
            await self._outgoing.departures.settle(_SETTLE)
        finally:
            await self._api.close()
            if files is not None:
                await files.__aexit__(None, None, None)

    async def run(self, inbox: Inbox) -> None:
        credentials = self._kept.credentials()
        if credentials is None or credentials.stale:
            credentials = await self._scanned(credentials)
        self._api.sign_in(credentials.token, credentials.url)
        self._outgoing.ready = True
        try:
            await self._announce()
            await self._receive(inbox)
        except SignInExpired:
            log.warning("the sign-in has expired", account=self._account)
            self._kept.keep(replace(credentials, stale=True))
            raise ConnectionLost("the sign-in has expired; a new code is to be scanned") from None
        except asyncio.CancelledError:
            with suppress(DeliveryError, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._api.call("msg/notifystop", {})
            raise
        finally:
            self._outgoing.ready = False

    # Signing in

    async def _scanned(self, known: Credentials | None) -> Credentials:
        """Wait until a person has scanned a code."""
        self._api.sign_in("", "")
        self._login = Login(self._api, self._clock, heard=self._hear)
        try:
            credentials = await self._login.credentials(known if self._still_bound else None)
        finally:
            self._login = None
        self._still_bound = credentials is not known
        credentials = replace(credentials, stale=False)
        self._kept.keep(credentials)
        log.info("signed in", account=self._account, bot=credentials.bot)
        return credentials

    def login_code(self) -> LoginCode | None:
        return self._login.code if self._login is not None else None

    def enter_digits(self, digits: str) -> None:
        if self._login is not None:
            self._login.enter_digits(digits)

    async def diagnose(self) -> Sequence[str]:
        """Whether the platform accepts the token; without one, whether it has a code that could be scanned."""
        credentials = self._kept.credentials()
        try:
            if credentials is None:
                await new_code(self._api, None)
                return ["nobody has scanned the code yet; start the gateway and scan what it shows"]
            if not credentials.stale and await self._accepted(credentials):
                return []
            return ["the sign-in has expired; start the gateway and scan the code that it shows"]
        except DeliveryError as error:
            raise ConnectionLost(f"{error}; check the network, proxy and api_url") from None

    async def _accepted(self, credentials: Credentials) -> bool:
        self._api.sign_in(credentials.token, credentials.url)
        try:
            await self._api.call("getconfig", {"ilink_user_id": credentials.owner})
        except SignInExpired:
            return False
        except Refused as refused:
            log.debug("asked for the token alone", account=self._account, reason=str(refused))
        return True

    # Receiving

    async def _announce(self) -> None:
        """The bot is online. Platforms of an earlier version do not know this call, and nothing depends on it."""
        try:
            async with asyncio.timeout(_COURTESY):
                await self._api.call("msg/notifystart", {})
        except (DeliveryError, TimeoutError) as error:
            reason = str(error) or "no answer in time"
            log.info("the platform was not told that the bot is online", account=self._account, reason=reason)
            if isinstance(error, DeliveryUnavailable | TimeoutError):
                return
        self._hear()

    async def _receive(self, inbox: Inbox) -> None:
        cursor, held = self._kept.cursor(), _HELD
        while True:
            began = self._clock.monotonic()
            try:
                answer = await self._api.call("getupdates", {"get_updates_buf": cursor}, seconds=held + _SLACK)
            except DeliveryUncertain as error:
                if self._clock.monotonic() - began < _QUICK:
                    raise
                # it was held: time limits, of proxies too, end some polls, and the next one brings what this one had
                log.debug("a poll was broken off", account=self._account, reason=str(error))
                continue
            self._hear()
            self._still_bound = True
            held = _held(answer.get("longpolling_timeout_ms"), held)
            messages = answer.get("msgs")
            messages = messages if isinstance(messages, list) else []
            for payload in messages:
                message = parse_message(payload, account=self._account, now=self._clock.now())
                if message is not None:
                    self._people.wrote(Address.load(message.reply_to))
                    await hand_over(message, inbox, self._clock)  # the cursor moves on over it
            fresh = answer.get("get_updates_buf")
            if isinstance(fresh, str) and fresh not in ("", cursor):
                cursor = fresh
                self._kept.keep_cursor(cursor)
                if messages:
                    continue
            if self._clock.monotonic() - began < _QUICK:
                await self._clock.sleep(_IDLE)

    def _hear(self) -> None:
        self._heard = self._clock.now()

    def last_heard(self) -> datetime | None:
        return self._heard

    # Answering

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        return WeixinReply(self._outgoing, Address.load(address))

    async def fetch(self, attachment: Attachment, *, most_bytes: int) -> bytes:
        if self._files is None:
            raise FileUnavailable("files cannot be fetched while the account is not signed in")
        return await fetch(attachment, self._files, self._config.cdn_url, most_bytes=most_bytes)


def _held(told: Any, before: float) -> float:
    """Seconds for which the platform will hold the next poll."""
    if isinstance(told, int) and not isinstance(told, bool) and told > 0:
        return min(told, _LONGEST_HELD * 1000) / 1000
    return before


SPEC = AdapterSpec("weixin", Config, WeixinAdapter, reply=WeixinReply)
"""Tencent's iLink API."""
