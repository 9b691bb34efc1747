"""Calls of a Wechaty puppet service: gRPC on one connection, with the token in the metadata of each.

The wire: https://github.com/wechaty/grpc (proto/wechaty); how the project's own server answers:
https://github.com/wechaty/puppet-service (src/server).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog
from grpclib.client import Channel, Stream
from grpclib.config import Configuration
from grpclib.const import Cardinality, Status
from grpclib.exceptions import GRPCError
from wechaty_grpc.wechaty import puppet

from adapters.wechat.config import Config
from adapters.wechat.wire import DownloadRequest, DownloadResponse
from core.errors import (
    ConnectionLost,
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    FileTooLarge,
)
from core.proxy import is_loopback
from core.untrusted import json_of

log = structlog.get_logger(__name__)

logging.getLogger("hpack").setLevel(logging.INFO)  # below that it writes down all headers as sent: the token, in code

T = TypeVar("T")

CALL = 15.0
"""Seconds for a call, connecting included."""
_DOWNLOAD = 120.0
"""Seconds for a whole file."""

_INSECURE = "insecure_"
"""How tokens begin whose server has the certificate that comes with the Wechaty project's own server. Its key is public:
https://github.com/wechaty/puppet-service/blob/main/src/auth/ca.ts"""

_CONFIGURATION = Configuration(
    _keepalive_time=30.0,
    _keepalive_timeout=10.0,
    _keepalive_permit_without_calls=True,
    _http2_max_pings_without_data=0,
    _http2_min_sent_ping_interval_without_data=20.0,  # the default lets no ping follow another for five minutes
)
"""Without it grpclib never notices that the other end is gone."""

_IN_DOUBT = (Status.CANCELLED, Status.DEADLINE_EXCEEDED, Status.INTERNAL, Status.UNAVAILABLE, Status.ABORTED)
"""What servers and proxies also answer when they broke off what they had begun."""


class Refused(DeliveryError):
    """The server answered, and did not do it."""

    def __init__(self, message: str, status: Status, detail: str) -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail
        """What the server said; it may quote anything, so it goes nowhere."""


class TokenRefused(DeliveryUnavailable):
    """The token is not the server's. Its answer quotes the token, so nothing of it is repeated."""


class StreamTaken(ConnectionLost):
    """A server has one event stream, and somebody else has it."""


