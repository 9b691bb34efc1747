"""Cards that change while they are shown, one by one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from adapters.feishu.address import Shown, dump_shown
from adapters.feishu.card import STREAM_LASTS, Card, Cards
from adapters.feishu.chats import Chats
from adapters.feishu.errors import FeishuError
from adapters.feishu.reply import reply_to
from core.clock import SystemClock
from core.errors import DeliveryUncertain
from tests.contract.world import until
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_desk import Desk, desk
from tests.simulators.feishu_rest import Fault

CONTENT, UPDATE, SETTINGS = "card_element.content", "card.update", "card.settings"


class SetClock(SystemClock):
    """The machine's clock, set to another time."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self):  # type: ignore[no-untyped-def]  # as in SystemClock
        return super().now() + self.ahead


@pytest.fixture
async def feishu() -> AsyncIterator[SimulatedFeishu]:
    async with SimulatedFeishu() as feishu:
        yield feishu
        assert feishu.complaints() == []


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def place(feishu: SimulatedFeishu, clock: SetClock) -> AsyncIterator[Desk]:
    async with desk(feishu, clock=clock) as place:
        yield place


async def put_up(place: Desk, text: str = "one", uuid: str = "") -> Card:
    card = await place.chats.cards.make(text, text, uuid or f"u-{text}")
    await place.chats.put_up(place.address, card)
    return card


def sequences(place: Desk) -> list[int]:
    return [body["sequence"] for _, body in place.calls(CONTENT, UPDATE, SETTINGS)]


def changes(place: Desk) -> list[str]:
    return [name.removeprefix("cardkit.v1.") for name, _ in place.calls(CONTENT, UPDATE, SETTINGS)]


async def test_a_card_shows_its_first_words_when_it_comes(place: Desk) -> None:
    await put_up(place, "first words")
    assert [(each.text, each.growing) for each in place.visible] == [("first words", True)]
    assert len(place.calls("card.create", "message.reply")) == len(place.calls())


async def test_it_grows_and_ends(place: Desk) -> None:
    card = await put_up(place)
    await place.chats.cards.grow(card, "one two", "one two")
    await place.chats.cards.grow(card, "one two", "one two")  # nothing new
    assert place.visible[0].growing
    await place.chats.cards.write(card, "one two three")
    assert [(each.versions, each.growing) for each in place.visible] == [(("one", "one two", "one two three"), False)]
    assert changes(place) == [CONTENT, CONTENT, SETTINGS]
    assert sequences(place) == sorted(set(sequences(place)))


async def test_its_end_is_said_in_its_settings_with_how_it_begins(place: Desk) -> None:
    card = await put_up(place, "one")
    await place.chats.cards.write(card, "one")
    assert changes(place) == [SETTINGS]  # its text was there before
    [(_, body)] = place.calls(SETTINGS)
    assert json.loads(body["settings"]) == {"config": {"streaming_mode": False, "summary": {"content": "one"}}}
    await place.chats.cards.write(card, "two")
    assert changes(place) == [SETTINGS, UPDATE]
    assert [(each.text, each.growing) for each in place.visible] == [("two", False)]


@pytest.mark.parametrize("refused", [CONTENT, SETTINGS])
@pytest.mark.parametrize("kind", ["code", "limit"])
async def test_where_that_is_refused_it_is_written_anew_and_says_that_it_ends(
    feishu: SimulatedFeishu, place: Desk, refused: str, kind: str
) -> None:
    card = await put_up(place)
    feishu.api.faults.append(Fault((f"cardkit.v1.{refused}",), kind, code=300309, seconds=9.0))
    await place.chats.cards.write(card, "one two")
    assert [(each.text, each.growing) for each in place.visible] == [("one two", False)]
    [(_, body)] = place.calls(UPDATE)
    assert json.loads(body["card"]["data"])["config"]["streaming_mode"] is False
    assert feishu.api.faults == []


