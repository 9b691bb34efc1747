"""One stream connection: one ticket, one client of the SDK, used once.

https://opensource.dingtalk.com/developerpedia/docs/learn/stream/protocol. The SDK's client asks for a ticket by blocking
HTTP at one address for the whole process, tries a refused secret for ever, and reconnects by itself. Here it is handed
its ticket, never learns the secret, and ends with its connection. Its acknowledgement goes out when the handler returns,
and none goes out when the handler raises: then DingTalk pushes the message again after a minute or so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from dingtalk_stream import (
    AckMessage,
    CallbackHandler,
    ChatbotMessage,
    Credential,
    DingTalkStreamClient,
    SystemHandler,
    SystemMessage,
)
from dingtalk_stream.version import VERSION_STRING
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from yarl import URL

from adapters.dingtalk.api import DingTalkApi
from adapters.dingtalk.failures import DingTalkError
from core.clock import Clock
from core.errors import ConnectionLost

PING_EVERY = 5.0
"""Seconds between two pings of ours; DingTalk's own come now and then."""
_PONG_WITHIN = 15.0
"""Seconds after which a connection that does not answer a ping is taken for half-open."""
_CONNECT = 10.0
"""Seconds for the handshake."""
_LEAVE = 0.5
"""Seconds that a farewell may take."""
_LARGEST_FRAME = 4 * 1024 * 1024
"""Bytes."""

ANNOUNCED = "DingTalk replaces the connection"
"""The reason why a link is over whose end was announced: DingTalk closes it after ten seconds."""

SUBSCRIPTIONS = [{"type": "CALLBACK", "topic": ChatbotMessage.TOPIC}]
AGENT = f"dingtalk-sdk-python/v{VERSION_STRING}-chatgpt-ms"

Take = Callable[[Any], Awaitable[None]]
"""Takes the data of a push; raises NotTaken for what is to be pushed again."""


class NotTaken(Exception):
    """A message was not stored: it must not be acknowledged."""


