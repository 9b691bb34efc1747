"""Rates per person, kept in memory: a bucket each, refilled by the clock."""

from __future__ import annotations

from collections import OrderedDict

from core.clock import Clock

_REMEMBERED = 50_000
"""People whose bucket is kept; a forgotten bucket is a full one."""


class Rates:
    """Messages per minute and person. The bucket holds a minute's worth and refills evenly."""

    def __init__(self, per_minute: int | None, clock: Clock) -> None:
        self.per_minute = per_minute
        """May be changed while running; None is unlimited."""
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, person: str) -> float | None:
        """Count one message of `person`: None if it fits, else the seconds until one would."""
        if self.per_minute is None:
            return None
        now, size = self._clock.monotonic(), float(self.per_minute)
        level, at = self._buckets.pop(person, (size, now))
        level = min(size, level + (now - at) * size / 60)
        wait = None if level >= 1 else (1 - level) * 60 / size
        self._buckets[person] = (level - 1 if wait is None else level, now)
        if len(self._buckets) > _REMEMBERED:
            self._buckets.popitem(last=False)
        return wait

    def give_back(self, person: str) -> None:
        """One message did not count after all (it was a redelivery)."""
        if person in self._buckets:
            level, at = self._buckets[person]
            self._buckets[person] = (level + 1, at)
