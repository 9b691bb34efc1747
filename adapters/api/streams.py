"""HTTP responses that grow, with a bound on how long a reader may stall."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import web

from adapters.api.faults import COMMON_HEADERS, Refusal

WRITE_TIMEOUT = 30.0
"""Seconds that a reader may leave a full socket unread."""

_ROOM = 32_768
"""Bytes that may wait in a socket's buffer without any wait for its reader: half of where asyncio has the writer pause."""


class ClientGone(Exception):
    """The client hung up, or does not read."""


class Growing:
    """A response whose status is decided by its first piece: until then an error can still be a plain one."""

    def __init__(self, request: web.Request, media_type: str, fault: Callable[[Refusal], bytes]) -> None:
        self._request = request
        self._fault = fault
        self._response = web.StreamResponse(
            headers={
                **COMMON_HEADERS,
                "Content-Type": media_type,
                "X-Accel-Buffering": "no",  # nginx would collect the pieces
            }
        )
        self.headers = self._response.headers
        """May be changed until the first piece."""

    async def write(self, data: bytes) -> None:
        """Send a piece. Raises ClientGone."""
        try:
            if self._has_room(len(data)):
                await self._response.write(data)
                return
            async with asyncio.timeout(WRITE_TIMEOUT):
                if not self._response.prepared:
                    await self._response.prepare(self._request)
                await self._response.write(data)
        except TimeoutError:
            if self._request.transport is not None:
                self._request.transport.abort()
            raise ClientGone from None
        except ConnectionError:
            raise ClientGone from None

    def _has_room(self, size: int) -> bool:
        """Whether a piece can be sent without waiting for the reader: no time needs to be taken then."""
        transport = self._request.transport
        return (
            self._response.prepared
            and transport is not None
            and not self._request.protocol.writing_paused
            and transport.get_write_buffer_size() + size <= _ROOM
        )

    async def end(self) -> web.StreamResponse:
        """Close the response in good order."""
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await self._response.write_eof()
        except (TimeoutError, ConnectionError):
            raise ClientGone from None
        return self._response

    async def fail(self, refusal: Refusal) -> web.StreamResponse:
        """Tell of an error in the middle of the stream and end it. Raises `refusal` itself if nothing was sent yet."""
        if not self._response.prepared:
            raise refusal
        await self.write(self._fault(refusal))
        return await self.end()
