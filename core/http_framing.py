"""How HTTP/1.1 frames a response (RFC 9112): its head, and where its body ends."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from multidict import CIMultiDict

_LONGEST_LINE = 1024
"""Bytes of the line that tells a chunk's size, and of all trailers."""


class NoHttp(ConnectionError):
    """The server sent something that is no HTTP response."""


class Head(NamedTuple):
    """The beginning of a response."""

    status: int
    headers: CIMultiDict[str]
    reusable: bool
    """Whether the connection may serve another request after this response."""


class Body(Protocol):
    """Takes one body out of what comes."""

    ended: bool
    """Whether all of it has come."""
    surplus: bool
    """Whether something came after its end."""

    def feed(self, data: bytes) -> bytes:
        """The content in `data`. Raises NoHttp."""
        ...


def parse_head(head: bytes) -> Head:
    """What stands before the empty line. Raises NoHttp."""
    first, *lines = head.split(b"\r\n")
    version, _, rest = first.partition(b" ")
    status = rest[:3]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or len(status) != 3 or not status.isdigit():
        raise NoHttp(f"{first[:40]!r} is no status line")
    headers: CIMultiDict[str] = CIMultiDict()
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not name or name != name.strip():
            raise NoHttp(f"{line[:40]!r} is no header")
        headers.add(name, value.strip())
    connection = headers.get("Connection", "").lower()
    reusable = "close" not in connection if version == b"HTTP/1.1" else "keep-alive" in connection
    return Head(int(status), headers, reusable)


def body_of(head: Head) -> Body:
    """The body that follows `head` (section 6.3; for requests other than HEAD and CONNECT). Raises NoHttp."""
    if head.status in (204, 304):
        return Counted(0)
    coding = head.headers.get("Transfer-Encoding")
    if coding is not None:
        if coding.strip().lower() != "chunked":
            raise NoHttp(f"the transfer coding {coding[:40]!r} is not one that was asked for")
        return Chunked()
    lengths = set(head.headers.getall("Content-Length", ()))
    if not lengths:
        return UntilClosed()
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdigit()) or len(length) > 18:
        raise NoHttp(f"the Content-Length {length[:40]!r} is no length")
    return Counted(int(length))


class Counted:
    """A body with a Content-Length."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.ended = length == 0
        self.surplus = False

    def feed(self, data: bytes) -> bytes:
        """See Body, also for the classes below."""
        if len(data) > self._left:
            data, self.surplus = data[: self._left], True
        self._left -= len(data)
        self.ended = self._left == 0
        return data


class UntilClosed:
    """A body that ends with the connection. Whoever sees the connection end sets `ended`."""

    def __init__(self) -> None:
        self.ended = False
        self.surplus = False

    def feed(self, data: bytes) -> bytes:
        return data


class Chunked:
    """A body in chunks (section 7.1). Extensions and trailers are read over."""

    def __init__(self) -> None:
        self.ended = False
        self.surplus = False
        self._line = b""
        """What has come of a line of the framing."""
        self._left = 0
        """Bytes of the present chunk that are still to come."""
        self._after_chunk = False
        """The line break after a chunk comes next."""
        self._trailers = -1
        """Bytes of trailers so far, once the last chunk has come."""

    def feed(self, data: bytes) -> bytes:
        if self._line:
            data, self._line = self._line + data, b""
        content: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self.ended:
                self.surplus = True
                break
            if self._left:
                content.append(data[at : at + self._left])
                at += len(content[-1])
                self._left -= len(content[-1])
                continue
            end = data.find(b"\n", at)
            if (end if end >= 0 else size) - at > _LONGEST_LINE:
                raise NoHttp("a line of the framing is too long")
            if end < 0:
                self._line = data[at:]
                break
            self._take_line(data[at:end].removesuffix(b"\r"))
            at = end + 1
        return content[0] if len(content) == 1 else b"".join(content)

    def _take_line(self, line: bytes) -> None:
        if self._trailers >= 0:
            self._trailers += len(line)
            if self._trailers > _LONGEST_LINE:
                raise NoHttp("the trailers are too long")
            self.ended = not line
        elif self._after_chunk:
            if line:
                raise NoHttp(f"{line[:20]!r} stands where a chunk should end")
            self._after_chunk = False
        else:
            self._left = _chunk_size(line)
            self._after_chunk = self._left > 0
            if not self._left:
                self._trailers = 0


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > 15 or digits.strip(b"0123456789abcdefABCDEF"):
        raise NoHttp(f"{line[:20]!r} is no size of a chunk")
    return int(digits, 16)
