"""The simulated puppet service, spoken to through Wechaty's own stubs (https://github.com/wechaty/grpc): what it does,
and that it complains of every mistake."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from wechaty_grpc.wechaty import PuppetStub, puppet

from tests.contract.world import until
from tests.simulators import wechat_wire as wire
from tests.simulators.wechat_server import WechatServer
from tests.simulators.wechat_state import WechatMessage, WechatState
from tests.simulators.wechat_tls import make_certificate, server_context

Event = puppet.EventType


class Client:
    """A program on the server's wire, with its event stream in a task."""

    def __init__(self, server: WechatServer, channel: Channel, token: str = "") -> None:
        self.server = server
        self.puppet = server.puppet
        self.bot = server.puppet.bot
        self.state = server.puppet.state
        self.channel = channel
        metadata = {"authorization": f"Wechaty {token or self.bot.token}"}
        self.stub = PuppetStub(channel, metadata=metadata)
        self.events: list[tuple[int, dict[str, Any]]] = []
        self.ended: BaseException | None = None
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        try:
            async for event in self.stub.event():
                self.events.append((int(event.type), json.loads(event.payload)))
        except (GRPCError, StreamTerminatedError, OSError) as error:
            self.ended = error

    def kinds(self) -> list[int]:
        return [kind for kind, _ in self.events]

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.channel.close()

    def person_writes(self, text: str, *, room: bool = False, **more: Any) -> WechatMessage:
        ann = self.bot.contact("ann")
        where: dict[str, Any] = {"room": self.bot.room("general").id} if room else {"listener": self.bot.id}
        message = self.state.message(self.bot, ann.id, text, **where, **more)
        self.puppet.tell(message)
        return message


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[WechatServer]:
    state = WechatState()
    server = WechatServer(state, state.bot("bot"))
    server.puppet.beats = 0
    for name, value in settings.items():
        setattr(server.puppet, name, value)
    async with server:
        yield server


@asynccontextmanager
async def speaking(server: WechatServer, *, token: str = "") -> AsyncIterator[Client]:
    host, _, port = server.cable.endpoint.partition(":")
    client = Client(server, Channel(host, int(port)), token)
    try:
        yield client
    finally:
        await client.close()


async def test_a_fresh_stream_begins_with_a_heartbeat_and_the_login() -> None:
    async with serving() as server, speaking(server) as client:
        await until(lambda: len(client.events) == 3)
        assert client.kinds() == [Event.EVENT_TYPE_HEARTBEAT, Event.EVENT_TYPE_LOGIN, Event.EVENT_TYPE_READY]
        assert client.events[1][1] == {"contactId": client.bot.id}
        server.puppet.beats = 0.02
        await client.stub.ding(data="1")
        await until(lambda: client.kinds()[3:5] == [Event.EVENT_TYPE_DONG, Event.EVENT_TYPE_HEARTBEAT])
        assert client.state.complaints == []


async def test_a_wrong_token_is_refused_with_its_own_text() -> None:
    async with serving() as server, speaking(server, token="sesame") as client:
        await until(lambda: client.ended)
        assert isinstance(client.ended, GRPCError)
        assert (client.ended.status, client.ended.message) == (
            Status.UNAUTHENTICATED,
            'Invalid Wechaty TOKEN "sesame"',
        )
        assert client.state.complaints == []


async def test_a_call_without_a_token_is_complained_of() -> None:
    async with serving() as server, speaking(server) as client:
        with pytest.raises(GRPCError):
            await PuppetStub(client.channel).version()
        assert client.state.complaints == ["a call without authorization"]


async def test_there_is_one_stream_and_a_second_is_complained_of() -> None:
    async with serving() as server, speaking(server) as first:
        await until(lambda: first.events)
        async with speaking(server) as second:
            await until(lambda: second.ended)
            assert isinstance(second.ended, GRPCError)
            assert second.ended.status is Status.ALREADY_EXISTS
            await until(lambda: first.state.complaints)
            assert "second stream" in first.state.complaints[0]


async def test_a_stream_that_was_left_can_be_taken_over() -> None:
    async with serving() as server:
        async with speaking(server) as first:
            await until(lambda: first.events)
        await until(lambda: server.puppet.stream is None)
        server.puppet.occupied = True
        async with speaking(server) as refused:
            await until(lambda: refused.ended)
        server.puppet.occupied = False
        async with speaking(server) as second:
            await until(lambda: second.events)
            assert server.puppet.state.complaints == []


