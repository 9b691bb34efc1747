"""The long connection: how it begins, what is acknowledged, and how its end is noticed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from adapters.feishu import link as link_module
from adapters.feishu.adapter import SocketAdapter
from adapters.feishu.api import FeishuApi
from adapters.feishu.config import Config
from adapters.feishu.endpoint import ping_interval
from adapters.feishu.frames import Fragments, Frame, ping
from adapters.feishu.link import Link
from adapters.feishu.verdict import REFUSED, Verdict
from core.adapter import Receipt
from core.clock import SystemClock
from core.errors import AuthenticationError, ConnectionLost, StorageUnavailable
from core.messages import AccountId, InboundMessage
from tests.clock import HeldClock
from tests.contract.world import holds, until
from tests.simulators import feishu_frame
from tests.simulators.feishu import SimulatedFeishu

DATA, CONTROL = 1, 0


def data_frame(payload: bytes, **headers: str) -> Frame:
    """As the simulator's own codec writes it."""
    common = {"type": "event", "message_id": "m1", "trace_id": "t1", "sum": "1", "seq": "0"}
    frame = Frame.read(feishu_frame.Frame(7, DATA, {**common, **headers}, payload).encode())
    assert frame is not None
    return frame


# Frames


def test_a_frame_is_answered_with_itself_and_what_became_of_it() -> None:
    answer = feishu_frame.Frame.decode(data_frame(b'{"a":1}').answer(None, 0.0123))
    assert (answer.service, answer.method, json.loads(answer.payload)) == (7, DATA, {"code": 200})
    assert (answer.headers["message_id"], answer.headers["biz_rt"], answer.headers["trace_id"]) == ("m1", "12", "t1")
    called = json.loads(feishu_frame.Frame.decode(data_frame(b"{}").answer({}, 0)).payload)
    assert called == {"code": 200, "data": "e30="}


def test_a_ping_names_its_service() -> None:
    sent = feishu_frame.Frame.decode(ping(33554678))
    assert (sent.service, sent.method, sent.headers) == (33554678, CONTROL, {"type": "ping"})


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"hello", b"\x2a\x04\x0a\x02\xff\xfe", bytes(1000)])
def test_what_is_no_frame_is_none(garbage: bytes) -> None:
    assert Frame.read(garbage) is None


def piece(index: int, total: int, text: bytes, message: str = "m1") -> Frame:
    return data_frame(text, sum=str(total), seq=str(index), message_id=message)


def test_pieces_are_joined_in_whatever_order_they_come() -> None:
    fragments = Fragments(HeldClock())
    assert fragments.join(piece(2, 3, b"c")) is None
    assert fragments.join(piece(0, 3, b"a")) is None
    assert fragments.join(piece(0, 2, b"x", "m2")) is None
    assert fragments.join(piece(0, 3, b"a")) is None  # again
    assert fragments.join(piece(1, 3, b"b")) == b"abc"
    assert fragments.join(piece(1, 2, b"y", "m2")) == b"xy"
    assert fragments.join(data_frame(b"whole")) == b"whole"


async def test_pieces_are_forgotten_after_five_seconds() -> None:
    clock = HeldClock()
    fragments = Fragments(clock)
    assert fragments.join(piece(0, 2, b"a")) is None
    await clock.advance(5.1)
    assert fragments.join(piece(1, 2, b"b")) is None


def test_unfinished_events_are_bounded_in_number_and_size() -> None:
    fragments = Fragments(HeldClock())
    for number in range(1_000):
        assert fragments.join(piece(0, 2, b"a", f"m{number}")) is None
    assert fragments.join(piece(1, 2, b"b", "m0")) is None
    assert fragments.join(piece(1, 2, b"b", "m999")) == b"ab"
    fragments = Fragments(HeldClock())
    for number in range(20):
        assert fragments.join(piece(0, 2, bytes(1_000_000), f"m{number}")) is None
    assert sum(len(piece) for _, pieces in fragments._unfinished.values() for piece in pieces.values()) <= 9_000_000


@pytest.mark.parametrize(("index", "total"), [(2, 2), (999_999_999, 2), (0, 1_000_000)])
def test_pieces_that_cannot_be_are_dropped(index: int, total: int) -> None:
    fragments = Fragments(HeldClock())
    assert fragments.join(piece(index, total, b"a")) is None
    assert not fragments._unfinished


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"PingInterval": 90}, 90.0),
        ({"PingInterval": 0.01}, 1.0),
        ({"PingInterval": 1e9}, 600.0),
        ({"PingInterval": 0}, None),
        ({"PingInterval": -5}, None),
        ({"PingInterval": "soon"}, None),
        ({"PingInterval": float("nan")}, None),
        ({}, None),
        (None, None),
    ],
)
def test_the_interval_of_pings_stays_within_reason(settings: Any, seconds: float | None) -> None:
    assert ping_interval(settings) == seconds


