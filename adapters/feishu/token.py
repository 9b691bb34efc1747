"""The token that calls carry: fetched once for all who wait, renewed while the old one is still good.

https://open.feishu.cn/document/server-docs/authentication-management/access-token/tenant_access_token_internal: it lasts
for 2 hours; the same one is given until less than 30 minutes remain, and then both are good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from core.clock import Clock
from core.errors import DeliveryUnavailable

TOKEN_LASTS = 7200.0
"""Seconds, where Feishu does not say; a call tells when one is over."""
_RENEW_BEFORE = 20 * 60.0
"""Seconds before its end from which on another one is asked for; nobody waits for that one."""
_UNSAFE = 60.0
"""Seconds before its end from which on it is not used any more: a call takes a while, and clocks differ."""
_ASK_AGAIN = 60.0
"""Seconds between two attempts to renew one that is still good."""


class Token:
    """`fetch` returns a token and the seconds that it lasts, or raises a DeliveryError, which every waiter gets."""

    def __init__(self, fetch: Callable[[], Awaitable[tuple[str, float]]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._value = ""
        self._good_until = 0.0
        self._renew_at = 0.0
        self._fetching: asyncio.Task[str] | None = None

    async def get(self) -> str:
        """One that is good. Raises what `fetch` raises, and DeliveryUnavailable when it is closed meanwhile."""
        now = self._clock.monotonic()
        if self._value and now < self._good_until:
            if now >= self._renew_at:
                self._renew_at = now + _ASK_AGAIN
                self._begin()
            return self._value
        fetching = self._begin()
        try:
            return await asyncio.shield(fetching)
        except asyncio.CancelledError:
            if fetching.cancelled():
                raise DeliveryUnavailable("the account is not signed in at the moment") from None
            raise

    def drop(self, value: str = "") -> None:
        """Feishu does not take `value` any more; without one whatever there is goes."""
        if not value or value == self._value:
            self._value = ""

    async def close(self) -> None:
        """Forget it, and let nobody fetch another one."""
        self._value = ""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
            self._fetching = None

    def _begin(self) -> asyncio.Task[str]:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._renew())
            self._fetching.add_done_callback(_seen)
        return self._fetching

    async def _renew(self) -> str:
        began = self._clock.monotonic()
        value, lasts = await self._fetch()
        self._value = value
        self._good_until = began + lasts - min(_UNSAFE, lasts / 10)
        self._renew_at = began + lasts - min(_RENEW_BEFORE, lasts / 4)
        return value


def _seen(task: asyncio.Task[str]) -> None:
    """Nobody may have waited for it: its error is no surprise."""
    if not task.cancelled():
        task.exception()
