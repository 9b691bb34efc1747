"""Garbage on every platform's link, between good messages: those are answered, the account stays or comes back by
itself, and nothing fails that nobody expected.

Real adapters in the real gateway, against the simulators. CHATGPT_MS_EXAMPLES sets how much garbage each of them gets;
where it is not set it is always the same.
"""

from __future__ import annotations

import asyncio
import gc
import json
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import aiohttp
import pytest
from aiohttp import web
from wechaty_grpc.wechaty import puppet

from adapters.slack import parse as slack_parse
from core.messages import InboundMessage
from gateway.supervisor import AccountState
from tests.contract.platform import Delivery, SimulatedPlatform
from tests.contract.suite import hurry
from tests.contract.world import Gateway, World, once, until
from tests.fuzzing import EXAMPLES, Mutator, Raw, figure, text_of
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.discord import DiscordPlatform
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_frame import CONTROL, DATA, Frame
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.slack import SimulatedSlack
from tests.simulators.wechat import SimulatedWechat
from tests.simulators.weixin import SimulatedWeixin

SHOTS = EXAMPLES or 40
"""Pieces of garbage for each platform."""

_SOON = 20.0
"""Seconds until an account must be back after one piece of garbage."""

_AGE = timedelta(seconds=30)
"""Of the messages that garbage is made of: the platform never delivers them as they are."""


class Gun(ABC):
    """Sends garbage where a platform delivers."""

    make: ClassVar[Callable[[], SimulatedPlatform]]

    def __init__(self, platform: Any, chance: Random) -> None:
        self.platform = platform
        self.chance = chance
        self.mutator = Mutator(chance)
        self.shots = Counter[str]()
        self._turn = 0

    @abstractmethod
    async def shoot(self) -> None:
        """One piece of garbage."""

    async def sample(self) -> Any:
        """A fresh message of somebody, as the platform would deliver it; altered it is a message of its own."""
        user = f"mallory{self.chance.randrange(20)}"
        direct = self.chance.randrange(3) > 0
        delivery = await self.platform.person_writes("garbage", user=user, direct=direct, age=_AGE)
        return self.platform._sent[delivery.event]

    def count(self, what: str) -> str:
        self.shots[what] += 1
        return what

    def one_of(self, *ways: str) -> str:
        """They take turns."""
        self._turn += 1
        return self.count(ways[self._turn % len(ways)])


async def send_frame(response: web.WebSocketResponse, data: bytes, kind: aiohttp.WSMsgType) -> None:
    """Bytes of any kind, also such as no honest server sends: a text that is not UTF-8."""
    writer = response._writer
    if writer is None or response.closed:
        return
    with suppress(ConnectionError, aiohttp.ClientError):
        await writer.send_frame(data, kind)


class SlackGun(Gun):
    make = SimulatedSlack

    async def shoot(self) -> None:
        sockets = self.platform.delivery.open("bot")
        if not sockets:
            return
        app, outer = await self.sample()
        del app
        envelope: dict[str, Any] = {
            "envelope_id": f"junk-{self.chance.random()}",
            "payload": outer,
            "type": self.chance.choice(("events_api", "events_api", "slash_commands", "interactive", "x")),
            "accepts_response_payload": True,
        }
        kind = aiohttp.WSMsgType.TEXT
        match self.one_of("payload", "payload", "payload", "envelope", "broken", "hello", "binary", "pong"):
            case "payload":
                envelope["payload"] = Raw(text_of(self.mutator.altered([outer], 3)))
                data = text_of(envelope).encode("utf-8", "surrogatepass")
            case "envelope":
                data = text_of(self.mutator.altered([envelope], 2)).encode("utf-8", "surrogatepass")
            case "hello":
                hello = {"type": "hello", "num_connections": self.mutator.junk(), "connection_info": []}
                data = text_of(hello).encode("utf-8", "surrogatepass")
            case "pong":
                data, kind = (
                    f"sdk-ping-pong:{self.chance.choice(('nan', 'x', '', '1:2'))}".encode(),
                    aiohttp.WSMsgType.PONG,
                )
            case "binary":
                data, kind = self.mutator.broken(text_of(envelope)), aiohttp.WSMsgType.BINARY
            case _:
                data = self.mutator.broken(text_of(envelope))
        await send_frame(sockets[0].response, data, kind)


