"""A clock that a test moves by hand."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta


class HeldClock:
    """Implements core.clock.Clock. `advance` moves time and wakes the sleepers it passes, in order."""

    def __init__(self, start: datetime = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)) -> None:
        self._now = start
        self._elapsed = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = itertools.count()

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._count), future))
        await future

    @property
    def sleeping(self) -> int:
        """How many tasks wait for time to pass."""
        return sum(not future.done() for _, _, future in self._sleepers)

    @property
    def next_in(self) -> float | None:
        """Seconds until the next sleeper is due; None: nobody sleeps."""
        return min((at - self._elapsed for at, _, future in self._sleepers if not future.done()), default=None)

    async def advance(self, seconds: float) -> None:
        """Let `seconds` pass; each sleeper runs at its own time."""
        end = self._elapsed + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            at, _, future = heapq.heappop(self._sleepers)
            self._set(at)
            if not future.done():
                future.set_result(None)
            for _ in range(10):  # let what was woken run, and sleep again
                await asyncio.sleep(0)
        self._set(end)
        await asyncio.sleep(0)

    def _set(self, elapsed: float) -> None:
        self._now += timedelta(seconds=elapsed - self._elapsed)
        self._elapsed = elapsed
