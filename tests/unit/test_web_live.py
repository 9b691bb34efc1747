"""Answers of the web chat while they grow, and the reply channel that feeds them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from adapters.web.live import Answer, AnswerState, Conversations, Question
from adapters.web.reply import Address, WebReply
from core.adapter import Failure, FailureCode, IdempotencyKey, StreamSink
from core.errors import TargetGone
from core.markdown.html import render
from core.messages import ChannelId, MessageId, ReplyAddress, ThreadId
from tests.clock import HeldClock

ADDRESS = Address(ChannelId("browser"), ThreadId("thread"), MessageId("question"))
KEY = IdempotencyKey("turn-0")


def reply(conversations: Conversations) -> WebReply:
    return WebReply(conversations, ADDRESS)


def shown(conversations: Conversations) -> Answer:
    return conversations.get(ADDRESS.browser, ADDRESS.conversation).answers[KEY]


async def test_a_stream_is_the_html_of_the_whole_text() -> None:
    conversations = Conversations()
    text = "# Title\n\nSome *text*.\n\n- a\n- b\n\n```py\nx = 1\n```\n"
    async with reply(conversations).stream(key=KEY) as sink:
        for character in text:
            await sink.append(character)
            shown(conversations).render()
        assert sink.message is None
    assert shown(conversations).html == render(text)
    assert shown(conversations).state is AnswerState.DONE


async def test_settled_html_only_grows() -> None:
    answer = Answer(KEY, ADDRESS.message)
    seen: list[str] = []
    for number in range(50):
        answer.append(f"paragraph {number}\n\n")
        answer.render()
        assert answer.settled[: len(seen)] == seen
        seen = list(answer.settled)
    assert len(seen) > 40


async def test_sending_what_was_streamed_changes_nothing_and_may_be_repeated() -> None:
    conversations = Conversations()
    async with reply(conversations).stream(key=KEY) as sink:
        await sink.append("hello ")
        await sink.append("world")
    version = shown(conversations).version
    for _ in range(2):
        await reply(conversations).send("hello world", key=KEY)
    assert shown(conversations).version == version
    assert shown(conversations).html == render("hello world")
    assert len(conversations.get(ADDRESS.browser, ADDRESS.conversation).answers) == 1


async def test_another_text_with_the_same_key_takes_its_place() -> None:
    conversations = Conversations()
    async with reply(conversations).stream(key=KEY) as sink:
        await sink.append("hello wor")
    version = shown(conversations).version
    await reply(conversations).send("hello world", key=KEY)
    assert shown(conversations).version > version
    assert shown(conversations).html == render("hello world")


async def test_a_stream_that_breaks_off_stays_visible_and_may_begin_again() -> None:
    conversations = Conversations()
    stream = reply(conversations).stream(key=KEY)
    await (await stream.__aenter__()).append("half")
    cut = RuntimeError("cut")
    assert not await _left(stream, cut)
    assert shown(conversations).state is AnswerState.STOPPED
    assert "half" in shown(conversations).html
    version = shown(conversations).version
    async with reply(conversations).stream(key=KEY) as sink:
        await sink.append("whole")
    assert shown(conversations).version > version
    assert shown(conversations).html == render("whole")


async def _left(stream: AbstractAsyncContextManager[StreamSink], error: Exception) -> bool:
    """Whether the stream swallows an error by which it is left."""
    try:
        return bool(await stream.__aexit__(type(error), error, None))
    except RuntimeError:
        return False


async def test_a_failure_keeps_what_was_said() -> None:
    conversations = Conversations()
    async with reply(conversations).stream(key=KEY) as sink:
        await sink.append("half")
    failure = Failure(code=FailureCode.MODEL_UNAVAILABLE, text="Sorry", id="1234")
    await reply(conversations).fail(failure, key=KEY)
    assert shown(conversations).state is AnswerState.FAILED
    assert shown(conversations).failure == failure
    assert "half" in shown(conversations).html


async def test_a_page_that_watches_is_woken_by_everything_that_changes(clock: HeldClock) -> None:
    conversations = Conversations()
    woken: list[str] = []
    conversation = conversations.get(ADDRESS.browser, ADDRESS.conversation)
    conversation.watchers["page"] = lambda: woken.append("x")
    conversation.ask(Question(ADDRESS.message, "?", clock.now()))
    assert len(woken) == 1
    async with reply(conversations).stream(key=KEY) as sink:
        await sink.append("a")
    assert len(woken) == 4


async def test_idle_conversations_are_forgotten_and_running_or_watched_ones_are_not() -> None:
    conversations = Conversations(idle=2)
    watched = conversations.get(ADDRESS.browser, ThreadId("watched"))
    watched.watchers["page"] = lambda: None
    running = WebReply(conversations, Address(ADDRESS.browser, ThreadId("running"), ADDRESS.message))
    async with running.stream(key=KEY):
        for number in range(10):
            other = Address(ADDRESS.browser, ThreadId(f"other-{number}"), ADDRESS.message)
            await WebReply(conversations, other).send("done", key=KEY)
        assert len(conversations) == 4
        assert conversations.get(ADDRESS.browser, ThreadId("watched")) is watched
        assert conversations.get(ADDRESS.browser, ThreadId("running")).answers
        assert conversations.get(ADDRESS.browser, ThreadId("other-9")).answers


async def test_replies_and_questions_of_one_conversation_are_bounded(clock: HeldClock) -> None:
    conversations = Conversations()
    conversation = conversations.get(ADDRESS.browser, ADDRESS.conversation)
    for number in range(500):
        conversation.ask(Question(MessageId(f"q{number}"), "?", clock.now()))
        await reply(conversations).send("text", key=IdempotencyKey(f"k{number}"))
    assert len(conversation.answers) <= 16
    assert len(conversation.questions) <= 64
    assert "k499" in conversation.answers


async def test_an_endless_answer_is_not_kept_whole() -> None:
    answer = Answer(KEY, ADDRESS.message)
    for _ in range(30):
        answer.append("x" * 100_000)
    assert len(answer.html) < 1_100_000


def test_addresses_are_read_back_and_others_are_gone() -> None:
    assert Address.load(ADDRESS.dump()) == ADDRESS
    for text in ("", "{}", "[]", "null", '{"browser": "b"}', "x" * 10):
        with pytest.raises(TargetGone, match="not an address"):
            Address.load(ReplyAddress(text))
