"""Ending a turn early: only the model's work can be cut short, never a commit or a send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import Enum


class Stop(Enum):
    """Why a turn ends early."""

    PERSON = "person"
    """/stop or the stop button: what was shown is the answer."""
    INTERRUPT = "interrupt"
    """A newer message, where the account's busy mode says so."""
    SUPERSEDED = "superseded"
    """/new or /forget: the conversation it belongs to is over."""
    SHUTDOWN = "shutdown"
    """The gateway ends: the turn runs again at the next start."""


class Stopped(Exception):
    """Raised where a `Stopper`'s scope ends, when it was stopped inside."""

    def __init__(self, why: Stop) -> None:
        super().__init__(why.value)
        self.why = why


class Stopper:
    """One turn's brake. The first reason wins."""

    def __init__(self) -> None:
        self.why: Stop | None = None
        self._scope: asyncio.Timeout | None = None
        self.over = asyncio.Event()
        """Set when nothing of the turn can be cut short any more."""

    def stop(self, why: Stop) -> bool:
        """End the scope that is entered now, or will be. False if it was left already: nothing can be cut short."""
        if self.over.is_set():
            return False
        if self.why is None:
            self.why = why
            if self._scope is not None:
                self._scope.reschedule(0)
        return True

    async def before(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait for something that must come before the turn can begin. Raises Stopped when it was stopped meanwhile."""
        if self.why is None:
            try:
                async with asyncio.timeout(None) as self._scope:
                    await wait()
            except TimeoutError:
                if self.why is None:
                    raise
            finally:
                self._scope = None
        if self.why is not None:
            raise Stopped(self.why)

    @asynccontextmanager
    async def scope(self) -> AsyncIterator[None]:
        """The part of the turn that may be cut short. Raises Stopped when it was."""
        if self.why is not None:
            self.over.set()
            raise Stopped(self.why)
        try:
            async with asyncio.timeout(None) as self._scope:
                yield
        except TimeoutError:
            if self._scope is not None and self._scope.expired() and self.why is not None:
                raise Stopped(self.why) from None
            raise
        finally:
            self._scope = None
            self.over.set()
