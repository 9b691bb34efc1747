"""Waiting for a budget that answers under way have set aside: first come, first served, and nobody polls.

Each end of an answer wakes the first who waits for a budget that it counted to. Who begins wakes the next, for an answer
mostly leaves more than was set aside for another one; who cannot goes back to the front.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable

from core.budgets import Subject

_REMEMBERED = 10_000
"""Subjects of which is remembered when something was freed; of others it is taken to be just now."""


class Headroom:
    """Who waits for which budget. Of one event loop."""

    def __init__(self) -> None:
        self._waiting: dict[Subject, deque[asyncio.Future[None]]] = {}
        self._events = 0
        self._freed: OrderedDict[Subject, int] = OrderedDict()
        self._forgotten = 0
        self.wanted: Callable[[Subject], None] = lambda _: None
        """Told of each budget that somebody begins to wait for, so that what can be put off gives way."""

    def ended(self, subjects: Iterable[Subject]) -> None:
        """An answer that counted to these budgets is paid."""
        for subject in subjects:
            self._wake(subject)

    def ticket(self) -> Ticket:
        """For one that wants to begin."""
        return Ticket(self)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def _wake(self, subject: Subject) -> None:
        self._events += 1
        self._freed[subject] = self._events
        self._freed.move_to_end(subject)
        if len(self._freed) > _REMEMBERED:
            _, self._forgotten = self._freed.popitem(last=False)
        queue = self._waiting.get(subject)
        while queue:
            future = queue.popleft()
            if not queue:
                del self._waiting[subject]
            if not future.done():
                future.set_result(None)
                return

    def _freed_since(self, subject: Subject, event: int) -> bool:
        return self._freed.get(subject, self._forgotten) > event


class Ticket:
    """One place in the queue. Close it once begun, or given up."""

    def __init__(self, headroom: Headroom) -> None:
        self._headroom = headroom
        self._woken_for: Subject | None = None
        self._has_waited = False
        self._attempted_at = 0

    def attempt(self) -> None:
        """A beginning is about to be tried."""
        self._attempted_at = self._headroom._events

    def ahead(self, subject: Subject) -> bool:
        """Whether somebody waits for this budget who must not be overtaken. Asked on the store's thread.

        Whoever has waited for one budget does not let those who wait for another one go first: two could do so forever.
        """
        return not self._has_waited and subject in self._headroom._waiting

    async def wait(self, subject: Subject) -> None:
        """The attempt found this budget in use: return when it is worth another one."""
        room = self._headroom
        first = subject == self._woken_for
        if not first:
            self.close()
        queue = room._waiting.get(subject)
        if (first or not queue) and room._freed_since(subject, self._attempted_at):
            return  # what was in use ended while the attempt was on its way back: nobody would wake this one
        self._woken_for = None
        if queue is None:
            queue = room._waiting[subject] = deque()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (queue.appendleft if first else queue.append)(future)
        room.wanted(subject)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                room._wake(subject)  # it was this one's turn; now it is the next one's
            elif future in queue:
                queue.remove(future)
                if not queue:
                    room._waiting.pop(subject, None)
            raise
        self._woken_for, self._has_waited = subject, True

    def close(self) -> None:
        """Whoever waits behind may try now."""
        woken_for, self._woken_for = self._woken_for, None
        if woken_for is not None:
            self._headroom._wake(woken_for)
