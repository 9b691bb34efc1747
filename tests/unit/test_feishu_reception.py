"""What Feishu's adapter asks around the messages: what they reply to, what was missed, what is wrong with the app."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from adapters.feishu.adapter import FeishuAdapter, create
from adapters.feishu.address import Address
from adapters.feishu.bot import Bot
from adapters.feishu.config import Config
from adapters.feishu.diagnosis import SCOPES
from core.adapter import Place, Receipt
from core.errors import AuthenticationError, ConnectionLost, FileRefused, FileUnavailable
from core.messages import AccountId, Attachment, ChannelId, InboundMessage, ThreadId
from tests.clock import HeldClock
from tests.contract.world import until
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_desk import api_for
from tests.simulators.feishu_rest import Fault


class Desk:
    """An adapter at work."""

    def __init__(self, feishu: SimulatedFeishu, **changes: Any) -> None:
        self.feishu = feishu
        self.app = feishu.state.app("bot")
        self.adapter: FeishuAdapter = create(AccountId("bot"), Config(**feishu.account(), **changes))
        self.received: list[InboundMessage] = []

    async def inbox(self, message: InboundMessage) -> Receipt:
        self.received.append(message)
        return Receipt.ACCEPTED

    async def replies(
        self, text: str, to: str, *, user: str = "ann", direct: bool = False, thread: bool = False
    ) -> None:
        """Somebody replies to a message, and mentions the bot."""
        room = self.feishu.room(user, "general", direct, "bot")
        root = self.feishu.state.messages[to]
        body = text if direct else f"@_user_1 {text}"
        sent = self.feishu.state.post(room, "text", {"text": body}, user=user, reply_to=root, thread=thread)
        sent.mentions = [] if direct else [("@_user_1", "app bot")]
        self.feishu.delivered(sent, self.app)
        await until(lambda: any(message.text == text for message in self.received))

    def quote(self, text: str) -> str | None:
        """What came with the message."""
        (message,) = [message for message in self.received if message.text == text]
        return message.quoted.text if message.quoted else None

    async def missed(self, *places: Place, since: timedelta = timedelta(minutes=10)) -> list[InboundMessage]:
        return [message async for message in self.adapter.missed(datetime.now(UTC) - since, places)]


@asynccontextmanager
async def receiving(desk: Desk) -> AsyncIterator[None]:
    """Its adapter, which is entered, runs."""
    task = asyncio.create_task(desk.adapter.run(desk.inbox))
    try:
        await desk.feishu.listening()
        await until(desk.adapter.gaps)
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with SimulatedFeishu() as feishu:
        desk = Desk(feishu)
        async with desk.adapter, receiving(desk):
            yield desk
        assert [*feishu.complaints()] == []


# Quotes


async def test_what_is_replied_to_comes_along_with_its_author(desk: Desk) -> None:
    said = await desk.feishu.person_writes("the moon is cheese", user="bob", direct=False, mention=False)
    await desk.replies("is that so?", said.message)
    assert desk.quote("is that so?") == "the moon is cheese"
    quoted = desk.received[-1].quoted
    assert quoted is not None
    assert quoted.author.startswith("ou_")
    assert quoted.author != desk.received[-1].sender.id


async def test_a_quote_that_cannot_be_had_costs_nothing(desk: Desk) -> None:
    said = await desk.feishu.person_writes("secret", user="bob", direct=False, mention=False)
    desk.feishu.api.faults.append(Fault(("im.v1.message.get",), "code", code=230027))
    await desk.replies("first", said.message)
    assert desk.quote("first") is None
    other = await desk.feishu.person_writes("slow", user="bob", direct=False, mention=False)
    desk.app.scopes -= {"im:message:readonly"}
    await desk.replies("second", other.message)
    assert desk.quote("second") is None


async def test_nobody_is_asked_about_messages_that_are_not_for_the_bot(desk: Desk) -> None:
    said = await desk.feishu.person_writes("lunch?", user="bob", direct=False, mention=False)
    room = desk.feishu.room("ann", "general", False, "bot")
    root = desk.feishu.state.messages[said.message]
    reply = desk.feishu.state.post(room, "text", {"text": "yes"}, user="ann", reply_to=root)
    desk.feishu.delivered(reply, desk.app)
    await until(lambda: len(desk.received) == 2)
    assert "im.v1.message.get" not in [api for api, _ in desk.feishu.state.calls]


async def test_the_root_of_a_topic_comes_with_a_persons_first_question_in_it(desk: Desk) -> None:
    said = await desk.feishu.person_writes("a plan", user="bob", direct=False, mention=False)
    for number, user in enumerate(("ann", "ann", "joe")):
        await desk.replies(f"question {number}", said.message, user=user, thread=True)
    assert [desk.quote(f"question {number}") for number in range(3)] == ["a plan", None, "a plan"]


async def test_a_root_that_was_the_persons_own_question_does_not_come_again(desk: Desk) -> None:
    asked = await desk.feishu.person_writes("what is it?", direct=False)
    await until(lambda: desk.received)
    await desk.replies("and why?", asked.message, thread=True)
    assert desk.quote("and why?") is None


async def test_the_topic_that_a_message_begins_is_asked_for_where_its_event_does_not_name_it() -> None:
    async with SimulatedFeishu(topics=True, names_new_topics=False) as feishu:
        desk = Desk(feishu)
        async with desk.adapter, receiving(desk):
            asked = await feishu.person_writes("what is it?", direct=False)
            await until(lambda: desk.received)
            await desk.replies("and why?", asked.message)
            assert [message.thread for message in desk.received] == [asked.thread, asked.thread]
            assert desk.quote("and why?") is None  # it is in the same conversation
            await feishu.person_writes("lunch?", user="bob", direct=False, mention=False)
            feishu.api.faults.append(Fault(("im.v1.message.get",), "html"))
            await feishu.person_writes("hello?", direct=False)
            await until(lambda: len(desk.received) == 4)
            assert [message.thread for message in desk.received[2:]] == [None, None]
            assert len([api for api, _ in feishu.state.calls if api == "im.v1.message.get"]) == 2
        assert [*feishu.complaints()] == []


async def test_the_topic_of_a_direct_chat_is_asked_for_where_events_do_not_name_it() -> None:
    async with SimulatedFeishu(names_new_topics=False) as feishu:
        desk = Desk(feishu)
        async with desk.adapter, receiving(desk):
            asked = await feishu.person_writes("what is it?")
            await until(lambda: desk.received)
            await desk.replies("and why?", asked.message, direct=True)
            await desk.replies("in short?", asked.message, direct=True, thread=True)
            topic = feishu.state.messages[asked.message].thread_id
            assert [message.thread for message in desk.received] == [None, None, topic]
        assert [*feishu.complaints()] == []


async def test_forwarded_messages_are_read(desk: Desk) -> None:
    desk.feishu.person_forwards(["one", "two"])
    await until(lambda: desk.received)
    quoted = desk.received[0].quoted
    assert quoted is not None
    assert [line.partition(": ")[2] for line in quoted.text.splitlines()] == ["one", "two"]


# What was missed


def place(message: InboundMessage) -> Place:
    return Place(
        channel=ChannelId(message.channel),
        thread=ThreadId(message.thread) if message.thread else None,
        is_direct=message.is_direct,
        reply_to=message.reply_to,
        last=message.sent_at,
    )


async def test_what_was_missed_has_the_ids_and_texts_of_what_is_heard(desk: Desk) -> None:
    heard = await desk.feishu.person_writes("hello", direct=False)
    await until(lambda: desk.received)
    assert await desk.missed() == desk.received
    assert str(desk.received[0].id) == heard.message


async def test_topics_are_read_to_their_end_and_new_ones_are_found_by_their_roots(desk: Desk) -> None:
    old = await desk.feishu.person_writes("old root", direct=False, age=timedelta(hours=1))
    await desk.replies("in the old topic", old.message, thread=True)
    known = place(desk.received[-1])
    root = await desk.feishu.person_writes("new root", direct=False, age=timedelta(minutes=5))
    room, message = desk.feishu.room("ann", "general", False, "bot"), desk.feishu.state.messages[root.message]
    for number in range(60):  # more than a page
        sent = desk.feishu.state.post(
            room, "text", {"text": f"@_user_1 {number}"}, user="bob", reply_to=message, thread=True, age=200.0 - number
        )
        sent.mentions = [("@_user_1", "app bot")]
    found = [message.text for message in await desk.missed(known)]
    assert found[:2] == ["new root", "in the old topic"]
    assert found[2:] == [*map(str, range(60))]
    assert "old root" not in found


async def test_many_places_are_read_without_a_refusal(desk: Desk) -> None:
    for number in range(120):
        await desk.feishu.person_writes(f"hello {number}", user=f"user{number}", age=timedelta(minutes=1))
    chats = [chat for chat in desk.feishu.state.chats.values() if chat.kind == "p2p"]
    found = await desk.missed(
        *(
            Place(
                channel=ChannelId(chat.id),
                thread=None,
                is_direct=True,
                reply_to=Address(message_id="", chat_id=chat.id, direct=True).dump(),
                last=datetime.now(UTC),
            )
            for chat in chats
        )
    )
    assert [message.text for message in found] == [f"hello {number}" for number in range(120)]
    assert desk.feishu.api.limits == {}


async def test_a_pause_that_is_asked_for_meanwhile_is_waited_for(desk: Desk) -> None:
    await desk.feishu.person_writes("hello", direct=False)
    await until(lambda: desk.received)
    desk.feishu.api.faults.append(Fault(("im.v1.message.list",), "limit", seconds=1.0))
    assert [message.text for message in await desk.missed()] == ["hello"]


async def test_what_was_taken_back_and_what_bots_wrote_was_not_missed(desk: Desk) -> None:
    desk.feishu.person_recalls(await desk.feishu.person_writes("never mind", direct=False))
    await desk.feishu.bot_writes("I am a bot", own=False, direct=False)
    await desk.feishu.person_writes("hello", direct=False)
    assert [message.text for message in await desk.missed()] == ["hello"]


async def test_places_that_are_closed_are_passed_over(desk: Desk) -> None:
    gone = await desk.feishu.person_writes("hello", direct=False, channel="gone")
    await until(lambda: desk.received)
    await desk.feishu.person_writes("hi", direct=False)
    desk.feishu.remove(gone.room)
    assert [message.text for message in await desk.missed(place(desk.received[0]))] == ["hi"]


async def test_groups_cannot_be_read_without_the_scope_and_direct_chats_can(desk: Desk) -> None:
    await desk.feishu.person_writes("direct")
    await until(lambda: desk.received)
    await desk.feishu.person_writes("in a group", direct=False)
    desk.app.scopes -= {"im:message.group_msg"}
    found = await desk.missed(place(desk.received[0]))
    assert [message.text for message in found] == ["direct"]
    assert found[0].is_direct


# Files


async def test_what_is_no_file_of_feishus_is_refused(desk: Desk) -> None:
    sticker = '{"message": "om_1", "key": "file_1", "type": "sticker"}'
    for source in ("", "{}", "[]", sticker, '{"message": "om_1/../x", "key": "k", "type": "file"}'):
        with pytest.raises(FileRefused):
            await desk.adapter.fetch(Attachment(name="x", media_type="x/y", size=None, source=source), most_bytes=9)


async def test_a_file_of_another_message_is_not_there(desk: Desk) -> None:
    asked = await desk.feishu.person_writes("no file")
    source = json.dumps({"message": asked.message, "key": "file_1", "type": "file"})
    with pytest.raises(FileUnavailable):
        await desk.adapter.fetch(Attachment(name="x", media_type="x/y", size=None, source=source), most_bytes=9)
    desk.feishu.state.complaints.clear()  # of what an event can forge


# Signing in, and what is missing


@pytest.mark.parametrize("scope", SCOPES)
async def test_each_scope_that_is_missing_is_told_with_what_it_is_for(desk: Desk, scope: str) -> None:
    desk.app.scopes -= {scope, *SCOPES[scope][0], "im:chat:readonly"}
    told = [finding for finding in await desk.adapter.diagnose() if scope in finding]
    assert len(told) == 1
    assert SCOPES[scope][1] in told[0]
    assert "publish" in told[0]


async def test_a_wider_scope_is_as_good(desk: Desk) -> None:
    desk.app.scopes -= {"im:message:send_as_bot", "im:message:readonly", "im:message.reactions:write_only"}
    desk.app.scopes |= {"im:message"}
    assert list(await desk.adapter.diagnose()) == []


async def test_messages_without_a_mention_need_a_scope_of_their_own() -> None:
    async with SimulatedFeishu() as feishu:
        feishu.state.app("bot").scopes -= {"im:message.group_msg"}
        for channels, wanted in (("mention", False), ("always", True)):
            desk = Desk(feishu, access={"channels": channels})
            async with desk.adapter:
                assert any("im:message.group_msg:" in each for each in await desk.adapter.diagnose()) is wanted


async def test_what_is_not_published_or_not_subscribed_to_is_told(desk: Desk) -> None:
    desk.app.events.clear()
    assert any("does not subscribe to im.message.receive_v1" in each for each in await desk.adapter.diagnose())
    desk.app.published = False
    assert any("no version" in each for each in await desk.adapter.diagnose())
    desk.app.scopes -= {"application:application:self_manage"}
    assert any("cannot be seen" in each for each in await desk.adapter.diagnose())


async def test_what_cannot_be_seen_hides_nothing_else() -> None:
    async with SimulatedFeishu() as feishu:
        feishu.api.faults.append(Fault(("application.v6.scope.list",), "html"))
        desk = Desk(feishu)
        desk.app.events.clear()
        async with desk.adapter:
            unseen, missing = await desk.adapter.diagnose()
    assert "does not tell which permissions" in unseen
    assert "502" in unseen
    assert "does not subscribe" in missing


async def test_an_app_that_is_switched_off_is_told() -> None:
    async with SimulatedFeishu() as feishu:
        feishu.state.app("bot").activate_status = 1
        desk = Desk(feishu)
        async with desk.adapter:
            (finding,) = await desk.adapter.diagnose()
            assert "switched the app off" in finding


async def test_an_app_connects_before_it_is_published_and_understands_mentions_once_it_is() -> None:
    async with SimulatedFeishu() as feishu:
        desk = Desk(feishu)
        desk.app.published = False
        with capture_logs() as logs:
            for _ in range(2):
                async with desk.adapter, receiving(desk):
                    assert any("feature Bot" in each for each in await desk.adapter.diagnose())
        assert sum("publish" in str(entry.get("reason")) for entry in logs) == 1
        async with desk.adapter, receiving(desk):
            desk.app.published = True
            for text in ("first", "second"):
                await feishu.person_writes(text, direct=False)
            await until(lambda: len(desk.received) == 2)
            assert [message.mentions_bot for message in desk.received] == [True, True]
            assert [message.text for message in desk.received] == ["first", "second"]
        asked = [api for api, _ in feishu.state.calls if api == "bot.v3.info"]
        assert len(asked) == 4  # at three sign-ins, and when something came
        assert feishu.complaints() == []


async def test_direct_messages_are_understood_whoever_the_bot_is() -> None:
    async with SimulatedFeishu() as feishu:
        feishu.api.faults += [Fault(("bot.v3.info",), "code", code=11205) for _ in range(2)]
        desk = Desk(feishu)
        async with desk.adapter, receiving(desk):
            for direct in (True, False, False):
                await feishu.person_writes("hello", direct=direct)
            await until(lambda: len(desk.received) == 3)
        assert [(message.is_direct, message.mentions_bot) for message in desk.received] == [
            (True, False),
            (False, False),
            (False, False),
        ]
        assert feishu.api.faults == []


async def test_who_the_bot_is_is_asked_once_a_minute_until_it_is_known() -> None:
    async with SimulatedFeishu() as feishu:
        app, clock = feishu.state.app("bot"), HeldClock()
        api = api_for(feishu, clock=clock)
        await api.open()
        bot = Bot(api, AccountId("bot"), clock)
        app.published = False
        await bot.ask()
        for seconds in (0, 30, 31):
            await clock.advance(seconds)
            await asyncio.gather(*(bot.ask_again() for _ in range(5)))
        assert len(feishu.state.calls) == 3
        app.published = True
        await bot.ask_again()
        assert bot.identity.open_id == ""
        await clock.advance(61)
        feishu.api.faults.append(Fault(("bot.v3.info",), "html"))
        await bot.ask_again()
        await clock.advance(61)
        await asyncio.gather(*(bot.ask_again() for _ in range(5)))
        assert bot.identity.open_id == app.open_id
        assert len(feishu.state.calls) == 5
        await api.close()


async def test_a_server_that_fails_is_asked_who_the_bot_is_by_the_next_attempt() -> None:
    async with SimulatedFeishu() as feishu:
        feishu.api.faults.append(Fault(("bot.v3.info",), "html"))
        with pytest.raises(ConnectionLost):
            await Desk(feishu).adapter.__aenter__()


async def test_a_wrong_secret_fails_with_the_way_out() -> None:
    async with SimulatedFeishu() as feishu:
        config = Config(**{**feishu.account(), "app_secret": "another"})
        with pytest.raises(AuthenticationError, match="app_secret") as caught:
            await create(AccountId("bot"), config).__aenter__()
        assert "another" not in str(caught.value).replace("another one", "")


# The configuration


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://open.larksuite.com/", "https://open.larksuite.com"),
        ("https://open.feishu.cn/open-apis/", "https://open.feishu.cn"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_the_address_is_that_of_the_api_however_it_is_written(written: str, read: str) -> None:
    assert Config(api_url=written).api_url == read


@pytest.mark.parametrize("changes", [{"api_url": "open.feishu.cn"}, {"app_secret": "cli_9f5343c580712544"}])
def test_mistakes_in_the_configuration_are_told(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"not an address|this is an App ID"):
        Config(**changes)


def test_what_is_missing_to_sign_in_is_named() -> None:
    assert Config().credentials_missing() == ("app_id", "app_secret")
    assert Config(app_id="cli_1", app_secret="s", mode="webhook").credentials_missing() == ("encrypt_key",)
    assert Config(app_id="cli_1", app_secret="s").credentials_missing() == ()


def test_no_secret_is_shown() -> None:
    config = Config(app_id="cli_1", app_secret="canary-1", encrypt_key="canary-2", verification_token="canary-3")
    assert "canary" not in repr(config)