# Connecting


@asynccontextmanager
async def answering(answer: web.Response) -> AsyncIterator[tuple[FeishuApi, Config]]:
    """A Feishu whose endpoint says one thing."""

    async def serve(request: web.Request) -> web.Response:
        assert request.headers["locale"] == "zh"
        assert await request.json() == {"AppID": "cli_1", "AppSecret": "the-secret"}
        return answer

    app = web.Application()
    app.router.add_post("/callback/ws/endpoint", serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    config = Config(app_id="cli_1", app_secret="the-secret", api_url=url)
    api = FeishuApi("cli_1", "the-secret", url=url, proxy=None, clock=SystemClock())
    await api.open()
    try:
        yield api, config
    finally:
        await api.close()
        await runner.cleanup()


async def take_nothing(event: Mapping[str, Any]) -> Verdict:
    del event
    return REFUSED


async def refusal(answer: web.Response) -> Exception:
    async with answering(answer) as (api, config):
        with pytest.raises((AuthenticationError, ConnectionLost)) as caught:
            await Link(api, config, SystemClock(), take_nothing).__aenter__()
    assert "the-secret" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("code", "way_out"),
    [
        (1000040351, "open.larksuite.com"),
        (1000040346, "app_id"),
        (1000040344, "app_secret"),
        (10003, "app_secret"),
        (10014, "app_secret"),
    ],
)
async def test_what_only_a_person_can_help_is_final_and_names_the_way_out(code: int, way_out: str) -> None:
    error = await refusal(web.json_response({"code": code, "msg": "no"}))
    assert isinstance(error, AuthenticationError)
    assert way_out in str(error)


@pytest.mark.parametrize(
    "answer",
    [
        {"code": 1, "msg": "system busy"},
        {"code": 1000040343, "msg": "internal"},
        {"code": 99991400},
        {"code": "1000040351"},
        {"code": 0},
        {"code": 0, "data": {"URL": 7}},
        {"code": 0, "data": {"URL": "https://example.com"}},
        {"code": 0, "data": {"URL": "ws://127.0.0.1:1/ws?service_id=1"}},
        {"code": 0, "data": {"URL": "wss://["}},
        [],
        None,
    ],
)
async def test_everything_else_is_tried_again(answer: Any) -> None:
    assert isinstance(await refusal(web.json_response(answer)), ConnectionLost)


@pytest.mark.parametrize("status", [302, 404, 502])
async def test_an_answer_that_is_none_is_tried_again(status: int) -> None:
    answer = web.Response(status=status, text="<html>", headers={"Location": "http://169.254.169.254/"})
    assert isinstance(await refusal(answer), ConnectionLost)


@pytest.mark.parametrize(
    ("headers", "kind", "word"),
    [
        ({"Handshake-Status": "403", "Handshake-Msg": "forbidden"}, AuthenticationError, "mode: webhook"),
        ({"Handshake-Status": "514", "Handshake-Autherrcode": "1000040350"}, ConnectionLost, "50 long connections"),
        ({"Handshake-Status": "514", "Handshake-Autherrcode": "1000040344"}, ConnectionLost, "1000040344"),
        ({}, ConnectionLost, "refused"),
    ],
)
async def test_a_refused_handshake_says_why_in_its_headers(
    headers: dict[str, str], kind: type[Exception], word: str
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=403, headers=headers)

    app = web.Application()
    app.router.add_get("/ws/v2", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"ws://127.0.0.1:{runner.addresses[0][1]}/ws/v2?device_id=1&service_id=2"
    error = await refusal(web.json_response({"code": 0, "data": {"URL": url}}))
    await runner.cleanup()
    assert type(error) is kind
    assert word in str(error)


# Receiving


class Line:
    """An adapter on a line to the simulator."""

    def __init__(self, feishu: SimulatedFeishu) -> None:
        self.feishu = feishu
        self.adapter = SocketAdapter(AccountId("bot"), Config(**feishu.account()))
        self.received: list[InboundMessage] = []
        self.receipt: Receipt | Exception = Receipt.ACCEPTED
        self.task: asyncio.Task[None] | None = None

    async def inbox(self, message: InboundMessage) -> Receipt:
        self.received.append(message)
        if isinstance(self.receipt, Exception):
            raise self.receipt
        return self.receipt

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.received]

    async def over(self) -> Exception:
        """What ended it."""
        assert self.task is not None
        await asyncio.wait({self.task}, timeout=10)
        error = self.task.exception()
        assert isinstance(error, Exception)
        return error


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    tasks = asyncio.all_tasks()
    threads = threading.active_count()
    async with SimulatedFeishu() as feishu:
        line = Line(feishu)
        async with line.adapter:
            line.task = asyncio.create_task(line.adapter.run(line.inbox))
            await feishu.listening()
            await until(line.adapter.gaps)
            yield line
            line.task.cancel()
            await asyncio.wait({line.task}, timeout=2)
            assert line.task.done()
        assert feishu.links() == 0 or await _gone(feishu)
        assert [*feishu.complaints()] == []
    await until(lambda: asyncio.all_tasks() <= tasks | {asyncio.current_task()})
    assert threading.active_count() <= threads + 1  # names are looked up in one that stays


