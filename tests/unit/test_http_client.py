"""The HTTP client against servers and proxies that speak, byte for byte, what a test says."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from core.http_client import (
    CertificateRefused,
    Disconnected,
    HttpClient,
    NoHttp,
    NotConnected,
    ProxyRefused,
    Response,
    StaleConnection,
    Target,
)
from core.http_framing import Chunked, Counted, UntilClosed, body_of, parse_head
from tests.simulators.wechat_tls import make_certificate

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers request after request with what it was given, and keeps what was asked."""

    def __init__(self, *answers: bytes, hang_up: bool = False) -> None:
        self.answers = list(answers)
        self.hang_up = hang_up
        """After an answer."""
        self.asked: list[bytes] = []
        self.connections = 0
        self.open: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open.append(writer)
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
                )
                self.asked.append(head + await reader.readexactly(length))
                writer.write(self.answers.pop(0))
                await writer.drain()
                if self.hang_up:
                    return
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(serve: Serve, *, secure: ssl.SSLContext | None = None) -> AsyncIterator[URL]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=secure)
    port = server.sockets[0].getsockname()[1]
    try:
        yield URL(f"{'https' if secure else 'http'}://127.0.0.1:{port}/")
    finally:
        server.close()


async def ask(client: HttpClient, url: URL, body: bytes = b"", *, proxy: URL | None = None) -> tuple[int, bytes]:
    target = Target.of("POST", url, {"X-Key": "k"}, proxy)
    response = await client.send(target, body, connect_timeout=5.0)
    try:
        return response.status, await everything(response)
    finally:
        response.close()


async def everything(response: Response) -> bytes:
    pieces = []
    while piece := await response.read():
        pieces.append(piece)
    return b"".join(pieces)


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_a_request_is_sent_as_it_is_and_the_connection_serves_again() -> None:
    server = Server(answer(b"one"), CHUNKED + b"3\r\ntwo\r\n0\r\n\r\n", answer(b"", status="404 Not Found"))
    async with listening(server.serve) as url, HttpClient() as client:
        assert await ask(client, url / "a b", b"{}") == (200, b"one")
        assert await ask(client, url % {"x": "1"}) == (200, b"two")
        assert await ask(client, url) == (404, b"")
    assert server.asked[0] == (
        f"POST /a%20b HTTP/1.1\r\nHost: 127.0.0.1:{url.port}\r\nX-Key: k\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    )
    assert server.asked[1].startswith(b"POST /?x=1 HTTP/1.1\r\n")
    assert server.connections == 1


@pytest.mark.parametrize(
    ("said", "body"),
    [
        (
            CHUNKED + b"3;name=value\r\none\r\n00A\r\n" + b"x" * 10 + b"\r\n0\r\nX-Trailer: 1\r\n\r\n",
            b"one" + b"x" * 10,
        ),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + answer(b"late"), b"late"),
        (answer(gzip.compress(b"small" * 100, mtime=0), "Content-Encoding: gzip"), b"small" * 100),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
)
async def test_what_servers_may_send_is_understood(said: bytes, body: bytes) -> None:
    server = Server(said, answer(b"again"))
    async with listening(server.serve) as url, HttpClient() as client:
        assert (await ask(client, url))[1] == body
        assert await ask(client, url) == (200, b"again")
    assert server.connections == 1


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok more than was asked for",
        CHUNKED + b"2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
    ],
)
async def test_a_connection_that_cannot_serve_again_does_not(said: bytes) -> None:
    server = Server(said, answer(b"again"))
    async with listening(server.serve) as url, HttpClient() as client:
        assert await ask(client, url) == (200, b"ok")
        assert await ask(client, url) == (200, b"again")
    assert server.connections == 2


async def test_a_body_may_end_with_the_connection() -> None:
    server = Server(b"HTTP/1.1 200 OK\r\n\r\nall of it", answer(b"again"), hang_up=True)
    async with listening(server.serve) as url, HttpClient() as client:
        assert await ask(client, url) == (200, b"all of it")
        assert await ask(client, url) == (200, b"again")


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        CHUNKED + b"xyz\r\n",
        CHUNKED + b"-2\r\nok\r\n",
        CHUNKED + b"2\r\nokay\r\n",
        CHUNKED + b"0\r\n" + b"X: y\r\n" * 400,
        CHUNKED + b"1" * 2000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
        answer(b"not gzip", "Content-Encoding: gzip"),
    ],
)
async def test_what_is_no_http_is_refused(said: bytes) -> None:
    server = Server(said)
    async with listening(server.serve) as url, HttpClient() as client:
        with pytest.raises(NoHttp):
            await ask(client, url)
        assert not client._busy


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 O", answer(b"12345")[:-2], CHUNKED + b"5\r\n123", CHUNKED])
async def test_what_is_cut_off_is_told(said: bytes) -> None:
    server = Server(said, hang_up=True)
    async with listening(server.serve) as url, HttpClient() as client:
        with pytest.raises(Disconnected) as told:
            await ask(client, url)
    assert not isinstance(told.value, StaleConnection)