@pytest.mark.parametrize("kind", ["lost", "html", "broken"])
async def test_an_end_in_doubt_is_repeated(feishu: SimulatedFeishu, place: Desk, kind: str) -> None:
    card = await put_up(place)
    feishu.api.faults.append(Fault((f"cardkit.v1.{SETTINGS}",), kind))
    await place.chats.cards.write(card, "one two")
    assert [(each.text, each.growing) for each in place.visible] == [("one two", False)]
    assert changes(place) == [CONTENT, SETTINGS, SETTINGS]


@pytest.mark.parametrize("closed", [CONTENT, SETTINGS])
async def test_where_one_way_is_closed_the_other_one_is_taken(
    feishu: SimulatedFeishu, place: Desk, closed: str
) -> None:
    card = await put_up(place)
    feishu.api.faults += [Fault((f"cardkit.v1.{closed}",), "html") for _ in range(99)]
    await place.chats.cards.write(card, "one two")
    assert [(each.text, each.growing) for each in place.visible] == [("one two", False)]


async def test_where_every_way_is_closed_the_end_is_said_in_all_of_them_again(
    feishu: SimulatedFeishu, place: Desk
) -> None:
    feishu.state.settings_end_streaming = True
    card = await put_up(place)
    feishu.api.faults += [Fault((f"cardkit.v1.{api}",), "html") for api in (CONTENT, UPDATE)]
    with pytest.raises(DeliveryUncertain):
        await place.chats.cards.write(card, "one two")
    await place.chats.cards.write(card, "one two")
    assert [(each.text, each.growing) for each in place.visible] == [("one two", False)]


async def test_a_server_that_hears_the_end_in_settings_alone_hears_it(feishu: SimulatedFeishu, place: Desk) -> None:
    feishu.state.settings_end_streaming = True
    for number in range(2):
        card = await put_up(place, f"one {number}")
        if number:
            later = reply_to(Chats(place.chats.api, SystemClock()), place.address)
            await later.edit(dump_shown([card.shown]), "one two")
        else:
            await place.chats.cards.write(card, "one two")
        assert [(each.text, each.growing) for each in place.visible[number:]] == [("one two", False)]


async def test_sequences_rise_and_operations_are_no_more_than_ten_a_second(place: Desk) -> None:
    card = await put_up(place)
    for number in range(25):
        await place.chats.cards.grow(card, f"one {number}", f"one {number}")
    assert sequences(place) == sorted(set(sequences(place)))


async def test_sequences_rise_in_a_later_process(place: Desk) -> None:
    card = await put_up(place)
    for number in range(3):
        await place.chats.cards.grow(card, f"one {number}", f"one {number}")
        await place.chats.clock.sleep(0.002)  # no process begins in the millisecond in which another one died
        later = Cards(place.chats.api, SystemClock())
        await later.grow(Card(card.shown, streaming=True), f"two {number}", f"two {number}")
    assert sequences(place) == sorted(set(sequences(place)))


async def test_a_clock_that_was_set_back_costs_one_more_call(
    feishu: SimulatedFeishu, place: Desk, clock: SetClock
) -> None:
    card = await put_up(place)
    clock.ahead = timedelta(minutes=5)
    await place.chats.cards.grow(card, "one two", "one two")
    set_back = Cards(place.chats.api, SystemClock())
    await set_back.write(Card(card.shown), "one two three")
    assert [(each.text, each.growing) for each in place.visible] == [("one two three", False)]
    assert len(sequences(place)) == 3
    assert [complaint for complaint in feishu.complaints() if "300317" not in complaint] == []
    feishu.state.complaints.clear()


async def test_a_card_from_the_future_is_changed_all_the_same(place: Desk, clock: SetClock) -> None:
    clock.ahead = timedelta(minutes=5)
    card = await put_up(place)
    clock.ahead = timedelta()
    await place.chats.cards.grow(card, "one two", "one two")
    await place.chats.cards.write(card, "one two three")
    assert place.texts() == ["one two three"]