class _Client(DingTalkStreamClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's client for one connection. What is overridden here are the places where it asks or tells."""

    RECONNECT_BASE_DELAY_SECONDS = 0
    RECONNECT_JITTER_SECONDS = 0
    # a connection that cannot be opened is not waited for: the second question for a ticket ends the client

    def __init__(self, link: Link, endpoint: str, ticket: str, options: dict[str, Any]) -> None:
        logger = _quiet()
        super().__init__(Credential("", ""), logger, {**options, "logger": logger})
        self._link = link
        self._connection: dict[str, str] | None = {"endpoint": endpoint, "ticket": ticket}
        self._loop = asyncio.get_running_loop()
        self.system_handler = _System(link)
        self.register_callback_handler(ChatbotMessage.TOPIC, _Messages(link))

    def open_connection(self) -> dict[str, str] | None:
        """Called in a thread, before each attempt to connect."""
        connection, self._connection = self._connection, None
        if connection is None:
            self._loop.call_soon_threadsafe(self._link.end, "the connection was refused")
        return connection

    def background_task(self, json_message: Any, websocket: Any = None) -> Coroutine[Any, Any, None]:
        """Called for each frame where it arrives, in order; what it returns becomes a task."""
        self._link.heard_something()
        work: Coroutine[Any, Any, None] = super().background_task(json_message, websocket)
        return work

    async def keepalive(self, ws: ClientConnection, ping_interval: float = PING_EVERY) -> None:
        """Lives as long as the connection: from the handshake until the SDK cancels it."""
        await self._link.keep(ws, ping_interval)


class _Messages(CallbackHandler):  # type: ignore[misc]  # the SDK has no types
    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    async def process(self, message: Any) -> tuple[int, None]:
        await self._link.take(message.data)
        return AckMessage.STATUS_OK, None

    async def raw_process(self, callback_message: Any) -> Any:
        answer = await super().raw_process(callback_message)
        answer.message = "OK"  # the SDK says nothing there; the protocol does
        return answer


class _System(SystemHandler):  # type: ignore[misc]  # the SDK has no types
    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    async def raw_process(self, system_message: Any) -> Any:
        """Pings are answered. The announcement of the end is not; the SDK would close when this returns, and lose what
        is on its way and what is not acknowledged yet: DingTalk closes."""
        if system_message.headers.topic != SystemMessage.TOPIC_DISCONNECT:
            return await super().raw_process(system_message)
        self._link.announced()
        return await asyncio.get_running_loop().create_future()


class Link:
    """Enter it to connect, leave it to close. `over` is set with the reason once another one is needed."""

    def __init__(self, api: DingTalkApi, clock: Clock, take: Take) -> None:
        self._api = api
        self._clock = clock
        self._client: asyncio.Task[None] | None = None
        self._connected: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.take = take
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.heard: datetime | None = None
        """When the last frame came, answers to our pings included."""

    async def __aenter__(self) -> Self:
        """Raises ConnectionLost, or what the API raises."""
        endpoint, ticket = await self._api.ticket(SUBSCRIPTIONS, AGENT)
        url = URL(endpoint)
        options = {
            "proxy": self._api.proxy_of(url.with_scheme("https" if url.scheme == "wss" else "http")),
            "open_timeout": _CONNECT,
            "close_timeout": _LEAVE,
            "ping_interval": None,  # `keep` pings, and notes the answers
            "max_size": _LARGEST_FRAME,
        }
        self._client = asyncio.create_task(_Client(self, endpoint, ticket, options).start())
        self._client.add_done_callback(lambda _: self.end("the client ended"))
        try:
            await asyncio.wait({self._connected, self.over}, timeout=_CONNECT, return_when=asyncio.FIRST_COMPLETED)
            if not self._connected.done():
                reason = self.over.result() if self.over.done() else f"no connection within {_CONNECT:g} s"
                raise ConnectionLost(f"the stream: {reason}")
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def closed(self, *, within: float) -> None:
        """Returns when DingTalk has closed the connection, or after so many seconds."""
        if self._client is not None:
            await asyncio.wait({self._client}, timeout=within)

    async def _close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)
        self.end("closed")

    # What the client tells

    def end(self, reason: str) -> None:
        """The connection is gone. The first reason counts."""
        if not self.over.done():
            self.over.set_result(reason)
        if self._client is not None:
            self._client.cancel()  # it would connect again

    def heard_something(self) -> None:
        """A frame came."""
        self.heard = self._clock.now()

    async def keep(self, connection: ClientConnection, every: float) -> None:
        """Ping while the connection lives; it is over when this is left."""
        if not self._connected.done():
            self._connected.set_result("connected")
        reason = ""
        try:
            while True:
                async with asyncio.timeout(_PONG_WITHIN):
                    await (await connection.ping())
                self.heard_something()
                await self._clock.sleep(every)
        except TimeoutError:
            reason = f"no answer to a ping for {_PONG_WITHIN:g} s"
        except ConnectionClosed:
            pass
        finally:
            self.end(reason or f"the connection ended ({connection.close_code})")

    def announced(self) -> None:
        """DingTalk will end the connection."""
        if not self.over.done():
            self.over.set_result(ANNOUNCED)


def no_stream(error: DingTalkError) -> str:
    """Why DingTalk gives no ticket, with the way out."""
    return (
        f"DingTalk opens no stream for the app ({error.code}); add the robot to the app, "
        "with Stream mode for its messages, and publish a version"
    )


def _quiet() -> logging.Logger:
    """The SDK and its WebSocket log whole frames and the ticket; this module says what matters.

    The SDK's handlers give its loggers a stream of their own where none has a handler: one that drops everything is
    there before.
    """
    logger = logging.getLogger("dingtalk_stream")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logger.setLevel(logging.CRITICAL)
    return logger
