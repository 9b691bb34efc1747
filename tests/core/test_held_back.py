"""A platform that takes nothing more until the person writes again: the rest is kept, comes first then, and comes once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from core.errors import DeliveryUncertain, HeldBack, RateLimited
from core.markdown.parse import parse
from core.markdown.visible import visible
from core.messages import AccountId
from tests.clock import HeldClock
from tests.core.gateway import Gateway, until

REASON = "write again"
LONG = " ".join(f"word{number}" for number in range(200))
"""An answer of several messages."""


def ink(texts: list[str]) -> str:
    return visible(parse("\n\n".join(texts)))


async def kept_after_one_part(gateway: Gateway) -> int:
    """The long answer is under way, and only its first part arrived; how many parts are kept."""
    gateway.model.will(LONG)
    gateway.pager.fail("send", None, HeldBack(REASON))
    await gateway.ask("1")
    assert len(gateway.pager.texts()) == 1
    assert gateway.pager.calls.count("send") == 2
    kept = await gateway.store.unsent(gateway.key())
    assert [part.state.value for part in kept] == ["pending"] * len(kept)
    return len(kept)


async def test_the_rest_waits_for_the_persons_next_message_and_comes_before_its_answer(gateway: Gateway) -> None:
    kept = await kept_after_one_part(gateway)
    assert kept > 1
    assert await gateway.store.dead_letters() == []
    shown = await gateway.ask("2")
    assert ink(shown[:-1]) == visible(parse(LONG))
    assert shown[-1] == "answer to 2"
    assert len(shown) == kept + 2
    assert await gateway.store.unsent(gateway.key()) == ()


async def test_a_person_who_does_not_write_again_is_left_in_peace(gateway: Gateway) -> None:
    kept = await kept_after_one_part(gateway)
    for _ in range(3):
        await gateway.clock.advance(3600.0)
    await gateway.ask("hello", user="bob", place="elsewhere")
    assert gateway.pager.calls.count("send") == 3
    assert len(await gateway.store.unsent(gateway.key())) == kept


async def test_an_answer_does_not_overtake_what_is_held_back_again(gateway: Gateway) -> None:
    kept = await kept_after_one_part(gateway)
    gateway.pager.fail("send", HeldBack(REASON))
    shown = await gateway.ask("2")
    assert len(shown) == 1
    assert gateway.pager.calls.count("send") == 3
    shown = await gateway.ask("3")
    assert shown[-2:] == ["answer to 2", "answer to 3"]
    assert len(shown) == 1 + kept + 2


async def test_attempts_are_counted_anew_with_each_message(gateway: Gateway) -> None:
    for number in range(4):
        gateway.pager.fail("send", *[RateLimited(REASON, retry_after=0.0)] * 2, HeldBack(REASON))
        await gateway.hear(str(number))
        for seconds in (1.0, 5.0):
            await gateway.pass_time(seconds)
        await gateway.idle()
    assert gateway.pager.texts() == []
    assert await gateway.store.dead_letters() == []
    shown = await gateway.ask("last")
    assert shown == ["answer to 0", "answer to 1", "answer to 2", "answer to 3", "answer to last"]


async def test_an_account_that_is_signed_in_anew_brings_what_was_held_back(gateway: Gateway) -> None:
    kept = await kept_after_one_part(gateway)
    gateway.dispatcher.send_held(AccountId("another"))
    await gateway.idle()
    assert len(gateway.pager.texts()) == 1
    gateway.dispatcher.send_held(gateway.key().account)
    await gateway.idle()
    assert ink(gateway.pager.texts()) == visible(parse(LONG))
    assert len(gateway.pager.texts()) == kept + 1


async def test_a_command_brings_what_was_held_back_and_its_reply_after_it(gateway: Gateway) -> None:
    kept = await kept_after_one_part(gateway)
    shown = await gateway.ask("/whoami")
    assert len(shown) == kept + 2
    assert ink(shown[:-1]) == visible(parse(LONG))
    assert "ann" in shown[-1]


async def test_a_message_that_came_meanwhile_brings_the_rest(gateway: Gateway) -> None:
    gateway.model.will(LONG)
    gateway.pager.fail("send", None, HeldBack(REASON))
    gate = gateway.pager.gates["send"] = asyncio.Event()
    await gateway.hear("1")
    await until(lambda: gateway.pager.waiting)
    await gateway.hear("2")
    gate.set()
    await gateway.idle()
    shown = gateway.pager.texts()
    assert ink(shown[:-1]) == visible(parse(LONG))
    assert shown[-1] == "answer to 2"


async def test_what_is_held_back_survives_a_crash_and_is_not_marked_as_repeated(path: Path, clock: HeldClock) -> None:
    first = Gateway(path, clock)
    await first.__aenter__()
    kept = await kept_after_one_part(first)
    await first.crash()
    async with first.again() as second:
        await second.idle()
        shown = second.pager.texts()
        assert len(shown) == kept + 1
        assert ink(shown) == visible(parse(LONG))


async def test_a_doubt_that_was_there_before_stays_one(gateway: Gateway) -> None:
    gateway.pager.fail("send", DeliveryUncertain(REASON), HeldBack(REASON))
    await gateway.hear("1")
    await gateway.pass_time(1.0)
    await gateway.idle()
    (part,) = await gateway.store.unsent(gateway.key())
    assert part.state.value == "unknown"
    shown = await gateway.ask("2")
    assert shown[0].startswith("answer to 1")
    assert "may be repeated" in shown[0]