class PuppetService:
    """One connection, made by the first call. Every call raises DeliveryUnavailable (it did not get there),
    DeliveryUncertain (nobody knows), Refused or TokenRefused."""

    def __init__(self, config: Config, *, heard: Callable[[], None]) -> None:
        """`heard` is called with each sign of the server: an event, or an answer of any kind."""
        token = config.token.get_secret_value()
        self._metadata = {"authorization": f"Wechaty {token}"}
        self._heard = heard
        self._calls: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._channel = Channel(
            config.host,
            config.port,
            ssl=_trust(config.host, token) if config.tls else None,
            config=_CONFIGURATION,
        )

    async def close(self) -> None:
        """Break off every call, and the connection. The server is told nothing: `Stop` would stop the WeChat client that
        runs in it."""
        self._closed = True
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)
        # Over TLS asyncio waits 30 s for the other end to close too, which one that is gone never does. The server would
        # believe in our event stream all that time. Nothing public of grpclib breaks a connection off.
        connection = self._channel._protocol.connection if self._channel._protocol else None
        transport = getattr(connection, "_transport", None)
        self._channel.close()
        if transport is not None:
            transport.abort()

    async def call(self, method: str, request: Any, answer: type[Any], *, seconds: float = CALL) -> Any:
        """One question, one answer."""

        async def ask(exchange: _Exchange) -> Any:
            async with self._open(method, Cardinality.UNARY_UNARY, type(request), answer) as stream:
                await exchange.send(stream, request)
                return await stream.recv_message()

        return await self._bounded(method, ask, seconds)

    async def download(self, id: str, *, most_bytes: int) -> bytes:
        """A file that `MessageFile` named a moment ago: the project's own server dies of an id that it does not know.
        Raises FileTooLarge, too."""

        async def ask(exchange: _Exchange) -> bytes:
            content = bytearray()
            request = DownloadRequest(id=id)
            async with self._open("Download", Cardinality.UNARY_STREAM, DownloadRequest, DownloadResponse) as stream:
                await exchange.send(stream, request)
                while (piece := await stream.recv_message()) is not None:
                    self._heard()
                    content += piece.chunk
                    if len(content) > most_bytes:
                        raise FileTooLarge(f"a file has more than {most_bytes} bytes")
            return bytes(content)

        return await self._bounded("Download", ask, _DOWNLOAD)

    async def listen(self, take: Callable[[int, dict[str, Any]], Awaitable[None]]) -> None:
        """Hand each event on, with its type and payload. Returns when the server ends the stream.

        Raises StreamTaken, too.
        """
        exchange = _Exchange()
        try:
            async with self._open(
                "Event", Cardinality.UNARY_STREAM, puppet.EventRequest, puppet.EventResponse
            ) as stream:
                async with asyncio.timeout(CALL):
                    await exchange.send(stream, puppet.EventRequest())
                while (event := await stream.recv_message()) is not None:
                    self._heard()
                    await take(int(event.type), _payload(event.payload))
        except Exception as error:  # noqa: BLE001 - see `_told`
            raise self._told("Event", error, exchange) from None

    def _open(self, method: str, cardinality: Cardinality, asked: type[Any], answered: type[Any]) -> Stream[Any, Any]:
        route = f"/wechaty.Puppet/{method}"
        return self._channel.request(route, cardinality, asked, answered, metadata=self._metadata)

    async def _bounded(self, method: str, ask: Callable[[_Exchange], Coroutine[Any, Any, T]], seconds: float) -> T:
        """In a task of its own: grpclib wakes whoever waits by cancelling them when a connection breaks, and does not
        take that back, so a caller that lives on would count as cancelled ever after."""
        if self._closed:
            raise DeliveryUnavailable(f"{method}: the connection is closed")
        exchange = _Exchange()
        call = asyncio.create_task(ask(exchange))
        self._calls.add(call)
        try:
            await asyncio.wait({call}, timeout=seconds)
        finally:
            call.cancel()
            await asyncio.wait({call})
            self._calls.discard(call)
            error = TimeoutError() if call.cancelled() else call.exception()
        if isinstance(error, Exception):
            raise error if isinstance(error, FileTooLarge) else self._told(method, error, exchange)
        self._heard()
        answer = call.result()
        if answer is None:
            raise DeliveryUncertain(f"{method}: the server answered nothing")
        return answer

    def _told(self, method: str, error: Exception, exchange: _Exchange) -> Exception:
        """What became of a call, in our words.

        Whatever broke comes through grpclib as it is: errors of the socket, of h2, AttributeError on a connection that
        is being closed, ValueError and others for an answer that is no protobuf.
        """
        if isinstance(error, GRPCError):
            self._heard()
            if error.status is Status.UNAUTHENTICATED:
                return TokenRefused("the puppet service does not accept the token")
            if error.status is Status.ALREADY_EXISTS and method == "Event":
                return StreamTaken(
                    "another program has the event stream of this puppet service, or had it and the service has not "
                    "noticed that it is gone"
                )
            reason = f"{method}: the puppet service answered {error.status.name}"
            if error.status in _IN_DOUBT:
                return DeliveryUncertain(reason)
            return Refused(reason, error.status, error.message or "")
        if isinstance(error, UnicodeEncodeError):  # half a surrogate pair; JSON has them, and gRPC cannot carry them
            return Refused(f"{method}: the question cannot be written down", Status.INVALID_ARGUMENT, "")
        name = type(error).__name__
        log.debug("a call broke off", method=method, error=repr(error))
        if exchange.begun:
            return DeliveryUncertain(f"{method}: no answer of the puppet service ({name})")
        if isinstance(error, ssl.SSLCertVerificationError):
            name = f"its certificate is not accepted: {error.verify_message}"
        return DeliveryUnavailable(f"{method}: no connection to the puppet service ({name})")


class _Exchange:
    """How far a call got."""

    def __init__(self) -> None:
        self.begun = False
        """Whether the server may have got the request."""

    async def send(self, stream: Stream[Any, Any], request: Any) -> None:
        await stream.send_request()  # connects where necessary; only headers
        self.begun = True
        await stream.send_message(request, end=True)


def _payload(text: str) -> dict[str, Any]:
    """Of an event; empty where it is no JSON object."""
    try:
        payload = json_of(text)
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def _trust(host: str, token: str) -> ssl.SSLContext:
    """Whom to believe: the certificate of the host, by the authorities that this machine trusts. On this machine itself,
    and where the token says that the certificate is the one that anybody can have, there is nothing to verify."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2"])
    if token.startswith(_INSECURE) or is_loopback(host):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
