"""One connection that speaks HTTP/1.1 as a client: a request goes out, its response is read while it comes."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable

from core.http_framing import Body, Head, NoHttp, UntilClosed, body_of, parse_head

_LONGEST_HEAD = 64 * 1024
"""Bytes of a status line with its headers."""
_UNREAD = 1024 * 1024
"""Bytes that may wait to be read; the server is made to wait then."""


class Disconnected(ConnectionError):
    """The connection ended before the response did."""


class Connection(asyncio.Protocol):
    """A connection to a server, for one request after another. Knows neither pools nor proxies nor TLS."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        """Replaced where TLS is put on top of a connection that exists."""
        self.requests = 0
        """How many were sent."""
        self.broken: Exception | None = None
        """Why nothing more will come."""
        self._head = b""
        """What has come of the next head."""
        self._body: Body | None = None
        """That of the present response, once its head is read."""
        self._pieces: list[bytes] = []
        self._unread = 0
        self._paused = False
        self._reusable = False
        self._waiter: asyncio.Future[None] | None = None
        self._gone = asyncio.Event()

    @property
    def idle(self) -> bool:
        """Whether it can take a request."""
        if self.broken is not None or self._head:
            return False
        return self._body is None or (self._reusable and self.ended and not self._body.surplus)

    @property
    def ended(self) -> bool:
        """Whether all of the present response was read."""
        return self._body is not None and self._body.ended and not self._pieces

    @property
    def waiting(self) -> bool:
        """Whether `read` would return at once."""
        return bool(self._pieces) or self.ended

    async def send(self, request: bytes) -> Head:
        """Send a whole request and wait for the head of its response. Raises Disconnected, NoHttp, OSError."""
        assert self.transport is not None
        self.requests += 1
        self._body = None
        self.transport.write(request)
        while True:
            head = parse_head(await self._next_head())
            if head.status >= 200:  # what comes before is for information (100, 103)
                return head

    def begin_body(self, head: Head) -> None:
        """The response to the request is `head` and what comes now. Raises NoHttp."""
        self._body = body_of(head)
        self._reusable = head.reusable and not isinstance(self._body, UntilClosed)
        rest, self._head = self._head, b""
        if rest:
            self._take(rest)
        if self.broken is not None:
            self._note_end()

    async def read(self) -> bytes:
        """What has come of the body; waits for at least one byte, and gives none at the end. Raises as `send`."""
        while not self._pieces:
            if self.ended:
                return b""
            if self.broken is not None:
                raise self.broken
            await self._more()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._unread = 0
        if self._paused and self.transport is not None:
            self.transport.resume_reading()
            self._paused = False
        return data

    def close(self) -> None:
        """Hang up, at once."""
        if self.broken is None:
            self.broken = Disconnected("the connection was closed")
        if self.transport is not None:
            self.transport.abort()
        self._wake()

    async def gone(self) -> None:
        """Returns when the loop has closed the socket."""
        await self._gone.wait()

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._body is None:
            self._head += data
            if len(self._head) > _LONGEST_HEAD and b"\r\n\r\n" not in self._head:
                self._fail(NoHttp("the headers do not end"))
        elif self._body.ended:
            self._fail(NoHttp("more came than was asked for"))
        else:
            self._take(data)
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.broken is None:
            self.broken = exc or Disconnected("the server closed the connection")
            self._note_end()
        self._gone.set()
        self._wake()

    def _note_end(self) -> None:
        if isinstance(self._body, UntilClosed) and isinstance(self.broken, Disconnected):
            self._body.ended = True

    def _take(self, data: bytes) -> None:
        assert self._body is not None
        try:
            content = self._body.feed(data)
        except NoHttp as error:
            self._fail(error)
            return
        if content:
            self._pieces.append(content)
            self._unread += len(content)
            if self._unread > _UNREAD and not self._paused and self.transport is not None:
                self.transport.pause_reading()
                self._paused = True

    def _fail(self, error: Exception) -> None:
        self.broken = error
        self.close()

    async def _next_head(self) -> bytes:
        while (end := self._head.find(b"\r\n\r\n")) < 0:
            if self.broken is not None:
                raise self.broken
            await self._more()
        head, self._head = self._head[:end], self._head[end + 4 :]
        return head

    async def _more(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Response:
    """A response on its way. Read it to its end or not: closing is what ends it."""

    def __init__(self, head: Head, connection: Connection, *, closed: Callable[[Connection], None]) -> None:
        """`closed` gets the connection back."""
        self.status = head.status
        self.headers = head.headers
        self._connection = connection
        self._closed = closed
        self._is_closed = False
        self._inflate = _inflater(head.headers.get("Content-Encoding"))

    @property
    def content_type(self) -> str:
        """The media type in lower case, without parameters; empty where there is none."""
        return self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    @property
    def ended(self) -> bool:
        """Whether all of it was read."""
        return self._connection.ended

    @property
    def waiting(self) -> bool:
        """Whether there is something to read, or nothing any more."""
        return self._connection.waiting

    async def read(self) -> bytes:
        """What has come since; waits for at least one byte, and gives none at the end.

        Raises Disconnected, NoHttp, and OSError where the network fails.
        """
        if self._is_closed:
            raise Disconnected("the response was closed")
        data = await self._connection.read()
        if self._inflate is None:
            return data
        while data:
            try:
                content = self._inflate.decompress(data)
            except zlib.error as error:
                raise NoHttp(f"the body cannot be decompressed: {error}") from None
            if content:
                return content
            data = await self._connection.read()
        return b""

    def close(self) -> None:
        """Done with it: the connection serves again if all of it was read, else it is closed."""
        if not self._is_closed:
            self._is_closed = True
            self._closed(self._connection)


def _inflater(coding: str | None) -> zlib._Decompress | None:
    """Nothing compressed is asked for; some servers compress all the same."""
    if coding is not None and coding.strip().lower() in ("gzip", "x-gzip", "deflate"):
        return zlib.decompressobj(zlib.MAX_WBITS | 32)
    return None
