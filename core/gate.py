"""A bound on calls that run at once, fair between those who ask."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.errors import ChatUnavailable


class FairGate:
    """At most `size` holders at once; those who wait are let in round robin by `who`.

    A person with a hundred waiting calls delays another person's first call by one turn, not by a hundred.
    """

    def __init__(self, size: int, *, most_waiting: int = 1000) -> None:
        self._size = size
        self._most_waiting = most_waiting
        self._running = 0
        self._waiting = 0
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """Who waits, the next one to be let in first."""

    @property
    def running(self) -> int:
        """How many hold a place."""
        return self._running

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return self._waiting

    @property
    def size(self) -> int:
        """May be changed while running; a smaller size is reached as holders leave."""
        return self._size

    @size.setter
    def size(self, size: int) -> None:
        self._size = size
        self._admit()

    @asynccontextmanager
    async def place(self, who: str, *, patience: float | None = None) -> AsyncIterator[None]:
        """Hold a place while inside.

        Raises ChatUnavailable when too many wait already, or none became free within `patience` seconds.
        """
        await self._enter(who, patience)
        try:
            yield
        finally:
            self._running -= 1
            self._admit()

    async def _enter(self, who: str, patience: float | None) -> None:
        if self._running < self._size and not self._waiting:
            self._running += 1
            return
        if self._waiting >= self._most_waiting:
            raise ChatUnavailable(f"{self._waiting} calls wait for the model already; try again later")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(who, deque()).append(turn)
        self._waiting += 1
        try:
            async with asyncio.timeout(patience):
                await self._wait(who, turn)
        except TimeoutError:
            raise ChatUnavailable(f"no place at the model became free within {patience:g} s; try again later") from None

    async def _wait(self, who: str, turn: asyncio.Future[None]) -> None:
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let in and cancelled at once: hand the place on
                self._running -= 1
                self._admit()
            else:
                self._forget(who, turn)
            raise

    def _forget(self, who: str, turn: asyncio.Future[None]) -> None:
        queue = self._queues.get(who)
        if queue is None or turn not in queue:  # `_admit` came past between the cancelling and now
            return
        queue.remove(turn)
        self._waiting -= 1
        if not queue:
            del self._queues[who]

    def _admit(self) -> None:
        while self._running < self._size and self._queues:
            who, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            self._waiting -= 1
            if queue:
                self._queues[who] = queue  # at the end: everyone else who waits comes first
            if not turn.done():
                self._running += 1
                turn.set_result(None)