async def _gone(feishu: SimulatedFeishu) -> bool:
    await until(lambda: feishu.links() == 0)
    return True


async def test_an_event_in_pieces_is_taken_and_acknowledged_once(line: Line) -> None:
    line.feishu.delivery.pieces = 7
    asked = await line.feishu.person_writes("in pieces")
    await until(lambda: line.feishu.acknowledged(asked) == 1)
    assert line.texts == ["in pieces"]


@pytest.mark.parametrize("kind", ["im.message.message_read_v1", "im.chat.disbanded_v1", "a.kind.of_the_future_v9"])
async def test_events_of_other_kinds_are_acknowledged_without_asking(line: Line, kind: str) -> None:
    id = line.feishu.event(kind, {"anything": {}})
    await until(lambda: line.feishu.delivery.acknowledged[id] == 1)
    assert line.received == []
    assert line.feishu.delivery.answers[id] is None


async def test_a_click_is_answered_with_nothing_to_show(line: Line) -> None:
    asked = await line.feishu.person_writes("hello")
    id = line.feishu.person_clicks(asked.message, "anything")
    await until(lambda: line.feishu.delivery.acknowledged[id] == 1)
    assert line.feishu.delivery.answers[id] == {}


@pytest.mark.parametrize("receipt", [Receipt.OVERLOADED, Receipt.CLOSED, StorageUnavailable("the disk is full")])
async def test_what_was_not_stored_is_left_for_feishu_to_send_again(line: Line, receipt: Receipt | Exception) -> None:
    line.receipt = receipt
    asked = await line.feishu.person_writes("hello")
    await until(lambda: line.received)
    await holds(lambda: line.feishu.acknowledged(asked) == 0)
    line.receipt = Receipt.ACCEPTED
    await line.feishu.redeliver(asked)
    await until(lambda: line.feishu.acknowledged(asked) == 1)


async def test_an_event_that_breaks_the_program_does_not_come_for_ever(line: Line) -> None:
    line.receipt = RuntimeError("a mistake")
    asked = await line.feishu.person_writes("hello")
    await until(lambda: line.feishu.acknowledged(asked) == 1)


async def test_garbage_does_not_end_the_line(line: Line) -> None:
    (socket,) = line.feishu.delivery.open("bot")
    for frame in (
        b"\xff\xff",
        feishu_frame.Frame(1, CONTROL, {"type": "pong"}, b"[").encode(),
        feishu_frame.Frame(1, CONTROL, {"type": "new"}, b"").encode(),
    ):
        await socket.response.send_bytes(frame)
    await socket.response.send_str("hello?")
    asked = await line.feishu.person_writes("hello")
    await until(lambda: line.feishu.acknowledged(asked) == 1)


async def test_messages_of_one_chat_reach_the_inbox_in_the_order_in_which_they_came(line: Line) -> None:
    """Also where some of them wait for what they reply to."""
    first = await line.feishu.person_writes("first", direct=False)
    await until(lambda: line.received)
    for number in range(6):
        room = line.feishu.room("ann", "general", False, "bot")
        root = line.feishu.state.messages[first.message] if number % 2 == 0 else None
        sent = line.feishu.state.post(room, "text", {"text": f"@_user_1 {number}"}, user="ann", reply_to=root)
        sent.mentions = [("@_user_1", "app bot")]
        line.feishu.delivered(sent, line.feishu.state.app("bot"))
    await until(lambda: len(line.received) == 7)
    assert line.texts == ["first", *map(str, range(6))]
    assert [message.quoted is not None for message in line.received[1:]] == [True, False] * 3
    quoted = line.received[1].quoted
    assert quoted is not None
    assert quoted.text == "first"


