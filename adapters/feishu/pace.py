"""When a call may be made: the rates of Feishu's documents, and the pauses that it asks for all the same.

https://open.feishu.cn/document/server-docs/api-call-guide/frequency-control: most APIs take 50 calls a second and 1,000 a
minute from one app. https://open.feishu.cn/document/server-docs/im-v1/message/create: 5 messages a second to each person,
and to each group from all its bots together.

Calls are counted when they arrive, some tenths of a second closer together than they were sent when a loop is busy; and a
process that died a moment ago has made some. So there is room below every limit, and no second's worth goes out at once.
"""

from __future__ import annotations

from collections import deque

from core.clock import Clock
from core.errors import RateLimited
from core.latest import Latest

AT_ONCE, A_WHILE = 10, 1 / 3
"""So many calls of one API in so many seconds: 30 in each second."""
PER_MINUTE = 960
"""The same in a minute."""
LONGEST_WAIT = 8.0
"""Seconds to wait for a turn; beyond that the caller is told to come back later."""
_SLOT = 0.25
"""Seconds between two new messages in one chat: a sixth within a second would have to come that much too early."""
_REMEMBERED = 5_000


class Pace:
    """Of all calls of one account. An API is a method and a path without ids; a place is a chat, or one call."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pauses: Latest[str, float] = Latest(_REMEMBERED)
        self._slots: Latest[str, float] = Latest(_REMEMBERED)
        self._calls: Latest[str, deque[float]] = Latest(_REMEMBERED)
        """When the last calls of each API were made, or will be."""

    def pause(self, limited: str, seconds: float) -> None:
        """Feishu wants no calls of `limited`, an API or a place, for so long."""
        self._pauses[limited] = self._clock.monotonic() + seconds

    def check(self, api: str, place: str) -> None:
        """Raises RateLimited during a pause."""
        now = self._clock.monotonic()
        wait = max(self._pauses.get(api, now), self._pauses.get(place, now)) - now
        if wait > 0:
            raise RateLimited(f"{api}: Feishu asked to wait", retry_after=wait)

    async def turn(self, api: str, chat: str = "") -> None:
        """Wait for the turn of a call; a new message has one in its chat, too. Raises RateLimited if that takes long."""
        began = self._clock.monotonic()
        if chat:
            at = max(began, self._slots.get(chat, began))
            if at - began > LONGEST_WAIT:
                raise RateLimited(f"{api}: many messages wait for chat {chat!r}", retry_after=at - began)
            self._slots[chat] = at + _SLOT
            await self._until(at)
        calls, at = self._calls.of(api, lambda: deque(maxlen=PER_MINUTE)), self._clock.monotonic()
        if len(calls) >= AT_ONCE:
            at = max(at, calls[-AT_ONCE] + A_WHILE)
        if len(calls) == PER_MINUTE:
            at = max(at, calls[0] + 60.0)
        if at - began > LONGEST_WAIT:
            raise RateLimited(f"{api}: many calls wait", retry_after=at - self._clock.monotonic())
        calls.append(at)
        await self._until(at)

    async def _until(self, at: float) -> None:
        wait = at - self._clock.monotonic()
        if wait > 0:
            await self._clock.sleep(wait)
