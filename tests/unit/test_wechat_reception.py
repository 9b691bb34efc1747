"""What becomes of the messages that a puppet service tells of: order, look-ups, and what is asked about people."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs
from wechaty_grpc.wechaty import puppet

from adapters.wechat.people import People
from core.adapter import Receipt
from core.clock import SystemClock
from core.errors import StorageUnavailable
from tests.contract.world import holds, until
from tests.simulators import wechat_wire as wire
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


# Messages


async def test_a_conversation_keeps_its_order_while_others_overtake_it(wechat: SimulatedWechat, bot: Running) -> None:
    async with bot.running():
        await until(bot.adapter.last_heard)
        bot.robot.slow["ContactPayload"] = 0.5
        for number in range(3):
            await wechat.person_writes(f"ann {number}")
        await until(lambda: "ContactPayload" in bot.robot.calls)
        bot.robot.slow.clear()
        await wechat.person_writes("bob", user="bob")
        await until(lambda: len(bot.messages) == 4)
        assert bot.texts == ["bob", "ann 0", "ann 1", "ann 2"]


async def test_messages_are_looked_up_side_by_side_and_keep_their_order(wechat: SimulatedWechat, bot: Running) -> None:
    async with bot.running():
        await until(bot.adapter.last_heard)
        bot.robot.slow["MessagePayload"] = 0.5
        await wechat.person_writes("slow")
        await until(lambda: "MessagePayload" in bot.robot.calls)
        bot.robot.slow.clear()
        for number in range(3):
            await wechat.person_writes(f"quick {number}")
        await until(lambda: bot.robot.calls.count("MessagePayload") == 4)
        assert bot.texts == []
        await until(lambda: bot.texts == ["slow", "quick 0", "quick 1", "quick 2"])


async def test_a_message_that_the_server_does_not_tell_holds_others_up_once(
    wechat: SimulatedWechat, bot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.wechat.reception._LOOK_UP", 0.2)
    monkeypatch.setattr("adapters.wechat.reception._AGAIN", 0.5)
    async with bot.running():
        await until(bot.adapter.last_heard)
        bot.robot.slow["MessagePayload"] = 60.0
        await wechat.person_writes("late")
        await until(lambda: "MessagePayload" in bot.robot.calls)
        bot.robot.slow.clear()
        await wechat.person_writes("bob", user="bob")
        await until(lambda: bot.texts == ["bob"])
        await until(lambda: bot.texts == ["bob", "late"])


async def test_a_message_that_is_told_of_again_is_looked_up_once(wechat: SimulatedWechat, bot: Running) -> None:
    async with bot.running():
        await until(bot.adapter.last_heard)
        asked = await wechat.person_writes("once")
        await wechat.redeliver(asked, times=50)
        await until(lambda: bot.texts == ["once"])
        await wechat.redeliver(asked, times=50)
        await wechat.person_writes("fence")
        await until(lambda: bot.texts == ["once", "fence"])
        assert bot.robot.calls.count("MessagePayload") == 2


async def test_what_could_not_be_stored_is_handed_over_again(
    wechat: SimulatedWechat, bot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.handover.HOLD", 0.02)
    bot.receipts = [StorageUnavailable("full"), Receipt.OVERLOADED, StorageUnavailable("full")]
    async with bot.running():
        await until(bot.adapter.last_heard)
        await wechat.person_writes("hello")
        await until(lambda: bot.texts == ["hello"])


async def test_a_message_that_the_server_has_not_is_given_up_with_a_word(
    bot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.wechat.reception._AGAIN", 0.02)
    monkeypatch.setattr("adapters.wechat.reception._BELIEVES_AFTER", 0.1)
    with capture_logs() as logs:
        async with bot.running():
            await until(bot.adapter.last_heard)
            bot.robot.emit(puppet.EventType.EVENT_TYPE_MESSAGE, {"messageId": "unknown"})
            await until(lambda: [entry for entry in logs if "lost" in entry["event"]])
            calls = len(bot.robot.calls)
            await holds(lambda: len(bot.robot.calls) == calls)
    assert bot.robot.calls.count("MessagePayload") > 1


async def test_a_message_that_ends_each_connection_is_given_up_and_takes_no_other_along(
    wechat: SimulatedWechat, bot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those beside it are asked for at the same time, and go down with it at first."""
    monkeypatch.setattr("gateway.supervisor.FIRST_PAUSE", 0.1)
    with capture_logs() as logs:
        async with bot.supervised():
            await until(bot.adapter.last_heard)
            bot.robot.slow["MessagePayload"] = 0.2
            bot.robot.breaks_over.add("poison")
            await wechat.person_writes("before")
            bot.robot.emit(puppet.EventType.EVENT_TYPE_MESSAGE, {"messageId": "poison"})
            await wechat.person_writes("after", user="bob")
            await until(lambda: [entry for entry in logs if "lost: each connection ends" in entry["event"]], seconds=60)
            await until(lambda: len(bot.messages) >= 2, seconds=60)
            await holds(bot.adapter.last_heard)
    assert sorted(set(bot.texts)) == ["after", "before"]
    assert [entry["id"] for entry in logs if "lost" in entry["event"] and "id" in entry] == ["poison"]


