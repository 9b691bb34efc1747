"""How long is waited is bounded, random, and what the server asked for."""

from __future__ import annotations

import pytest

from core.backoff import full_jitter, retry_after
from tests.clock import HeldClock


def test_the_jitter_is_full_and_bounded() -> None:
    for attempt, most in ((0, 0.5), (1, 1.0), (2, 2.0), (4, 8.0), (2000, 8.0)):
        waits = [full_jitter(attempt) for _ in range(200)]
        assert 0 <= min(waits) < most / 4
        assert most * 3 / 4 < max(waits) <= most


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "-1"}, 0.0),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": "Mon, 02 Nov 2026 09:00:20 GMT"}, 20.0),
        ({"Retry-After": "Mon, 02 Nov 2026 09:00:20 -0000"}, 20.0),
        ({"Retry-After": "Mon, 02 Nov 2026 08:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "250", "Retry-After": "1"}, 0.25),
    ],
)
def test_what_a_server_asks_for_is_understood(headers: dict[str, str], seconds: float | None, clock: HeldClock) -> None:
    assert retry_after(headers, clock) == seconds
