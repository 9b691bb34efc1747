"""A WeChat account behind a Wechaty puppet service: signed in by a scan that the service asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import structlog
from wechaty_grpc.wechaty import puppet
from yarl import URL

from adapters.wechat.address import Address
from adapters.wechat.config import Config
from adapters.wechat.files import fetch
from adapters.wechat.outgoing import Outgoing
from adapters.wechat.reception import Reception
from adapters.wechat.reply import WechatReply
from adapters.wechat.service import PuppetService, Refused, StreamTaken, TokenRefused
from adapters.wechat.wire import MessagePayload
from core.adapter import (
    Adapter,
    AdapterSpec,
    AwaitsScan,
    Diagnoses,
    FetchesFiles,
    Heard,
    Inbox,
    LoginCode,
    LoginStep,
    ReplyChannel,
)
from core.clock import Clock, SystemClock
from core.errors import (
    AuthenticationError,
    ConnectionLost,
    DeliveryError,
    FileUnavailable,
)
from core.messages import AccountId, Attachment, ReplyAddress
from core.proxy import is_loopback, proxy_for
from core.untrusted import text_in

log = structlog.get_logger(__name__)

_TAKEN_FOR = 10.0
_TAKEN_PAUSE = 0.5
"""Seconds for which the event stream is asked for again, and between two times: after a drop a server may need a moment
to notice that ours is gone."""

_HELLO = 5.0
"""Seconds until the first event; servers that are not the Wechaty project's own may send none."""
_START = 20.0
"""Seconds for starting the puppet; the server gives it 15."""

_QUIET = 15.0
"""Seconds without a sign of the server after which it is asked for one."""
_DING = 10.0
_ABSENT = 45.0
"""Seconds in which somebody must be logged in, or a code must come."""
_LOOK = 1.0

_SETTLE = 0.5
"""Seconds for messages on their way when the link is over."""

_LONGEST_CODE = 2_000
"""Characters that a QR code holds."""

_SCANNED = (3, 4)
"""ScanStatus of a code that was scanned: https://github.com/wechaty/puppet/blob/main/src/schemas/event.ts"""


