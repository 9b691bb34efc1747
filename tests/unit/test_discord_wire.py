"""The adapter for Discord alone, on the simulated wire: sessions, errors, look-ups, threads, files, the portal."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from structlog.testing import capture_logs

from adapters.discord import Config, DiscordAdapter, DiscordReply
from adapters.discord.interaction import Deferrals
from core.adapter import IdempotencyKey, OutboundFile, Receipt
from core.errors import (
    AuthenticationError,
    ConnectionLost,
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    FileUnavailable,
    GatewayError,
    RateLimited,
    StorageUnavailable,
    TargetGone,
)
from core.messages import AccountId, Belongs, InboundMessage
from tests.contract.platform import File
from tests.contract.world import until
from tests.simulators.discord import DiscordPlatform
from tests.simulators.discord_rest import Fault
from tests.simulators.discord_world import MESSAGE_CONTENT, Channel

KEY = IdempotencyKey("0123456789abcdef-0")


@pytest.fixture(autouse=True)
def _impatient_with_discord(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.discord.link.IDENTIFY_EVERY", 0.15)
    monkeypatch.setattr("adapters.discord.adapter._HOLD", 0.02)


@pytest.fixture
async def platform() -> AsyncIterator[DiscordPlatform]:
    async with DiscordPlatform() as platform:
        platform.gateway.identify_interval = 0.0  # a second adapter stands for another process, later
        yield platform
        assert list(platform.complaints()) == []


class Running:
    """One attempt of an adapter, with an inbox that remembers."""

    def __init__(self, platform: DiscordPlatform, **changes: Any) -> None:
        self.platform = platform
        self.adapter = DiscordAdapter(AccountId("bot"), Config(**{**platform.account(), **changes}))
        self.heard: list[InboundMessage] = []
        self.refuse: Receipt | None = None
        self.fails = 0
        self.task: asyncio.Task[None] | None = None

    async def inbox(self, message: InboundMessage) -> Receipt:
        if self.fails:
            self.fails -= 1
            raise StorageUnavailable("the test says so")
        if self.refuse is not None:
            return self.refuse
        known = message.event in {each.event for each in self.heard}
        self.heard.append(message)
        return Receipt.DUPLICATE if known else Receipt.ACCEPTED

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.heard]

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        resumes = self.platform.gateway.resumes
        async with self.adapter:
            task = self.task = asyncio.create_task(self.adapter.run(self.inbox))
            try:
                await until(
                    lambda: task.done() or self.adapter.gaps() or self.platform.gateway.resumes > resumes, seconds=10
                )
                yield
            finally:
                self.task.cancel()
                await asyncio.gather(self.task, return_exceptions=True)

    async def hears(self, text: str, **where: Any) -> InboundMessage:
        """Somebody writes, and the inbox gets it."""
        delivery = await self.platform.person_writes(text, **where)
        await until(lambda: any(message.id == delivery.message for message in self.heard))
        return next(message for message in self.heard if message.id == delivery.message)

    def reply(self, message: InboundMessage) -> DiscordReply:
        reply = self.adapter.reply(message.reply_to)
        assert isinstance(reply, DiscordReply)
        return reply

    def ended(self) -> BaseException | None:
        assert self.task is not None
        return self.task.exception()


@asynccontextmanager
async def running(platform: DiscordPlatform, **changes: Any) -> AsyncIterator[Running]:
    bot = Running(platform, **changes)
    async with bot.attempt():
        yield bot


def place(platform: DiscordPlatform, message: InboundMessage) -> Channel:
    return platform.world.channels[message.channel]


# ---- the session ----


async def test_a_broken_connection_is_taken_up_where_it_was_left(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        await bot.hears("before")
        platform.gateway.drop("bot", forget=False)
        await platform.person_writes("meanwhile")
        await bot.hears("after")
        assert bot.texts == ["before", "meanwhile", "after"]
        assert (bot.adapter.gaps(), platform.gateway.resumes, platform.world.bot("bot").identifies) == (1, 1, 1)


@pytest.mark.parametrize("code", [1000, 1001, 4000, 4008])
async def test_a_closed_connection_is_taken_up_again(platform: DiscordPlatform, code: int) -> None:
    async with running(platform) as bot:
        await platform.gateway.hang_up("bot", code)
        await bot.hears("after")
        assert platform.gateway.resumes == 1


async def test_a_request_to_reconnect_is_followed(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        await platform.gateway.ask_to_reconnect("bot")
        await until(lambda: platform.gateway.resumes == 1)
        await bot.hears("after")
        assert bot.adapter.gaps() == 1


async def test_the_next_attempt_takes_the_session_up(platform: DiscordPlatform) -> None:
    bot = Running(platform)
    async with bot.attempt():
        await bot.hears("before")
    await platform.person_writes("between")
    async with bot.attempt():
        await bot.hears("after")
        assert bot.texts == ["before", "between", "after"]
        assert bot.adapter.gaps() == 0, "nothing was missed, so nothing need be read back"
        assert platform.world.bot("bot").identifies == 1


async def test_what_was_not_committed_is_told_again_by_the_platform(platform: DiscordPlatform) -> None:
    bot = Running(platform)
    async with bot.attempt():
        await bot.hears("before")
        bot.refuse = Receipt.OVERLOADED
        lost = await platform.person_writes("not stored")
        later = await platform.person_writes("behind it")
        await until(lambda: platform.gateway.acknowledged(bot.heard[0].id))
        seen = platform.gateway.acknowledged(lost.message) + platform.gateway.acknowledged(later.message)
        assert seen == 0
    bot.refuse = None
    async with bot.attempt():
        await until(lambda: len(bot.heard) == 3)
        assert bot.texts == ["before", "not stored", "behind it"]


async def test_a_store_that_fails_holds_up_and_loses_nothing(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        bot.fails = 3
        await platform.person_writes("one")
        await bot.hears("two")
        assert bot.texts == ["one", "two"]


@pytest.mark.parametrize("code", [4007, 4009])
async def test_a_session_that_discord_gave_up_is_not_asked_for_again(platform: DiscordPlatform, code: int) -> None:
    bot = Running(platform)
    async with bot.attempt():
        await platform.gateway.hang_up("bot", code)
        assert bot.task is not None
        await asyncio.wait({bot.task})
        assert isinstance(bot.ended(), ConnectionLost)
    async with bot.attempt():
        await bot.hears("anew")
        assert (bot.adapter.gaps(), platform.gateway.resumes) == (1, 0)


async def test_a_gateway_that_stays_away_ends_the_attempt(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        platform.refuse_links(100)
        platform.gateway.drop("bot", forget=False)
        assert bot.task is not None
        await asyncio.wait({bot.task})
        assert isinstance(bot.ended(), ConnectionLost)
        assert platform.gateway.refusals["bot"] >= 90, "it is not hammered"


async def test_events_that_the_sdk_cannot_read_do_not_end_the_connection(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        await platform.gateway.dispatch(platform.world.bot("bot"), "MESSAGE_CREATE", {"id": "1", "type": "odd"})
        with capture_logs() as logs:
            for _ in range(5):
                await platform.gateway.dispatch(platform.world.bot("bot"), "CHANNEL_UPDATE", {})
            await platform.gateway.dispatch(platform.world.bot("bot"), "MESSAGE_CREATE", [])
            await bot.hears("still here")
        (said,) = [each for each in logs if each["event"] == "the SDK does not understand an event"]
        assert said == {
            "event": "the SDK does not understand an event",
            "log_level": "warning",
            "error": "KeyError",
            "times": 1,
        }
        assert platform.gateway.resumes == 0


async def test_frames_are_compressed_and_their_time_is_known(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        await bot.hears("hello")
        heard = bot.adapter.last_heard()
        assert heard is not None
        await until(lambda: (bot.adapter.last_heard() or heard) > heard)  # a heartbeat was answered
        assert platform.gateway.compressed == 1
    assert bot.adapter.last_heard() is None


async def test_new_sessions_are_asked_for_no_faster_than_discord_allows(platform: DiscordPlatform) -> None:
    platform.gateway.identify_interval = 0.1
    bot = Running(platform)
    for _ in range(4):
        async with bot.attempt():
            platform.gateway.drop("bot")
            assert bot.task is not None
            await asyncio.wait({bot.task})
    assert platform.world.bot("bot").identifies == 4
    assert platform.gateway.hasty == 0


async def test_cancelling_leaves_no_thread_whenever_it_comes(platform: DiscordPlatform) -> None:
    before = set(threading.enumerate())
    for step in range(12):
        bot = Running(platform)
        async with bot.adapter:
            run = asyncio.create_task(bot.adapter.run(bot.inbox))
            for _ in range(step * 3):
                await asyncio.sleep(0)
            await asyncio.wait({run}, timeout=0.002 * step)
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
    await until(lambda: not {thread for thread in threading.enumerate() if thread not in before and thread.daemon})
    await until(lambda: platform.links() == 0)


# ---- signing in ----


async def test_a_wrong_token_is_told_without_showing_it(platform: DiscordPlatform) -> None:
    platform.refuse_credentials()
    bot = Running(platform)
    with pytest.raises(AuthenticationError, match="token") as told:
        async with bot.adapter:
            pass
    assert platform.account()["token"] not in str(told.value)


async def test_a_missing_intent_is_told_before_a_sign_in_is_spent(platform: DiscordPlatform) -> None:
    bot = Running(platform, message_content=True)
    with pytest.raises(AuthenticationError, match="Message Content Intent"):
        async with bot.adapter:
            pass
    assert platform.world.bot("bot").identifies == 0


async def test_an_intent_that_is_withdrawn_is_told_as_well(platform: DiscordPlatform) -> None:
    world = platform.world.bot("bot")
    world.allowed = MESSAGE_CONTENT
    bot = Running(platform, message_content=True)
    async with bot.adapter:
        world.allowed = 0
        with pytest.raises(AuthenticationError, match="Message Content Intent"):
            await bot.adapter.run(bot.inbox)


async def test_the_last_sign_ins_of_a_day_are_left_alone(platform: DiscordPlatform) -> None:
    platform.world.bot("bot").remaining = 20
    bot = Running(platform)
    with pytest.raises(ConnectionLost, match="only 20 of 1000 sign-ins are left"):
        async with bot.adapter:
            pass


async def test_a_platform_that_fails_or_is_away_is_tried_again_later(platform: DiscordPlatform) -> None:
    for faults in ([Fault(status=503)], [Fault(), Fault()]):  # aiohttp repeats a GET once by itself
        platform.rest.faults["any"].extend(faults)
        with pytest.raises(ConnectionLost):
            async with Running(platform).adapter:
                pass
    nowhere = Running(platform, api_url="http://127.0.0.1:9/api/v10")
    with pytest.raises(ConnectionLost):
        async with nowhere.adapter:
            pass


async def test_accounts_at_different_addresses_live_side_by_side(platform: DiscordPlatform) -> None:
    async with DiscordPlatform() as other, running(platform) as here, running(other) as there:
        mine, theirs = await here.hears("here"), await there.hears("there")
        await asyncio.gather(
            here.reply(mine).send("from here", key=KEY), there.reply(theirs).send("from there", key=KEY)
        )
        assert [each.text for each in platform.visible(mine.channel)] == ["from here"]
        assert [each.text for each in other.visible(theirs.channel)] == ["from there"]


async def test_the_intent_brings_texts_that_do_not_mention_the_bot(platform: DiscordPlatform) -> None:
    platform.world.bot("bot").allowed = MESSAGE_CONTENT
    async with running(platform, access={"channels": "always"}) as bot:
        message = await bot.hears("not for you", direct=False, mention=False)
        assert (message.text, message.mentions_bot) == ("not for you", False)
    async with running(platform) as bot:
        message = await bot.hears("not for you", direct=False, mention=False)
        assert message.text == ""


async def test_the_bots_own_thread_is_followed_without_mentions(platform: DiscordPlatform) -> None:
    platform.world.bot("bot").allowed = MESSAGE_CONTENT
    async with running(platform, message_content=True, threads=True) as bot:
        asked = await bot.hears("open a thread", direct=False)
        await bot.reply(asked).send("here", key=KEY)
        await until(lambda: any(call[0] == "thread" for call in platform.rest.calls))
        followed = await bot.hears("and then?", direct=False, mention=False, thread=asked.id)
        assert followed.mentions_bot
        assert (followed.channel, str(followed.thread)) == (asked.channel, asked.id)


async def test_a_thread_that_the_cache_does_not_know_is_asked_for_once(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        asked = await bot.hears("hello", direct=False)
        thread = platform.world.thread(place(platform, asked), asked.id, "unknown", owner="1")
        for text in ("one", "two"):
            message = await bot.hears(text, direct=False, thread=thread.id)
            assert (message.channel, message.thread) == (asked.channel, thread.id)
        assert [call for call in platform.rest.calls if call[1].endswith(f"/channels/{thread.id}")] == [
            ("any", f"GET /api/v10/channels/{thread.id}")
        ]


# ---- sending ----


async def test_a_reply_answers_the_message_and_pings_nobody(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        asked = await bot.hears("hello", direct=False)
        id = await bot.reply(asked).send("**hi** @everyone", key=KEY)
        post = place(platform, asked).posts[str(id)]
        assert post.data["message_reference"]["message_id"] == asked.id
        assert post.nonce == KEY
        assert platform.pings() == []


async def test_the_same_key_is_the_same_message(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        reply = bot.reply(await bot.hears("hello"))
        assert await reply.send("one", key=KEY) == await reply.send("one", key=KEY)
        assert await reply.send("two", key=IdempotencyKey("0123456789abcdef-1"))


async def test_a_send_is_looked_up_when_its_key_has_been_forgotten(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        asked, other = await bot.hears("hello", direct=False), await bot.hears("hi", user="bob", direct=False)
        keys = [IdempotencyKey(f"0123456789abcdef-{number}") for number in range(3)]
        await bot.reply(other).send("to bob", key=IdempotencyKey("of-another-0"))
        sent = [await bot.reply(asked).send(f"part {number}", key=key) for number, key in enumerate(keys[:2])]
        found = [await bot.reply(asked).find(key) for key in keys]
        assert found == [*sent, None]
        assert await bot.reply(asked).find(IdempotencyKey("0123456789abcdef-p")) == sent[0]


async def test_a_message_that_is_gone_is_answered_without_a_reference(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        asked = await bot.hears("hello", direct=False)
        place(platform, asked).posts[asked.id].removed = True
        id = await bot.reply(asked).send("anyway", key=KEY)
        assert "message_reference" not in place(platform, asked).posts[str(id)].data


def _gone(platform: DiscordPlatform, channel: Channel) -> None:
    channel.gone = True


def _forbidden(platform: DiscordPlatform, channel: Channel) -> None:
    channel.forbidden = True


def _locked(platform: DiscordPlatform, channel: Channel) -> None:
    channel.locked = True


def _token_reset(platform: DiscordPlatform, channel: Channel) -> None:
    platform.refuse_credentials()


def _unavailable(platform: DiscordPlatform, channel: Channel) -> None:
    platform.rest.faults["create"].append(Fault(status=503))


def _cut(platform: DiscordPlatform, channel: Channel) -> None:
    platform.rest.faults["create"].append(Fault())


def _foreign_page(platform: DiscordPlatform, _: Channel) -> None:
    platform.rest.faults["create"].append(Fault(status=200))


def _banned(platform: DiscordPlatform, channel: Channel) -> None:
    platform.rest.faults["create"].append(Fault(status=429))  # HTML without Via: Cloudflare


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (_gone, TargetGone),
        (_forbidden, TargetGone),
        (_locked, TargetGone),
        (_token_reset, DeliveryUnavailable),
        (_unavailable, DeliveryUncertain),
        (_cut, DeliveryUncertain),
        (_foreign_page, DeliveryUncertain),
        (_banned, RateLimited),
    ],
)
async def test_trouble_becomes_an_error_by_its_remedy(
    platform: DiscordPlatform, trouble: Callable[[DiscordPlatform, Channel], None], error: type[GatewayError]
) -> None:
    async with running(platform) as bot:
        asked = await bot.hears("hello", direct=False)
        trouble(platform, place(platform, asked))
        with pytest.raises(error) as told:
            await bot.reply(asked).send("hi", key=KEY)
        assert "html" not in str(told.value)


async def test_a_foreign_page_in_place_of_a_channel_does_not_end_the_account(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        await until(lambda: platform.gateway.ready("bot"))
        platform.rest.faults["any"].append(Fault(status=200))
        await bot.hears("hello", direct=False, channel="made-just-now")
        assert not platform.rest.faults["any"]
        assert bot.task is not None
        assert not bot.task.done()


async def test_a_foreign_page_is_taken_neither_for_an_edit_nor_for_a_history(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        reply = bot.reply(await bot.hears("hello", direct=False))
        sent = await reply.send("hi", key=KEY)
        assert sent is not None
        platform.rest.faults["edit"].append(Fault(status=200))
        with pytest.raises(DeliveryUncertain):
            await reply.edit(sent, "hi there")
        platform.rest.faults["history"].append(Fault(status=200))
        with pytest.raises(DeliveryUncertain):
            await reply.find(KEY)
        assert await reply.find(KEY) == sent


async def test_between_two_attempts_a_reply_waits(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        asked = await bot.hears("hello")
    with pytest.raises(DeliveryUnavailable):
        await bot.reply(asked).send("hi", key=KEY)


async def test_a_typing_sign_that_fails_is_an_error_of_delivery(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        reply = bot.reply(await bot.hears("hello"))
        await reply.typing()
        platform.rest.faults["typing"].append(Fault(status=503))
        with pytest.raises(DeliveryError):
            await reply.typing()


async def test_a_file_is_posted_once(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        asked = await bot.hears("hello")
        file = OutboundFile(name="notes.md", media_type="text/markdown", content=b"# notes")
        assert await bot.reply(asked).attach(file, key=KEY) == await bot.reply(asked).attach(file, key=KEY)
        (post,) = [post for post in place(platform, asked).posts.values() if post.data["attachments"]]
        assert post.data["attachments"][0]["size"] == 7


async def test_a_thread_is_opened_once_and_found_again(platform: DiscordPlatform) -> None:
    async with running(platform, threads=True) as bot:
        asked = await bot.hears("a question\nof two lines", direct=False)
        await bot.reply(asked).typing()
        first = await bot.reply(asked).send("one", key=KEY)
        second = await bot.reply(asked).send("two", key=IdempotencyKey("0123456789abcdef-1"))
        assert platform.world.channels[asked.id].name == "a question of two lines"
        assert list(platform.world.channels[asked.id].posts) == [first, second]
        assert await bot.reply(asked).find(KEY) == first
        assert sum(kind == "thread" for kind, _ in platform.rest.calls) == 1
    async with running(platform, threads=True) as bot:  # another process: the thread is there already
        await bot.reply(asked).send("three", key=IdempotencyKey("0123456789abcdef-2"))
        assert len(platform.world.channels[asked.id].posts) == 3


async def test_where_no_thread_may_be_opened_the_channel_gets_the_answer(platform: DiscordPlatform) -> None:
    async with running(platform, threads=True) as bot:
        asked = await bot.hears("hello", direct=False)
        platform.rest.faults["thread"].append(Fault(status=403))
        id = await bot.reply(asked).send("in the channel", key=KEY)
        await bot.reply(asked).edit(id, "changed") if id else None
        (shown,) = platform.visible(asked.channel)
        assert (shown.text, shown.thread) == ("changed", None)
        assert await bot.reply(asked).find(KEY) == id


# ---- files ----


async def test_a_link_that_expired_is_asked_for_anew(platform: DiscordPlatform) -> None:
    async with running(platform) as bot:
        message = await bot.hears("look", files=(File(content=b"inside"),))
        (attachment,) = message.attachments
        platform.rest.expired_links = True
        assert await bot.adapter.fetch(attachment, most_bytes=100) == b"inside"
        place(platform, message).posts[message.id].removed = True
        with pytest.raises(FileUnavailable):
            await bot.adapter.fetch(attachment, most_bytes=100)


# ---- what the portal and the servers lack ----


async def test_what_is_missing_is_told(platform: DiscordPlatform) -> None:
    world = platform.world.bot("bot")
    world.interactions_endpoint_url = "https://example.com/interactions"
    world.permissions = 1 << 10 | 1 << 11  # view channels, send messages
    bot = Running(platform)
    async with bot.adapter:
        url, missing = await bot.adapter.diagnose()
        assert "Interactions Endpoint URL" in url
        assert "read message history" in missing
        assert "send messages" not in missing.split(";")[0].replace("send messages in threads", "")
    world.in_guild, world.interactions_endpoint_url = False, None
    async with bot.adapter:
        (nowhere,) = await bot.adapter.diagnose()
        assert f"client_id={world.application}" in nowhere


async def test_guests_are_told_apart_among_what_was_missed_too(platform: DiscordPlatform) -> None:
    for user in ("gus", "ann"):
        await platform.person_writes("lost?", direct=False, channel="voice lounge", user=user)
    platform.world.guests.add(platform.world.user("gus"))
    since = datetime.now(UTC) - timedelta(minutes=1)
    async with running(platform) as bot:
        found = [message async for message in bot.adapter.missed(since, ())]
        assert [message.sender.belongs for message in found] == [Belongs.GUEST, Belongs.MEMBER]
        del platform.world.people["gus"]  # has left the server
        found = [message async for message in bot.adapter.missed(since, ())]
        assert [message.sender.belongs for message in found] == [Belongs.MEMBER, Belongs.MEMBER]


async def test_missed_messages_are_read_page_by_page_where_the_bot_may_read(platform: DiscordPlatform) -> None:
    bot = Running(platform)
    since = None
    async with bot.attempt():
        first = await bot.hears("first", direct=False)
        since = first.sent_at - timedelta(seconds=1)
    closed = await platform.person_writes("secret", direct=False, channel="closed")
    platform.world.channels[closed.room].forbidden = True
    for number in range(130):
        await platform.person_writes(f"missed {number}", direct=False, channel="busy")
    platform.gateway.drop("bot")
    bot = Running(platform)
    async with bot.attempt():
        missed = [message.text async for message in bot.adapter.missed(since, ())]
        assert missed == ["first", *(f"missed {number}" for number in range(130))]


async def test_an_address_that_is_not_discords_is_told(platform: DiscordPlatform) -> None:
    platform.rest.faults["any"].append(Fault(status=200))  # a page of somebody else
    with pytest.raises(ConnectionLost, match="does not answer as Discord does"):
        async with Running(platform).adapter:
            pass


def test_tokens_that_answer_commands_stay_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        logging.getLogger("discord.http").warning("%s %s", "PATCH", "https://x/webhooks/12/aW50LnNlY3JldA/messages/1")
    assert "aW50" not in caplog.text
    assert "/webhooks/12/…/messages/1" in caplog.text


@pytest.mark.parametrize("token", ["two words", "zero\u200bwidth", "line\nbreak"])
def test_a_token_that_cannot_be_one_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ValidationError) as told:
        Config(token=SecretStr(token))
    assert token not in str(told.value)
    assert Config(token=SecretStr(" Bot abc.def \n")).token.get_secret_value() == "abc.def"


@pytest.mark.parametrize("api_url", ["discord.com", "ftp://discord.com/api", "https://"])
def test_an_api_url_is_an_address(api_url: str) -> None:
    with pytest.raises(ValidationError):
        Config(api_url=api_url)
    assert Config(api_url="https://example.com/api/v10/").api_url == "https://example.com/api/v10"


async def test_answers_wait_for_the_one_call_that_defers_a_command() -> None:
    deferrals = Deferrals()
    assert deferrals.begin("1")
    waiting = asyncio.create_task(deferrals.wait("1"))
    await asyncio.sleep(0)
    assert not deferrals.begin("1"), "a redelivery begins nothing"
    await asyncio.sleep(0)
    assert not waiting.done()
    deferrals.end("1")
    await waiting
    await deferrals.wait("of an earlier process")
    deferrals.begin("2")
    waiting = asyncio.create_task(deferrals.wait("2"))
    deferrals.end_all()
    await waiting
