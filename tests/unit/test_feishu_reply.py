"""Finished messages in Feishu: where they go, what they look like, what stands in for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.feishu import content
from adapters.feishu.address import Address, Shown, dump_shown, load_shown
from adapters.feishu.chats import Chats
from adapters.feishu.errors import FeishuError
from adapters.feishu.reply import FeishuReply, reply_to
from core.adapter import IdempotencyKey, OutboundFile
from core.clock import SystemClock
from core.delivery import parts_of
from core.errors import DeliveryUncertain, RateLimited, TargetGone
from core.messages import MessageId, ReplyAddress
from tests.clock import HeldClock
from tests.contract.world import missing, until
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_content import MOST_RICH, size_in_request
from tests.simulators.feishu_desk import KEY, Desk, desk
from tests.simulators.feishu_rest import Fault

CORPUS = sorted((Path(__file__).parents[1] / "payloads" / "markdown").rglob("*.md"))
SENDING = ("im.v1.message.create", "im.v1.message.reply")
ATTACKS = "\n\n".join(SimulatedFeishu.alarming)


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


def refuse(feishu: SimulatedFeishu, *codes: int, apis: tuple[str, ...] = SENDING) -> None:
    feishu.api.faults += [Fault(apis, "code", code=code) for code in codes]


# Where


async def test_in_a_group_an_answer_replies_to_the_question(place: Desk) -> None:
    await place.reply().send("Because.", key=KEY)
    [message] = place.shown
    assert (message.type, message.parent, message.thread_id) == ("interactive", place.question, "")
    assert place.texts() == ["Because."]


async def test_in_a_direct_chat_it_just_comes(feishu: SimulatedFeishu) -> None:
    async with desk(feishu, direct=True) as place:
        await place.reply().send("Because.", key=KEY)
        assert [message.parent for message in place.shown] == [None]


async def test_in_a_topic_it_stays_there() -> None:
    async with SimulatedFeishu(topics=True) as feishu, desk(feishu) as place:
        assert place.question.thread_id
        await place.reply().send("Because.", key=KEY)
        assert [message.thread_id for message in place.shown] == [place.question.thread_id]
        assert feishu.complaints() == []


async def test_a_recalled_question_is_answered_in_its_chat(place: Desk) -> None:
    place.question.recalled = True
    await place.reply().send("Because.", key=KEY)
    assert [(message.parent, message.chat) for message in place.shown] == [(None, place.question.chat)]


@pytest.mark.parametrize("code", [230019, 230050, 230054, 230071, 230111])
async def test_so_is_one_that_cannot_be_replied_to(feishu: SimulatedFeishu, place: Desk, code: int) -> None:
    refuse(feishu, code, apis=("im.v1.message.reply",))
    await place.reply().send("Because.", key=KEY)
    assert place.texts() == ["Because."]


async def test_a_closed_place_is_gone(feishu: SimulatedFeishu, place: Desk) -> None:
    feishu.remove(place.question.chat.id)
    with pytest.raises(TargetGone):
        await place.reply().send("Because.", key=KEY)


# What


async def test_a_card_tells_how_it_begins(place: Desk) -> None:
    await place.reply().send(f"# Answer\n\nIt *is* <at id=all></at> {'so ' * 100}", key=KEY)
    [message] = place.shown
    assert message.card is not None
    summary = message.card.data["config"]["summary"]["content"]
    assert summary.startswith("【Answer】 It is <\u200bat id=all>")
    assert len(summary) == 80


@pytest.mark.parametrize("refusals", [(230099,), (230099, 230025), (200621,), (230054, 230054), (11310, 230001)])
async def test_what_cannot_be_a_card_comes_in_a_simpler_form(
    feishu: SimulatedFeishu, refusals: tuple[int, ...]
) -> None:
    async with desk(feishu, direct=True) as place:
        refuse(feishu, *refusals)
        text = f"**Bold** `code` [link](https://example.com)\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n{ATTACKS}"
        await place.reply().send(text, key=KEY)
        [message] = place.shown
        assert message.type == ("post", "text")[len(refusals) - 1]
        assert not missing(text, place.texts())
        assert {body["uuid"] for _, body in place.calls(*SENDING)} == {KEY}


async def test_what_no_form_can_show_is_no_silence(feishu: SimulatedFeishu) -> None:
    async with desk(feishu, direct=True) as place:
        refuse(feishu, 230099, 230099, 230025)
        with pytest.raises(FeishuError) as refused:
            await place.reply().send("x", key=KEY)
        assert refused.value.code == 230025


async def test_what_is_refused_for_its_words_is_not_tried_again(feishu: SimulatedFeishu, place: Desk) -> None:
    refuse(feishu, 230028)
    with pytest.raises(FeishuError):
        await place.reply().send("x", key=KEY)
    assert len(place.calls(*SENDING)) == 1


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
async def test_every_part_of_every_answer_fits_in_every_form(path: Path) -> None:
    reply = FeishuReply.__new__(FeishuReply)  # its limits and its dialect alone
    for part in parts_of(reply, path.read_text(encoding="utf-8")):
        for _, body in content.forms(part):
            json.loads(body)
            assert size_in_request(body) < MOST_RICH - 1_000


async def test_attacks_notify_nobody(feishu: SimulatedFeishu) -> None:
    async with desk(feishu, direct=True) as place:
        for number, refusals in enumerate(((), (230099,), (230099, 230099))):
            refuse(feishu, *refusals)
            await place.reply().send(ATTACKS, key=IdempotencyKey(f"k-{number}"))
        assert [message.type for message in place.shown] == ["interactive", "post", "text"]
        for text in place.texts():
            assert not missing("@everyone @here @all @channel", [text])


# Once


async def test_the_same_key_sends_once(feishu: SimulatedFeishu, place: Desk) -> None:
    feishu.break_send(after=True)
    with pytest.raises(DeliveryUncertain):
        await place.reply().send("Because.", key=KEY)
    again = await place.reply().send("Because.", key=KEY)
    assert again == await place.reply().send("Because.", key=KEY)
    assert [message.id for message in place.shown] == [again]


@pytest.mark.parametrize(
    ("detail", "repeated"),
    [
        ("Your request contains an invalid request parameter, ext=uuid is duplicated", True),
        ("duplicate request, uuid exists", True),
        ("the message was already sent", True),
        ("invalid request parameter, ext=uuid is too long", False),
        ("Duplicate element_id in card component.", False),
    ],
)
def test_a_refusal_as_a_repetition_is_known(detail: str, *, repeated: bool) -> None:
    assert FeishuError("POST x", 230001, detail).repeated is repeated


async def test_a_key_fits(feishu: SimulatedFeishu, place: Desk) -> None:
    longest = IdempotencyKey("a" * 22 + "-99")
    async with place.reply().stream(key=longest) as sink:
        await sink.append("Because.")
    assert await place.reply().send("So.", key=longest)
    assert all(len(body["uuid"]) <= 50 for _, body in place.calls(*SENDING))


async def test_a_request_to_wait_is_handed_on(feishu: SimulatedFeishu, place: Desk) -> None:
    feishu.limit_rate(3)
    with pytest.raises(RateLimited) as limited:
        await place.reply().send("Because.", key=KEY)
    assert limited.value.retry_after == 3


async def test_many_messages_in_one_chat_keep_its_limit(place: Desk) -> None:
    reply = place.reply()
    await asyncio.gather(*(reply.send(str(number), key=IdempotencyKey(f"k-{number}")) for number in range(12)))
    assert len(place.shown) == 12


# Changing


async def test_an_answer_is_replaced(place: Desk) -> None:
    message = await place.reply().send("Wait…", key=KEY)
    assert message is not None
    await place.reply().edit(message, "Because.")
    await place.reply().edit(message, "Because of that.")
    assert [each.versions for each in place.visible] == [("Wait…", "Because.", "Because of that.")]


@pytest.mark.parametrize("refusals", [(230099,), (230099, 230099)])
async def test_a_simpler_form_is_replaced_as_what_it_is(feishu: SimulatedFeishu, refusals: tuple[int, ...]) -> None:
    async with desk(feishu, direct=True) as place:
        refuse(feishu, *refusals)
        message = await place.reply().send("Wait…", key=KEY)
        assert message is not None
        await reply_to(Chats(place.chats.api, SystemClock()), place.address).edit(message, f"So: {ATTACKS}")
        assert [each.type for each in place.shown] == [("post", "text")[len(refusals) - 1]]
        assert not missing("So: @everyone", place.texts())


async def test_what_cannot_be_replaced_is_taken_away_and_sent_anew(feishu: SimulatedFeishu, place: Desk) -> None:
    message = await place.reply().send("Wait…", key=KEY)
    assert message is not None
    refuse(feishu, 230099, apis=("im.v1.message.patch",))
    with pytest.raises(TargetGone):
        await place.reply().edit(message, "Because.")
    assert place.shown == []


async def test_a_recalled_answer_is_gone(place: Desk) -> None:
    message = await place.reply().send("Wait…", key=KEY)
    assert message is not None
    place.shown[0].recalled = True
    with pytest.raises(TargetGone):
        await place.reply().edit(message, "Because.")


# The sign


async def test_the_sign_is_put_up_once_and_goes_with_the_answer(place: Desk) -> None:
    for _ in range(3):
        await place.reply().typing()
    assert [emoji for _, emoji in place.question.reactions.values()] == ["Typing"]
    await place.reply().send("Because.", key=KEY)
    assert place.question.reactions == {}
    await place.reply().typing()  # late
    assert place.question.reactions == {}


async def test_a_sign_that_nobody_waits_for_goes_too(place: Desk) -> None:
    await place.chats.api.token()
    typing = asyncio.create_task(place.reply().typing())
    await until(lambda: place.chats.signs._signs)
    typing.cancel()
    await place.reply().send("Because.", key=KEY)
    await asyncio.wait([typing])
    assert place.calls("message_reaction.create")
    assert place.question.reactions == {}


async def test_a_sign_of_an_earlier_process_goes_with_the_next_answer(feishu: SimulatedFeishu, place: Desk) -> None:
    await place.reply().typing()
    place.question.reactions["theirs"] = (feishu.state.app("other"), "Typing")
    place.question.reactions["liked"] = (feishu.state.app("bot"), "THUMBSUP")
    later = reply_to(Chats(place.chats.api, SystemClock()), place.address)
    await later.send("Because.", key=KEY)
    assert set(place.question.reactions) == {"theirs", "liked"}
    await later.send("So.", key=IdempotencyKey("turn1-1"))
    assert len(place.calls("message_reaction.list")) == 1


async def test_it_goes_too_where_that_process_puts_up_its_own(feishu: SimulatedFeishu, place: Desk) -> None:
    place.question.reactions["before"] = (feishu.state.app("bot"), "Typing")
    later = reply_to(Chats(place.chats.api, SystemClock()), place.address)
    await later.typing()
    await later.send("Because.", key=KEY)
    assert place.question.reactions == {}


@pytest.mark.parametrize("kind", ["lost", "html"])
async def test_a_sign_in_doubt_is_looked_for(feishu: SimulatedFeishu, place: Desk, kind: str) -> None:
    feishu.api.faults.append(Fault(("im.v1.message_reaction.create",), kind))
    await place.reply().typing()
    assert bool(place.question.reactions) is (kind == "lost")
    await place.reply().send("Because.", key=KEY)
    assert place.question.reactions == {}
    assert place.calls("message_reaction.list")


@pytest.mark.parametrize("code", [99991672, 231001])
async def test_where_there_are_no_signs_none_is_tried_again(feishu: SimulatedFeishu, place: Desk, code: int) -> None:
    refuse(feishu, code, apis=("im.v1.message_reaction.create",))
    with pytest.raises(FeishuError):
        await place.reply().typing()
    await place.reply().typing()
    await place.reply().send("Because.", key=KEY)
    assert len(place.calls("message_reaction.create", "message_reaction.delete")) == 1


async def test_no_answer_fails_for_its_sign(feishu: SimulatedFeishu, place: Desk) -> None:
    await place.reply().typing()
    feishu.api.faults.append(Fault(("im.v1.message_reaction.delete",), "html"))
    await place.reply().send("Because.", key=KEY)
    assert place.texts() == ["Because."]


@pytest.mark.parametrize("kind", ["html", "broken"])
async def test_a_sign_that_could_not_go_with_the_answer_goes_later(feishu: SimulatedFeishu, kind: str) -> None:
    time = HeldClock()
    async with desk(feishu, clock=time) as place, place.chats.signs:
        await place.reply().typing()
        apis = ("im.v1.message_reaction.delete", "im.v1.message_reaction.list")
        feishu.api.faults += [Fault(apis, kind) for _ in range(2)]
        await place.reply().send("Because.", key=KEY)
        assert place.question.reactions
        for _ in range(3):
            await until(lambda: time.sleeping)
            await time.advance(10)
        await until(lambda: not place.question.reactions)


async def test_a_sign_goes_whose_question_ends_without_an_answer(feishu: SimulatedFeishu) -> None:
    time = HeldClock()
    async with desk(feishu, clock=time) as place, place.chats.signs:
        await place.reply().typing()
        await until(lambda: time.sleeping)
        await time.advance(80)
        await until(lambda: not place.question.reactions)


# Files


@pytest.mark.parametrize(
    ("file", "kind", "uploaded"),
    [
        (OutboundFile(name="历史.json", media_type="application/json", content=b"{}"), "file", "stream"),
        (OutboundFile(name="report.PDF", media_type="application/pdf", content=b"%PDF"), "file", "pdf"),
        (OutboundFile(name="plot.png", media_type="image/png", content=b"\x89PNG"), "image", None),
        (OutboundFile(name="plot.svg", media_type="image/svg+xml", content=b"<svg/>"), "file", "stream"),
    ],
    ids=lambda value: value.name if isinstance(value, OutboundFile) else None,
)
async def test_a_file_is_uploaded_and_sent(
    feishu: SimulatedFeishu, place: Desk, file: OutboundFile, kind: str, uploaded: str | None
) -> None:
    await place.reply().attach(file, key=KEY)
    [message] = place.shown
    assert (message.type, message.parent) == (kind, place.question)
    key = json.loads(message.content)[f"{kind}_key"]
    assert feishu.state.files[key].content == file.content
    if kind == "file":
        assert feishu.state.files[key].name == file.name


# Ids and addresses

ids = st.text("omcard_0123456789", max_size=8)
shown = st.builds(Shown, ids, ids, st.integers(0, 2_000_000_000_000), ids, st.sampled_from(["", "post", "text"]))


@given(st.lists(shown, min_size=1, max_size=4))
def test_ids_are_read_back(answer: list[Shown]) -> None:
    assert load_shown(dump_shown(answer)) == answer


@given(st.text())
def test_any_id_is_read(text: str) -> None:
    assert load_shown(MessageId(text))


def test_addresses_are_read_back() -> None:
    address = Address(message_id="om_1", chat_id="oc_1", thread_id="omt_1", user="ou_1", sent_at_ms=5)
    assert Address.load(address.dump()) == address
    for wrong in ("", "{}", "[]", '{"message_id": 1, "what": 2}'):
        with pytest.raises(TargetGone):
            Address.load(ReplyAddress(wrong))