@pytest.mark.parametrize("form", ["0.x", "1.x"])
async def test_messages_are_told_by_id_and_looked_up(form: wire.Form) -> None:
    async with serving(form=form, milliseconds=form == "1.x") as server, speaking(server) as client:
        await until(lambda: len(client.events) == 3)
        said = client.person_writes("hello", room=True, mentions=[client.bot.id])
        await until(lambda: len(client.events) == 4)
        assert client.events[-1] == (Event.EVENT_TYPE_MESSAGE, {"messageId": said.id})
        payload = await client.stub.message_payload(id=said.id)
        assert (payload.text, payload.type, payload.from_id, payload.room_id) == (
            "hello",
            wire.TEXT,
            said.talker,
            said.room,
        )
        assert payload.mention_ids == [client.bot.id]
        assert (payload.timestamp > 2_145_888_000) is (form == "1.x")
        contact = await client.stub.contact_payload(id=said.talker)
        assert (contact.name, contact.type) == ("Ann", wire.PERSONAL)
        client.bot.room("general").members.append(said.talker)
        room = await client.stub.room_payload(id=said.room)
        assert (room.topic, room.member_ids) == ("General", [client.bot.id, said.talker])
        member = await client.stub.room_member_payload(id=said.room, member_id=said.talker)
        assert member.name == "Ann"
        server.puppet.missing.add(said.talker)
        with pytest.raises(GRPCError) as caught:
            await client.stub.contact_payload(id=said.talker)
        assert caught.value.status is Status.UNKNOWN
        assert client.state.complaints == []


@pytest.mark.parametrize("form", ["0.x", "1.x"])
async def test_a_send_is_shown_told_and_comes_back_as_an_event(form: wire.Form) -> None:
    async with serving(form=form) as server, speaking(server) as client:
        await until(lambda: len(client.events) == 3)
        ann = client.bot.contact("ann").id
        told = await client.stub.message_send_text(conversation_id=ann, text="hi", mentonal_ids=[])
        (sent,) = client.bot.sent
        assert (told.id, sent.text, sent.listener) == (sent.id, "hi", ann)
        await until(lambda: client.events[-1] == (Event.EVENT_TYPE_MESSAGE, {"messageId": sent.id}))
        assert (await client.stub.message_payload(id=sent.id)).from_id == client.bot.id
        server.puppet.outbox.tells_ids = False
        assert (await client.stub.message_send_text(conversation_id=ann, text="hi", mentonal_ids=[])).id is None
        assert client.state.complaints == []


async def test_sends_that_break_off() -> None:
    async with serving() as server, speaking(server) as client:
        ann = client.bot.contact("ann").id
        server.puppet.outbox.faults += ["broken", "lost"]
        for text in ("one", "two"):
            with pytest.raises(StreamTerminatedError):
                await client.stub.message_send_text(conversation_id=ann, text=text, mentonal_ids=[])
        assert [sent.text for sent in client.bot.sent] == ["two"]
        client.bot.gone.add(ann)
        with pytest.raises(GRPCError):
            await client.stub.message_send_text(conversation_id=ann, text="three", mentonal_ids=[])
        assert client.state.complaints == []


@pytest.mark.parametrize(
    ("to", "text", "complaint"),
    [
        ("wxid_stranger", "hi", "none of"),
        ("filehelper", "hi", "nobody"),
        ("self", "hi", "nobody"),
        ("official", "hi", "official"),
        ("ann", " ", "empty"),
        ("ann", "x" * 2_001, "2001"),
    ],
)
async def test_a_wrong_send_is_complained_of(to: str, text: str, complaint: str) -> None:
    async with serving() as server, speaking(server) as client:
        named = {
            "ann": client.bot.contact("ann").id,
            "self": client.bot.id,
            "official": client.bot.contact("news", type=wire.OFFICIAL).id,
        }
        call = client.stub.message_send_text(conversation_id=named.get(to, to), text=text, mentonal_ids=[])
        await asyncio.gather(call, return_exceptions=True)
        (said,) = client.state.complaints
        assert complaint in said


async def test_a_mention_of_others_is_a_ping() -> None:
    async with serving() as server, speaking(server) as client:
        asked = client.person_writes("hello", room=True)
        for mentioned in (asked.talker, client.bot.contact("bob").id):
            await client.stub.message_send_text(
                conversation_id=asked.room, text=f"for {mentioned}", mentonal_ids=[mentioned]
            )
        assert client.bot.pings == [f"for {client.bot.contact('bob').id}"]


async def test_small_files_come_along_and_large_ones_by_download() -> None:
    async with serving() as server, speaking(server) as client:
        small = client.person_writes("", type=wire.ATTACHMENT, filename="a.txt", content=b"notes")
        box = json.loads((await client.stub.message_file(id=small.id)).filebox)
        assert (box["type"], base64.b64decode(box["base64"]), box["size"]) == (1, b"notes", 5)
        content = bytes(range(256)) * 1_000
        large = client.person_writes("", type=wire.IMAGE, filename="a.png", content=content)
        box = json.loads((await client.stub.message_image(id=large.id, type=puppet.ImageType.IMAGE_TYPE_HD)).filebox)
        assert box["type"] == 7
        pieces = [
            piece.chunk
            async for piece in client.stub._unary_stream(
                "/wechaty.Puppet/Download", wire.Id(id=box["uuid"]), wire.Chunk
            )
        ]
        assert b"".join(pieces) == content
        server.puppet.form = "0.x"
        assert "type" not in json.loads((await client.stub.message_file(id=small.id)).filebox)
        assert client.state.complaints == []
        server.puppet.forget_files()
        with pytest.raises(StreamTerminatedError):
            await anext(client.stub._unary_stream("/wechaty.Puppet/Download", wire.Id(id=box["uuid"]), wire.Chunk))
        (said,) = client.state.complaints
        assert "dies of it" in said


