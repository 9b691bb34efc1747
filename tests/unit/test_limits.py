"""Messages per minute and person."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.limits import Rates
from tests.clock import HeldClock


def test_a_minute_s_worth_fits_at_once_and_the_next_tells_how_long_to_wait(clock: HeldClock) -> None:
    rates = Rates(3, clock)
    assert [rates.take("ann") for _ in range(3)] == [None] * 3
    assert rates.take("ann") == pytest.approx(20.0)
    assert rates.take("bob") is None


async def test_the_bucket_refills_evenly_and_never_overflows(clock: HeldClock) -> None:
    rates = Rates(3, clock)
    for _ in range(3):
        rates.take("ann")
    await clock.advance(19.0)
    assert rates.take("ann") == pytest.approx(1.0)
    await clock.advance(1.0)
    assert rates.take("ann") is None
    await clock.advance(3600.0)
    assert [rates.take("ann") for _ in range(4)][:3] == [None] * 3
    assert rates.take("ann") is not None


def test_a_redelivery_does_not_count(clock: HeldClock) -> None:
    rates = Rates(1, clock)
    for _ in range(10):
        assert rates.take("ann") is None
        rates.give_back("ann")
    rates.give_back("nobody")


def test_no_limit_is_no_limit_and_a_new_one_counts_at_once(clock: HeldClock) -> None:
    rates = Rates(None, clock)
    assert [rates.take("ann") for _ in range(1000)] == [None] * 1000
    rates.per_minute = 1
    assert rates.take("ann") is None
    assert rates.take("ann") is not None


def test_a_lowered_limit_counts_at_once(clock: HeldClock) -> None:
    rates = Rates(100, clock)
    rates.take("ann")
    rates.per_minute = 2
    assert [rates.take("ann") is None for _ in range(3)] == [True, True, False]


def test_the_people_remembered_are_bounded(clock: HeldClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.limits._REMEMBERED", 10)
    rates = Rates(1, clock)
    for number in range(100):
        rates.take(f"user{number}")
    assert len(rates._buckets) == 10


@given(st.integers(1, 60), st.lists(st.integers(0, 30), min_size=1, max_size=60))
async def test_nobody_gets_more_than_the_bucket_and_its_refill(per_minute: int, pauses: list[int]) -> None:
    clock = HeldClock()
    rates = Rates(per_minute, clock)
    taken = 0
    for pause in pauses:
        await clock.advance(pause)
        while rates.take("ann") is None:
            taken += 1
    assert taken <= per_minute + sum(pauses) * per_minute / 60 + 1e-6