class WechatAdapter(Adapter, Heard, FetchesFiles, Diagnoses, AwaitsScan):
    """One account. What the server told of outlives a connection."""

    def __init__(self, account: AccountId, config: Config, clock: Clock | None = None) -> None:
        self.deaf_after = timedelta(seconds=60)  # the server is asked after 15 s of silence
        self._account = account
        self._config = config
        self._clock = clock or SystemClock()
        self._reception = Reception(account, self._clock, listens_in=config.access.listens_in)
        self._outgoing = Outgoing(self._clock, pace=config.pace)
        self._service: PuppetService | None = None
        self._heard: datetime | None = None
        self._heard_at = 0.0
        self._code: LoginCode | None = None
        self._greeted = asyncio.Event()
        """Set by the first event of a stream."""

    async def __aenter__(self) -> Self:
        self._heard = None
        service = PuppetService(self._config, heard=self._hear)
        try:
            await self._check(service)
        except BaseException:
            await service.close()
            raise
        self._service = self._outgoing.service = service
        return self

    async def _check(self, service: PuppetService) -> None:
        """Whether it is a puppet service, and ours. Servers that are not the Wechaty project's own may have no `Version`;
        that they can look messages up is certain."""
        try:
            try:
                await service.call("Version", puppet.VersionRequest(), puppet.VersionResponse)
            except Refused:
                with suppress(Refused):
                    await service.call("MessagePayload", puppet.MessagePayloadRequest(), MessagePayload)
        except TokenRefused as refused:
            raise self._unaccepted(refused) from None
        except DeliveryError as error:
            said = "speaks TLS" if self._config.tls else "does not speak TLS"
            raise ConnectionLost(f"{error}; is it at {self._config.endpoint}, and is it true that it {said}?") from None

    def _unaccepted(self, refused: TokenRefused) -> AuthenticationError:
        return AuthenticationError(f"token: {refused}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        service, self._service = self._service, None
        if service is not None:
            await self._outgoing.departures.settle(_SETTLE)
            self._outgoing.service = None
            await service.close()

    async def run(self, inbox: Inbox) -> None:
        if self._service is None:
            raise ConnectionLost("the account is not connected")
        self._greeted.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(self._service))
                tasks.create_task(self._start(self._service))
                tasks.create_task(self._watch(self._service))
                tasks.create_task(self._reception.run(self._service, inbox))
        finally:
            self._is_logged_out()

    # The link

    async def _listen(self, service: PuppetService) -> None:
        """Take the event stream over when whoever had it is gone. A server notices that when it writes to them, which a
        ding makes it do; `Stop` would end the stream too, and the WeChat client with it."""
        until = self._clock.monotonic() + _TAKEN_FOR
        while True:
            try:
                await service.listen(self._take)
            except StreamTaken:
                if self._clock.monotonic() > until:
                    raise
                with suppress(DeliveryError):
                    await self._ding(service)
                await self._clock.sleep(_TAKEN_PAUSE)
            except TokenRefused as refused:
                raise self._unaccepted(refused) from None
            else:
                raise ConnectionLost("the puppet service ended the event stream")

    async def _start(self, service: PuppetService) -> None:
        """Start the puppet, as every client does once it listens; one that runs already takes no notice."""
        try:
            async with asyncio.timeout(_HELLO):
                await self._greeted.wait()
        except TimeoutError:
            log.info("the puppet service says nothing by itself", account=self._account)
        try:
            await service.call("Start", puppet.StartRequest(), puppet.StartResponse, seconds=_START)
        except DeliveryError as error:
            log.warning("the puppet was not started", account=self._account, error=str(error))

    async def _watch(self, service: PuppetService) -> None:
        """Ask a server that says nothing whether it is there, and do not wait for ever for somebody to be logged in."""
        absent_since = self._clock.monotonic()
        while True:
            await self._clock.sleep(_LOOK)
            now = self._clock.monotonic()
            if self._reception.me or self._code is not None:
                absent_since = now
            elif now - absent_since > _ABSENT:
                raise ConnectionLost(
                    "nobody is logged in to WeChat on the puppet service, and it shows no code to scan"
                )
            if now - self._heard_at > _QUIET:
                with suppress(Refused):  # that is an answer
                    await self._ding(service)

    async def _ding(self, service: PuppetService) -> None:
        await service.call("Ding", puppet.DingRequest(data="are you there?"), puppet.DingResponse, seconds=_DING)

    def _hear(self) -> None:
        self._heard, self._heard_at = self._clock.now(), self._clock.monotonic()

    def last_heard(self) -> datetime | None:
        """None while nobody is logged in, too: then nothing is heard of people."""
        return self._heard if self._reception.me or self._code is not None else None

    # Events

    async def _take(self, kind: int, payload: dict[str, Any]) -> None:
        """Friend requests and invitations are left to the person whose account it is."""
        types = puppet.EventType
        match kind:
            case types.EVENT_TYPE_MESSAGE:
                await self._reception.take(text_in(payload, "messageId"))
            case types.EVENT_TYPE_LOGIN:
                self._is_logged_in(text_in(payload, "contactId"))
            case types.EVENT_TYPE_LOGOUT:
                log.warning("logged out of WeChat", account=self._account)
                self._is_logged_out()
            case types.EVENT_TYPE_SCAN:
                self._is_to_be_scanned(payload.get("qrcode"), payload.get("status"))
            case types.EVENT_TYPE_DIRTY:
                self._reception.people.changed(payload.get("payloadType"), payload.get("payloadId"))
            case types.EVENT_TYPE_ROOM_TOPIC:
                self._reception.people.changed(puppet.PayloadType.PAYLOAD_TYPE_ROOM, payload.get("roomId"))
            case types.EVENT_TYPE_ERROR:
                log.warning("the puppet service tells of an error", account=self._account)
                log.debug("the error", account=self._account, payload=payload)
        self._greeted.set()

    def _is_logged_in(self, me: str) -> None:
        if me:
            log.info("logged in to WeChat", account=self._account, bot=me)
        self._code = None
        self._reception.log_in(me)
        self._outgoing.ready, self._outgoing.waiting = bool(me), False

    def _is_logged_out(self) -> None:
        self._code = None
        self._reception.log_in("")
        self._outgoing.ready = self._outgoing.waiting = False

    def _is_to_be_scanned(self, content: Any, status: Any) -> None:
        """A code, or what happened to the one before."""
        known = self._code.content if self._code is not None else ""
        content = content if isinstance(content, str) and 0 < len(content) <= _LONGEST_CODE else known
        if not content or (self._reception.me and status in _SCANNED):  # the second comes late: somebody is logged in
            return
        self._is_logged_out()
        self._code = LoginCode(content=content, step=LoginStep.CONFIRM if status in _SCANNED else LoginStep.SCAN)
        self._outgoing.waiting = True

    def login_code(self) -> LoginCode | None:
        return self._code

    # Answering

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        return WechatReply(self._outgoing, Address.load(address))

    async def fetch(self, attachment: Attachment, *, most_bytes: int) -> bytes:
        if self._service is None:
            raise FileUnavailable("files cannot be fetched while the account is not connected")
        setting = f"accounts.{self._account}.proxy"
        proxy = proxy_for(URL("https://file.wx.qq.com"), self._config.proxy, setting=setting)
        return await fetch(attachment, self._service, proxy=str(proxy) if proxy else None, most_bytes=most_bytes)

    async def diagnose(self) -> Sequence[str]:
        findings = []
        if not self._config.tls and not is_loopback(self._config.host):
            findings.append(
                f"the token and all messages go to {self._config.host} for everybody on the way to read; "
                "let the puppet service speak TLS (tls: true), or reach it through a tunnel"
            )
        if self._service is not None and not await self._somebody_is_logged_in(self._service):
            findings.append("nobody is logged in to WeChat yet; start the gateway and scan the code that it shows")
        return findings

    async def _somebody_is_logged_in(self, service: PuppetService) -> bool:
        """Asked by listening for a moment, which a gateway that runs prevents: then it says so itself. Where none runs,
        what comes in that moment is lost like all that came before."""
        told: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        types = puppet.EventType

        async def take(kind: int, payload: dict[str, Any]) -> None:  # noqa: ARG001
            if kind in (types.EVENT_TYPE_LOGIN, types.EVENT_TYPE_SCAN) and not told.done():
                told.set_result(kind == types.EVENT_TYPE_LOGIN)

        listening = asyncio.create_task(service.listen(take))
        either: tuple[asyncio.Future[Any], ...] = (listening, told)
        try:
            await asyncio.wait(either, timeout=_HELLO, return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
            await asyncio.wait({listening})
        if told.done():
            return told.result()
        error = None if listening.cancelled() else listening.exception()
        if isinstance(error, TokenRefused):
            raise self._unaccepted(error)
        if isinstance(error, DeliveryError):
            raise ConnectionLost(str(error))
        return isinstance(error, StreamTaken)


SPEC = AdapterSpec("wechat", Config, WechatAdapter, reply=WechatReply)
"""A Wechaty puppet service."""