async def test_before_streaming_ends_by_itself_it_goes_on_without(place: Desk, clock: SetClock) -> None:
    card = await put_up(place)
    clock.ahead = timedelta(seconds=STREAM_LASTS + 1)
    await place.chats.cards.grow(card, "one two", "one two")
    assert [(each.text, each.growing) for each in place.visible] == [("one two", False)]
    assert place.calls(CONTENT) == []


@pytest.mark.parametrize("code", [200850, 300309, 300311, 300313, 9499])
async def test_where_streaming_ended_it_goes_on_without(feishu: SimulatedFeishu, place: Desk, code: int) -> None:
    card = await put_up(place)
    feishu.api.faults.append(Fault(("cardkit.v1.card_element.content",), "code", code=code))
    await place.chats.cards.grow(card, "one two", "one two")
    await place.chats.cards.grow(card, "one two three", "one two three")
    assert [(each.versions, each.growing) for each in place.visible] == [(("one", "one two", "one two three"), False)]


async def test_a_real_end_of_streaming_loses_nothing(feishu: SimulatedFeishu, place: Desk) -> None:
    card = await put_up(place)
    feishu.state.speed = 1e4
    await until(lambda: not place.visible[0].growing)
    await place.chats.cards.grow(card, "one two", "one two")
    assert place.texts() == ["one two"]


@pytest.mark.parametrize("code", [200860, 230099, 300305])
async def test_what_a_card_cannot_show_is_told(feishu: SimulatedFeishu, place: Desk, code: int) -> None:
    card = await put_up(place)
    for api in (CONTENT, CONTENT, UPDATE):
        feishu.api.faults.append(Fault((f"cardkit.v1.{api}",), "code", code=code))
    with pytest.raises(FeishuError):
        await place.chats.cards.grow(card, "one two", "one two")
    with pytest.raises(FeishuError):
        await place.chats.cards.write(card, "one two")


async def test_an_update_in_doubt_is_repeated_by_the_next(feishu: SimulatedFeishu, place: Desk) -> None:
    card = await put_up(place)
    await place.chats.cards.write(card, "one")
    feishu.api.faults += [Fault(("cardkit.v1.card.update",), "html"), Fault(("cardkit.v1.card.update",), "lost")]
    with pytest.raises(DeliveryUncertain):
        await place.chats.cards.write(card, "one two")
    await place.chats.cards.grow(card, "one two", "one two")
    assert (place.texts(), place.visible[0].growing) == (["one two"], False)
    assert len(set(sequences(place))) == 3


@pytest.mark.parametrize("missing", ["the scope", "CardKit"])
async def test_without_entities_a_message_is_replaced(feishu: SimulatedFeishu, place: Desk, missing: str) -> None:
    if missing == "the scope":
        feishu.state.apps["bot"].scopes.remove("cardkit:card:write")
    else:
        feishu.api.faults.append(Fault(("cardkit.v1.card.create",), "code", code=404))
    card = await put_up(place)
    for number in range(8):
        await place.chats.cards.grow(card, f"one {number}", f"one {number}")
    await place.chats.cards.write(card, "one two")
    assert place.visible[0].versions[-2:] == ("one 7", "one two")
    await put_up(place, "another")
    assert len(place.calls("card.create")) == (0 if missing == "the scope" else 1)
    assert all(json.loads(body["content"])["config"]["update_multi"] for _, body in place.calls("message.patch"))


async def test_another_refusal_is_for_one_card(feishu: SimulatedFeishu, place: Desk) -> None:
    feishu.api.faults.append(Fault(("cardkit.v1.card.create",), "code", code=300311))
    assert not (await place.chats.cards.make("x", "x", "u-s0")).shown.card
    assert (await place.chats.cards.make("x", "x", "u-s1")).shown.card


async def test_texts_and_posts_are_written_as_such(place: Desk) -> None:
    shown = await place.chats.post(place.address, "text", '{"text":"one"}', "u-1")
    assert shown == Shown(place.shown[0].id, kind="text")
    await place.chats.cards.write(Card(shown), "one *two*")
    assert place.texts() == ["one two"]