async def test_a_kept_connection_that_was_closed_meanwhile_is_told_apart() -> None:
    server = Server(answer(b"one"), b"", answer(b"two"))
    async with listening(server.serve) as url, HttpClient() as client:
        await ask(client, url)
        server.hang_up = True  # it takes the request and says nothing
        with pytest.raises(StaleConnection):
            await ask(client, url)
        assert await ask(client, url) == (200, b"two")


async def test_a_connection_whose_end_was_seen_is_not_used() -> None:
    server = Server(answer(b"one"), answer(b"two"), hang_up=True)
    async with listening(server.serve) as url, HttpClient() as client:
        await ask(client, url)
        (idle,) = client._idle.values()
        while idle[0].connection.idle:
            await asyncio.sleep(0)
        assert await ask(client, url) == (200, b"two")


async def test_a_connection_that_was_idle_for_long_is_not_used() -> None:
    server = Server(answer(b"one"), answer(b"two"))
    async with listening(server.serve) as url, HttpClient(keep=60.0) as client:
        await ask(client, url)
        (idle,) = client._idle.values()
        idle[0] = idle[0]._replace(since=idle[0].since - 60.0)
        assert await ask(client, url) == (200, b"two")
    assert server.connections == 2


async def test_where_nobody_listens_nothing_was_sent() -> None:
    async with listening(Server().serve) as url:
        pass
    async with HttpClient() as client:
        with pytest.raises(NotConnected, match="ConnectionRefusedError") as told:
            await ask(client, url)
    assert isinstance(told.value.__cause__, ConnectionRefusedError)


async def test_a_request_that_is_hung_up_on_may_have_been_taken() -> None:
    async with listening(Server(b"", hang_up=True).serve) as url, HttpClient() as client:
        with pytest.raises(Disconnected) as told:
            await ask(client, url)
    assert not isinstance(told.value, NotConnected)


async def test_a_client_that_was_left_connects_no_more() -> None:
    server = Server(answer(b"one"))
    async with listening(server.serve) as url:
        async with HttpClient() as client:
            pass
        with pytest.raises(NotConnected, match="left"):
            await ask(client, url, b"a secret")
    assert not server.asked
    assert not client._busy


async def test_a_response_that_is_closed_early_hangs_up() -> None:
    server = Server(CHUNKED + b"3\r\none\r\n")
    async with listening(server.serve) as url, HttpClient() as client:
        response = await client.send(Target.of("GET", url, {}), connect_timeout=5.0)
        assert await response.read() == b"one"
        response.close()
        assert not client._busy
        assert not client._idle
        with pytest.raises(Disconnected):
            await response.read()


async def test_leaving_hangs_up_on_everybody() -> None:
    server = Server(CHUNKED)
    async with listening(server.serve) as url:
        async with HttpClient() as client:
            response = await client.send(Target.of("GET", url, {}), connect_timeout=5.0)
            reading = asyncio.create_task(response.read())
            await asyncio.sleep(0)
        with pytest.raises(Disconnected):
            await reading


async def test_a_cancelled_request_hangs_up() -> None:
    asked = asyncio.Event()
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        gone.set()
        writer.close()

    async with listening(silent) as url, HttpClient() as client:
        sending = asyncio.create_task(client.send(Target.of("GET", url, {}), connect_timeout=5.0))
        await asked.wait()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await gone.wait()
        assert not client._busy


async def test_a_reader_that_takes_its_time_makes_the_server_wait() -> None:
    size = 64 * 1024 * 1024
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(bytes(65536))
            sent += 65536
            await writer.drain()
        writer.close()

    async with listening(pour) as url, HttpClient() as client:
        response = await client.send(Target.of("GET", url, {}), connect_timeout=5.0)
        (connection,) = client._busy
        while not connection._paused:
            await asyncio.sleep(0)
        assert sent < size  # what the sockets hold is less than all
        assert len(await everything(response)) == size


async def test_a_header_cannot_break_out_of_its_line() -> None:
    with pytest.raises(ValueError, match="line break"):
        Target.of("GET", URL("http://h/"), {"X": "a\r\nHost: other"})


# ---- TLS and proxies ----


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """What a server for 127.0.0.1 shows, and the file with which it is trusted."""
    key, public = make_certificate()
    trusted, both = tmp_path / "trusted.pem", tmp_path / "server.pem"
    trusted.write_text(public)
    both.write_text(key + "\n" + public)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, trusted


