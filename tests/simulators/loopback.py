"""Serving HTTP on loopback, as every simulator does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar

from aiohttp import web

LARGEST_BODY = 32 * 1024 * 1024

IN_FRONT: ContextVar[Callable[[str], AbstractAsyncContextManager[str]]] = ContextVar("IN_FRONT", default=nullcontext)
"""What a test puts in front of the servers that begin meanwhile: given a server's URL, the one that clients are told."""


@asynccontextmanager
async def serving(routes: Iterable[web.AbstractRouteDef], *, cancelling: bool = False) -> AsyncIterator[str]:
    """A server on a free port; its URL, without a slash at the end. `cancelling`: what is asked ends with the connection."""
    app = web.Application(client_max_size=LARGEST_BODY)
    app.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handler_cancellation=cancelling)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with IN_FRONT.get()(f"http://127.0.0.1:{runner.addresses[0][1]}") as url:
            yield url
    finally:
        await runner.cleanup()
