"""An account's messages on their way out: at a distance from each other, and none broken off at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from core.adapter import IdempotencyKey
from core.clock import Clock
from core.errors import RateLimited
from core.latest import Latest

LONGEST_WAIT = 12.0
"""Seconds that a message waits here; a call to the platform has 30 for everything (core/delivery.py)."""
_REMEMBERED = 10_000


class Departures:
    """One account's, whatever it is connected by."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free = 0.0
        self._promised: Latest[IdempotencyKey, float] = Latest(_REMEMBERED)
        """When messages go that were asked to come back."""
        self._under_way = 0
        self._settled = asyncio.Event()

    async def wait(self, key: IdempotencyKey, *, before: float = 0.0, after: float = 0.0) -> None:
        """Until a message may go, with so many seconds before it and after it in which no other does. One that would
        wait too long is asked to come back (RateLimited), and has a place of its own then."""
        now = self._clock.monotonic()
        goes = self._promised.pop(key, None)
        if goes is None:
            goes = max(now, self._free) + before
            self._free = goes + after
        if goes - now > LONGEST_WAIT:
            self._promised[key] = goes
            raise RateLimited("other messages go first", retry_after=goes - now)
        if goes > now:
            await self._clock.sleep(goes - now)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """A message is being sent."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._settled.set()

    async def settle(self, seconds: float) -> None:
        """Before the connection is closed: let messages that are under way be answered. One that is broken off would be
        in doubt."""
        self._settled.clear()
        if self._under_way:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._settled.wait()
