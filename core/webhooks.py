"""What every webhook needs before it trusts a request: a bounded body, and a memory of what was accepted."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from aiohttp import http_exceptions, web

from core.clock import Clock

WINDOW = 300
"""Seconds that a request's timestamp may differ from now."""

LARGEST_BODY = 1_000_000
"""Bytes."""

BROKEN_BODY = (web.RequestPayloadError, http_exceptions.BadHttpMessage)
"""What reading a body raises that is cut short or wrongly encoded."""

_READ = 5.0
"""Seconds that a body may take."""
_REMEMBERED = 50_000


class Replays:
    """Signatures that were accepted, for as long as their timestamps would be."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accepted: OrderedDict[str, float] = OrderedDict()

    def __contains__(self, signature: str) -> bool:
        return signature in self._accepted

    def forget(self, signature: str) -> None:
        """What came with it was not taken in after all: a copy may be."""
        self._accepted.pop(signature, None)

    def add(self, signature: str) -> None:
        """A copy of this request is a replay from now on. (A retry by the platform is signed anew.)"""
        now = self._clock.monotonic()
        self._accepted[signature] = now
        while self._accepted:
            oldest, at = next(iter(self._accepted.items()))
            if now - at <= 2 * WINDOW and len(self._accepted) <= _REMEMBERED:
                break
            del self._accepted[oldest]


async def body_of(request: web.Request) -> bytes | None:
    """The body; None if it is too large, too slow, cut short or wrongly encoded."""
    if (request.content_length or 0) > LARGEST_BODY:
        return None
    body = bytearray()
    try:
        if request.content.is_eof():  # it came with the head
            whole = request.content.read_nowait()
            return whole if len(whole) <= LARGEST_BODY else None
        async with asyncio.timeout(_READ):
            async for chunk in request.content.iter_chunked(65_536):
                body += chunk
                if len(body) > LARGEST_BODY:
                    return None
    except (TimeoutError, ConnectionError, web.HTTPException):
        return None
    except BROKEN_BODY:
        request.content.feed_eof()  # else aiohttp would go on reading it after the answer
        return None
    return bytes(body)
