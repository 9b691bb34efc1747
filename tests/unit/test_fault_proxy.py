"""The proxy does what its name says: each fault is seen by the client as it should be, and counted when it hits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from tests.simulators.fault_proxy import FaultProxy
from tests.simulators.loopback import serving
from tests.simulators.wire_faults import GARBAGE, SECRET, Fault, garbage, page, too_many


class Server:
    """Answers with 10,000 bytes, and says back what it hears on a WebSocket."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    async def get(self, request: web.Request) -> web.Response:
        self.asked.append(await request.read())
        return web.Response(body=b"x" * 10_000)

    async def link(self, request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for frame in response:
            await response.send_str(frame.data)
        return response


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[FaultProxy]:
    routes = [web.route("*", "/", server.get), web.get("/link", server.link)]
    async with serving(routes) as url, FaultProxy(url) as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def body(http: aiohttp.ClientSession, proxy: FaultProxy, *, within: float = 5.0) -> bytes:
    async with asyncio.timeout(within), http.post(proxy.url, data=b"question") as response:
        return await response.read()


async def test_without_faults_all_goes_through(http: aiohttp.ClientSession, proxy: FaultProxy, server: Server) -> None:
    assert await body(http, proxy) == b"x" * 10_000
    assert await body(http, proxy) == b"x" * 10_000
    assert (server.asked, proxy.requests, proxy.hits.total()) == ([b"question"] * 2, 2, 0)


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("kind", ["reset", "stall", "answer"])
async def test_an_answer_is_lost(
    http: aiohttp.ClientSession, proxy: FaultProxy, server: Server, kind: str, carried_out: bool
) -> None:
    proxy.faults = [Fault(kind=kind, carried_out=carried_out, times=1)]  # type: ignore[arg-type]  # one of the kinds
    with pytest.raises((aiohttp.ClientError, TimeoutError)):
        await body(http, proxy, within=0.2)
    assert len(server.asked) == carried_out
    assert proxy.hits.total() == 1
    assert await body(http, proxy) == b"x" * 10_000


@pytest.mark.parametrize("kind", ["reset", "cut"])
async def test_an_answer_breaks_off(http: aiohttp.ClientSession, proxy: FaultProxy, kind: str) -> None:
    proxy.faults = [Fault(kind=kind, after=5_000)]  # type: ignore[arg-type]  # one of the kinds
    with pytest.raises(aiohttp.ClientError):
        await body(http, proxy)
    assert proxy.hits == {kind: 1}


async def test_an_answer_stops_in_the_middle(http: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    proxy.faults = [Fault(kind="stall", after=5_000)]
    async with http.get(proxy.url) as response:
        assert len(await response.content.readexactly(4_000)) == 4_000
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await response.content.readexactly(6_000)
    assert proxy.hits == {"stall": 1}


async def test_an_answer_shorter_than_the_cut_is_whole_and_not_counted(
    http: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    proxy.faults = [Fault(kind="cut", after=50_000)]
    assert await body(http, proxy) == b"x" * 10_000
    assert proxy.hits.total() == 0


@pytest.mark.parametrize("fault", [Fault(kind="latency", seconds=0.2), Fault(kind="drip", after=3_000, seconds=0.05)])
async def test_an_answer_comes_slowly_and_whole(http: aiohttp.ClientSession, proxy: FaultProxy, fault: Fault) -> None:
    proxy.faults, began = [fault], time.monotonic()
    assert await body(http, proxy) == b"x" * 10_000
    assert time.monotonic() - began >= 0.14
    assert proxy.hits == {fault.kind: 1}


async def test_machines_in_between_answer(http: aiohttp.ClientSession, proxy: FaultProxy, server: Server) -> None:
    proxy.faults = [too_many(7)]
    async with http.get(proxy.url) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
    proxy.faults = [page(503)]
    async with http.get(proxy.url) as response:
        assert (response.status, response.content_type) == (503, "text/html")
        assert SECRET in await response.text()
    for what in GARBAGE.keys() - {"no HTTP"}:
        proxy.faults = [garbage(what)]
        async with http.get(proxy.url) as response:
            assert response.status == 200
            assert await response.read() in GARBAGE[what]
    proxy.faults = [garbage("no HTTP")]
    with pytest.raises(aiohttp.ClientError):
        await body(http, proxy)
    assert server.asked == []


async def test_faults_befall_what_they_are_meant_for_and_as_often(
    http: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    proxy.faults = [page(share=0.3, calls="^POST / .*question"), too_many(share=0.2), too_many(calls="nowhere")]
    for _ in range(300):
        async with http.post(proxy.url, data=b"question"):
            pass
    assert 60 <= proxy.hits["502"] <= 120
    assert 35 <= proxy.hits["429"] <= 90


async def test_who_is_refused_finds_nobody_and_then_the_same_address(
    http: aiohttp.ClientSession, proxy: FaultProxy
) -> None:
    for _ in range(3):
        await proxy.refuse()
        with pytest.raises(aiohttp.ClientConnectorError, match="Connect call failed"):
            await body(http, proxy)
        await proxy.accept()
        assert await body(http, proxy) == b"x" * 10_000


async def test_links_are_cut_held_and_released(http: aiohttp.ClientSession, proxy: FaultProxy) -> None:
    async with http.ws_connect(f"{proxy.url}/link") as link:
        await link.send_str("one")
        assert await link.receive_str(timeout=5) == "one"
        assert proxy.hold() == proxy.links == 1
        await link.send_str("two")
        with pytest.raises(TimeoutError):
            await link.receive_str(timeout=0.1)
        proxy.release()
        assert await link.receive_str(timeout=5) == "two"
        assert await body(http, proxy) == b"x" * 10_000
        assert proxy.cut() == 1
        assert (await link.receive(timeout=5)).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    assert len(proxy.tried) == 1
    assert proxy.hits == {"held": 1, "cut link": 1}


async def test_bytes_of_any_protocol_pass() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    other = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with other, FaultProxy(f"127.0.0.1:{other.sockets[0].getsockname()[1]}") as proxy:
        host, _, port = proxy.host.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"PRI * HTTP/2.0\r\n\r\n")
        assert await reader.readexactly(18) == b"PRI * HTTP/2.0\r\n\r\n"
        assert proxy.links == 1
        proxy.cut()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
