"""The sign that an answer is being written, kept up while nothing of it can be seen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import structlog

from core.adapter import CanType
from core.clock import Clock
from core.errors import DeliveryError

log = structlog.get_logger(__name__)

_AFTER = 0.3
"""Seconds before the first one: where the answer comes at once, a sign would only flash, and take two calls."""
_EVERY = 5.0
"""Seconds; the signs of the platforms fade after 5 to 10."""
_MOST = 120
"""Times that it is shown: ten minutes."""
_TIMEOUT = 30.0
"""Seconds for one call to the platform."""
_LATE = 1.0
"""Seconds that a sign may still be on its way when the answer is there."""
_OVER = 2.0
"""Seconds for taking a sign away; nothing but the next turn waits for that."""


class TypingSign:
    """Shown from soon after its making until `stop`; whoever made it waits for `gone` in the end."""

    def __init__(self, reply: CanType, clock: Clock) -> None:
        self._reply = reply
        self._clock = clock
        self._calling = False
        """A call that shows the sign is under way."""
        self._enough = False
        self._task = asyncio.create_task(self._keep_up())

    def stop(self) -> None:
        """A call that is under way may end: to break it off would close its connection, and undo nothing."""
        first, self._enough = not self._enough, True
        if first and not self._calling:  # afterwards it may be taking the sign away
            self._task.cancel()

    async def gone(self) -> None:
        """Returns once it is taken away, or nothing more can be done about it."""
        if self._calling:
            await asyncio.wait((self._task,), timeout=_LATE)
            if self._calling:
                self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_up(self) -> None:
        await self._clock.sleep(_AFTER)
        try:
            for _ in range(_MOST):
                self._calling = True
                shown = await _tried(self._reply.typing(), _TIMEOUT)
                self._calling = False
                if not shown or self._enough:
                    return
                await self._clock.sleep(_EVERY)
        finally:
            await _tried(self._reply.typing_over(), _OVER)


async def _tried(call: Awaitable[None], seconds: float) -> bool:
    """Show the sign, or take it away. False where that is a mistake of ours; nothing ever depends on it."""
    try:
        async with asyncio.timeout(seconds):
            await call
    except (DeliveryError, TimeoutError) as error:
        log.debug("no typing sign", error=str(error))
    except Exception:
        log.exception("the typing sign failed")
        return False
    return True
