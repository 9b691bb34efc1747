"""Files come from the platform's hosts alone, whole and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from yarl import URL

from core import fetching
from core.errors import FileRefused, FileTooLarge, FileUnavailable
from core.fetching import Files

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Server:
    """The platform's file server."""

    url: str = ""
    requests: list[web.Request] = field(default_factory=list)
    answer: Handler | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.answer is not None:
            return await self.answer(request)
        return web.Response(body=b"content", content_type="text/plain")


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


@pytest.fixture
async def files(server: Server) -> AsyncIterator[Files]:
    headers = {"Authorization": "Bearer token"}
    async with Files(hosts=("files.example.com",), api_url=f"{server.url}/api/", headers=headers) as files:
        yield files


async def test_a_file_of_the_configured_api_is_fetched_with_the_credentials(server: Server, files: Files) -> None:
    assert await files.get(f"{server.url}/f", most_bytes=7) == b"content"
    assert server.requests[0].headers["Authorization"] == "Bearer token"
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


async def test_credentials_that_change_go_with_one_request(server: Server, files: Files) -> None:
    await files.get(f"{server.url}/f", most_bytes=7, headers={"Authorization": "Bearer another"})
    await files.get(f"{server.url}/f", most_bytes=7)
    assert [each.headers["Authorization"] for each in server.requests] == ["Bearer another", "Bearer token"]


@pytest.mark.parametrize("told", [True, False])
async def test_a_file_that_is_too_large_is_not_read_to_its_end(server: Server, files: Files, told: bool) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10000000000"} if told else {})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    server.answer = endless
    with pytest.raises(FileTooLarge):
        await files.get(f"{server.url}/f", most_bytes=1_000_000)


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example.com/f",
        "https://files.example.com:8443/f",
        "https://user@files.example.com/f",
        "https://files.example.com@evil.example/f",
        "https://evil.example/f",
        "https://files.example.com.evil.example/f",
        "https://sub.files.example.com/f",
        "https://127.0.0.1/f",
        "https://[::1]/f",
        "ftp://files.example.com/f",
        "file:///etc/passwd",
        "/f",
        "",
        "http://[",
        "https://files.example.com:99999/f",
    ],
)
async def test_other_addresses_are_refused_before_anything_is_sent(files: Files, url: str) -> None:
    with pytest.raises(FileRefused):
        await files.get(url, most_bytes=10)


async def test_a_leading_dot_allows_every_host_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Files(hosts=(".example.com",)) as files:
        for url, allowed in {
            "https://a.example.com/f": True,
            "https://A.B.EXAMPLE.com./f": True,
            "https://example.com/f": False,
            "https://badexample.com/f": False,
        }.items():
            if allowed:
                files._check(URL(url))
            else:
                with pytest.raises(FileRefused):
                    files._check(URL(url))


async def test_each_redirect_is_checked(server: Server, files: Files) -> None:
    async with serving() as other:

        async def away(request: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(f"{other.url}/f")

        server.answer = away
        with pytest.raises(FileRefused, match="plain https"):
            await files.get(f"{server.url}/f", most_bytes=10)
        assert other.requests == []


async def test_redirects_within_the_platform_are_followed_a_few_times(server: Server, files: Files) -> None:
    async def onwards(request: web.Request) -> web.StreamResponse:
        steps = int(request.path.rpartition("/")[2])
        if steps:
            raise web.HTTPFound(f"/to/{steps - 1}")
        return web.Response(body=b"here")

    server.answer = onwards
    assert await files.get(f"{server.url}/to/5", most_bytes=10) == b"here"
    with pytest.raises(FileRefused, match="redirects"):
        await files.get(f"{server.url}/to/6", most_bytes=10)


async def test_a_login_page_is_no_file(server: Server, files: Files) -> None:
    async def login(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>Sign in</html>", content_type="text/html")

    server.answer = login
    with pytest.raises(FileRefused, match="text/html"):
        await files.get(f"{server.url}/f", most_bytes=100, accepts=lambda kind: kind != "text/html")


async def test_what_comes_compressed_is_refused(server: Server, files: Files) -> None:
    async def bomb(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})

    server.answer = bomb
    with pytest.raises(FileRefused, match="compressed"):
        await files.get(f"{server.url}/f", most_bytes=100)


@pytest.mark.parametrize("status", [401, 403, 404, 410, 500, 503, 204, 304])
async def test_a_server_that_does_not_give_it(server: Server, files: Files, status: int) -> None:
    async def fails(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    server.answer = fails
    with pytest.raises(FileUnavailable, match=str(status)):
        await files.get(f"{server.url}/f", most_bytes=100)


async def test_a_transfer_that_breaks_off_is_no_whole_file(server: Server, files: Files) -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    server.answer = breaks
    with pytest.raises(FileUnavailable):
        await files.get(f"{server.url}/f", most_bytes=100)


async def test_a_file_that_takes_too_long_is_given_up(
    server: Server, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_WHOLE", 0.05)

    async def drips(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0)  # writing alone lets nobody else work until the socket is full

    server.answer = drips
    with pytest.raises(FileUnavailable, match="TimeoutError"):
        await files.get(f"{server.url}/f", most_bytes=10**12)


async def test_a_name_that_leads_into_a_private_network_is_refused() -> None:
    async with Files(hosts=("localhost",)) as files:
        with pytest.raises(FileRefused, match="private network"):
            await files.get("https://localhost/f", most_bytes=10)


async def test_an_address_of_a_private_network_is_refused_even_if_listed() -> None:
    async with Files(hosts=("127.0.0.1", "::1")) as files:
        for url in ("https://127.0.0.1/f", "https://[::1]/f"):
            with pytest.raises(FileRefused, match="private network"):
                await files.get(url, most_bytes=10)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("fd00::1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert fetching._is_public(address) is public


async def test_nothing_is_fetched_before_signing_in_and_after_leaving(server: Server) -> None:
    files = Files(hosts=(), api_url=server.url)
    with pytest.raises(FileUnavailable):
        await files.get(f"{server.url}/f", most_bytes=10)
    async with files:
        assert await files.get(f"{server.url}/f", most_bytes=10) == b"content"
    with pytest.raises(FileUnavailable):
        await files.get(f"{server.url}/f", most_bytes=10)
