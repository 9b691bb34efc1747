"""Answers that grow in Slack, against Slack on loopback: what is shown, and what every kind of failure leaves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from adapters.slack.address import message_id
from core.adapter import CanStream, IdempotencyKey
from core.clock import SystemClock
from core.errors import DeliveryError, DeliveryUnavailable
from core.messages import MessageId
from tests.clock import HeldClock
from tests.contract.world import missing
from tests.simulators.faults import Fault
from tests.simulators.slack import SimulatedSlack
from tests.simulators.slack_desk import KEY, Desk, adapter_for, desk
from tests.simulators.slack_state import SlackMessage, as_read

CORPUS = sorted((Path(__file__).parents[1] / "payloads" / "markdown").rglob("*.md"))
LONG = "\n\n".join(f"Paragraph {number} has words and more words. " * 8 for number in range(100))
STREAMS = ("chat.startStream", "chat.appendStream", "chat.stopStream")


class PassingClock(HeldClock):
    """Nobody waits: whoever sleeps finds the time gone by."""

    async def sleep(self, seconds: float) -> None:
        self._set(self._elapsed + max(0.0, seconds))
        await asyncio.sleep(0)

    def pass_by(self, seconds: float) -> None:
        self._set(self._elapsed + seconds)


class DatedClock(SystemClock):
    """That of a process which was started after all questions."""

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=5)


@pytest.fixture
async def slack() -> AsyncIterator[SimulatedSlack]:
    async with SimulatedSlack() as slack:
        yield slack
        assert slack.state.complaints == []


@pytest.fixture
def time() -> PassingClock:
    return PassingClock()


@pytest.fixture
async def place(slack: SimulatedSlack, time: PassingClock) -> AsyncIterator[Desk]:
    slack.api.limits_posts = False  # it goes by real time
    async with desk(slack, clock=time) as place:
        yield place


def texts(place: Desk) -> list[str]:
    return [as_read(message.text) for message in place.shown]


async def stream(place: Desk, text: str, *, size: int = 3, fail: type[Exception] | None = None) -> None:
    """Let `text` come in pieces of some words, almost a second between them."""
    time = place.adapter._clock
    assert isinstance(time, PassingClock)
    words = re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text)
    async with place.reply().stream(key=KEY) as sink:
        for start in range(0, len(words), size):
            time.pass_by(0.8)
            await sink.append("".join(words[start : start + size]))
        if fail is not None:
            raise fail


async def test_an_answer_is_one_stream_that_grows_and_ends(place: Desk) -> None:
    await stream(place, "One two three four five six seven eight nine ten.")
    (message,) = place.shown
    assert message.text == "One two three four five six seven eight nine ten."
    assert not message.streaming
    assert place.calls("chat.update", "chat.postMessage") == []
    assert len(message.versions) > 3
    assert all(message.text.startswith(version) for version in message.versions)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
async def test_answers_of_every_kind_are_whole(place: Desk, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    await stream(place, text, size=40)
    assert missing(text, texts(place)) == ""
    assert not any(message.streaming for message in place.shown)
    assert place.slack.pings() == []


async def test_the_second_piece_is_shown_at_once_where_nothing_of_the_first_could_be(place: Desk) -> None:
    async with place.reply().stream(key=KEY) as sink:
        await sink.append("One")
        assert (place.shown, sink.due() > 0) == ([], False)
        await sink.append(" two three")
        assert (texts(place), sink.due() > 0) == (["One two"], True)


async def test_the_call_that_ends_an_answer_takes_the_rest_along(place: Desk) -> None:
    async with place.reply().stream(key=KEY) as sink:
        await sink.append("One two three")
        await sink.append(" four five.")  # before it is due: the answer is whole
        assert texts(place) == ["One two"]
    assert texts(place) == ["One two three four five."]
    assert place.calls(*STREAMS) == ["chat.startStream", "chat.stopStream"]


async def test_a_long_answer_goes_on_in_further_messages_each_naming_the_next(place: Desk) -> None:
    await stream(place, LONG, size=30)
    assert missing(LONG, texts(place)) == ""
    assert len(place.shown) > 2
    for message, following in zip(place.shown, place.shown[1:], strict=False):
        assert message.metadata is not None
        assert message.metadata["event_payload"]["later"] == following.ts
        assert len(message.text) > 6000


async def test_before_slack_ends_a_stream_it_goes_on_by_edits_in_the_same_message(
    place: Desk, time: PassingClock
) -> None:
    words = " ".join(f"word{number}" for number in range(1200))
    await stream(place, words)  # about 320 s
    (message,) = place.shown
    assert message.text == words
    assert "chat.update" in place.calls()


async def test_a_stream_that_slack_ended_loses_nothing(place: Desk, slack: SimulatedSlack) -> None:
    slack.api.stream_lasts = 0.0
    await stream(place, "One two three four five six seven eight nine ten.")
    (message,) = place.shown
    assert message.text == "One two three four five six seven eight nine ten."


@pytest.mark.parametrize("method", ["chat.appendStream", "chat.stopStream", "chat.startStream"])
@pytest.mark.parametrize("kind", ["lost", "broken", "html", "internal_error"])
async def test_a_call_whose_answer_is_lost_doubles_and_loses_nothing(
    place: Desk, slack: SimulatedSlack, method: str, kind: str
) -> None:
    slack.api.faults.append(Fault((method,), kind))
    await stream(place, "One two three four five six seven eight nine ten.")
    assert texts(place) == ["One two three four five six seven eight nine ten."]
    assert not any(message.streaming for message in place.shown)
    assert slack.api.faults == []


@pytest.mark.parametrize("kind", ["lost", "html", "limit"])
async def test_a_piece_whose_answer_is_lost_is_not_appended_again_where_the_stream_does_not_end_at_once(
    slack: SimulatedSlack, kind: str
) -> None:
    async with desk(slack) as place:  # real time: Slack complains of calls during the pause
        slack.api.faults += [Fault(("chat.appendStream",), "lost"), Fault(("chat.stopStream",), kind, 1.0)]
        async with place.reply().stream(key=KEY) as sink:
            for piece in ("One two three ", "four five six ", "seven eight."):
                await asyncio.sleep(max(0.0, sink.due()))  # as the core does
                await sink.append(piece)
        assert texts(place) == ["One two three four five six seven eight."]
        assert slack.api.faults == []


@pytest.mark.parametrize("kind", ["html", "internal_error"])
@pytest.mark.parametrize("looking", [1, 2])
async def test_a_lost_beginning_that_cannot_be_looked_for_is_taken_away_before_the_answer_comes_another_way(
    place: Desk, slack: SimulatedSlack, kind: str, looking: int
) -> None:
    slack.api.faults.append(Fault(("chat.startStream",), "lost"))
    slack.api.faults.extend(Fault(("conversations.replies",), kind) for _ in range(looking))
    with pytest.raises(DeliveryError):
        await append(place, "One two three four five six.")
    assert len(place.shown) == 1
    for _ in range(looking - 1):
        with pytest.raises(DeliveryUnavailable):
            await place.reply().send("One two three four five six.", key=KEY)
    await place.reply().send("One two three four five six.", key=KEY)
    assert texts(place) == ["One two three four five six."]
    assert slack.api.faults == []


@pytest.mark.parametrize("kind", ["lost", "broken"])
async def test_a_lost_beginning_goes_also_where_its_removal_breaks_off(
    place: Desk, slack: SimulatedSlack, kind: str
) -> None:
    slack.api.faults.append(Fault(("chat.startStream",), "lost"))
    slack.api.faults += [Fault(("chat.stopStream",), kind), Fault(("chat.delete",), kind)]
    with pytest.raises(DeliveryError):
        await append(place, "One two three four five six.")
    with pytest.raises(DeliveryUnavailable):
        await place.reply().send("One two three four five six.", key=KEY)
    await place.reply().send("One two three four five six.", key=KEY)
    assert texts(place) == ["One two three four five six."]


async def test_a_lost_post_that_cannot_be_looked_for_is_taken_away_before_the_answer_comes_another_way(
    place: Desk, slack: SimulatedSlack
) -> None:
    slack.api.known_methods.remove("chat.startStream")
    slack.api.faults += [Fault(("chat.postMessage",), "lost"), Fault(("conversations.replies",), "html")]
    with pytest.raises(DeliveryError):
        await append(place, "One two three four five six.")
    await place.reply().send("One two three four five six.", key=KEY)
    assert texts(place) == ["One two three four five six."]


async def test_a_lost_beginning_is_taken_away_before_another_one(place: Desk, slack: SimulatedSlack) -> None:
    slack.api.faults += [Fault(("chat.startStream",), "lost"), Fault(("conversations.replies",), "html")]
    await append(place, "One")  # it is shown at the end, which is tried again
    assert texts(place) == ["One"]
    assert slack.api.faults == []


async def append(place: Desk, text: str) -> None:
    """One piece of an answer, and no second attempt."""
    async with place.reply().stream(key=KEY) as sink:
        await sink.append(text)


async def test_a_post_whose_answer_is_lost_is_found_again(place: Desk, slack: SimulatedSlack) -> None:
    slack.api.known_methods.remove("chat.startStream")
    slack.api.faults.append(Fault(("chat.postMessage",), "lost"))
    await stream(place, "One two three four five six seven eight nine ten.")
    assert texts(place) == ["One two three four five six seven eight nine ten."]


@pytest.mark.parametrize("error", ["unknown_method", "feature_not_enabled", "missing_scope", "not_allowed_token_type"])
async def test_where_slack_has_no_streams_the_answer_is_edited_and_that_is_remembered(
    place: Desk, slack: SimulatedSlack, error: str
) -> None:
    slack.api.closed_methods["chat.startStream"] = error
    await stream(place, "One two three four five six seven eight nine ten.")
    await stream(place, "Again one two three four five six seven eight nine ten.")
    assert texts(place) == [
        "One two three four five six seven eight nine ten.",
        "Again one two three four five six seven eight nine ten.",
    ]
    assert "chat.appendStream" not in place.calls()
    assert sum(method == "chat.postMessage" for method in place.calls()) == 2


@pytest.mark.parametrize("method", STREAMS)
async def test_when_slack_asks_to_wait_the_answer_still_ends_whole(slack: SimulatedSlack, method: str) -> None:
    async with desk(slack) as place:  # real time: Slack complains of calls during the pause
        slack.api.faults.append(Fault((method,), "limit", 1.0))
        async with place.reply().stream(key=KEY) as sink:
            await sink.append("One two three ")
            await sink.append("four five six ")
            await sink.append("seven eight.")
        assert texts(place) == ["One two three four five six seven eight."]


async def test_when_a_person_presses_stop_no_more_is_shown_and_the_conversation_is_told(
    place: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(place.adapter._workspace, "stopped", lambda address, ts: told.append(ts))
    time = place.adapter._clock
    assert isinstance(time, PassingClock)
    async with place.reply().stream(key=KEY) as sink:
        await sink.append("One two three four. ")
        place.shown[0].stopped_by_user = True
        for _ in range(3):
            time.pass_by(1.0)
            await sink.append("More and more words. ")
    (message,) = place.shown
    assert message.text == "One two three"
    assert told == [message.ts]


async def test_a_stream_that_breaks_off_leaves_its_first_message_alone(place: Desk) -> None:
    with pytest.raises(KeyError):
        await stream(place, LONG, size=30, fail=KeyError)
    (message,) = place.shown
    assert not message.streaming
    reply = place.reply()
    await reply.edit(_id(place, message.ts), "All of it, another way.")
    assert texts(place) == ["All of it, another way."]


async def test_what_cannot_be_removed_at_once_is_removed_with_the_next_edit(place: Desk, slack: SimulatedSlack) -> None:
    slack.api.faults.append(Fault(("chat.delete",), "service_unavailable"))
    with pytest.raises(KeyError):
        await stream(place, LONG, size=30, fail=KeyError)
    assert len(place.shown) > 1
    await place.reply().edit(_id(place, place.shown[0].ts), "All of it, another way.")
    assert texts(place) == ["All of it, another way."]


@pytest.mark.parametrize("words", [6, 700, 2000, 5000])
async def test_after_a_crash_in_the_middle_the_next_process_leaves_one_whole_answer(
    place: Desk, slack: SimulatedSlack, words: int
) -> None:
    """The process dies with the stream open, at any length; the next one knows the first message alone."""
    text = " ".join(f"word{number}" for number in range(words))
    sink = place.reply().stream(key=KEY)
    entered = await sink.__aenter__()
    time = place.adapter._clock
    assert isinstance(time, PassingClock)
    for start in range(0, len(text), 400):
        time.pass_by(0.8)
        await entered.append(text[start : start + 400])
    first = entered.message
    assert first is not None
    assert place.shown[-1].streaming
    async with adapter_for(slack) as later:
        await place.reply(adapter=later).edit(first, "A whole new answer.")
        assert texts(place) == ["A whole new answer."]


async def test_after_a_crash_before_the_first_message_was_noted_the_orphan_is_removed(
    place: Desk, slack: SimulatedSlack, time: PassingClock
) -> None:
    """The next process streams anew; streams that others have in the same thread stay."""
    broken = await place.reply().stream(key=KEY).__aenter__()
    await broken.append("Half of an answer that nobody ")
    time.pass_by(60.0)
    question = SlackMessage(
        slack.state.ts(), place.room.id, slack.state.user("bob"), "why?", thread_ts=place.question.ts
    )
    place.room.messages.append(question)
    async with AsyncExitStack() as stack:
        later = await stack.enter_async_context(adapter_for(slack, clock=DatedClock()))
        bobs = later.reply(replace(place.address, after=question.ts, user=question.user).dump())
        assert isinstance(bobs, CanStream)
        going_on = await stack.enter_async_context(bobs.stream(key=IdempotencyKey("turn2-0")))
        await going_on.append("To Bob an answer goes on ")
        again = await stack.enter_async_context(place.reply(adapter=later).stream(key=KEY))
        await again.append("The whole answer, from the start.")
    assert texts(place) == ["To Bob an answer goes on", "The whole answer, from the start."]


async def test_an_edit_that_finds_the_message_gone_says_so(place: Desk) -> None:
    with pytest.raises(DeliveryError, match="message_not_found"):
        await place.reply().edit(_id(place, "1700000000.000001"), "text")


async def test_messages_that_share_a_second_in_a_channel_wait_for_each_other(place: Desk, time: PassingClock) -> None:
    before = time.monotonic()
    await asyncio.gather(*(place.reply().send(f"part {n}", key=KEY) for n in range(4)))
    assert time.monotonic() - before >= 3.0
    assert len(place.shown) == 4


async def test_sends_fail_softly_while_the_account_is_not_signed_in(slack: SimulatedSlack) -> None:
    async with desk(slack) as place:
        pass
    with pytest.raises(DeliveryUnavailable):
        await place.reply().send("text", key=KEY)


async def test_a_send_is_found_by_its_key_among_many(place: Desk) -> None:
    for number in range(12):
        await place.reply().send(f"part {number}", key=KEY if number == 7 else IdempotencyKey(f"other-{number}"))
    assert await place.reply().find(KEY) == _id(place, place.shown[7].ts)
    assert await place.reply().find(IdempotencyKey("unknown-0")) is None


def _id(place: Desk, ts: str) -> MessageId:
    return message_id(place.room.id, ts)
