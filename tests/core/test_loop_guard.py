"""What ends endless talk: the same text again and again, and a storm in a channel."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.account import Access, AccountConfig
from core.adapter import Receipt
from core.journal import Quota
from core.loop_guard import _REMEMBERED, LoopGuard
from core.messages import Attachment, EventId
from tests.clock import HeldClock
from tests.core.gateway import Gateway
from tests.simulators.pager import Forms, Pager

ACCEPTED, DUPLICATE, REFUSED, IGNORED = Receipt.ACCEPTED, Receipt.DUPLICATE, Receipt.REFUSED, Receipt.IGNORED
CHANNEL = {"is_direct": False, "mentions_bot": True}
REPEATING = "I have answered this same message several times now, so I leave it for a minute."


async def hear_all(gateway: Gateway, *texts: str, **fields: Any) -> list[Receipt]:
    receipts = [await gateway.hear(text, **fields) for text in texts]
    await gateway.idle()
    return receipts


async def test_the_same_text_is_answered_three_times_in_a_minute_then_told_once_then_left(
    gateway: Gateway, clock: HeldClock
) -> None:
    assert await hear_all(gateway, "hi", " HI", "hi\n", "Hi", "hi", "hi") == [ACCEPTED] * 3 + [REFUSED] * 3
    assert gateway.pager.texts().count(REPEATING) == 1
    assert len(gateway.pager.texts()) == 4
    await clock.advance(59.0)
    assert await hear_all(gateway, "hi") == [REFUSED]
    assert gateway.pager.texts().count(REPEATING) == 1
    await clock.advance(1.0)
    assert await hear_all(gateway, "hi", "hi", "hi", "hi") == [ACCEPTED] * 3 + [REFUSED]
    assert gateway.pager.texts().count(REPEATING) == 2


async def test_a_minute_is_the_last_one_not_the_clock_s(gateway: Gateway, clock: HeldClock) -> None:
    for _ in range(6):
        assert await hear_all(gateway, "hi") == [ACCEPTED]
        await clock.advance(21.0)
    assert REPEATING not in gateway.pager.texts()


async def test_other_texts_and_other_people_s_are_not_held_up(gateway: Gateway) -> None:
    assert await hear_all(gateway, "hi", "hi", "hi", "hi", "ho") == [ACCEPTED] * 3 + [REFUSED, ACCEPTED]
    assert await hear_all(gateway, "hi", user="bob", place="desk") == [ACCEPTED]


async def test_a_redelivery_is_never_counted_and_always_known(gateway: Gateway, clock: HeldClock) -> None:
    message = gateway.message("hi")
    receipts = Counter(await asyncio.gather(*(gateway.inbox.receive(message) for _ in range(50))))
    assert receipts == {ACCEPTED: 1, DUPLICATE: 49}
    await gateway.idle()
    assert await hear_all(gateway, "hi", "hi") == [ACCEPTED] * 2
    assert (
        await gateway.inbox.receive(replace(message, event=EventId("again"))) is DUPLICATE
    )  # no notice is spent on it
    assert await hear_all(gateway, "hi") == [REFUSED]
    assert await gateway.inbox.receive(message) is DUPLICATE
    await gateway.idle()
    assert gateway.pager.texts().count(REPEATING) == 1


async def test_what_is_refused_otherwise_is_not_counted(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, quota=Quota(queued=1)) as gateway:
        gateway.model.will(hold := asyncio.Event(), "done")
        receipts = [await gateway.hear("running")]
        receipts += [await gateway.hear("hi") for _ in range(5)]
        assert receipts[0] is ACCEPTED
        hold.set()
        await gateway.idle()
        accepted = receipts[1:].count(ACCEPTED)
        assert await hear_all(gateway, *["hi"] * (3 - accepted)) == [ACCEPTED] * (3 - accepted)
        assert REPEATING not in gateway.pager.texts()


async def test_what_halts_costs_nothing_of_the_rate(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, per_minute=5) as gateway:
        assert await hear_all(gateway, *["hi"] * 20, "one", "two") == [ACCEPTED] * 3 + [REFUSED] * 17 + [ACCEPTED] * 2
        assert len(gateway.pager.texts()) == 6


async def test_commands_are_not_held_up_and_files_without_words_neither(gateway: Gateway) -> None:
    assert await hear_all(gateway, *["/status"] * 6) == [ACCEPTED] * 6
    file = Attachment(name="a.png", media_type="image/png", size=1, source="x")
    assert await hear_all(gateway, *[""] * 6, attachments=(file,)) == [ACCEPTED] * 6


async def test_null_turns_it_off(path: Path, clock: HeldClock) -> None:
    off = {"same_text_per_minute": None, "channel_messages_per_minute": None}
    async with Gateway(path, clock, inbox=off) as gateway:
        assert await hear_all(gateway, *["hi"] * 10) == [ACCEPTED] * 10
        for _ in range(7):
            assert await hear_all(gateway, *["hi"] * 10, **CHANNEL) == [ACCEPTED] * 10


async def test_who_answers_their_own_caller_cannot_be_in_a_loop(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Forms)) as gateway:
        assert await hear_all(gateway, *["hi"] * 10) == [ACCEPTED] * 10


# a storm


@pytest.fixture
async def channel(path: Path, clock: HeldClock) -> AsyncIterator[Gateway]:
    access = Access(channels="always", admins=("eve",))
    limits = {"channel_messages_per_minute": 5}
    async with Gateway(path, clock, accounts={"work": AccountConfig(access=access)}, inbox=limits) as gateway:
        yield gateway


async def storm(gateway: Gateway, count: int, *, place: str = "home") -> list[Receipt]:
    """That many people write, each something else."""
    messages = [
        gateway.message(f"text {number}", user=f"p{number}", place=place, is_direct=False) for number in range(count)
    ]
    receipts = [await gateway.inbox.receive(message) for message in messages]
    await gateway.idle()
    return receipts


async def test_a_storm_pauses_the_channel_with_one_notice_until_five_minutes_have_passed(
    channel: Gateway, clock: HeldClock
) -> None:
    assert await storm(channel, 9) == [ACCEPTED] * 5 + [REFUSED] + [IGNORED] * 3
    notices = [text for text in channel.pager.texts() if "break in this channel for 5 minutes" in text]
    assert len(notices) == 1
    assert len(channel.pager.texts()) == 6
    await clock.advance(299.0)
    assert await storm(channel, 2) == [IGNORED] * 2
    await clock.advance(1.0)
    assert await storm(channel, 6) == [ACCEPTED] * 5 + [REFUSED]


async def test_other_channels_and_direct_messages_go_on(channel: Gateway) -> None:
    await storm(channel, 6)
    assert await storm(channel, 5, place="elsewhere") == [ACCEPTED] * 5
    assert await hear_all(channel, *(f"direct {number}" for number in range(9)), place="desk") == [ACCEPTED] * 9


async def test_commands_make_no_storm(channel: Gateway) -> None:
    assert await hear_all(channel, *["/status"] * 6, is_direct=False) == [ACCEPTED] * 6
    assert await storm(channel, 6) == [ACCEPTED] * 5 + [REFUSED]


async def test_a_paused_channel_is_listed_and_its_redeliveries_are_known(channel: Gateway, clock: HeldClock) -> None:
    message = channel.message("first", is_direct=False)
    assert await channel.inbox.receive(message) is ACCEPTED
    await storm(channel, 6)
    assert await channel.inbox.receive(message) is DUPLICATE
    await clock.advance(60.0)
    assert "resting in: `home`, 4 min" in (await channel.ask("/access", user="eve", place="desk"))[-1]
    await clock.advance(240.0)
    assert "resting" not in (await channel.ask("/access", user="eve", place="desk"))[-1]


async def test_what_is_counted_is_bounded(clock: HeldClock, gateway: Gateway) -> None:
    guard = LoopGuard(clock)
    for number in range(_REMEMBERED + 100):
        message = gateway.message(f"text {number}", place=f"c{number}", is_direct=False)
        guard.take(message, gateway.key(), same_text=3, per_channel=5)
    assert len(guard._texts) == len(guard._channels) == _REMEMBERED
