"""Committed replies on their way out: what a person sees when the platform fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.account import AccountConfig, Ambiguous
from core.adapter import FailureCode
from core.delivery import failure_from, failure_json, parts_of
from core.errors import (
    ChatUnavailable,
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    RateLimited,
    TargetGone,
)
from tests.clock import HeldClock
from tests.core.gateway import Gateway, until
from tests.simulators.pager import (
    Edits,
    EditsAndFinds,
    Finds,
    Forms,
    KeyedReply,
    Pager,
    PagerReply,
)

REASON = "no, thank you"


async def dead(gateway: Gateway) -> list[str]:
    return [letter.reason for letter in await gateway.store.dead_letters()]


async def test_a_send_is_tried_again_after_1_5_30_120_and_600_seconds_and_is_dead_then(gateway: Gateway) -> None:
    gateway.pager.fail("send", *[DeliveryUnavailable(REASON)] * 6)
    await gateway.hear("1")
    for number, seconds in enumerate((1, 5, 30, 120, 600), start=1):
        await until(lambda: gateway.clock.sleeping)
        assert gateway.pager.calls.count("send") == number
        await gateway.clock.advance(seconds - 0.5)
        assert gateway.pager.calls.count("send") == number
        await gateway.clock.advance(0.5)
        await until(lambda number=number: gateway.pager.calls.count("send") == number + 1)  # type: ignore[misc]
    await gateway.idle()
    assert await dead(gateway) == [f"gave up after 6 attempts: {REASON}"]
    assert (await gateway.ask("2")) == ["answer to 2"]


async def test_the_platform_s_own_waiting_time_is_honoured(gateway: Gateway) -> None:
    gateway.pager.fail("send", RateLimited(REASON, retry_after=42.0))
    await gateway.hear("1")
    await gateway.pass_time(41.9)
    assert gateway.pager.calls.count("send") == 1
    await gateway.pass_time(0.1)
    await gateway.idle()
    assert gateway.pager.texts() == ["answer to 1"]


@pytest.mark.parametrize("error", [TargetGone(REASON), DeliveryError(REASON)])
async def test_a_send_that_can_never_work_is_dead_at_once(gateway: Gateway, error: Exception) -> None:
    gateway.pager.fail("send", error)
    assert await gateway.ask("1") == []
    assert await dead(gateway) == [REASON]
    assert gateway.pager.calls.count("send") == 1


async def test_a_surely_undelivered_send_is_repeated_without_a_mark(gateway: Gateway) -> None:
    gateway.pager.fail("send", DeliveryUnavailable(REASON), RateLimited(REASON, retry_after=1.0))
    await gateway.hear("1")
    await gateway.pass_time(1)
    await gateway.pass_time(5)
    await gateway.idle()
    assert gateway.pager.texts() == ["answer to 1"]


@pytest.mark.parametrize("after", [True, False])
async def test_the_same_key_again_shows_a_reply_once(path: Path, clock: HeldClock, after: bool) -> None:
    async with Gateway(path, clock, Pager(KeyedReply)) as gateway:
        gateway.pager.fail("send", *[DeliveryUncertain(REASON)] * 3, after=after)
        await gateway.hear("1")
        for seconds in (1, 5, 30):
            await gateway.pass_time(seconds)
        await gateway.idle()
        assert gateway.pager.texts() == ["answer to 1"]
        assert gateway.pager.calls.count("send") == 4


async def test_beyond_the_key_s_lifetime_a_doubtful_send_is_marked(path: Path, clock: HeldClock) -> None:
    gateway = Gateway(path, clock, Pager(KeyedReply))
    async with gateway:
        gateway.pager.fail("send", DeliveryUncertain(REASON))
        await gateway.hear("1")
        await until(lambda: clock.sleeping)
        await gateway.crash()
    await clock.advance(3600)
    async with gateway.again() as later:
        await later.idle()
        assert later.pager.texts() == ["answer to 1\n\n(may be repeated)"]


@pytest.mark.parametrize("after", [True, False])
async def test_a_doubtful_send_is_looked_up_once_the_call_can_no_longer_arrive(
    path: Path, clock: HeldClock, after: bool
) -> None:
    async with Gateway(path, clock, Pager(Finds)) as gateway:
        gateway.pager.fail("send", DeliveryUncertain(REASON), after=after)
        await gateway.hear("1")
        await gateway.pass_time(1)
        await gateway.pass_time(33.9)
        assert "find" not in gateway.pager.calls
        await gateway.pass_time(0.1)
        await gateway.idle()
        assert gateway.pager.texts() == ["answer to 1"]
        assert gateway.pager.calls.count("send") == (1 if after else 2)


async def test_a_look_up_that_fails_leaves_the_doubt_and_sends_nothing(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Finds)) as gateway:
        gateway.pager.fail("send", DeliveryUncertain(REASON), after=True)
        gateway.pager.fail("find", DeliveryUnavailable(REASON), RateLimited(REASON, retry_after=1.0))
        await gateway.hear("1")
        for seconds in (1, 34, 5, 30):
            await gateway.pass_time(seconds)
        await gateway.idle()
        assert gateway.pager.texts() == ["answer to 1"]
        assert gateway.pager.calls == ["send", "find", "find", "find"]


@pytest.mark.parametrize(
    ("policy", "texts"),
    [
        (Ambiguous.MARK, ["answer to 1", "answer to 1\n\n(may be repeated)"]),
        (Ambiguous.RESEND, ["answer to 1", "answer to 1"]),
        (Ambiguous.DROP, ["answer to 1"]),
    ],
)
async def test_where_nothing_settles_a_doubt_the_account_s_policy_does(
    path: Path, clock: HeldClock, policy: Ambiguous, texts: list[str]
) -> None:
    async with Gateway(path, clock, accounts={"work": AccountConfig(ambiguous=policy)}) as gateway:
        gateway.pager.fail("send", DeliveryUncertain(REASON), after=True)
        await gateway.hear("1")
        await gateway.pass_time(1)
        await gateway.idle()
        assert gateway.pager.texts() == texts
        assert len(await dead(gateway)) == (1 if policy is Ambiguous.DROP else 0)


async def test_the_mark_is_in_the_language_of_the_reply_and_stays_on_every_later_attempt(gateway: Gateway) -> None:
    gateway.model.will("你好")
    gateway.pager.fail("send", DeliveryUncertain(REASON), DeliveryUnavailable(REASON))
    await gateway.hear("1")
    await gateway.pass_time(1)
    await gateway.pass_time(5)
    await gateway.idle()
    assert gateway.pager.texts() == ["你好\n\n（可能重复）"]


async def test_a_mistake_of_an_adapter_while_sending_is_a_doubt(gateway: Gateway) -> None:
    gateway.pager.fail("send", RuntimeError("a mistake"), after=True)
    await gateway.hear("1")
    await gateway.pass_time(1)
    await gateway.idle()
    assert gateway.pager.texts() == ["answer to 1", "answer to 1\n\n(may be repeated)"]


async def test_the_parts_of_a_long_answer_arrive_in_order_and_whole(gateway: Gateway) -> None:
    words = " ".join(f"word{number}" for number in range(300))
    gateway.model.will(words)
    gateway.pager.fail("send", None, DeliveryUnavailable(REASON))
    await gateway.hear("1")
    await gateway.pass_time(1)
    await gateway.idle()
    texts = gateway.pager.texts()
    assert len(texts) > 3
    assert " ".join(texts).split() == words.split()


async def test_the_parts_after_a_dead_one_are_dead_with_it(gateway: Gateway) -> None:
    gateway.model.will(" ".join(["word"] * 300))
    gateway.pager.fail("send", None, TargetGone(REASON))
    assert len(await gateway.ask("1")) == 1
    assert (await gateway.store.figures()).unsent == 0
    assert REASON in (await dead(gateway))[0]


async def test_an_edit_of_a_vanished_preview_becomes_a_send(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Edits)) as gateway:
        gateway.model.will("answer", hold := asyncio.Event(), " done")
        await gateway.hear("1")
        await until(gateway.pager.texts)
        gateway.pager.delete(next(iter(gateway.pager.messages)))
        hold.set()
        await gateway.idle()
        assert gateway.pager.texts() == ["answer done"]


async def test_a_final_edit_that_fails_is_tried_again_and_doubles_nothing(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(EditsAndFinds)) as gateway:
        gateway.model.will("answer", hold := asyncio.Event(), " done")
        await gateway.hear("1")
        await until(gateway.pager.texts)
        gateway.pager.fail("edit", DeliveryUncertain(REASON), RateLimited(REASON, retry_after=2.0))
        hold.set()
        await until(lambda: gateway.pager.calls.count("edit") == 1)
        await gateway.pass_time(1)
        await until(lambda: gateway.pager.calls.count("edit") == 2)
        await gateway.pass_time(5)
        await gateway.idle()
        assert gateway.pager.texts() == ["answer done"]


async def test_a_failure_takes_the_form_that_the_channel_has_for_it(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Forms)) as gateway:
        gateway.model.will(ChatUnavailable("the model's server is down", detail="<secret>", retry_after=7.0))
        gateway.pager.fail("fail", DeliveryUnavailable(REASON))
        await gateway.hear("1")
        await gateway.pass_time(1)
        await gateway.idle()
        ((_, failure),) = gateway.pager.failures
        assert (failure.code, failure.retry_after) == (FailureCode.MODEL_UNAVAILABLE, 7.0)
        assert "secret" not in failure.text
        assert gateway.pager.texts() == []
        assert failure_from(failure_json(failure)) == failure


async def test_a_dead_reply_can_be_sent_after_all(gateway: Gateway) -> None:
    gateway.pager.fail("send", TargetGone(REASON))
    await gateway.ask("1")
    (letter,) = await gateway.store.dead_letters()
    part = int(letter.id.removeprefix("out-"))
    conversation = await gateway.store.retry_part(part)  # type: ignore[arg-type]
    assert conversation is not None
    gateway.dispatcher.take_up(conversation)
    await gateway.idle()
    assert gateway.pager.texts() == ["answer to 1"]


def test_a_part_leaves_room_for_the_mark() -> None:
    reply = PagerReply(Pager(), "home")
    assert parts_of(reply, "x" * 360) == ("x" * 360,)
    assert [len(part) <= 360 for part in parts_of(reply, "x " * 400)] == [True] * 3
    assert parts_of(reply, " \n") == ()
