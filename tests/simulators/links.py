"""The connections over which a simulated platform delivers: who has which open, and how they break."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from aiohttp import web


class App(Protocol):
    """Whose connection it is."""

    @property
    def name(self) -> str: ...


@dataclass(eq=False)
class Link:
    """One WebSocket."""

    app: App
    response: web.WebSocketResponse
    transport: asyncio.Transport | None
    silent: bool = False
    """Half-open: it takes everything and says nothing, not even a pong."""

    @property
    def hears(self) -> bool:
        """Whether something that is delivered now would be taken."""
        return not self.silent


L = TypeVar("L", bound=Link)


class Links(Generic[L]):
    """Those of all apps, and the tasks that deliver over them."""

    def __init__(self) -> None:
        self.links: list[L] = []
        self.connected = 0
        """Handshakes that went well, ever."""
        self.refuse = defaultdict[str, int](int)
        """Attempts to connect that are to be refused, by app."""
        self.acknowledged: Counter[str] = Counter()
        """By what a test calls the event."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._closing = False

    async def close(self) -> None:
        """Break every connection, and end what is under way."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in tuple(self.links):
            _abort(link)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it until the end, or until all is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def add(self, link: L) -> None:
        """A handshake went well."""
        self.links.append(link)
        self.connected += 1
        async with self._changed:
            self._changed.notify_all()

    def remove(self, link: L) -> None:
        """It is over, if it is not known to be."""
        if link in self.links:
            self.links.remove(link)

    def open(self, name: str) -> list[L]:
        """An app's."""
        return [link for link in self.links if link.app.name == name and not link.response.closed]

    async def listening(self, name: str) -> None:
        """Returns once the app would take something."""
        async with self._changed:
            await self._changed.wait_for(lambda: any(link.hears for link in self.open(name)))

    async def drop(self, name: str) -> None:
        """TCP resets."""
        for link in self.open(name):
            self.remove(link)
            _abort(link)

    def go_silent(self, name: str) -> None:
        """The open ones are half-open from now on."""
        for link in self.open(name):
            link.silent = True


def _abort(link: Link) -> None:
    if link.transport is not None:
        link.transport.abort()
