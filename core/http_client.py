"""A small HTTP/1.1 client for the calls that every message makes: that of the model, and those of a platform's API.

Connections are kept and used again, through a proxy too. What a general client adds (redirects, cookies, forms,
tracing) is not here; docs/adr/0010-own-http-client.md says what that saves.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Self

from yarl import URL

from core.http_connection import Connection, Disconnected, Response
from core.http_framing import NoHttp

__all__ = [
    "CertificateRefused",
    "ConnectTimeout",
    "Disconnected",
    "HttpClient",
    "NoHttp",
    "NotConnected",
    "ProxyRefused",
    "Response",
    "StaleConnection",
    "Target",
]

_HAPPY_EYEBALLS = 0.25
"""Seconds until the next address of a host is tried beside the first (RFC 8305)."""
_KEEP = 30.0
"""Seconds that an idle connection is kept."""


class NotConnected(ConnectionError):
    """There is no connection, so nothing of the request was sent. `__cause__` is the error of the network."""


class ConnectTimeout(NotConnected):
    """No connection within the time."""


class CertificateRefused(NotConnected):
    """The server's certificate is not one that this machine trusts."""


class ProxyRefused(NotConnected):
    """The proxy cannot be reached, or does not connect to the server."""


class StaleConnection(Disconnected):
    """A kept connection had been closed when it was used again. That says nothing about the server's health.

    The server may have taken the request before it hung up.
    """


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and what stands at their head, made once for many."""

    url: URL
    proxy: URL | None
    head: bytes
    """All of a request's head but the value of Content-Length, which is its last line."""

    @classmethod
    def of(cls, method: str, url: URL, headers: Mapping[str, str], proxy: URL | None = None) -> Target:
        """`headers` are without Host and Content-Length. Raises ValueError for one that would break out of its line."""
        forwarded = proxy is not None and url.scheme == "http"
        lines = [f"{method} {url.with_fragment(None) if forwarded else url.raw_path_qs} HTTP/1.1"]
        lines.append(f"Host: {url.host_port_subcomponent}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if forwarded and proxy is not None:
            lines += _authorization(proxy)
        if any("\r" in line or "\n" in line or "\0" in line for line in lines):
            raise ValueError("a header has a line break in it")
        lines.append("Content-Length: ")
        return cls(url, proxy, "\r\n".join(lines).encode())

    @property
    def place(self) -> _Place:
        """What connections are interchangeable for."""
        return _Place(self.url.origin(), self.proxy)


class _Place(NamedTuple):
    origin: URL
    proxy: URL | None


class _Kept(NamedTuple):
    """An idle connection and when it became idle, in the event loop's time."""

    connection: Connection
    since: float


class HttpClient:
    """Sends requests over kept connections. Enter it; leaving hangs up on everybody."""

    def __init__(self, *, keep: float = _KEEP) -> None:
        """`keep`: seconds that an idle connection may be used again; best less than servers keep one."""
        self._keep = keep
        self._left = False
        self._idle: dict[_Place, deque[_Kept]] = {}
        self._busy: set[Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._trust: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        idle = [kept.connection for waiting in self._idle.values() for kept in waiting]
        self._idle.clear()
        connections = (*idle, *self._busy)
        for connection in connections:
            connection.close()
        await asyncio.gather(*(connection.gone() for connection in connections))

    async def send(self, target: Target, body: bytes = b"", *, connect_timeout: float) -> Response:
        """Send a request; returns its response when the head has come. Close that in the end.

        Redirects are responses like others. Raises NotConnected where nothing was sent: ConnectTimeout (after
        `connect_timeout` seconds), CertificateRefused, ProxyRefused, or itself. Raises StaleConnection, Disconnected,
        NoHttp, and OSError for what else a network does, where the server may have taken the request. There is no time
        limit for the head.
        """
        place = target.place
        kept = self._kept(place)
        connection = kept or await self._connect(target, connect_timeout)
        self._busy.add(connection)
        try:
            head = await connection.send(b"%b%d\r\n\r\n%b" % (target.head, len(body), body))
            connection.begin_body(head)
        except BaseException as error:
            self._hang_up(connection)
            if kept is not None and isinstance(error, Disconnected | ConnectionResetError | BrokenPipeError):
                raise StaleConnection(f"a kept connection was closed: {error}") from error
            raise
        return Response(head, connection, closed=lambda one: self._give_back(place, one))

    def _kept(self, place: _Place) -> Connection | None:
        """The connection that was used last: the others may grow old and go."""
        idle = self._idle.get(place)
        while idle:
            connection, since = idle.pop()
            if connection.idle and asyncio.get_running_loop().time() - since < self._keep:
                return connection
            connection.close()
        return None

    def _give_back(self, place: _Place, connection: Connection) -> None:
        if self._left or connection not in self._busy or not connection.idle:
            self._hang_up(connection)
            return
        self._busy.discard(connection)
        loop = asyncio.get_running_loop()
        self._idle.setdefault(place, deque()).append(_Kept(connection, loop.time()))
        if self._sweeping is None:
            self._sweeping = loop.call_later(self._keep, self._sweep)

    def _hang_up(self, connection: Connection) -> None:
        self._busy.discard(connection)
        connection.close()

    def _sweep(self) -> None:
        """Close what has been idle for long."""
        loop = asyncio.get_running_loop()
        for place, idle in list(self._idle.items()):
            while idle and (not idle[0].connection.idle or loop.time() - idle[0].since >= self._keep):
                idle.popleft().connection.close()
            if not idle:
                del self._idle[place]
        self._sweeping = loop.call_later(self._keep, self._sweep) if self._idle else None

    async def _connect(self, target: Target, timeout: float) -> Connection:
        if self._trust is None and "https" in (target.url.scheme, target.proxy and target.proxy.scheme):
            # Once, and not in the server's time: reading the system's certificates takes a while.
            self._trust = await asyncio.to_thread(ssl.create_default_context)
        try:
            async with asyncio.timeout(timeout):
                if target.proxy is None:
                    connection = await self._open(target.url)
                else:
                    connection = await self._through(target.proxy, target)
        except NotConnected:
            raise
        except TimeoutError:
            raise ConnectTimeout(f"no connection within {timeout:g} s") from None
        except OSError as error:
            raise NotConnected(f"{type(error).__name__}: {error}") from error
        if self._left:
            connection.close()
            raise NotConnected("the client was left meanwhile")
        return connection

    async def _open(self, url: URL) -> Connection:
        """A connection to the server that `url` names."""
        secure = self._trust if url.scheme == "https" else None
        assert url.raw_host is not None
        assert url.port is not None
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                Connection,
                url.raw_host,
                url.port,
                ssl=secure,
                happy_eyeballs_delay=_HAPPY_EYEBALLS,
            )
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(str(error)) from error
        return connection

    async def _through(self, proxy: URL, target: Target) -> Connection:
        """A connection to the target's server through `proxy`; for http:// the proxy itself is who is asked."""
        try:
            connection = await self._open(proxy)
        except TimeoutError:
            raise
        except OSError as error:
            raise ProxyRefused(f"the proxy cannot be reached: {error}") from error
        if target.url.scheme == "http":
            return connection
        try:
            await self._tunnel(connection, proxy, target.url)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _tunnel(self, connection: Connection, proxy: URL, url: URL) -> None:
        """Have the proxy connect, and speak TLS with who is behind it (RFC 9110, section 9.3.6)."""
        there = f"{url.host_subcomponent}:{url.port}"
        lines = [f"CONNECT {there} HTTP/1.1", f"Host: {there}", *_authorization(proxy), "", ""]
        try:
            head = await connection.send("\r\n".join(lines).encode())
        except (Disconnected, NoHttp) as error:
            raise ProxyRefused(f"the proxy did not answer: {error}") from error
        if head.status != 200:
            raise ProxyRefused(f"the proxy answered with HTTP {head.status}")
        assert connection.transport is not None
        assert self._trust is not None
        try:
            transport = await asyncio.get_running_loop().start_tls(
                connection.transport, connection, self._trust, server_hostname=url.raw_host
            )
        except ssl.SSLCertVerificationError as error:
            raise CertificateRefused(str(error)) from error
        if transport is None:
            raise ProxyRefused("the proxy hung up")
        connection.transport = transport
        connection.requests = 0


def _authorization(proxy: URL) -> list[str]:
    if proxy.user is None and proxy.password is None:
        return []
    secret = base64.b64encode(f"{proxy.user or ''}:{proxy.password or ''}".encode()).decode()
    return [f"Proxy-Authorization: Basic {secret}"]