class DiscordGun(Gun):
    make = DiscordPlatform

    async def shoot(self) -> None:
        gateway = self.platform.gateway
        sessions = gateway.ready("bot")
        if not sessions or sessions[0].link is None:
            return
        session, link = sessions[0], sessions[0].link
        event, place, data, _ = await self.sample()
        data = {**data, **({"guild_id": place.guild} if place.guild else {"channel_type": 1})}
        number = len(session.events) + 1
        payload = {"op": 0, "t": event, "s": number, "d": data}
        match self.one_of("payload", "payload", "payload", "interaction", "event", "frame", "broken", "bytes"):
            case "payload":
                data = json.loads(text_of(self.mutator.altered([data], 3)))
                await gateway._tell(session, "MESSAGE_CREATE", data)
                return
            case "interaction":
                sample = [each["d"] for each in self.platform.payloads() if each.get("t") == "INTERACTION_CREATE"]
                await gateway._tell(session, "INTERACTION_CREATE", json.loads(text_of(self.mutator.altered(sample, 3))))
                return
            case "event":
                names = ("GUILD_CREATE", "CHANNEL_CREATE", "THREAD_CREATE", "MESSAGE_UPDATE", "READY_SUPPLEMENTAL", "X")
                await gateway._tell(
                    session, self.chance.choice(names), json.loads(text_of(self.mutator.altered([data])))
                )
                return
            case "frame":
                text = text_of({**payload, self.chance.choice(("op", "t", "d")): self.mutator.junk(), "s": None})
                packed = text.encode("utf-8", "surrogatepass")
            case "broken":
                packed = self.mutator.broken(text_of({**payload, "s": None}))
            case _:
                packed = b"\x00\x01no deflate\x00\x00\xff\xff"
        async with link._sending:
            if link._deflate is not None and packed[:1] != b"\x00":
                packed = link._deflate.compress(packed) + link._deflate.flush(zlib.Z_SYNC_FLUSH)
            await send_frame(link.socket, packed, aiohttp.WSMsgType.BINARY)


class FeishuGun(Gun):
    make = SimulatedFeishu

    async def shoot(self) -> None:
        sockets = self.platform.delivery.open("bot")
        if not sockets:
            return
        socket = sockets[0]
        _, envelope = await self.sample()
        frame = self.platform.delivery._frames(envelope)[0]
        frame.payload = json.dumps(envelope).encode()
        frame.headers |= {"sum": "1", "seq": "0"}
        kind = aiohttp.WSMsgType.BINARY
        way = self.one_of("payload", "payload", "payload", "callback", "broken", "headers", "pong", "bytes", "text")
        match way:
            case "payload" | "callback":
                if way == "callback":
                    envelope["header"]["event_type"] = self.chance.choice(("card.action.trigger", "im.chat.updated_v1"))
                frame.payload = text_of(self.mutator.altered([envelope], 3)).encode("utf-8", "surrogatepass")
            case "broken":
                frame.payload = self.mutator.broken(json.dumps(envelope))
            case "headers":
                junk = ("", "-1", "0", "2", "257", "9" * 30, "x", "\u0661")
                frame.headers |= {name: self.chance.choice(junk) for name in ("sum", "seq", "type", "message_id")}
            case "pong":
                settings = {"PingInterval": self.mutator.junk()}
                frame = Frame(
                    frame.service, CONTROL, {"type": "pong"}, text_of(settings).encode("utf-8", "surrogatepass")
                )
        data = frame.encode()
        if way == "bytes":
            data = self.mutator.broken(data.decode("latin-1"))
        elif way == "text":
            data, kind = self.mutator.broken(json.dumps(envelope)), aiohttp.WSMsgType.TEXT
        await send_frame(socket.response, data, kind)
        assert frame.method in (DATA, CONTROL)


class DingTalkGun(Gun):
    @staticmethod
    def make() -> SimulatedPlatform:
        return SimulatedDingTalk(card=True)

    async def shoot(self) -> None:
        sockets = self.platform.gateway.open("bot")
        if not sockets:
            return
        _, data = await self.sample()
        headers = {
            "appId": "1",
            "connectionId": sockets[0].id,
            "contentType": "application/json",
            "messageId": f"junk-{self.chance.random()}",
            "time": "1",
            "topic": "/v1.0/im/bot/messages/get",
        }
        frame: dict[str, Any] = {"specVersion": "1.0", "type": "CALLBACK", "headers": headers, "data": json.dumps(data)}
        way = self.one_of("payload", "frame", "payload", "data", "system", "payload", "broken", "binary")
        match way:
            case "payload":
                frame["data"] = text_of(self.mutator.altered([data], 3))
            case "data":
                frame["data"] = self.mutator.broken(frame["data"]).decode("latin-1")
            case "system":
                topic = self.chance.choice(("ping", "KEEPALIVE", "x", 7, None))
                frame |= {
                    "type": "SYSTEM",
                    "headers": {"topic": topic, "messageId": "junk"},
                    "data": self.mutator.junk(),
                }
        text = text_of(self.mutator.altered([frame], 2) if way == "frame" else frame)
        raw = self.mutator.broken(text) if way in ("broken", "binary") else text.encode("utf-8", "surrogatepass")
        kind = aiohttp.WSMsgType.BINARY if way == "binary" else aiohttp.WSMsgType.TEXT
        await send_frame(sockets[0].response, raw, kind)


