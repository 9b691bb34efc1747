"""The circuit breaker stops calling what keeps failing, and tries it again one call at a time."""

from __future__ import annotations

from core.breaker import Breaker, Breakers, Permit
from tests.clock import HeldClock


def permit(breaker: Breaker) -> Permit:
    given = breaker.admit()
    assert given is not None
    return given


def shut(breaker: Breaker) -> bool:
    return breaker.open


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.failed(permit(breaker))


async def test_it_opens_after_five_failures(clock: HeldClock) -> None:
    breaker = Breaker(clock)
    fail(breaker, 4)
    assert not shut(breaker)
    fail(breaker, 1)
    assert shut(breaker)
    assert breaker.admit() is None
    assert breaker.retry_in == 10


async def test_failures_that_are_far_apart_do_not_open_it(clock: HeldClock) -> None:
    breaker = Breaker(clock)
    for _ in range(20):
        fail(breaker, 1)
        await clock.advance(7.6)
    assert not shut(breaker)


async def test_a_busy_server_that_fails_now_and_then_is_not_shut_off(clock: HeldClock) -> None:
    breaker = Breaker(clock)
    for _ in range(50):
        fail(breaker, 1)
        for _ in range(9):
            breaker.succeeded(permit(breaker))
    assert not shut(breaker)
    fail(breaker, 400)  # the paired negative: when it mostly fails, it is
    assert shut(breaker)


async def test_one_probe_at_a_time_after_the_rest(clock: HeldClock) -> None:
    breaker = Breaker(clock)
    fail(breaker, 5)
    await clock.advance(9.9)
    assert breaker.admit() is None
    await clock.advance(0.1)
    probe = permit(breaker)
    assert breaker.admit() is None
    breaker.succeeded(probe)
    assert not shut(breaker)
    fail(breaker, 4)
    assert not shut(breaker)  # the old failures are forgotten


async def test_failed_probes_double_the_rest_up_to_a_minute(clock: HeldClock) -> None:
    breaker = Breaker(clock)
    fail(breaker, 5)
    rests = []
    for _ in range(5):
        rests.append(breaker.retry_in)
        await clock.advance(breaker.retry_in)
        breaker.failed(permit(breaker))
    assert rests == [10, 20, 40, 60, 60]
    await clock.advance(60)
    breaker.succeeded(permit(breaker))
    fail(breaker, 5)
    assert breaker.retry_in == 10


async def test_an_abandoned_probe_makes_room_for_the_next(clock: HeldClock) -> None:
    breaker = Breaker(clock)
    fail(breaker, 5)
    await clock.advance(10)
    breaker.abandoned(permit(breaker))
    assert shut(breaker)
    breaker.succeeded(permit(breaker))
    assert not shut(breaker)


async def test_calls_from_before_it_opened_change_nothing(clock: HeldClock) -> None:
    breaker = Breaker(clock)
    early = [permit(breaker) for _ in range(8)]
    for given in early[:5]:
        breaker.failed(given)
    await clock.advance(5)
    breaker.failed(early[5])
    breaker.succeeded(early[6])
    breaker.abandoned(early[7])
    assert shut(breaker)
    assert breaker.retry_in == 5


async def test_a_healthy_breaker_remembers_nothing(clock: HeldClock) -> None:
    breaker = Breaker(clock)
    for _ in range(1000):
        breaker.succeeded(permit(breaker))
    assert not breaker._recent
    fail(breaker, 1)
    await clock.advance(31)
    breaker.succeeded(permit(breaker))
    breaker.succeeded(permit(breaker))
    assert not breaker._recent


async def test_each_name_has_its_own_and_they_are_bounded(clock: HeldClock) -> None:
    breakers = Breakers(clock)
    fail(breakers.of("a"), 5)
    assert breakers.open() == ["a"]
    assert not shut(breakers.of("b"))
    for number in range(300):
        breakers.of(str(number))
    assert len(breakers._breakers) == 256
