"""Answers that grow in Feishu, against Feishu on loopback: what is shown, and what every kind of end leaves."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from adapters.feishu.api import FeishuApi
from adapters.feishu.chats import Chats
from adapters.feishu.errors import FeishuError
from adapters.feishu.reply import FeishuReply, reply_to
from adapters.feishu.stream import GrowingAnswer
from core.adapter import IdempotencyKey
from core.clock import SystemClock
from core.delivery import dialect_of, parts_of
from core.errors import DeliveryError, DeliveryUnavailable, TargetGone
from core.messages import MessageId
from tests.contract.world import missing
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_desk import KEY, Desk, api_for, desk, feed
from tests.simulators.feishu_rest import Fault

CORPUS = sorted((Path(__file__).parents[1] / "payloads" / "markdown").rglob("*.md"))
PARAGRAPH = "Paragraph {} has words and more words. " * 40
LONG = "\n\n".join(PARAGRAPH.replace("{}", str(number)) for number in range(60))
"""About 95 KB: four cards."""
CREATE, REPLY = "cardkit.v1.card.create", "im.v1.message.reply"
UPDATE, SETTINGS = "cardkit.v1.card.update", "cardkit.v1.card.settings"


class ShortReply(FeishuReply):
    """Cards hold a few lines, so that an answer of several is quickly told."""

    limits = FeishuReply.limits.__class__(max_length=290, count=FeishuReply.limits.count, edit_interval=0.2)


@pytest.fixture
async def feishu() -> AsyncIterator[SimulatedFeishu]:
    async with SimulatedFeishu() as feishu:
        yield feishu
        assert feishu.complaints() == []
        assert feishu.pings() == []


@pytest.fixture
async def place(feishu: SimulatedFeishu) -> AsyncIterator[Desk]:
    async with desk(feishu) as place:
        yield place


def pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def growing(place: Desk) -> GrowingAnswer:
    """An answer whose process may be forgotten."""
    return GrowingAnswer(place.chats, place.address, KEY, dialect_of(place.reply()))


async def stream(
    place: Desk, parts: Sequence[str], *, key: IdempotencyKey = KEY, fail: type[BaseException] | None = None
) -> MessageId | None:
    async with place.reply().stream(key=key) as sink:
        await feed(sink, parts)
        if fail is not None:
            raise fail
    return sink.message


# What is seen


async def test_the_first_words_come_with_two_calls(place: Desk) -> None:
    async with place.reply().stream(key=KEY) as sink:
        await feed(sink, ["First words"])
        assert [(each.text, each.growing) for each in place.visible] == [("First words", True)]
        assert [name for name, _ in place.calls()] == [CREATE, REPLY]
        await feed(sink, [" and", " more."])
    assert [(each.text, each.growing) for each in place.visible] == [("First words and more.", False)]


async def test_nothing_goes_up_before_it_is_stored(place: Desk) -> None:
    async with place.reply().stream(key=KEY) as sink:
        await sink.append("First words")
        assert place.shown == []
        announced = sink.message
        assert announced is not None
        await sink.stored()
        assert sink.message != announced
        assert len(place.shown) == 1


async def test_a_single_piece_is_an_answer(place: Desk) -> None:
    await stream(place, ["Because."])
    assert [(each.text, each.growing) for each in place.visible] == [("Because.", False)]


async def test_every_answer_is_shown_whole(feishu: SimulatedFeishu) -> None:
    turns = asyncio.Semaphore(10)  # each for itself would take a minute

    async def show(number: int, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        async with turns, desk(feishu, channel=path.stem) as place:
            await stream(place, pieces(text, max(1, len(text) // 3)), key=IdempotencyKey(f"turn{number}-0"))
            assert not missing(text, place.texts())
            assert [each.text for each in place.visible if each.growing] == []
            assert len(place.shown) == len(parts_of(place.reply(), text))

    await asyncio.gather(*(show(number, path) for number, path in enumerate(CORPUS)))


async def test_a_long_answer_takes_several_cards_in_order(place: Desk) -> None:
    message = await stream(place, pieces(LONG, 12_000))
    assert len(place.shown) == len(parts_of(place.reply(), LONG)) == 4
    assert not missing(LONG, place.texts())
    assert not any(each.growing for each in place.visible)
    assert message is not None
    assert [entry.partition("|")[0] for entry in message.split(";")] == [each.id for each in place.shown]
    assert all(each.parent is place.question for each in place.shown)


async def test_one_that_comes_at_once_does_too(place: Desk) -> None:
    await stream(place, [LONG])
    assert len(place.shown) == 4
    assert not missing(LONG, place.texts())


async def test_more_than_was_announced_is_left_to_the_core(place: Desk) -> None:
    sink = growing(place)
    await feed(sink, [LONG[:1000]])
    sink._next = place.chats.clock.monotonic() + 60  # Feishu asked to wait
    await sink.append(LONG[1000:])
    with pytest.raises(DeliveryUnavailable, match="messages of their own"):
        await sink.__aexit__(None, None, None)
    message = sink.message
    assert message is not None
    first, *others = parts_of(place.reply(), LONG)
    await place.reply().edit(message, first)
    for number, part in enumerate(others, 1):
        await place.reply().send(part, key=IdempotencyKey(f"turn1-{number}"))
    assert len(place.shown) == 4
    assert not missing(LONG, place.texts())


async def test_what_nobody_can_see_is_left_to_the_core(place: Desk) -> None:
    with pytest.raises(DeliveryUnavailable, match="as it was written"):
        await stream(place, [" \n", "\n"])
    assert place.calls() == []


async def test_the_sign_goes_with_the_first_words(place: Desk) -> None:
    await place.reply().typing()
    assert place.question.reactions
    async with place.reply().stream(key=KEY) as sink:
        await feed(sink, ["First words"])
        assert place.question.reactions == {}


async def test_many_answers_share_what_an_app_may_do(place: Desk) -> None:
    place.chats.growing = 150
    async with place.reply().stream(key=KEY) as sink:
        await feed(sink, ["one"])
        await feed(sink, [" two"])  # at once: less than two seconds are waited for, ten are not
        assert sink._next - place.chats.clock.monotonic() > 9  # type: ignore[attr-defined]
    assert place.texts() == ["one two"]
    assert place.chats.growing == 150


async def test_without_the_scope_it_grows_all_the_same(feishu: SimulatedFeishu, place: Desk) -> None:
    feishu.state.apps["bot"].scopes.remove("cardkit:card:write")
    await stream(place, pieces("one two three four five six", 6))
    assert place.texts() == ["one two three four five six"]
    assert len(place.visible[0].versions) > 4


# Disturbances


async def disturb(api: str, kind: str) -> None:
    async with SimulatedFeishu() as feishu, desk(feishu) as place:
        feishu.api.faults.append(Fault((api,), kind, seconds=1.0))
        await stream(place, pieces("one two three four five six seven eight", 8))
        shown = [(each.text, each.growing) for each in place.visible]
        assert shown == [("one two three four five six seven eight", False)], (api, kind)
        assert feishu.api.faults == []
        assert feishu.complaints() == []


async def test_one_call_that_fails_leaves_no_trace() -> None:
    apis = (CREATE, REPLY, "cardkit.v1.card_element.content", SETTINGS)
    kinds = ("lost", "broken", "html", "limit")
    await asyncio.gather(*(disturb(api, kind) for api in apis for kind in kinds))


async def test_a_request_to_wait_is_obeyed_to_the_end(feishu: SimulatedFeishu, place: Desk) -> None:
    async with place.reply().stream(key=KEY) as sink:
        await feed(sink, ["one"])
        feishu.limit_rate(3)
        for piece in (" two", " three", " four"):
            await feed(sink, [piece])
    assert place.texts() == ["one two three four"]


async def test_a_place_that_closes_is_told(feishu: SimulatedFeishu, place: Desk) -> None:
    sink = growing(place)
    await sink.append("one")
    feishu.remove(place.question.chat.id)
    with pytest.raises(TargetGone):
        await sink.stored()


async def test_what_a_card_cannot_show_comes_another_way(feishu: SimulatedFeishu, place: Desk) -> None:
    feishu.api.faults += [Fault((name,), "code", code=230099) for name in (SETTINGS, UPDATE, UPDATE)]
    stored: list[MessageId] = []
    with pytest.raises(FeishuError):
        async with place.reply().stream(key=KEY) as sink:
            await feed(sink, ["one"], stored)
    with pytest.raises(TargetGone):
        await place.reply().edit(stored[-1], "one")
    await place.reply().send("one", key=KEY)
    assert place.texts() == ["one"]


@pytest.mark.parametrize("fail", [asyncio.CancelledError, ValueError])
async def test_a_broken_answer_does_not_look_unfinished(place: Desk, fail: type[BaseException]) -> None:
    with pytest.raises(fail):
        await stream(place, ["one", " two"], fail=fail)
    assert [each.growing for each in place.visible] == [False]


async def test_the_last_card_goes_where_the_end_is_cut_in_another_way(place: Desk) -> None:
    async with place.reply().stream(key=KEY) as sink:
        await feed(sink, [LONG])
        sink._preview.finish = lambda: parts_of(place.reply(), LONG)[:3]  # type: ignore[attr-defined]
    assert len(place.shown) == 3


# A process that dies


class Killed(BaseException):
    """The process is no more."""


class MortalApi(FeishuApi):
    """Dies at its `dies_at`th call that shows something: before it, or `after` it took effect."""

    dies_at = 0
    after = False
    calls = 0

    async def call(self, method: str, path: str, **options: Any) -> Mapping[str, Any]:
        self.calls += 1
        if self.calls == self.dies_at and not self.after:
            raise Killed
        number = self.calls
        try:
            return await super().call(method, path, **options)
        finally:
            if number == self.dies_at:
                raise Killed


@dataclass
class Turn:
    """What the core has stored of a turn, and what it does with it (core/preview.py, core/delivery.py)."""

    preview: list[MessageId] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    sent: int = 0

    async def run(self, reply: FeishuReply, answer: str) -> None:
        """Begin it, or go on with it after a death."""
        if not self.parts and self.preview:  # it is written anew, in the place of what is shown
            await reply.edit(self.preview[-1], answer[: len(answer) // 9])
            self.parts = list(parts_of(reply, answer))
        elif not self.parts:
            try:
                async with reply.stream(key=KEY) as sink:
                    await feed(sink, re.findall(r"(?:\S+\s*){1,8}", answer), self.preview)
                    self.parts = list(parts_of(reply, answer))
                self.sent = len(self.parts)
            except DeliveryError:
                pass
        while self.sent < len(self.parts):
            await self.deliver(reply)

    async def deliver(self, reply: FeishuReply) -> None:
        """The next part."""
        part = self.parts[self.sent]
        if self.sent == 0 and self.preview:
            await reply.edit(self.preview[-1], part)
        else:
            await reply.send(part, key=IdempotencyKey(f"turn1-{self.sent}"))
        self.sent += 1


def story(word: str) -> str:
    return "\n\n".join(f"{word} {number} tells of the {word} that came after {number} others." for number in range(9))


async def die(*, dies_at: int, after: bool, scoped: bool) -> None:
    """One life that ends at its `dies_at`th call, another that ends early, and one that goes on."""
    turn, killed = Turn(), 0
    async with SimulatedFeishu() as feishu, desk(feishu) as place:
        if not scoped:
            feishu.state.apps["bot"].scopes.remove("cardkit:card:write")
        for deaths in (dies_at, 2, 0):
            api = api_for(feishu, kind=MortalApi)
            assert isinstance(api, MortalApi)
            api.dies_at, api.after = deaths, after
            await api.open()
            try:
                await turn.run(ShortReply(Chats(api, SystemClock()), place.address), story(f"tale{killed}"))
                break
            except Killed:
                killed += 1
                for message in place.shown:  # to be started again takes a while
                    message.patches.clear()
            finally:
                await api.close()
        assert killed, f"nobody died at call {dies_at}"
        assert len(place.texts()) == len(turn.parts) > 2
        for text, part in zip(place.texts(), turn.parts, strict=True):
            assert not missing(part, [text])
        assert not any(each.growing for each in place.visible)
        assert feishu.complaints() == []


@pytest.mark.parametrize("scoped", [True, False], ids=["entities", "patches"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_an_answer_is_there_once_whenever_the_process_dies(*, after: bool, scoped: bool) -> None:
    await asyncio.gather(*(die(dies_at=number, after=after, scoped=scoped) for number in range(1, 16)))


async def test_an_answer_that_is_in_doubt_at_its_end_is_replaced(feishu: SimulatedFeishu, place: Desk) -> None:
    stored: list[MessageId] = []
    await feed(growing(place), ["one", " two"], stored)
    later = reply_to(Chats(place.chats.api, SystemClock()), place.address)
    await later.edit(stored[-1], "one two three")
    assert [(each.text, each.growing) for each in place.visible] == [("one two three", False)]


async def test_a_card_that_a_dead_process_recalled_is_sent_anew(feishu: SimulatedFeishu, place: Desk) -> None:
    stored: list[MessageId] = []
    await feed(growing(place), ["one"], stored)
    feishu.api.faults.append(Fault((UPDATE,), "code", code=200750))
    with pytest.raises(TargetGone):
        await place.reply().edit(stored[-1], "one two")
    later = reply_to(Chats(place.chats.api, SystemClock()), place.address)  # the first one died before it sent it anew
    with pytest.raises(TargetGone):
        await later.edit(stored[-1], "one two")
    await later.send("one two", key=KEY)
    assert place.texts() == ["one two"]


async def test_one_that_was_announced_and_recalled_is_too(feishu: SimulatedFeishu, place: Desk) -> None:
    sink = growing(place)
    await sink.append("one")
    announced = sink.message
    assert announced is not None
    await sink.stored()
    place.shown[0].recalled = True
    later = reply_to(Chats(place.chats.api, SystemClock()), place.address)
    with pytest.raises(TargetGone):
        await later.edit(announced, "one two")


@pytest.mark.parametrize("kind", ["code", "html"])
async def test_where_messages_cannot_be_read_a_card_is_changed_all_the_same(
    feishu: SimulatedFeishu, place: Desk, kind: str
) -> None:
    stored: list[MessageId] = []
    await feed(growing(place), ["one"], stored)
    feishu.api.faults.append(Fault(("im.v1.message.get",), kind, code=230027))
    later = reply_to(Chats(place.chats.api, SystemClock()), place.address)
    await later.edit(stored[-1], "one two")
    await later.edit(stored[-1], "one two three")
    assert [(each.text, each.growing) for each in place.visible] == [("one two three", False)]
    assert len(place.calls("message.get")) == 1


async def test_so_it_is_where_its_streaming_cannot_be_ended(feishu: SimulatedFeishu, place: Desk) -> None:
    stored: list[MessageId] = []
    await feed(growing(place), ["one"], stored)
    feishu.api.faults += [Fault((SETTINGS,), "html") for _ in range(2)]
    later = reply_to(Chats(place.chats.api, SystemClock()), place.address)
    await later.edit(stored[-1], "one two")
    assert [(each.text, each.growing) for each in place.visible] == [("one two", False)]


async def test_used_up_calls_are_no_reason_to_send_an_answer_anew(feishu: SimulatedFeishu, place: Desk) -> None:
    stored: list[MessageId] = []
    await feed(growing(place), ["one"], stored)
    later = reply_to(Chats(place.chats.api, SystemClock()), place.address)
    feishu.api.faults += [Fault((name,), "code", code=99991403) for name in ("im.v1.message.get", SETTINGS, UPDATE)]
    with pytest.raises(FeishuError, match="used up its API calls of this month"):
        await later.edit(stored[-1], "one two")
    await later.edit(stored[-1], "one two")  # a person has the dead letter tried again
    assert [(each.text, each.growing) for each in place.visible] == [("one two", False)]


async def test_an_announced_first_card_becomes_the_answer(place: Desk) -> None:
    sink = growing(place)
    await sink.append("one")
    announced = sink.message
    assert announced is not None
    later = reply_to(Chats(place.chats.api, SystemClock()), place.address)
    await later.edit(announced, "one two")
    assert [(each.text, each.growing) for each in place.visible] == [("one two", False)]


async def test_where_a_repetition_is_refused_the_card_is_known_by_its_entity(
    feishu: SimulatedFeishu, place: Desk
) -> None:
    sink = growing(place)
    await sink.append("one")
    announced = sink.message
    assert announced is not None
    await sink.stored()
    later = reply_to(Chats(place.chats.api, SystemClock()), place.address)
    feishu.api.faults += [Fault((REPLY,), "code", code=230001) for _ in range(4)]  # in every form
    await later.edit(announced, "one two")
    assert [(each.text, each.growing) for each in place.visible] == [("one two", False)]
    assert feishu.api.faults == []


@pytest.mark.parametrize("forms", [1, 2, 3])
@pytest.mark.parametrize("code", [230099, 230025, 230001])
async def test_a_card_that_no_chat_takes_is_no_silence(
    feishu: SimulatedFeishu, place: Desk, code: int, forms: int
) -> None:
    sink = growing(place)
    await sink.append("one")
    announced = sink.message
    assert announced is not None
    feishu.api.faults.append(Fault((REPLY,), "code", code=code))
    with pytest.raises(FeishuError):
        await sink.stored()
    feishu.api.faults += [Fault((REPLY,), "code", code=code) for _ in range(forms)]
    await place.reply().edit(announced, "one two")
    assert place.texts() == ["one two"]
    assert [message.type for message in place.shown] == [["interactive", "post", "text"][forms - 1]]
    await place.reply().edit(announced, "one two three")
    assert place.texts() == ["one two three"]
