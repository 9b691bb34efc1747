"""What a WeChat account sends, on the simulated wire: its pace, what a failure means, names in rooms, and files both ways."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from grpclib.const import Status

from adapters.wechat.address import Address
from adapters.wechat.outgoing import Outgoing, _explained
from adapters.wechat.service import PuppetService, Refused
from core.adapter import CanEdit, CanFind, CanStream, IdempotencyKey, Keyed, OutboundFile
from core.errors import (
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    FileRefused,
    FileTooLarge,
    FileUnavailable,
    HeldBack,
    RateLimited,
    TargetGone,
)
from core.messages import Attachment
from tests.clock import HeldClock
from tests.contract.platform import File
from tests.contract.world import holds, until
from tests.simulators.wechat import SimulatedWechat
from tests.unit.wechat_running import Running, service


@pytest.fixture
async def wechat() -> AsyncIterator[SimulatedWechat]:
    async with SimulatedWechat() as platform:
        platform.server()
        yield platform
        assert list(platform.complaints()) == []


@pytest.fixture
def bot(wechat: SimulatedWechat) -> Running:
    return Running(wechat)


def key(number: int) -> IdempotencyKey:
    return IdempotencyKey(f"0123456789abcdef-{number}")


def sent(platform: SimulatedWechat) -> list[str]:
    return [message.text for message in platform.state.bot("bot").sent]


# Pace


def paced(calls: PuppetService, clock: HeldClock, pace: float) -> Outgoing:
    outgoing = Outgoing(clock, pace=pace)
    outgoing.service, outgoing.ready = calls, True
    return outgoing


async def test_at_its_own_pace_an_account_writes_one_message_after_the_other(wechat: SimulatedWechat) -> None:
    people = [Address(conversation=wechat.state.bot("bot").contact(name).id) for name in ("ann", "bob")]
    clock = HeldClock()
    async with service(wechat) as calls:
        outgoing = paced(calls, clock, 1.0)
        tasks = [asyncio.create_task(outgoing.send(who, "x" * 250, key(n))) for n, who in enumerate(people)]
        await until(lambda: clock.sleeping == 2)
        await clock.advance(1.95)  # 1 s at least, and 1 s for 250 characters
        await holds(lambda: sent(wechat) == [])
        await clock.advance(2.05)  # 3 s at most
        await until(lambda: sent(wechat))
        await clock.advance(4.0)
        await asyncio.gather(*tasks)
    assert len(sent(wechat)) == 2


async def test_two_messages_are_never_closer_than_a_person_would_write_them(wechat: SimulatedWechat) -> None:
    ann = Address(conversation=wechat.state.bot("bot").contact("ann").id)
    clock = HeldClock()
    async with service(wechat) as calls:
        outgoing = paced(calls, clock, 1.0)
        began = clock.monotonic()
        for number in range(5):
            sending = asyncio.create_task(outgoing.send(ann, "x", key(number)))
            await until(lambda: clock.sleeping)
            while clock.sleeping:
                await clock.advance(0.1)
            await sending
        assert clock.monotonic() - began >= 5.0


async def test_who_would_wait_too_long_comes_back_and_has_a_turn_then(wechat: SimulatedWechat) -> None:
    ann = Address(conversation=wechat.state.bot("bot").contact("ann").id)
    clock = HeldClock()
    async with service(wechat) as calls:
        outgoing = paced(calls, clock, 20.0)
        waits = []
        for number in range(3):
            with pytest.raises(RateLimited) as caught:
                await outgoing.send(ann, "x", key(number))
            waits.append(caught.value.retry_after)
        assert waits[0] >= 20.0
        assert all(later - earlier >= 20.0 for earlier, later in pairwise(waits))
        await clock.advance(waits[2] + 0.1)
        for number in range(3):
            await outgoing.send(ann, f"{number}", key(number))
    assert sent(wechat) == ["0", "1", "2"]


async def test_without_a_pace_nothing_is_waited_for(wechat: SimulatedWechat) -> None:
    ann = Address(conversation=wechat.state.bot("bot").contact("ann").id)
    async with service(wechat) as calls:
        outgoing = paced(calls, HeldClock(), 0)
        await asyncio.gather(*(outgoing.send(ann, f"{number}", key(number)) for number in range(20)))
    assert len(sent(wechat)) == 20


# What failures mean


def test_nothing_makes_a_send_unique_and_nothing_pretends_to() -> None:
    from adapters.wechat import WechatReply

    assert not issubclass(WechatReply, Keyed | CanFind | CanEdit | CanStream)


@pytest.mark.parametrize(
    ("thrown", "kind"),
    [
        ("Error: not logged in", DeliveryUnavailable),
        ("GError: timeout 15000 ms", DeliveryUncertain),
        ("Error: read ECONNRESET", DeliveryUncertain),
        ("Error: MockContact.load(): wxid_x not exist.", TargetGone),
        ("Error: room 1@chatroom not found", TargetGone),
        ("Error: ret -1", Refused),
        ("", Refused),
    ],
)
def test_what_a_puppet_throws_is_told_apart(thrown: str, kind: type[DeliveryError]) -> None:
    explained = _explained(Refused("MessageSendText: the puppet service answered UNKNOWN", Status.UNKNOWN, thrown))
    assert type(explained) is kind
    assert not thrown or thrown not in str(explained)


def test_a_server_that_has_enough_for_now_is_asked_again_later() -> None:
    busy = Refused("MessageSendText: the puppet service answered RESOURCE_EXHAUSTED", Status.RESOURCE_EXHAUSTED, "slow")
    assert type(_explained(busy)) is DeliveryUnavailable


async def test_a_send_of_which_the_answer_is_lost_is_in_doubt(wechat: SimulatedWechat, bot: Running) -> None:
    async with bot.running():
        reply = await bot.asked()
        for after in (True, False):
            wechat.break_send(after=after)
            with pytest.raises(DeliveryUncertain):
                await reply.send("hello", key=key(1))
        assert await reply.send("again", key=key(1))
    assert sent(wechat) == ["hello", "again"]


async def test_nothing_is_sent_without_a_connection_and_nothing_during_a_scan(
    wechat: SimulatedWechat, bot: Running
) -> None:
    async with bot.running():
        reply = await bot.asked()
        bot.robot.log_out()
        await until(lambda: not bot.adapter.last_heard())
        with pytest.raises(DeliveryUnavailable):
            await reply.send("logged out", key=key(1))
        bot.robot.show_code("https://login.weixin.qq.com/l/x")
        await until(bot.adapter.login_code)
        with pytest.raises(HeldBack):
            await reply.send("to be scanned", key=key(1))
        bot.robot.log_in()
        await until(lambda: bot.adapter.login_code() is None)
        await reply.send("here again", key=key(1))
    with pytest.raises(DeliveryUnavailable):
        await reply.send("not connected", key=key(2))
    assert sent(wechat) == ["here again"]


async def test_a_message_on_its_way_is_answered_before_the_connection_ends(
    wechat: SimulatedWechat, bot: Running
) -> None:
    async with bot.running():
        reply = await bot.asked()
        bot.robot.slow["MessageSendText"] = 0.2
        sending = asyncio.create_task(reply.send("on its way", key=key(1)))
        await until(lambda: "MessageSendText" in bot.robot.calls)
    assert await sending
    assert sent(wechat) == ["on its way"]


async def test_a_server_that_tells_no_id_is_believed(wechat: SimulatedWechat, bot: Running) -> None:
    bot.robot.outbox.tells_ids = False
    async with bot.running():
        reply = await bot.asked()
        assert await reply.send("hello", key=key(1)) is None


# Rooms


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ann", "@Ann hi"),
        ("Ann\u2005of\nGreen Gables", "@Ann of Green Gables hi"),
        ("🙂" * 40, f"@{'🙂' * 16} hi"),
        ("  ", "hi"),
    ],
)
async def test_who_asked_in_a_room_is_named_in_one_short_line(
    wechat: SimulatedWechat, bot: Running, name: str, shown: str
) -> None:
    account = wechat.state.bot("bot")
    account.room("general").aliases[account.contact("ann").id] = name
    account.contact("ann").name = ""
    async with bot.running():
        reply = await bot.asked(direct=False)
        await reply.send("hi", key=key(1))
    assert sent(wechat) == [shown]


async def test_the_longest_part_with_the_longest_name_has_1800_characters_at_most(
    wechat: SimulatedWechat, bot: Running
) -> None:
    account = wechat.state.bot("bot")
    account.room("general").aliases[account.contact("ann").id] = "n" * 32
    async with bot.running():
        reply = await bot.asked(direct=False)
        await reply.send("x" * reply.limits.max_length, key=key(1))
    (text,) = sent(wechat)
    assert 1_760 < len(text) <= 1_800


# Files


async def test_files_are_sent_up_to_what_a_request_holds(wechat: SimulatedWechat, bot: Running) -> None:
    async with bot.running():
        reply = await bot.asked()
        largest = OutboundFile(name="a.png", media_type="image/png", content=b"x" * 3_145_000)
        assert await reply.attach(largest, key=key(1))
        for content in (b"x" * 3_146_000, b""):
            file = OutboundFile(name="a.bin", media_type="application/octet-stream", content=content)
            with pytest.raises(DeliveryError):
                await reply.attach(file, key=key(2))
    assert [len(message.content) for message in wechat.state.bot("bot").sent] == [3_145_000]


async def test_files_are_fetched_however_the_server_gives_them(wechat: SimulatedWechat, bot: Running) -> None:
    async with bot.running():
        for size in (10, 100_000):  # in the answer, and by a stream of its own
            content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
            await bot.asked("", files=[File(name="a.bin", content=content)])
            (attachment,) = bot.messages[-1].attachments
            assert await bot.adapter.fetch(attachment, most_bytes=size) == content
            with pytest.raises(FileTooLarge):
                await bot.adapter.fetch(attachment, most_bytes=size - 1)
    with pytest.raises(FileUnavailable):
        await bot.adapter.fetch(attachment, most_bytes=1000)


@pytest.mark.parametrize(
    ("box", "error"),
    [
        ({"type": 2, "url": "https://example.com/x", "name": "x"}, FileRefused),
        ({"type": 2, "url": "http://file.wx.qq.com/x", "name": "x"}, FileRefused),
        ({"type": 2, "name": "x"}, FileRefused),
        ({"boxType": 2, "remoteUrl": "https://169.254.169.254/x", "headers": {"cookie": "a=b"}}, FileRefused),
        ({"type": 1, "base64": "not base64!", "name": "x"}, FileUnavailable),
        ({"type": 1, "name": "x"}, FileUnavailable),
        ({"type": 3, "qrCode": "x"}, FileUnavailable),
        ({}, FileUnavailable),
        ([1], FileUnavailable),
        ("x", FileUnavailable),
    ],
)
async def test_what_a_server_gives_in_the_place_of_a_file_is_looked_at(
    wechat: SimulatedWechat, bot: Running, box: Any, error: type[Exception]
) -> None:
    async with bot.running():
        await bot.asked("", files=[File()])
        (message,) = wechat.state.bot("bot").messages.values()
        message.box = box
        with pytest.raises(error):
            await bot.adapter.fetch(bot.messages[0].attachments[0], most_bytes=1000)


async def test_a_file_that_the_server_forgot_is_not_there(bot: Running) -> None:
    async with bot.running():
        await bot.asked("", files=[File()])
        (attachment,) = bot.messages[0].attachments
        bot.robot.missing.add(json.loads(attachment.source)["message"])
        with pytest.raises(FileUnavailable):
            await bot.adapter.fetch(attachment, most_bytes=1000)
        forged = Attachment(name="x", media_type="x", size=None, source="https://example.com")
        with pytest.raises(FileRefused):
            await bot.adapter.fetch(forged, most_bytes=1000)


def test_a_file_for_a_server_of_any_version() -> None:
    from adapters.wechat.files import request_of

    file = OutboundFile(name="ä b.txt", media_type="text/plain", content=b"notes")
    box = json.loads(request_of(file, "wxid_ann").filebox)
    assert (box["type"], box["boxType"], box["name"], box["size"]) == (1, 1, "ä b.txt", 5)
    assert base64.b64decode(box["base64"]) == b"notes"
