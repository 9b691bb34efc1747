"""DingTalk's AI cards and the thinking sign, with the whole gateway around them: what the contract suite does not know of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.dingtalk import Config, DingTalkAdapter
from adapters.dingtalk.address import Address
from adapters.dingtalk.cards import Cards, NoCard
from adapters.dingtalk.growing import GrowingAnswer, card_of, cards_of, message_id
from adapters.dingtalk.reply import CARD, CardReply, MarkdownReply
from core.adapter import IdempotencyKey
from core.errors import DeliveryUnavailable, DeliveryUncertain
from core.messages import AccountId, MessageId
from tests.contract.suite import hurry, long_answer
from tests.contract.world import World, missing, once, until
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.dingtalk_api import CREATE_AND_DELIVER, GROUP, SHOWING, STREAMING, WEBHOOK, Fault
from tests.simulators.dingtalk_world import DingTalkCard, DingTalkRoom
from tests.simulators.openai_server import OpenAIServer

KEY = IdempotencyKey("0123456789abcdef-0")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr("adapters.dingtalk.cards._INTERVAL", 0.02)


@pytest.fixture
async def dingtalk() -> AsyncIterator[SimulatedDingTalk]:
    async with SimulatedDingTalk(card=True) as dingtalk:
        yield dingtalk
        assert dingtalk.complaints() == []


@pytest.fixture
async def world(dingtalk: SimulatedDingTalk, tmp_path: Path) -> AsyncIterator[World]:
    async with OpenAIServer() as model:
        yield World(dingtalk, model, tmp_path)


def cards(dingtalk: SimulatedDingTalk) -> list[DingTalkCard]:
    return list(dingtalk.world.cards.values())


def frames(dingtalk: SimulatedDingTalk) -> list[dict[str, Any]]:
    return [arguments for call, arguments in dingtalk.world.calls if call == STREAMING]


@asynccontextmanager
async def signed_in(dingtalk: SimulatedDingTalk, **changes: Any) -> AsyncIterator[DingTalkAdapter]:
    async with DingTalkAdapter(AccountId("bot"), Config(**{**dingtalk.account(), **changes})) as adapter:
        yield adapter


def address(dingtalk: SimulatedDingTalk, **changes: Any) -> Address:
    room = group(dingtalk)
    token, until = dingtalk.world.session(dingtalk.world.app("bot"), room)
    webhook = f"{dingtalk.url}/robot/sendBySession?session={token}"
    fields: dict[str, Any] = {"conversation": room.id, "direct": False, "webhook": webhook, "until": until, **changes}
    return Address(**fields)


def group(dingtalk: SimulatedDingTalk) -> DingTalkRoom:
    return dingtalk.world.group("general")


def growing(adapter: DingTalkAdapter, address: Address) -> GrowingAnswer:
    return GrowingAnswer(adapter._cards, address, KEY, CARD, begun=lambda: None)


def texts(dingtalk: SimulatedDingTalk) -> list[str]:
    return [each.text for each in dingtalk.visible(group(dingtalk).id)]


# ---- names ----


def test_cards_are_named_by_the_keys_of_the_parts() -> None:
    assert [card_of("turn-0", number) for number in range(3)] == ["turn-0", "turn-1", "turn-2"]
    assert cards_of(message_id("turn-0", 3)) == ["turn-0", "turn-1", "turn-2"]
    assert cards_of(MessageId("turn-0")) == ["turn-0"]


# ---- growing ----


async def test_an_answer_grows_whole_each_time_and_ends(world: World, dingtalk: SimulatedDingTalk) -> None:
    words = " ".join(f"**word{number}**" for number in range(40))
    world.model.configure(reply=f"={words}", token_delay=0.01, pieces_apart=True)
    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("slowly", direct=False)
        await until(lambda: world.told(asked, words))
        await until(lambda: gateway.idle)
    sent = frames(dingtalk)
    assert len(sent) > 3
    assert all(frame["isFull"] is True and frame["isError"] is False for frame in sent)
    assert [frame["isFinalize"] for frame in sent] == [False] * (len(sent) - 1) + [True]
    assert len({frame["guid"] for frame in sent}) == len(sent)
    assert all(frame["content"].count("**") % 2 == 0 for frame in sent)  # nothing is left open


async def test_a_long_answer_goes_on_in_further_cards_that_the_core_knew_of_before(
    world: World, dingtalk: SimulatedDingTalk
) -> None:
    answer = long_answer(12_000)
    world.model.configure(reply=f"={answer}", piece=60, token_delay=0.005)
    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("everything")
        await until(lambda: world.told(asked, answer), seconds=60)
        await until(lambda: gateway.idle)
    assert len(cards(dingtalk)) > 4
    assert {card.status for card in cards(dingtalk)} == {"done"}
    assert [card.out_track_id for card in cards(dingtalk)] == cards_of(
        message_id(cards(dingtalk)[0].out_track_id, len(cards(dingtalk)))
    )
    assert max(len(frame["content"].encode()) for frame in frames(dingtalk)) <= 3_000


async def test_a_card_is_announced_one_piece_before_it_is_made(dingtalk: SimulatedDingTalk) -> None:
    paragraphs = [f"paragraph {number} " + "word " * 180 for number in range(8)]
    async with signed_in(dingtalk) as adapter:
        known: list[tuple[str, int]] = []
        async with growing(adapter, address(dingtalk)) as sink:
            for paragraph in paragraphs:
                before = len(cards_of(sink.message)) if sink.message else 1
                await sink.append(f"{paragraph}\n\n")
                assert len(cards(dingtalk)) <= before
                known.append((str(sink.message), len(cards(dingtalk))))
        assert len(cards(dingtalk)) > 2
        assert missing("\n\n".join(paragraphs), texts(dingtalk)) == ""
        assert {card.status for card in cards(dingtalk)} == {"done"}


async def test_the_more_answers_grow_the_slower_each_does(dingtalk: SimulatedDingTalk) -> None:
    async with signed_in(dingtalk) as adapter:
        cards: Cards = adapter._cards
        alone = cards.interval
        cards.growing = 30
        assert cards.interval == 3.0 > alone


async def test_an_update_that_is_refused_for_its_rate_is_left_out_and_the_end_is_not(
    dingtalk: SimulatedDingTalk,
) -> None:
    async with signed_in(dingtalk) as adapter:
        async with growing(adapter, address(dingtalk)) as sink:
            await sink.append("one ")
            dingtalk.api.faults.append(Fault((STREAMING,), "limit", 0.5))
            await sink.append("two ")
            await sink.append("three")
        assert texts(dingtalk) == ["one two three"]
        assert cards(dingtalk)[0].status == "done"


async def test_answers_that_get_lost_cost_no_text_and_no_second_card(dingtalk: SimulatedDingTalk) -> None:
    async with signed_in(dingtalk) as adapter:
        dingtalk.api.faults += [
            Fault((CREATE_AND_DELIVER,), "lost"),
            Fault((CREATE_AND_DELIVER,), "html"),
            Fault((STREAMING,), "lost"),
            Fault((STREAMING,), "broken"),
        ]
        async with growing(adapter, address(dingtalk)) as sink:
            for word in ("one ", "two ", "three ", "four ", "five"):
                await sink.append(word)
        assert texts(dingtalk) == ["one two three four five"]
        assert dingtalk.api.faults == []


async def test_a_platform_that_stays_away_is_given_up_before_the_core_does(dingtalk: SimulatedDingTalk) -> None:
    async with signed_in(dingtalk) as adapter:
        dingtalk.api.faults += [Fault(SHOWING, "broken") for _ in range(9)]
        sink = growing(adapter, address(dingtalk))
        await sink.__aenter__()
        for _ in range(4):
            await sink.append("word ")
        with pytest.raises(DeliveryUncertain):
            await sink.append("word ")
        assert len(dingtalk.api.faults) == 4


# ---- cards that cannot be ----


@pytest.mark.parametrize(
    ("call", "code", "status"),
    [
        (CREATE_AND_DELIVER, "Forbidden.AccessDenied.AccessTokenPermissionDenied", 403),
        (CREATE_AND_DELIVER, "Forbidden.AccessDenied.ApiCountLimitForOrg", 403),
        (CREATE_AND_DELIVER, "param.templateNotExist", 400),
        (CREATE_AND_DELIVER, "param.templateUnpublished", 400),
        (STREAMING, "Forbidden.AccessDenied.AccessTokenPermissionDenied", 403),
    ],
)
async def test_where_cards_are_refused_messages_go_at_once_and_the_log_says_why_once(
    world: World, dingtalk: SimulatedDingTalk, call: str, code: str, status: int
) -> None:
    dingtalk.api.faults += [Fault((call,), code, status=status) for _ in range(20)]
    async with world.gateway() as gateway:
        for number in range(3):
            asked = await world.platform.person_writes(f"hello {number}")
            await until(lambda: not missing(f"answer to: hello {number}", world.texts(asked)))  # noqa: B023 - awaited here
            await until(lambda: gateway.idle)
        assert {card.status for card in cards(dingtalk)} <= {"failed"}
        told = [entry for entry in gateway.logs if entry["event"].startswith("no AI cards")]
        assert len(told) == 1
        assert told[0]["reason"]
        assert await gateway.store.dead_letters() == []
    assert len(dingtalk.api.faults) >= 18  # cards are not tried again and again


async def test_a_variable_that_the_template_does_not_have_is_found_out(
    world: World, dingtalk: SimulatedDingTalk
) -> None:
    world.changes = {"card_key": "contents"}
    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("hello")
        await until(lambda: not missing("answer to: hello", world.texts(asked)))
        await until(lambda: gateway.idle)
        assert once("answer to: hello", world.texts(asked))
        assert any("card_key" in str(entry.get("reason")) for entry in gateway.logs)
    assert [card.status for card in cards(dingtalk)] == ["failed"]
    assert dingtalk.world.complaints
    dingtalk.world.complaints.clear()  # it is the configuration that is wrong


async def test_a_text_that_a_card_does_not_take_goes_as_a_message(dingtalk: SimulatedDingTalk) -> None:
    async with signed_in(dingtalk) as adapter:
        dingtalk.api.faults += [Fault((STREAMING,), "param.stream.content") for _ in range(1)]
        reply = adapter.reply(address(dingtalk).dump())
        await reply.send("the answer", key=KEY)
        assert [text for text in texts(dingtalk) if text] == ["the answer"]
        assert [card.status for card in cards(dingtalk)] == ["failed"]
        await reply.send("x" * 3_001, key=IdempotencyKey("part-of-another"))
        assert len(cards(dingtalk)) == 1


async def test_a_card_that_was_not_delivered_is_followed_by_a_message(dingtalk: SimulatedDingTalk) -> None:
    async with signed_in(dingtalk) as adapter:
        here = address(dingtalk)
        group(dingtalk).gone = True
        with pytest.raises(NoCard):
            await adapter._cards.make(here, KEY)


async def test_a_message_in_the_place_of_a_card_is_marked_when_it_may_be_a_second_one(
    dingtalk: SimulatedDingTalk,
) -> None:
    async with signed_in(dingtalk) as adapter:
        reply = adapter.reply(address(dingtalk).dump())
        assert isinstance(reply, CardReply)
        dingtalk.api.faults += [
            Fault((CREATE_AND_DELIVER,), "param.templateNotExist"),
            Fault((WEBHOOK,), "lost"),
        ]
        with pytest.raises(DeliveryUncertain):
            await reply.send("the answer", key=KEY)
        await reply.send("the answer", key=KEY)
        assert texts(dingtalk) == ["the answer", "the answer\n\n(may be repeated)"]
        assert type(adapter.reply(address(dingtalk).dump())) is MarkdownReply


@pytest.mark.parametrize("call", [CREATE_AND_DELIVER, STREAMING])
async def test_where_cards_fail_again_and_again_a_message_goes_and_no_card_is_left_growing(
    world: World, dingtalk: SimulatedDingTalk, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.delivery.RETRY_AFTER", (0.1, 0.5, 3.0, 12.0, 60.0))
    dingtalk.api.faults += [Fault((call,), "bare", status=500) for _ in range(30)]
    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("hello", direct=False)
        await until(lambda: not missing("answer to: hello", world.texts(asked)))
        await until(lambda: gateway.idle)
        assert len([text for text in world.texts(asked) if text]) == 1
        assert await gateway.store.dead_letters() == []
    (text,) = [text for text in world.texts(asked) if text]
    assert ("(may be repeated)" in text) == (call == STREAMING)  # the card may say it
    assert {card.status for card in cards(dingtalk)} <= {"failed"}


async def test_where_messages_fail_as_well_the_card_is_tried_again(dingtalk: SimulatedDingTalk) -> None:
    async with signed_in(dingtalk) as adapter:
        reply = adapter.reply(address(dingtalk).dump())
        assert isinstance(reply, CardReply)
        dingtalk.api.faults += [Fault((CREATE_AND_DELIVER,), "bare", status=503) for _ in range(5)]
        dingtalk.api.faults += [Fault((call,), "bare", status=503) for call in 3 * (WEBHOOK, GROUP)]
        for _ in range(5):
            with pytest.raises(DeliveryUnavailable):
                await reply.send("the answer", key=KEY)
        await reply.send("the answer", key=KEY)
        assert texts(dingtalk) == ["the answer"]
        assert [card.status for card in cards(dingtalk)] == ["done"]
        assert dingtalk.api.faults == []


async def test_a_message_is_marked_too_if_its_first_sending_was_given_up(dingtalk: SimulatedDingTalk) -> None:
    """The core gives a send so many seconds; what it did by then nobody knows."""
    async with signed_in(dingtalk) as adapter:
        reply = adapter.reply(address(dingtalk).dump())
        dingtalk.api.faults.append(Fault((CREATE_AND_DELIVER,), "param.error"))
        sending = asyncio.create_task(reply.send("the answer", key=KEY))
        await until(lambda: texts(dingtalk))
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await reply.send("the answer", key=KEY)
        assert texts(dingtalk) == ["the answer", "the answer\n\n(may be repeated)"]
        assert cards(dingtalk) == []


async def test_whoever_has_no_id_in_the_company_gets_messages(world: World, dingtalk: SimulatedDingTalk) -> None:
    dingtalk.world.person("eve").outside = True
    world.changes = {"access": {"guests": "open"}}
    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("hello", user="eve")
        await world.answered(gateway, asked, "answer to: hello")
        in_group = await world.platform.person_writes("hi", user="eve", direct=False)
        await world.answered(gateway, in_group, "answer to: hi")
    assert len(cards(dingtalk)) == 1


# ---- after a crash ----


async def test_a_later_process_finds_the_cards_and_leaves_none_unfinished(dingtalk: SimulatedDingTalk) -> None:
    here = address(dingtalk)
    async with signed_in(dingtalk) as adapter:
        sink = growing(adapter, here)
        await sink.__aenter__()
        for number in range(14):
            await sink.append(f"paragraph {number} " + "word " * 180 + "\n\n")
        assert sink.message is not None
        assert len(cards(dingtalk)) > 3
        message = sink.message
        # the process dies
    async with signed_in(dingtalk) as later:
        reply = later.reply(here.dump())
        assert isinstance(reply, CardReply)
        await reply.edit(message, "a shorter")
        await reply.edit(message, "a shorter answer")
        await reply.send("with a second part", key=IdempotencyKey(card_of(KEY, 1)))
    shown = texts(dingtalk)
    assert shown[:2] == ["a shorter answer", "with a second part"]
    assert set(shown[2:]) == {"—"}
    assert {card.status for card in cards(dingtalk)} == {"done"}


async def test_a_crash_between_an_announcement_and_its_card_makes_no_card(dingtalk: SimulatedDingTalk) -> None:
    here = address(dingtalk)
    async with signed_in(dingtalk) as adapter:
        await adapter.reply(here.dump()).send("one", key=KEY)
    async with signed_in(dingtalk) as later:
        reply = later.reply(here.dump())
        assert isinstance(reply, CardReply)
        await reply.edit(message_id(KEY, 2), "one again")
    assert texts(dingtalk) == ["one again"]


async def test_a_restart_in_the_middle_of_a_long_answer_ends_every_card(
    world: World, dingtalk: SimulatedDingTalk
) -> None:
    answer = long_answer(9_000)
    world.model.configure(reply=f"={answer}", piece=40, token_delay=0.01)
    async with world.gateway():
        asked = await world.platform.person_writes("everything")
        await until(lambda: len(cards(dingtalk)) >= 3, seconds=30)
    world.model.configure(reply="=a short answer now")
    async with world.gateway() as gateway:
        await until(lambda: world.told(asked, "a short answer now"))
        await until(lambda: gateway.idle)
        assert once("a short answer now", world.texts(asked))
    assert {card.status for card in cards(dingtalk)} == {"done"}


# ---- the thinking sign ----


@pytest.mark.parametrize("stream", [True, False])
async def test_the_sign_is_there_while_nothing_is_to_be_read(
    world: World, dingtalk: SimulatedDingTalk, stream: bool
) -> None:
    world.changes = {"stream": stream}
    world.model.pause()
    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("hello")
        await until(lambda: dingtalk.world.signs["bot", asked.message] == 1)
        world.model.resume()
        await world.answered(gateway, asked, "answer to: hello")
        await until(lambda: dingtalk.world.signs["bot", asked.message] == 0)


async def test_a_sign_that_an_earlier_process_left_goes_with_the_answer(dingtalk: SimulatedDingTalk) -> None:
    question = (await dingtalk.person_writes("hello", direct=False)).message
    here = address(dingtalk, message=question, asked=1)
    async with signed_in(dingtalk, card_template="") as adapter:
        await adapter._signs.show(here)
        # the process dies
    assert dingtalk.world.signs["bot", question] == 1
    async with signed_in(dingtalk, card_template="") as later:
        for part in ("one", "two"):
            await later.reply(here.dump()).send(part, key=KEY)
        await until(lambda: dingtalk.world.signs["bot", question] == 0)
        fresh = address(dingtalk, message="msg-of-now", asked=2**43)
        await later.reply(fresh.dump()).send("an answer without a sign", key=KEY)
    assert len([call for call, _ in dingtalk.world.calls if call.endswith("emotion/recall")]) == 1


async def test_a_sign_that_cannot_be_taken_away_says_nothing_of_others(dingtalk: SimulatedDingTalk) -> None:
    question = (await dingtalk.person_writes("hello", direct=False)).message
    async with signed_in(dingtalk) as adapter:
        dingtalk.api.faults.append(Fault(("POST /v1.0/robot/emotion/recall",), "param.error"))
        adapter._signs.answered(address(dingtalk, message="msg-of-long-ago", asked=1))
        await until(lambda: not dingtalk.api.faults)
        await adapter._signs.show(address(dingtalk, message=question))
        assert dingtalk.world.signs["bot", question] == 1


@pytest.mark.parametrize("kind", ["broken", "html", "limit"])
async def test_a_sign_that_could_not_go_with_the_answer_goes_later(
    dingtalk: SimulatedDingTalk, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("adapters.dingtalk.signs._LATER", (0.1, 2.0, 3.0))
    question = (await dingtalk.person_writes("hello", direct=False)).message
    here = address(dingtalk, message=question)
    async with signed_in(dingtalk, card_template="") as adapter:
        await adapter._signs.show(here)
        dingtalk.api.faults += [Fault(("POST /v1.0/robot/emotion/recall",), kind) for _ in range(2)]
        await adapter.reply(here.dump()).send("an answer", key=KEY)
        await until(lambda: dingtalk.world.signs["bot", question] == 0)


async def test_signing_out_takes_signs_away_whose_answer_was_just_given(dingtalk: SimulatedDingTalk) -> None:
    question = (await dingtalk.person_writes("hello", direct=False)).message
    async with signed_in(dingtalk) as adapter:
        await adapter._signs.show(address(dingtalk, message=question))
        adapter._signs.answered(address(dingtalk, message=question))
    assert dingtalk.world.signs["bot", question] == 0


async def test_where_there_is_no_sign_it_is_not_asked_for_again(dingtalk: SimulatedDingTalk) -> None:
    dingtalk.robots.knows_signs = False
    async with signed_in(dingtalk) as adapter:
        for number in range(3):
            question = (await dingtalk.person_writes(f"hello {number}", direct=False)).message
            await adapter._signs.show(address(dingtalk, message=question))
    assert len([call for call, _ in dingtalk.world.calls if "emotion" in call]) == 1


async def test_a_question_that_is_never_answered_keeps_its_sign_for_minutes_only(
    world: World, dingtalk: SimulatedDingTalk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.dingtalk.signs._LOOK", 0.05)
    monkeypatch.setattr("adapters.dingtalk.signs._FADES", 0.1)
    world.model.pause()
    async with world.gateway():
        asked = await world.platform.person_writes("hello")
        await until(lambda: dingtalk.world.signs["bot", asked.message] == 1)
        await until(lambda: dingtalk.world.signs["bot", asked.message] == 0)
        world.model.resume()
