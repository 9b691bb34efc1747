"""One long connection: one address, one WebSocket, used once.

https://open.feishu.cn/document/ukTMukTMukTM/uYDNxYjL2QTM24iN0EjN/event-subscription-configure-/request-url-configuration-case
An app has at most 50, and each event comes by one of them, chosen at random. The SDK's client cannot be stopped, blocks
the loop while it connects, and stays deaf after some errors; so this speaks its protocol itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import structlog

from adapters.feishu.api import FeishuApi
from adapters.feishu.config import Config
from adapters.feishu.endpoint import Endpoint, find_endpoint, ping_interval
from adapters.feishu.frames import Fragments, Frame, ping
from adapters.feishu.verdict import Handle
from core.clock import Clock
from core.errors import AuthenticationError, ConnectionLost
from core.proxy import proxy_for
from core.untrusted import json_of

log = structlog.get_logger(__name__)

HEARTBEAT = 20.0
"""Seconds between two pings of the WebSocket itself; a half-open connection is noticed half as long after one.
Feishu's own pings come every two minutes and have no deadline."""
_CONNECT = 10.0
_SEND = 5.0
"""Seconds until a frame must have gone out."""
_LEAVE = 1.0
"""Seconds that closing may take."""
_UNDER_WAY = 1_000
"""Events that are worked on at once; more are left for Feishu to send again."""
_UNANSWERED = 3
"""Pings in a row after which a server that answered before counts as gone, though its proxy keeps the line."""

_FORBIDDEN, _REFUSED = "403", "514"
_TOO_MANY = "1000040350"


class Link:
    """Enter it to connect, leave it to close. `over` is set with the reason once nothing more will come."""

    def __init__(self, api: FeishuApi, config: Config, clock: Clock, handle: Handle) -> None:
        self._api = api
        self._config = config
        self._clock = clock
        self._handle = handle
        self._fragments = Fragments(clock)
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._work: set[asyncio.Task[None]] = set()
        self._ping_every = 0.0
        self._retimed = asyncio.Event()
        self._unanswered: int | None = None
        """Pings since the last pong; None until there was one."""
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.heard: datetime | None = None
        """When the last frame came, pongs included."""

    async def __aenter__(self) -> Self:
        try:
            endpoint = await find_endpoint(self._api, self._config)
            self._socket = socket = await self._connected(endpoint)
        except BaseException:
            await self._close()
            raise
        self._ping_every = endpoint.ping_every
        self.heard = self._clock.now()
        self._tasks = [
            asyncio.create_task(self._receive(socket)),
            asyncio.create_task(self._keep_pinging(endpoint.service)),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _connected(self, endpoint: Endpoint) -> aiohttp.ClientWebSocketResponse:
        plain = endpoint.url.with_scheme("https" if endpoint.url.scheme == "wss" else "http")
        try:
            async with asyncio.timeout(_CONNECT):
                return await self._api.session.ws_connect(
                    endpoint.url,
                    heartbeat=HEARTBEAT,
                    autoping=False,  # so that pongs are heard
                    proxy=proxy_for(plain, self._config.proxy),
                    timeout=aiohttp.ClientWSTimeout(ws_close=_LEAVE / 2),
                )
        except aiohttp.WSServerHandshakeError as error:
            raise _refusal(error) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ConnectionLost(f"the long connection: no connection ({type(error).__name__})") from None

    def _end(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_result(reason)

    # What comes

    async def _receive(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            message = await socket.receive()
            match message.type:
                case aiohttp.WSMsgType.BINARY:
                    self.heard = self._clock.now()
                    self._on_frame(message.data)
                case aiohttp.WSMsgType.PING:
                    self.heard = self._clock.now()
                    await self._send(socket.pong(message.data))
                case aiohttp.WSMsgType.PONG | aiohttp.WSMsgType.TEXT:
                    self.heard = self._clock.now()
                case aiohttp.WSMsgType.CLOSE:
                    self._end(f"Feishu closed it ({message.data})")
                    return
                case _:
                    self._end("the connection broke")
                    return

    def _on_frame(self, data: bytes) -> None:
        frame = Frame.read(data)
        if frame is None:
            log.warning("something came that is no frame", bytes=len(data))
        elif frame.is_pong:
            self._unanswered = 0
            self._configure(frame.payload)
        elif frame.is_data:
            if len(self._work) >= _UNDER_WAY:
                log.warning("too many events at once; Feishu will send the rest again")
                return
            payload = self._fragments.join(frame)
            if payload is not None:
                task = asyncio.create_task(self._take(frame, payload))
                self._work.add(task)
                task.add_done_callback(self._work.discard)

    def _configure(self, payload: bytes) -> None:
        """A pong may bring a new configuration."""
        try:
            seconds = ping_interval(json_of(payload)) if payload else None
        except ValueError:
            return
        if seconds is not None and seconds != self._ping_every:
            self._ping_every = seconds
            self._retimed.set()

    async def _take(self, frame: Frame, payload: bytes) -> None:
        """Whatever arrives is acknowledged, in any of the platform's kinds, once it is stored or nothing to store."""
        began = self._clock.monotonic()
        body = None
        try:
            event: Any = json_of(payload)
        except ValueError:
            log.warning("an event came that is no JSON", bytes=len(payload))
        else:
            verdict = await self._handle(event if isinstance(event, dict) else {})
            if not verdict.acknowledged:
                return
            body = verdict.body
        if self._socket is not None:
            await self._send(self._socket.send_bytes(frame.answer(body, self._clock.monotonic() - began)))

    # What goes

    async def _keep_pinging(self, service: int) -> None:
        while True:
            if self._socket is not None:
                await self._send(self._socket.send_bytes(ping(service)))
            if self._unanswered is not None:
                self._unanswered += 1
                if self._unanswered > _UNANSWERED:
                    self._end("pings are no longer answered")
                    return
            while await self._retimed_within(self._ping_every):
                pass

    async def _retimed_within(self, seconds: float) -> bool:
        """Whether a pong changed the interval meanwhile."""
        self._retimed.clear()
        try:
            async with asyncio.timeout(seconds):
                return await self._retimed.wait()
        except TimeoutError:
            return False

    async def _send(self, sending: Any) -> None:
        try:
            async with asyncio.timeout(_SEND):
                await sending
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._end(f"a frame did not go out ({type(error).__name__})")

    async def _close(self) -> None:
        socket, self._socket = self._socket, None
        tasks = [*self._tasks, *self._work]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if socket is not None:
            try:
                async with asyncio.timeout(_LEAVE):
                    await socket.close()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                log.debug("a connection did not close well", error=repr(error))
        self._end("closed")


def _refusal(error: aiohttp.WSServerHandshakeError) -> AuthenticationError | ConnectionLost:
    """What a refused handshake means: Feishu says it in headers."""
    headers: Mapping[str, str] = error.headers or {}
    status, code = headers.get("Handshake-Status", ""), headers.get("Handshake-Autherrcode", "")
    log.info("a long connection was refused", http=error.status, status=status, code=code)
    if status == _REFUSED and code == _TOO_MANY:
        return ConnectionLost("the app has 50 long connections, the most it may; another program uses its credentials")
    if status == _FORBIDDEN:
        return AuthenticationError(
            "Feishu forbids the long connection, which is for apps of one's own organisation; "
            "use `mode: webhook` for other apps"
        )
    return ConnectionLost(f"the long connection was refused (status {status or error.status}, code {code or 'none'})")
