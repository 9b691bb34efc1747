"""What becomes of messages that no platform brings again by itself when they cannot be taken in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from core.adapter import Receipt
from core.errors import StorageUnavailable
from core.handover import hand_over
from core.messages import InboundMessage
from tests.clock import HeldClock
from tests.core.gateway import Gateway


class Door:
    """An inbox that meets what it is told to."""

    def __init__(self, *outcomes: Exception | Receipt) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[str] = []

    async def __call__(self, message: InboundMessage) -> Receipt:
        self.asked.append(message.text)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class Hasty(HeldClock):
    """Waits for nothing, and says for what it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.mark.parametrize(
    "outcomes",
    [
        [Receipt.ACCEPTED],
        [StorageUnavailable("full")] * 9 + [Receipt.OVERLOADED, Receipt.CLOSED, Receipt.ACCEPTED],
        [StorageUnavailable("full"), Receipt.DUPLICATE],
        [Receipt.REFUSED],
    ],
)
async def test_a_message_is_brought_until_there_is_an_end_of_it(
    gateway: Gateway, outcomes: Sequence[Exception | Receipt]
) -> None:
    door, clock = Door(*outcomes), Hasty()
    await hand_over(gateway.message("hello"), door, clock)
    assert door.asked == ["hello"] * len(outcomes)
    assert len(clock.slept) == len(outcomes) - 1
