"""An account that is not connected: what it cannot send waits for it, however long that takes, but not for ever."""

from __future__ import annotations

from pathlib import Path

from core.errors import DeliveryUnavailable, DeliveryUncertain, HeldBack
from core.journal import OutboxState, PartId
from core.messages import AccountId
from tests.clock import HeldClock
from tests.core.gateway import Gateway, until

WORK = AccountId("work")
HOUR = 3600.0
GONE = DeliveryUnavailable("not signed in")


async def asked_while_away(gateway: Gateway) -> None:
    """Its account is gone when the answer is there."""
    gateway.away.add(WORK)
    gateway.pager.fail("send", GONE)
    await gateway.ask("1")
    assert gateway.pager.texts() == []


async def back(gateway: Gateway) -> None:
    gateway.away.discard(WORK)
    gateway.dispatcher.send_held(WORK)
    await gateway.idle()


async def test_an_answer_waits_for_its_account_and_is_sent_once(gateway: Gateway) -> None:
    await asked_while_away(gateway)
    for _ in range(20):
        await gateway.clock.advance(HOUR)
    assert gateway.pager.calls.count("send") == 1
    assert await gateway.store.dead_letters() == []
    await back(gateway)
    assert gateway.pager.texts() == ["answer to 1"]
    assert await gateway.store.unsent(gateway.key()) == ()


async def test_what_waited_for_more_than_a_day_is_a_dead_letter_that_can_be_sent_again(gateway: Gateway) -> None:
    await asked_while_away(gateway)
    await gateway.clock.advance(24 * HOUR + 1)
    await back(gateway)
    assert gateway.pager.texts() == []
    (dead,) = await gateway.store.dead_letters()
    assert dead.reason == "it waited for more than 24 h: the account is not connected"
    conversation = await gateway.store.retry_part(PartId(int(dead.id.removeprefix("out-"))))
    assert conversation is not None
    gateway.dispatcher.take_up(conversation)
    await gateway.idle()
    assert gateway.pager.texts() == ["answer to 1"]


async def test_a_day_is_also_over_for_the_next_process(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock) as first:
        await asked_while_away(first)
    await clock.advance(24 * HOUR + 1)
    async with first.again() as second:
        await second.idle()
        assert second.pager.texts() == []
        assert len(await second.store.dead_letters()) == 1


async def test_a_commands_answer_waits_too_and_misses_no_return_of_its_account(gateway: Gateway) -> None:
    gateway.away.add(WORK)
    gateway.pager.fail("send", GONE)
    gateway.journal.hold_before = "hold"
    await gateway.hear("/whoami")
    await gateway.journal.held.wait()
    gateway.journal.hold_before = ""
    gateway.away.discard(WORK)
    gateway.dispatcher.send_held(WORK)
    await until(lambda: not gateway.dispatcher.workers)
    gateway.journal.go_on.set()
    await gateway.idle()
    (shown,) = gateway.pager.texts()
    assert "ann" in shown


async def test_what_waits_for_a_person_is_not_given_up(gateway: Gateway) -> None:
    gateway.pager.fail("send", HeldBack("write again"))
    await gateway.ask("1")
    await gateway.clock.advance(72 * HOUR)
    assert await gateway.ask("2") == ["answer to 1", "answer to 2"]


async def test_a_doubt_from_before_stays_one(gateway: Gateway) -> None:
    gateway.pager.fail("send", DeliveryUncertain("broken off"), GONE)
    await gateway.hear("1")
    gateway.away.add(WORK)
    await gateway.pass_time(1.0)
    await gateway.idle()
    (part,) = await gateway.store.unsent(gateway.key())
    assert part.state is OutboxState.UNKNOWN
    await back(gateway)
    (shown,) = gateway.pager.texts()
    assert shown.startswith("answer to 1")
    assert "may be repeated" in shown


async def test_an_account_that_is_connected_gives_up_after_its_attempts(gateway: Gateway) -> None:
    gateway.pager.fail("send", *[GONE] * 6)
    await gateway.hear("1")
    for seconds in (1.0, 5.0, 30.0, 120.0, 600.0):
        await gateway.pass_time(seconds)
    await gateway.idle()
    assert len(await gateway.store.dead_letters()) == 1
