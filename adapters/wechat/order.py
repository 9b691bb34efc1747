"""Messages of a conversation one after the other, as they were told of; those of different ones side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager


class Order:
    """Whose conversation a message is of shows only when it was looked up. So each waits until that is known of all that
    were told of before it; they are looked up at the same time."""

    def __init__(self) -> None:
        self._ends: dict[str, asyncio.Event] = {}
        """Conversation to the end of its newest message."""
        self._known = asyncio.Event()
        """Of the message told of last, and of all before it."""
        self._known.set()

    def next(self) -> Turn:
        """Of the message that was told of next."""
        turn = Turn(self._ends, self._known)
        self._known = turn.known
        return turn


class Turn:
    """One message's."""

    def __init__(self, ends: dict[str, asyncio.Event], earlier: asyncio.Event) -> None:
        self._ends = ends
        self._earlier = earlier
        self.known = asyncio.Event()

    async def let_pass(self) -> None:
        """It cannot be looked up now: those behind it do not wait for that."""
        await self._earlier.wait()
        self.known.set()

    @asynccontextmanager
    async def within(self, conversation: str) -> AsyncIterator[Callable[[], Awaitable[object]]]:
        """The messages of `conversation` that come later wait until this is left; what it gives waits for those before."""
        await self._earlier.wait()
        before, end = self._ends.get(conversation), asyncio.Event()
        self._ends[conversation] = end
        self.known.set()
        try:
            yield before.wait if before is not None else _nothing
        finally:
            end.set()
            if self._ends[conversation] is end:
                del self._ends[conversation]


async def _nothing() -> None:
    pass
