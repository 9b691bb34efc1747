"""What becomes of messages that no platform brings again by itself when they cannot be taken in."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

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
    ("outcomes", "lost"),
    [
        ([Receipt.ACCEPTED], False),
        ([StorageUnavailable("full")] * 9 + [Receipt.OVERLOADED, Receipt.CLOSED, Receipt.ACCEPTED], False),
        ([ValueError("a mistake")] * 2 + [Receipt.DUPLICATE], False),
        ([ValueError("a mistake")] * 3, True),
        (
            [ValueError("a mistake"), StorageUnavailable("full"), KeyError(), StorageUnavailable("full"), KeyError()],
            True,
        ),
    ],
)
async def test_only_a_message_that_is_a_mistake_each_time_is_passed_over(
    gateway: Gateway, outcomes: Sequence[Exception | Receipt], lost: bool
) -> None:
    door, clock = Door(*outcomes), Hasty()
    with capture_logs() as logs:
        await hand_over(gateway.message("hello"), door, clock)
    assert door.asked == ["hello"] * len(outcomes)
    assert len(clock.slept) == len(outcomes) - 1
    said = [entry["event"] for entry in logs if entry["log_level"] == "error"]
    assert ("a message is lost: it cannot be taken in" in said) is lost
    mistakes = [each for each in outcomes if isinstance(each, ValueError | KeyError)]
    assert len([entry for entry in logs if entry.get("exc_info")]) == len(mistakes)
