"""What took how long at the start, so that whoever waits for it can see where the time went."""

from __future__ import annotations

from core.clock import Clock


class Laps:
    """Steps that follow one another; `took` has the seconds of each, by name."""

    def __init__(self, clock: Clock) -> None:
        self.took: dict[str, float] = {}
        self._clock = clock
        self._at = clock.monotonic()

    def done(self, step: str) -> None:
        """What was done since the last step."""
        now = self._clock.monotonic()
        self.took[step] = round(now - self._at, 3)
        self._at = now