class WechatGun(Gun):
    make = SimulatedWechat

    async def shoot(self) -> None:
        server = self.platform.puppet()
        if server.stream is None:
            return
        types = puppet.EventType
        _, message = await self.sample()
        match self.one_of("message", "message", "message", "event", "payload", "broken", "dirty", "scan"):
            case "message":
                for _ in range(self.chance.randint(1, 2)):
                    name = self.chance.choice(("text", "type", "talker", "room", "mentions", "filename", "at"))
                    setattr(message, name, self._field(name))
                server.tell(message)
            case "event":
                server.emit(
                    self.chance.choice((0, 1, 16, 17, 99, types.EVENT_TYPE_ERROR)), text_of(self.mutator.junk())
                )
            case "payload":
                server.emit(types.EVENT_TYPE_MESSAGE, text_of({"messageId": self.mutator.junk()}))
            case "broken":
                server.emit(types.EVENT_TYPE_MESSAGE, self.mutator.broken('{"messageId": "1"}').decode("latin-1"))
            case "dirty":
                about = {"payloadType": self.mutator.junk(), "payloadId": self.mutator.junk()}
                server.emit(types.EVENT_TYPE_DIRTY, text_of(about))
            case "scan":
                server.emit(types.EVENT_TYPE_SCAN, text_of({"qrcode": Raw("7"), "status": self.mutator.junk()}))

    def _field(self, name: str) -> Any:
        if name == "type":
            return self.chance.choice((0, 1, 2, 3, 6, 7, 15, 99, 2**32 - 1))
        if name == "at":
            return self.chance.choice((0.0, 1.0, 1e9, 1e12, 9e15))
        text = self.chance.choice(
            ("", " ", "\0", "wxid_x", "weixin", "gh_1", "1@chatroom", "「a：b」\n- - - - - -\nc", "x" * 50_000)
        )
        return [text] * 2 if name == "mentions" else text


class WeixinGun(Gun):
    @staticmethod
    def make() -> SimulatedPlatform:
        weixin = SimulatedWeixin()
        weixin.outbox.most_answers = weixin.outbox.most_in_a_second = None
        weixin.api.hold = 0.05
        return weixin

    async def shoot(self) -> None:
        """The next poll brings it; the one after that is held as always."""
        _, sample = await self.sample()
        calls = self.platform.api.instead
        answer: dict[str, Any] = {"ret": 0, "msgs": [sample], "longpolling_timeout_ms": 500}
        match self.one_of("payload", "payload", "payload", "payload", "answer", "timeout", "broken"):
            case "payload":
                answer["msgs"] = [Raw(text_of(self.mutator.altered([sample], 3))) for _ in range(5)]
                text = text_of(answer).encode("utf-8", "surrogatepass")
            case "answer":
                text = text_of(self.mutator.altered([answer], 2)).encode("utf-8", "surrogatepass")
            case "timeout":
                text = text_of({**answer, "longpolling_timeout_ms": self.mutator.junk()}).encode(
                    "utf-8", "surrogatepass"
                )
            case _:
                text = self.mutator.broken(text_of(answer))
        answered = asyncio.Event()

        def once_only() -> web.Response:
            calls.pop("getupdates", None)
            answered.set()
            return web.Response(body=text, content_type="application/json")

        calls["getupdates"] = once_only
        async with asyncio.timeout(_SOON):
            await answered.wait()


GUNS: dict[str, type[Gun]] = {
    "slack": SlackGun,
    "discord": DiscordGun,
    "feishu": FeishuGun,
    "dingtalk": DingTalkGun,
    "wechat": WechatGun,
    "weixin": WeixinGun,
}


@asynccontextmanager
async def watched() -> AsyncIterator[list[str]]:
    """What ended in nobody's hands: errors of tasks that nobody asked for."""
    found: list[str] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: found.append(f"{context['message']}: {context.get('exception')!r}"))
    try:
        yield found
        gc.collect()
    finally:
        loop.set_exception_handler(before)


_NEVER = ("at once", "a second", "control of type", "is not binary", "a frame", "Stop was called")
"""Complaints about the link. That ids out of garbage are none, every platform complains of."""


def unexpected(gateway: Gateway) -> list[str]:
    """What the log calls a failure of the program: it shows where."""
    return [f"{entry['event']}: {entry}" for entry in gateway.logs if entry.get("exc_info")]