class Proxy:
    """Connects to wherever it is told to, or says why not."""

    def __init__(self, refusal: bytes = b"") -> None:
        self.refusal = refusal
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self.refusal:
            writer.write(self.refusal)
            writer.close()
            return
        method, where, _ = head.split(b" ", 2)
        host, _, port = where.decode().removeprefix("http://").partition("/")[0].partition(":")
        up: Streams = await asyncio.open_connection(host, int(port))
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            up[1].write(head)
        await asyncio.gather(_pump(reader, up[1]), _pump(up[0], writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def test_tls_is_spoken_with_a_server_that_is_trusted(
    certificate: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, trusted = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    server = Server(answer(b"safe"), answer(b"again"))
    async with listening(server.serve, secure=context) as url, HttpClient() as client:
        assert await ask(client, url) == (200, b"safe")
        assert await ask(client, url) == (200, b"again")
    assert server.connections == 1


async def test_a_server_that_is_not_trusted_gets_nothing(certificate: tuple[ssl.SSLContext, Path]) -> None:
    server = Server(answer(b"unsafe"))
    async with listening(server.serve, secure=certificate[0]) as url, HttpClient() as client:
        with pytest.raises(CertificateRefused) as told:
            await ask(client, url, b"a secret")
    assert isinstance(told.value, NotConnected)
    assert not server.asked


@pytest.mark.parametrize("secure_proxy", [False, True])
async def test_a_tunnel_leads_through_a_proxy_and_serves_again(
    certificate: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch, secure_proxy: bool
) -> None:
    context, trusted = certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    server, proxy = Server(answer(b"far"), answer(b"again")), Proxy()
    async with (
        listening(server.serve, secure=context) as url,
        listening(proxy.serve, secure=context if secure_proxy else None) as door,
        HttpClient() as client,
    ):
        through = door.with_user("me").with_password("pass:word")
        assert await ask(client, url, b"x", proxy=through) == (200, b"far")
        assert await ask(client, url, b"y", proxy=through) == (200, b"again")
    assert len(proxy.heads) == 1
    assert proxy.heads[0].startswith(f"CONNECT 127.0.0.1:{url.port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic bWU6cGFzczp3b3Jk\r\n" in proxy.heads[0]
    assert b"X-Key" not in proxy.heads[0]  # the key is for the server behind it
    assert b"Proxy-Authorization" not in b"".join(server.asked)


async def test_without_tls_the_proxy_is_asked_for_the_whole_address() -> None:
    server, proxy = Server(answer(b"far")), Proxy()
    async with listening(server.serve) as url, listening(proxy.serve) as door, HttpClient() as client:
        assert await ask(client, url / "v1" % {"a": "b"}, b"", proxy=door) == (200, b"far")
    assert proxy.heads[0].startswith(f"POST http://127.0.0.1:{url.port}/v1?a=b HTTP/1.1\r\n".encode())


@pytest.mark.parametrize(
    "refusal", [b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", b"nonsense\r\n\r\n"]
)
async def test_a_proxy_that_does_not_connect_is_named(refusal: bytes) -> None:
    async with listening(Proxy(refusal).serve) as door, HttpClient() as client:
        with pytest.raises(ProxyRefused):
            await ask(client, URL("https://example.com/"), proxy=door)
        with pytest.raises(ProxyRefused):
            await ask(client, URL("https://example.com/"), proxy=URL("http://127.0.0.1:1"))
        assert not client._busy
    assert issubclass(ProxyRefused, NotConnected)


# ---- Framing ----


def pieces_of(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    st.lists(st.integers(0, 3000), max_size=20),
    st.sampled_from([b"", b"X: y\r\n"]),
    st.sampled_from([b"", b"more"]),
)
def test_chunks_are_whole_however_they_are_cut(
    chunks: list[bytes], cuts: list[int], trailer: bytes, surplus: bytes
) -> None:
    sent = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n" + surplus
    body = Chunked()
    got = b"".join(body.feed(piece) for piece in pieces_of(sent, cuts))
    assert got == b"".join(chunks)
    assert body.ended
    assert body.surplus is bool(surplus)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10), st.integers(0, 300))
def test_a_counted_body_takes_what_is_its_own(data: bytes, cuts: list[int], length: int) -> None:
    body = Counted(length)
    got = b"".join(body.feed(piece) for piece in pieces_of(data, cuts) if not body.ended)
    assert data.startswith(got)
    assert len(got) == min(length, len(data))
    assert body.ended is (len(data) >= length)


@given(st.binary(max_size=200))
def test_no_head_ends_in_another_error(head: bytes) -> None:
    try:
        parsed = parse_head(b"HTTP/1.1 " + head)
        assert isinstance(body_of(parsed), Counted | Chunked | UntilClosed)
    except NoHttp:
        pass