async def test_files_are_sent_within_the_limit_of_a_request() -> None:
    async with serving() as server, speaking(server) as client:
        ann = client.bot.contact("ann").id

        async def send(content: bytes, **changes: Any) -> None:
            box = {"type": 1, "name": "a.png", "base64": base64.b64encode(content).decode(), **changes}
            await client.stub.message_send_file(conversation_id=ann, filebox=json.dumps(box))

        await send(b"a picture")
        assert client.bot.sent[0].content == b"a picture"
        assert client.state.complaints == []
        with pytest.raises(GRPCError) as caught:
            await send(bytes(4 * 1024 * 1024))
        assert caught.value.status is Status.RESOURCE_EXHAUSTED
        with pytest.raises(GRPCError):
            await send(b"x", type=5)
        assert len(client.state.complaints) == 2


async def test_stopping_the_client_is_always_complained_of() -> None:
    async with serving() as server, speaking(server) as client:
        await until(lambda: client.events)
        await client.stub.stop()
        await until(client.task.done)
        assert client.ended is None
        assert client.state.complaints == ["Stop was called"]
        async with speaking(server) as other:
            await until(lambda: other.events)
            await other.stub.start()
            await until(lambda: Event.EVENT_TYPE_LOGIN in other.kinds())


async def test_a_code_is_shown_until_somebody_has_scanned_it() -> None:
    async with serving(logged_in=False, replays=True) as server, speaking(server) as client:
        await until(lambda: client.events)
        server.puppet.show_code("https://login.weixin.qq.com/l/1")
        await until(lambda: client.events[-1][1] == {"qrcode": "https://login.weixin.qq.com/l/1", "status": 2})
        old = client.person_writes("while it was away", age=600)
        server.puppet.log_in()
        await until(lambda: (Event.EVENT_TYPE_MESSAGE, {"messageId": old.id}) in client.events)
        server.puppet.log_out()
        await until(lambda: client.kinds()[-1] == Event.EVENT_TYPE_LOGOUT)
        with pytest.raises(GRPCError):
            await client.stub.message_send_text(conversation_id=old.talker, text="hi", mentonal_ids=[])
        assert client.state.complaints == []


async def test_a_pending_code_is_told_to_who_connects_later() -> None:
    async with serving(logged_in=False) as server:
        server.puppet.show_code("code")
        async with speaking(server) as client:
            await until(lambda: client.kinds() == [Event.EVENT_TYPE_HEARTBEAT, Event.EVENT_TYPE_SCAN])


async def test_a_cable_that_breaks_falls_silent_and_refuses() -> None:
    async with serving(beats=0.05) as server:
        async with speaking(server) as client:
            await until(lambda: client.events)
            server.cable.cut()
            await until(lambda: client.ended)
            await until(lambda: server.puppet.stream is None)
        async with speaking(server) as client:
            await until(lambda: len(client.events) > 3)
            server.cable.lines[0].silent = True
            stream = server.puppet.stream
            assert stream is not None
            assert not stream.alive
            heard = len(client.events)
            await asyncio.wait([client.task], timeout=0.3)
            assert len(client.events) <= heard + 1
        await until(lambda: not server.cable.lines and server.puppet.stream is None)
        server.cable.refuse = 1
        async with speaking(server) as client:
            await until(lambda: client.ended)
        async with speaking(server) as client:
            await until(lambda: client.events)


async def test_a_server_that_restarts() -> None:
    async with serving() as server:
        async with speaking(server) as client:
            await until(lambda: client.events)
            server.puppet.end_stream()
            await until(client.task.done)
            assert client.ended is None
        await server.stop()
        async with speaking(server) as client:
            await until(lambda: client.ended)
        await server.start()
        async with speaking(server) as client:
            await until(lambda: client.events)


async def test_tls_with_a_certificate_of_its_own() -> None:
    key, certificate = make_certificate()
    state = WechatState()
    async with WechatServer(state, state.bot("bot"), tls=server_context(key, certificate)) as server:
        host, _, port = server.cable.endpoint.partition(":")
        context = ssl.create_default_context(cadata=certificate)
        context.set_alpn_protocols(["h2"])
        client = Client(server, Channel(host, int(port), ssl=context))
        await until(lambda: client.events or client.ended)
        assert client.ended is None
        await client.close()