async def test_pings_come_at_the_interval_that_the_last_pong_asked_for(line: Line) -> None:
    (socket,) = line.feishu.delivery.open("bot")
    await until(lambda: socket.pings >= 2)  # every second, to begin with
    line.feishu.delivery.ping_every = 600
    pings = socket.pings
    await until(lambda: socket.pings > pings)  # its pong says so
    loop = asyncio.get_running_loop()
    until_then = loop.time() + 1.5
    seen = socket.pings
    await until(lambda: loop.time() > until_then or socket.pings > seen)
    assert socket.pings == seen


# Ending


async def test_a_connection_that_breaks_is_lost(line: Line) -> None:
    await line.feishu.drop()
    assert isinstance(await line.over(), ConnectionLost)


async def test_a_connection_that_feishu_closes_is_lost(line: Line) -> None:
    (socket,) = line.feishu.delivery.open("bot")
    await socket.response.close()
    assert isinstance(await line.over(), ConnectionLost)


async def test_a_half_open_connection_is_noticed_by_its_own_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 s and half as long for the pong: 30 s in life, as many hundredths here."""
    monkeypatch.setattr(link_module, "HEARTBEAT", 0.2)
    async with SimulatedFeishu() as feishu:
        feishu.delivery.ping_every = 600
        line = Line(feishu)
        async with line.adapter:
            line.task = asyncio.create_task(line.adapter.run(line.inbox))
            await feishu.listening()
            for _ in range(3):  # the first may be the answer to Feishu's own ping
                heard = line.adapter.last_heard()
                await until(lambda heard=heard: line.adapter.last_heard() != heard)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            feishu.go_silent()
            began = asyncio.get_running_loop().time()
            assert isinstance(await line.over(), ConnectionLost)
            assert asyncio.get_running_loop().time() - began < 2


async def test_a_server_that_answers_pings_no_more_is_left_though_its_proxy_keeps_the_line() -> None:
    sockets: list[web.WebSocketResponse] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        sockets.append(socket)
        pongs = 0
        async for message in socket:
            if pongs == 0:
                pongs += 1
                frame = feishu_frame.Frame.decode(message.data)
                answer = feishu_frame.Frame(frame.service, CONTROL, {"type": "pong"}, b'{"PingInterval": 1}')
                await socket.send_bytes(answer.encode())
        return socket

    app = web.Application()
    app.router.add_get("/ws", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"ws://127.0.0.1:{runner.addresses[0][1]}/ws?service_id=5"
    answer = {"code": 0, "data": {"URL": url, "ClientConfig": {"PingInterval": 1}}}
    async with (
        answering(web.json_response(answer)) as (api, config),
        Link(api, config, SystemClock(), take_nothing) as link,
    ):
        async with asyncio.timeout(15):
            assert await asyncio.shield(link.over) == "pings are no longer answered"
    await runner.cleanup()


async def test_leaving_ends_in_time_though_an_event_is_worked_on(line: Line) -> None:
    stuck = asyncio.Event()

    async def inbox(message: InboundMessage) -> Receipt:
        await stuck.wait()
        return Receipt.ACCEPTED

    line.adapter._reception._inbox = inbox  # type: ignore[union-attr]  # one that never returns
    asked = await line.feishu.person_writes("hello")
    await until(lambda: line.adapter._link is not None and line.adapter._link._work)
    assert line.task is not None
    line.task.cancel()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.wait({line.task})
    assert loop.time() - began < 2
    assert line.feishu.acknowledged(asked) == 0


async def test_a_secret_that_is_replaced_ends_the_account_with_the_reason(line: Line) -> None:
    line.feishu.refuse_credentials()
    line.feishu.forget_tokens()
    await line.feishu.person_writes("hello", direct=False)
    await until(lambda: line.received)
    with pytest.raises(Exception):  # noqa: B017, PT011 - it fails in one way or another
        await line.adapter.reply(line.received[0].reply_to).send("answer", key="k-1")  # type: ignore[arg-type]
    assert isinstance(await line.over(), AuthenticationError)
