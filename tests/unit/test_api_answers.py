"""Answers on their way: what waiting requests see of them, and what reply channels may rely on."""

from __future__ import annotations

import asyncio

import pytest

from adapters.api.answers import Answers, ApiReply
from adapters.api.faults import Refusal
from core.adapter import CanFail, CanStream, Failure, FailureCode, IdempotencyKey, Kept, ReplyIsReceipt
from core.messages import EventId, MessageId, ReplyAddress

EVENT = EventId("r-1")
KEY = IdempotencyKey("t-0")
DOWN = Failure(code=FailureCode.MODEL_UNAVAILABLE, text="Down.", id="d1")


@pytest.fixture
def answers() -> Answers:
    return Answers()


def reply_to(answers: Answers, event: EventId = EVENT) -> ApiReply:
    return ApiReply(answers, event)


def test_a_reply_channel_is_rebuilt_from_an_address_of_an_earlier_process(answers: Answers) -> None:
    with answers.wait(EVENT, growing=True):
        reply = answers.reply(ReplyAddress('{"request": "r-1"}'))
    assert isinstance(reply, CanStream)
    assert isinstance(reply, CanFail)
    assert isinstance(reply, Kept)
    assert isinstance(reply, ReplyIsReceipt)


async def test_a_reply_for_which_nobody_waits_is_delivered_all_the_same(answers: Answers) -> None:
    reply = reply_to(answers)
    assert await reply.send("text", key=KEY) == MessageId(EVENT)
    await reply.fail(DOWN, key=KEY)
    async with reply.stream(key=KEY) as sink:
        await sink.append("text")
        assert sink.message is None
    assert len(answers) == 0


async def test_all_who_wait_for_one_event_get_the_answer(answers: Answers) -> None:
    with answers.wait(EVENT) as one, answers.wait(EVENT) as other:
        assert one is other
        await reply_to(answers).send("text", key=KEY)
        assert await one.whole() == "text"
    assert len(answers) == 0


async def test_an_answer_to_another_event_is_not_mixed_in(answers: Answers) -> None:
    with answers.wait(EVENT) as answer:
        await reply_to(answers, EventId("r-2")).send("foreign", key=KEY)
        assert answer.outcome is None


async def test_the_first_outcome_counts(answers: Answers) -> None:
    with answers.wait(EVENT) as answer:
        await reply_to(answers).send("text", key=KEY)
        await reply_to(answers).fail(DOWN, key=KEY)
        assert await answer.whole() == "text"


async def test_a_failure_is_raised_with_its_status(answers: Answers) -> None:
    with answers.wait(EVENT) as answer:
        await reply_to(answers).fail(DOWN, key=KEY)
        with pytest.raises(Refusal, match="Down") as refused:
            await answer.whole()
    assert (refused.value.status, refused.value.id) == (503, "d1")


async def test_a_stream_ends_as_the_answer_unless_it_breaks_off(answers: Answers) -> None:
    with answers.wait(EVENT) as answer:
        with pytest.raises(ConnectionError):
            await break_off(answers)
        assert (answer.text(), answer.outcome) == ("half", None)
        async with reply_to(answers).stream(key=KEY) as sink:
            await sink.append("who")
            await sink.append("le")
            assert answer.outcome is None
        assert answer.outcome == "whole"


async def break_off(answers: Answers) -> None:
    async with reply_to(answers).stream(key=KEY) as sink:
        await sink.append("half")
        raise ConnectionError


async def test_a_request_that_joins_midway_sees_the_whole_text(answers: Answers) -> None:
    async with reply_to(answers).stream(key=KEY) as sink:
        await sink.append("One ")
        with answers.wait(EVENT) as answer:
            await sink.append("two")
            assert answer.text() == "One two"


async def test_a_change_wakes_every_reader_once_for_all_pieces(answers: Answers) -> None:
    with answers.wait(EVENT) as answer:
        readers = [asyncio.create_task(answer.changed()) for _ in range(3)]
        await asyncio.sleep(0)
        async with reply_to(answers).stream(key=KEY) as sink:
            await sink.append("a")
            await sink.append("b")
            await asyncio.gather(*readers)
            assert answer.text() == "ab"
        await answer.changed()  # an ended answer keeps nobody waiting


async def test_who_asks_again_after_the_end_waits_for_a_new_answer(answers: Answers) -> None:
    with answers.wait(EVENT) as failed:
        failed.settle(DOWN)
        with answers.wait(EVENT) as again:
            assert again is not failed
            await reply_to(answers).send("text", key=KEY)
            assert await again.whole() == "text"
    assert len(answers) == 0


def test_too_many_waiting_requests_are_refused() -> None:
    answers = Answers(most=1)
    with answers.wait(EVENT):
        with pytest.raises(Refusal, match="Too many") as refused, answers.wait(EventId("r-2")):
            pass
        with answers.wait(EVENT):
            assert len(answers) == 1
    assert refused.value.status == 503


def test_every_answer_that_is_due_gets_its_turn_to_be_looked_for() -> None:
    answers = Answers()
    events = [EventId(f"r-{number}") for number in range(5)]
    contexts = [answers.wait(event) for event in events]
    for context in contexts:
        context.__enter__().accepted = True
    first, second = answers.unsettled(3), answers.unsettled(3)
    assert {event for event, _ in first + second} == set(events)
    assert len(answers.unsettled(10)) == 5
    second[0][1].accepted = False
    first[0][1].settle("done")
    assert len(answers.unsettled(10)) == 3
    for context in contexts:
        context.__exit__(None, None, None)
