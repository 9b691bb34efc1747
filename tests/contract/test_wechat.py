"""WeChat behind a Wechaty puppet service against the contract, and what is special about it: one stream, a login by
code, events that nobody repeats, names and files that are looked up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from wechaty_grpc.wechaty import puppet

from adapters.wechat import WechatAdapter, WechatReply
from core.adapter import IdempotencyKey, LoginStep, OutboundFile
from core.errors import DeliveryError, FileTooLarge
from core.messages import Attachment
from gateway.supervisor import WAITING_FOR_SCAN, AccountState
from tests.contract.platform import Delivery, File, SimulatedPlatform
from tests.contract.suite import AdapterContract, hurry, long_answer
from tests.contract.world import Gateway, World, holds, once, until
from tests.simulators import wechat_wire as wire
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.wechat import SimulatedWechat

BLOB = bytes(range(256)) * 100
"""More than a server sends along."""


class TestWechat(AdapterContract):
    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return SimulatedWechat()

    async def test_files_are_described_and_fetched_within_the_cap(self, world: World) -> None:
        """In WeChat each file is a message of its own, and nobody tells its size."""
        sent = (File(name="a.bin", media_type="application/octet-stream", content=BLOB), File())
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("look at this", files=sent)
            await until(lambda: world.told(asked, "answer to: look at this"))
            await until(lambda: gateway.idle)
            (first,), (second,), none = (message.attachments for message in gateway.store.accepted)
            assert none == ()
            assert (first.name, first.size, second.name) == ("a.bin", None, "notes.txt")
            assert second.media_type.startswith("text/plain")
            assert await adapter_of(gateway).fetch(first, most_bytes=len(BLOB)) == BLOB
            assert await adapter_of(gateway).fetch(second, most_bytes=len(BLOB)) == b"notes"
            with pytest.raises(FileTooLarge):
                await adapter_of(gateway).fetch(first, most_bytes=len(BLOB) - 1)


class TestWechatOfOlderServers(TestWechat):
    """Only the old fields, and times in seconds."""

    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return SimulatedWechat(form="0.x")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def wechat() -> SimulatedWechat:
    return SimulatedWechat()


@pytest.fixture
async def world(wechat: SimulatedWechat, tmp_path: Path) -> AsyncIterator[World]:
    """As in the suite: whatever the platform complained of fails the test."""
    async with OpenAIServer() as model, wechat:
        yield World(wechat, model, tmp_path)
        assert list(wechat.complaints()) == []


def adapter_of(gateway: Gateway) -> WechatAdapter:
    adapter = gateway.adapter()
    assert isinstance(adapter, WechatAdapter)
    return adapter


async def answers(world: World, gateway: Gateway, text: str, **where: str | bool) -> Delivery:
    """Somebody asks, and is answered."""
    asked = await world.platform.person_writes(text, **where)  # type: ignore[arg-type]  # `user`, `direct`, `account`
    await until(lambda: world.told(asked, f"answer to: {text}"))
    await until(lambda: gateway.idle)
    return asked


async def heard_again(world: World, wechat: SimulatedWechat, gateway: Gateway, text: str) -> None:
    """After whatever happened, messages arrive."""
    async with asyncio.timeout(30):
        await wechat.listening()
    await answers(world, gateway, text)
    await until(lambda: gateway.state() is AccountState.CONNECTED)


# The link


async def test_over_tls(tmp_path: Path) -> None:
    async with OpenAIServer() as model, SimulatedWechat(tls=True) as wechat:
        world = World(wechat, model, tmp_path)
        async with world.gateway() as gateway:
            await answers(world, gateway, "hello")
        assert list(wechat.complaints()) == []


async def test_a_stream_that_somebody_else_has_is_waited_for(
    world: World, wechat: SimulatedWechat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.wechat.adapter._TAKEN_FOR", 0.2)
    wechat.puppet().occupied = True
    async with world.gateway(listening=False) as gateway:
        await until(lambda: gateway.health().reconnects or gateway.state() is AccountState.WAITING)
        await holds(lambda: gateway.state() in (AccountState.STARTING, AccountState.WAITING))
        wechat.puppet().occupied = False
        await heard_again(world, wechat, gateway, "my turn")


async def test_a_stream_that_ends_politely_is_begun_again(world: World, wechat: SimulatedWechat) -> None:
    async with world.gateway() as gateway:
        await answers(world, gateway, "before")
        wechat.puppet().end_stream()
        await until(lambda: wechat.puppet().stream is None)
        await heard_again(world, wechat, gateway, "after")


async def test_a_server_that_is_away_and_comes_back(world: World, wechat: SimulatedWechat) -> None:
    server = wechat.server()
    async with world.gateway() as gateway:
        await answers(world, gateway, "before")
        await server.stop()
        await until(lambda: gateway.state() is not AccountState.CONNECTED)
        await server.start()
        await heard_again(world, wechat, gateway, "after")


async def test_a_reply_of_before_a_restart_of_the_server_goes_out_after_it(
    world: World, wechat: SimulatedWechat
) -> None:
    server = wechat.server()
    world.model.pause()
    async with world.gateway() as gateway:
        asked = await wechat.person_writes("hello")
        await until(lambda: world.model.requests)
        await server.stop()
        world.model.resume()
        await until(lambda: gateway.state() is not AccountState.CONNECTED)
        await holds(lambda: world.texts(asked) == [])
        await server.start()
        await until(lambda: world.told(asked, "answer to: hello"))
        await until(lambda: gateway.idle)
        assert once("answer to: hello", world.texts(asked))


async def test_a_server_that_says_nothing_by_itself_is_asked(
    world: World, wechat: SimulatedWechat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.wechat.adapter._QUIET", 0.5)
    monkeypatch.setattr("adapters.wechat.adapter._LOOK", 0.1)
    wechat.puppet().beats = 0
    async with world.gateway() as gateway:
        adapter_of(gateway).deaf_after = wechat.patience
        await until(lambda: gateway.state() is AccountState.CONNECTED)
        heard = gateway.health().last_heard
        assert heard is not None
        await until(lambda: (gateway.health().last_heard or heard) > heard + 1.5 * wechat.patience)
        assert gateway.health().reconnects == 0
        assert "Ding" in wechat.puppet().calls


# Signing in


async def test_a_code_is_shown_until_it_is_scanned_and_told_to_nobody(world: World, wechat: SimulatedWechat) -> None:
    robot = wechat.puppet()
    robot.logged_in = False
    codes = [f"https://login.weixin.qq.com/l/secret-{number}" for number in range(2)]
    robot.show_code(codes[0])
    async with world.gateway(listening=False) as gateway:
        adapter = adapter_of(gateway)

        def shown() -> tuple[str, LoginStep] | None:
            code = adapter.login_code()
            return (code.content, code.step) if code is not None else None

        await until(lambda: gateway.health().reason == WAITING_FOR_SCAN)
        assert shown() == (codes[0], LoginStep.SCAN)
        robot.show_code(codes[1])
        await until(lambda: shown() == (codes[1], LoginStep.SCAN))
        robot.show_code(codes[1], wire.SCANNED)
        await until(lambda: shown() == (codes[1], LoginStep.CONFIRM))
        async with aiohttp.ClientSession() as session, session.get(f"{gateway.app.url}/readyz") as response:
            told = await response.text()
        assert WAITING_FOR_SCAN in told
        robot.log_in()
        await until(lambda: shown() is None)
        await heard_again(world, wechat, gateway, "at last")
    told += json.dumps([str(entry) for entry in gateway.logs])
    assert not [secret for secret in (*codes, robot.token) if secret in told]


async def test_after_a_logout_a_new_code_is_waited_for(world: World, wechat: SimulatedWechat) -> None:
    robot = wechat.puppet()
    async with world.gateway() as gateway:
        await answers(world, gateway, "before")
        robot.log_out()
        robot.show_code("https://login.weixin.qq.com/l/again")
        await until(lambda: gateway.health().reason == WAITING_FOR_SCAN)
        robot.log_in()
        await heard_again(world, wechat, gateway, "after")


async def test_what_was_answered_during_a_scan_is_sent_after_it(world: World, wechat: SimulatedWechat) -> None:
    robot = wechat.puppet()
    world.model.pause()
    async with world.gateway() as gateway:
        asked = await wechat.person_writes("hello")
        await until(lambda: world.model.requests)
        robot.log_out()
        robot.show_code("https://login.weixin.qq.com/l/again")
        await until(lambda: gateway.health().reason == WAITING_FOR_SCAN)
        world.model.resume()
        await until(lambda: gateway.idle)
        assert world.texts(asked) == []
        robot.log_in()
        await until(lambda: world.told(asked, "answer to: hello"))
        await until(lambda: gateway.idle)
        assert once("answer to: hello", world.texts(asked))


# What comes


async def test_old_messages_that_a_login_brings_again_are_not_answered(world: World, wechat: SimulatedWechat) -> None:
    robot = wechat.puppet()
    robot.replays = True
    await wechat.person_writes("long ago", age=timedelta(minutes=10))
    async with world.gateway() as gateway:
        await answers(world, gateway, "once")
        for _ in range(2):
            await wechat.drop()
            await until(lambda: robot.stream is None)
            async with asyncio.timeout(30):
                await wechat.listening()
        await answers(world, gateway, "fence", user="zoe")
    assert [request.last for request in world.model.requests] == ["once", "fence"]


async def test_a_mention_by_name_alone_is_one(world: World, wechat: SimulatedWechat) -> None:
    name = wechat.state.bot("bot").shown_name
    async with world.gateway() as gateway:
        for text in (f"@{name}\u2005one", f"@{name} one"):
            asked = await wechat.person_writes(text, direct=False, mention=False, channel=f"room {len(text)}")
            await until(lambda asked=asked: world.told(asked, "answer to: one"))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        await wechat.person_writes(f"@{name}xyz not you", direct=False, mention=False)
        await answers(world, gateway, "fence", user="zoe")
        assert [message.text for message in gateway.store.accepted] == ["one", "one", "fence"]
        assert all(message.mentions_bot for message in gateway.store.accepted[:2])


async def test_who_asks_in_a_room_is_named_as_they_go_by_there(world: World, wechat: SimulatedWechat) -> None:
    bot = wechat.state.bot("bot")
    room, ann = bot.room("general"), bot.contact("ann")
    async with world.gateway() as gateway:
        asked = await answers(world, gateway, "one", direct=False)
        assert world.texts(asked)[0].startswith("@Ann ")
        room.aliases[ann.id] = "Annie"
        dirty = {"payloadType": puppet.PayloadType.PAYLOAD_TYPE_ROOM_MEMBER, "payloadId": room.id}
        wechat.puppet().emit(puppet.EventType.EVENT_TYPE_DIRTY, dirty)
        await answers(world, gateway, "two", direct=False)
        assert world.texts(asked)[-1].startswith("@Annie ")


async def test_a_quote_is_split_off(world: World, wechat: SimulatedWechat) -> None:
    quoting = "「Bob：the answer is 42」\n- - - - - - - - - - - - - - -\nwhy?"
    async with world.gateway() as gateway:
        asked = await wechat.person_writes(quoting)
        await until(lambda: world.told(asked, "answer to: why?"))
        (message,) = gateway.store.accepted
        assert message.quoted is not None
        assert (message.text, message.quoted.author, message.quoted.text) == ("why?", "Bob", "the answer is 42")


async def test_who_cannot_be_looked_up_is_answered_all_the_same(world: World, wechat: SimulatedWechat) -> None:
    wechat.puppet().missing.add(wechat.state.bot("bot").contact("ann").id)
    async with world.gateway() as gateway:
        await answers(world, gateway, "who am I?")
        asked = await answers(world, gateway, "and here?", direct=False)
        assert len(world.texts(asked)) == 1


async def test_a_message_that_cannot_be_looked_up_does_not_end_the_link(world: World, wechat: SimulatedWechat) -> None:
    async with world.gateway() as gateway:
        wechat.puppet().emit(puppet.EventType.EVENT_TYPE_MESSAGE, {"messageId": "4611686018427009999"})
        wechat.puppet().emit(puppet.EventType.EVENT_TYPE_MESSAGE, {"nothing": "known"})
        await answers(world, gateway, "still there?")
        assert gateway.health().reconnects == 0


async def test_a_slow_lookup_holds_up_its_own_conversation_alone(world: World, wechat: SimulatedWechat) -> None:
    robot = wechat.puppet()
    async with world.gateway() as gateway:
        await answers(world, gateway, "hello")
        robot.slow["ContactPayload"] = 5.0
        slow = await wechat.person_writes("slow", user="bob")
        await until(lambda: robot.calls.count("ContactPayload") >= 2)
        await answers(world, gateway, "quick")
        assert world.texts(slow) == []
        await until(lambda: world.told(slow, "answer to: slow"))


async def test_friends_invitations_and_joins_are_let_be(world: World, wechat: SimulatedWechat) -> None:
    robot = wechat.puppet()
    async with world.gateway() as gateway:
        robot.emit(puppet.EventType.EVENT_TYPE_FRIENDSHIP, {"friendshipId": "f1"})
        robot.emit(puppet.EventType.EVENT_TYPE_ROOM_INVITE, {"roomInvitationId": "i1"})
        robot.emit(puppet.EventType.EVENT_TYPE_ROOM_JOIN, {"roomId": "r1", "inviteeIdList": [], "inviterId": ""})
        robot.emit(puppet.EventType.EVENT_TYPE_ERROR, {"data": "something on the server"})
        robot.emit(99, {"data": "of a later version"})
        await answers(world, gateway, "hello")
        assert len(world.model.requests) == 1


# Files


async def test_a_file_can_be_fetched_after_a_restart_of_the_server(world: World, wechat: SimulatedWechat) -> None:
    server = wechat.server()
    async with world.gateway() as gateway:
        await wechat.person_writes("", files=[File(name="a.png", media_type="image/png", content=BLOB)])
        await until(lambda: gateway.store.accepted)
        (attachment,) = gateway.store.accepted[0].attachments
        assert await adapter_of(gateway).fetch(attachment, most_bytes=len(BLOB)) == BLOB
        await server.stop()
        await until(lambda: gateway.state() is not AccountState.CONNECTED)
        await server.start()
        await heard_again(world, wechat, gateway, "hello again")
        assert await adapter_of(gateway).fetch(attachment, most_bytes=len(BLOB)) == BLOB


@pytest.mark.parametrize("form", ["0.x", "1.x"])
async def test_every_kind_of_file_is_fetched(world: World, wechat: SimulatedWechat, form: wire.Form) -> None:
    wechat.puppet().form = form
    names = {"p.jpg": "image/jpeg", "v.sil": "audio/silk", "f.mp4": "video/mp4", "d.pdf": "application/pdf"}
    files = [File(name=name, media_type=kind, content=BLOB[: 100 + i]) for i, (name, kind) in enumerate(names.items())]
    async with world.gateway() as gateway:
        await wechat.person_writes("", files=files)
        await until(lambda: len(gateway.store.accepted) == len(files))
        found: list[Attachment] = [each for message in gateway.store.accepted for each in message.attachments]
        contents = [await adapter_of(gateway).fetch(each, most_bytes=1000) for each in found]
        assert sorted(contents) == sorted(file.content for file in files)


async def test_files_are_sent_within_what_a_request_may_have(world: World, wechat: SimulatedWechat) -> None:
    bot = wechat.state.bot("bot")
    async with world.gateway() as gateway:
        asked = await answers(world, gateway, "hello")
        reply = gateway.reply(gateway.store.accepted[0])
        assert isinstance(reply, WechatReply)
        for name, kind in (("a.txt", "text/plain"), ("a.png", "image/png")):
            file = OutboundFile(name=name, media_type=kind, content=BLOB)
            assert await reply.attach(file, key=IdempotencyKey(f"file-{name[-3:]}"))
            assert (bot.sent[-1].filename, bot.sent[-1].content) == (name, BLOB)
        assert world.texts(asked)[1:] == ["[a.txt]", "[a.png]"]
        big = OutboundFile(name="big.bin", media_type="application/octet-stream", content=bytes(4 * 1024 * 1024))
        with pytest.raises(DeliveryError):
            await reply.attach(big, key=IdempotencyKey("file-big"))
        assert len(world.texts(asked)) == 3


# What goes out


async def test_a_send_without_an_id_is_not_sent_again(world: World, wechat: SimulatedWechat) -> None:
    wechat.puppet().outbox.tells_ids = False
    async with world.gateway() as gateway:
        asked = await answers(world, gateway, "hello")
        await answers(world, gateway, "fence", user="zoe")
        assert once("answer to: hello", world.texts(asked))
        assert await gateway.store.dead_letters() == []


async def test_parts_of_an_answer_have_no_more_than_1800_characters(world: World, wechat: SimulatedWechat) -> None:
    world.model.configure(reply=f"={long_answer(8_000)}")
    async with world.gateway() as gateway:
        asked = await wechat.person_writes("more", direct=False)
        await until(lambda: world.told(asked, long_answer(8_000)))
        await until(lambda: gateway.idle)
        texts = world.texts(asked)
        assert len(texts) > 4
        assert max(map(len, texts)) <= 1_800
        assert texts[0].startswith("@Ann ")