async def asks(world: World, text: str) -> tuple[Delivery, str]:
    """Somebody asks, and is answered. What was delivered to a link as it ended comes again, as it would some time later."""
    asked = await world.platform.person_writes(text, user=f"ann{len(world.model.requests)}")
    for _ in range(10):
        try:
            await until(lambda: once(f"answer to: {text}", world.texts(asked)), seconds=3)
            break
        except AssertionError:
            await world.platform.redeliver(asked)
    else:
        raise AssertionError(f"{text!r} is not answered: {world.texts(asked)}")
    return asked, text


async def under_fire(world: World, gun: Gun, shots: int) -> int:
    """Good messages between `shots` pieces of garbage. Returns how often the account connected anew."""
    async with watched() as lost, world.gateway() as gateway:
        asked = [await asks(world, "before")]
        for number in range(shots):
            async with asyncio.timeout(_SOON):
                await world.platform.listening()
            await gun.shoot()
            if number % 20 == 19:
                asked.append(await asks(world, f"between, {number} shots"))
        async with asyncio.timeout(_SOON):
            await world.platform.listening()
        asked.append(await asks(world, "after"))
        await until(lambda: gateway.state() is AccountState.CONNECTED)
        await until(lambda: world.platform.links() <= 1)  # what was given up is closed, too
        for delivery, text in asked:
            assert once(f"answer to: {text}", world.texts(delivery)), world.texts(delivery)
        assert unexpected(gateway) == []
        reconnects = gateway.health().reconnects
    assert lost == []
    assert [text for text in world.platform.complaints() if any(word in text for word in _NEVER)] == []
    return reconnects


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr("adapters.weixin.adapter._IDLE", 0.01)


@pytest.mark.parametrize("name", GUNS)
async def test_garbage_between_good_messages_changes_nothing(name: str, tmp_path: Path) -> None:
    kind = GUNS[name]
    async with OpenAIServer() as model, kind.make() as platform:
        gun = kind(platform, Random(1))
        reconnects = await under_fire(World(platform, model, tmp_path), gun, SHOTS)
    figure(f"{name} under fire, {reconnects} reconnects", gun.shots)
    assert gun.shots.total() > SHOTS * 0.8  # the rest met no connection


async def test_a_drop_is_noticed_after_a_pong_that_no_clock_could_have_sent(tmp_path: Path) -> None:
    """Slack's SDK reckons with the time in a pong."""
    async with OpenAIServer() as model, SimulatedSlack() as platform:
        world = World(platform, model, tmp_path)
        async with world.gateway():
            await asks(world, "before")
            (socket,) = platform.delivery.open("bot")
            await send_frame(socket.response, b"sdk-ping-pong:nan", aiohttp.WSMsgType.PONG)
            await until(lambda: socket.response.closed, seconds=5)
            await platform.listening()
            await asks(world, "after")


async def test_an_account_that_garbage_ends_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paired negative: nesting that is too deep to be read is no ValueError."""
    monkeypatch.setattr("tests.scenario.test_fuzz_links._SOON", 1.0)
    monkeypatch.setattr("adapters.weixin.api.json_of", json.loads)
    monkeypatch.setattr(WeixinGun, "one_of", lambda self, *_: self.count("broken"))
    monkeypatch.setattr(Mutator, "broken", lambda *_: b"[" * 20_000)
    async with OpenAIServer() as model, WeixinGun.make() as platform:
        with pytest.raises(TimeoutError):
            await under_fire(World(platform, model, tmp_path), WeixinGun(platform, Random(1)), 2)


async def test_a_failure_that_nobody_expected_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paired negative: the adapter lives on, since what takes its events catches everything, and logs it."""
    parse = slack_parse.parse_message

    def trusting(payload: Any, **more: Any) -> InboundMessage | None:
        return parse(payload, **more) if payload["event"]["client_msg_id"] else None

    def without_its_id(_: Mutator, samples: Sequence[Any], *__: int) -> Any:
        event = {name: value for name, value in samples[0]["event"].items() if name != "client_msg_id"}
        return {**samples[0], "event": event}

    monkeypatch.setattr("adapters.slack.reception.parse_message", trusting)
    monkeypatch.setattr(SlackGun, "one_of", lambda self, *_: self.count("payload"))
    monkeypatch.setattr(Mutator, "altered", without_its_id)
    async with OpenAIServer() as model, SlackGun.make() as platform:
        with pytest.raises(AssertionError, match=r"could not be dealt with|messages back failed"):
            await under_fire(World(platform, model, tmp_path), SlackGun(platform, Random(1)), 4)
