"""Work that ends by itself, or by something that is found out elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def run_until(event: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work` to its end, or until `event` is set: then it is cancelled and waited for. Returns whether that was it.

    Raises what `work` raises, unless the event is set.
    """
    working = asyncio.create_task(work)
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (working, waiting):
            task.cancel()
        await asyncio.gather(working, waiting, return_exceptions=True)
    if event.is_set():
        return True
    await working
    return False