async def test_nobody_is_asked_about_talk_that_is_not_for_the_bot(wechat: SimulatedWechat, bot: Running) -> None:
    async with bot.running():
        await until(bot.adapter.last_heard)
        await wechat.person_writes("lunch?", direct=False, mention=False)
        await until(lambda: "MessagePayload" in bot.robot.calls)
        await holds(lambda: not {"ContactPayload", "RoomMemberPayload"} & set(bot.robot.calls))


async def test_where_the_bot_listens_to_all_it_hears_all(wechat: SimulatedWechat) -> None:
    bot = Running(wechat, access={"channels": "always"})
    async with bot.running():
        await until(bot.adapter.last_heard)
        await wechat.person_writes("lunch?", direct=False, mention=False)
        await until(lambda: bot.texts == ["lunch?"])
        assert bot.messages[0].sender.display_name == "Ann"


# People


async def test_people_are_asked_about_once_and_again_when_they_change(wechat: SimulatedWechat) -> None:
    people, calls = People(SystemClock()), wechat.puppet().calls
    room, ann = wechat.state.bot("bot").room("general"), wechat.state.bot("bot").contact("ann")
    room.members.append(ann.id)
    async with service(wechat) as asking:
        for _ in range(2):
            assert await people.contact(asking, ann.id) == {"id": ann.id, "name": "Ann", "type": wire.PERSONAL}
            assert await people.member(asking, room.id, ann.id) == {"id": ann.id, "name": "Ann", "room_alias": ""}
            assert await people.contact(asking, "nobody") is None
        assert len(calls) == 3
        people.changed(puppet.PayloadType.PAYLOAD_TYPE_CONTACT, ann.id)
        people.changed(puppet.PayloadType.PAYLOAD_TYPE_ROOM_MEMBER, f"{room.id}{ann.id}")
        people.changed(puppet.PayloadType.PAYLOAD_TYPE_MESSAGE, None)
        await people.contact(asking, ann.id)
        await people.member(asking, room.id, ann.id)
        assert len(calls) == 5


@pytest.mark.parametrize("slow", ["ContactPayload", "RoomMemberPayload"])
async def test_no_mention_is_missed_because_the_server_does_not_tell_the_bots_name_in_time(
    wechat: SimulatedWechat, bot: Running, monkeypatch: pytest.MonkeyPatch, slow: str
) -> None:
    monkeypatch.setattr("adapters.wechat.people._LOOK", 0.1)
    monkeypatch.setattr("adapters.wechat.reception._AGAIN", 0.1)
    name = wechat.state.bot("bot").shown_name
    async with bot.running():
        await until(bot.adapter.last_heard)
        bot.robot.slow[slow] = 60.0
        await wechat.person_writes(f"@{name} hello", direct=False, mention=False)
        await until(lambda: bot.robot.calls.count(slow) == 2)
        assert bot.texts == []
        bot.robot.slow.clear()
        await until(lambda: bot.texts == ["hello"])


async def test_a_look_up_that_takes_too_long_costs_only_the_name(
    wechat: SimulatedWechat, bot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.wechat.people._LOOK", 0.1)
    async with bot.running():
        await until(bot.adapter.last_heard)
        bot.robot.slow["ContactPayload"] = 60.0
        await wechat.person_writes("hello")
        await until(lambda: bot.texts == ["hello"])
        assert bot.messages[0].sender.display_name == ""
