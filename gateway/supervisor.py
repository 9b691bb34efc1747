"""Keeps one account connected: enter, run, watch, and again after a pause when the link is over.

What ends an attempt decides what follows:

ConnectionLost, DeliveryError, OSError   WAITING, then anew: after a random time that may double up to a minute, and is
                                         never longer than a quarter of what the connection was there before
silence                                  the same; silence is measured here, whatever the SDK believes
AuthenticationError, ConfigError         FAILED for good: only a person can help
anything else                            FAILED with the reason, and anew every few minutes: it may have been the network
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from core.adapter import Adapter, AwaitsScan, CatchesUp, Heard, Inbox
from core.backoff import full_jitter
from core.clock import Clock
from core.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionLost,
    DeliveryError,
    GatewayError,
    RateLimited,
    StorageUnavailable,
)
from core.messages import AccountId
from gateway.backfill import Backfill

log = structlog.get_logger(__name__)

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds; the bounds that the random pause doubles between."""

_LEAST_PAUSE = 0.1
"""Seconds that every pause has, however the dice fall."""

BROKEN_PAUSE = 300.0
"""Seconds after an error that nobody expected."""

HEALTHY_AFTER = 60.0
"""Seconds of connection after which the next pause is a short one again."""

SIGN_IN = 60.0
"""Seconds for entering an adapter."""

END = 2.0
"""Seconds for an adapter to end when it is cancelled."""

WAITING_FOR_SCAN = "waiting for scan"
"""The reason of an account that a person has to sign in."""

_LOOK = 1.0
_FIRST_LOOK = 0.05
"""Seconds between two looks at what the adapter heard; shorter ones until it has heard something: a start waits for it."""


class AccountState(StrEnum):
    STARTING = "starting"
    """Signing in, or signed in and nothing heard yet."""
    CONNECTED = "connected"
    """Frames arrive; for adapters that cannot tell, signed in."""
    WAITING = "waiting"
    """The link was lost, and the next attempt comes after a pause; or a person has to scan a code. The reason says which."""
    FAILED = "failed"
    """The credentials are refused, or the adapter broke; the reason says which."""
    STOPPED = "stopped"


@dataclass(slots=True)
class AccountHealth:
    """How an account is, for /readyz, /metrics and the console."""

    state: AccountState = AccountState.STARTING
    since: datetime | None = None
    reason: str = ""
    """Why it is not connected. Safe to show: our own words, or the name of an error's type."""
    reconnects: int = 0
    """Connections that were lost, those that the adapter replaced by itself included."""
    last_heard: datetime | None = None
    """The last frame; None for adapters that cannot tell."""


class Supervisor:
    """One account's life. `run` ends when it is cancelled or the account has failed for good.

    There is never more than one attempt alive: one that cannot be ended is waited for, and that is told loudly.
    """

    def __init__(
        self,
        account: AccountId,
        adapter: Adapter,
        clock: Clock,
        backfill: Backfill | None = None,
        *,
        connected: Callable[[], object] = lambda: None,
    ) -> None:
        """Without `backfill` nothing is read back. `connected` is called each time the account has become that."""
        self.account = account
        self.adapter = adapter
        self.health = AccountHealth()
        self.settled = asyncio.Event()
        """Set once the first attempt to connect has succeeded or failed."""
        self.settled_after: float | None = None
        """Seconds from the start of `run` to that."""
        self._clock = clock
        self._backfill = backfill
        self._tell_connected = connected
        self._entered = asyncio.Event()
        self._began = 0.0
        self._connected_at: float | None = None
        self._listened_until = clock.now()
        """Until then everything was surely heard."""
        self._missed_since: datetime | None = None
        """From then on messages may have been missed that are not read back yet."""

    async def run(self, inbox: Inbox) -> None:
        """Stay connected until cancelled."""
        self._began = self._clock.monotonic()
        await self._remember()
        failures = 0
        try:
            while True:
                self._connected_at = None
                error = _cause(await self._attempt(inbox))
                lasted = self._lasted()
                failures = 0 if lasted > HEALTHY_AFTER else failures
                if isinstance(error, AuthenticationError | ConfigError):
                    self._become(AccountState.FAILED, str(error))
                    log.error("the account cannot sign in; it stays off", account=self.account, error=str(error))
                    return
                await self._pause(error, failures, lasted)
                failures += 1
        except asyncio.CancelledError:
            self._become(AccountState.STOPPED)
            raise

    def _lasted(self) -> float:
        """Seconds that the last connection was there."""
        return 0.0 if self._connected_at is None else self._clock.monotonic() - self._connected_at

    async def _remember(self) -> None:
        """Until when an earlier process listened; an account that never took a message in has missed nothing yet."""
        self._listened_until = self._clock.now()
        if self._backfill is not None and isinstance(self.adapter, CatchesUp):
            try:
                self._listened_until = await self._backfill.last_accepted() or self._listened_until
            except StorageUnavailable as error:
                log.warning("what was missed before the start is not known", account=self.account, error=str(error))

    async def _attempt(self, inbox: Inbox) -> BaseException:
        """From entering to leaving; returns what ended it."""
        if self.health.state is not AccountState.FAILED:  # it stays so until it is connected
            self._become(AccountState.STARTING)
        self._entered.clear()
        link = asyncio.create_task(self._connect(inbox))
        tasks = {link}
        if isinstance(self.adapter, Heard | CatchesUp):
            tasks.add(asyncio.create_task(self._watch(inbox)))
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end(tasks)
            raise
        first = link if link in ended else ended.pop()
        if not await self._end(tasks):
            await self._outlast(tasks)
        if first.cancelled():
            return ConnectionLost("the adapter cancelled itself")
        return first.exception() or ConnectionLost("the adapter stopped receiving by itself")

    async def _connect(self, inbox: Inbox) -> None:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(SIGN_IN):
                    await stack.enter_async_context(self.adapter)
            except TimeoutError:
                raise ConnectionLost(f"the platform did not answer within {SIGN_IN:g} s of signing in") from None
            if not isinstance(self.adapter, Heard):
                self._become(AccountState.CONNECTED)
            self._entered.set()
            await self.adapter.run(inbox)

    async def _end(self, tasks: set[asyncio.Task[None]]) -> bool:
        """Cancel what still runs; False if it does not end in time."""
        for task in tasks:
            task.cancel()
        _, alive = await asyncio.wait(tasks, timeout=END)
        for task in tasks - alive:
            if not task.cancelled():
                task.exception()  # it was told, or comes from ending it
        if alive:
            log.error(
                "an adapter did not end when it was cancelled: this is a mistake in it",
                account=self.account,
                seconds=END,
            )
        return not alive

    async def _outlast(self, tasks: set[asyncio.Task[None]]) -> None:
        """Two clients of one account would take each other's messages: no new one before the old one is gone."""
        self._become(AccountState.FAILED, "the adapter's last connection does not end; restart the gateway")
        await asyncio.wait(tasks)

    # What the adapter tells

    async def _watch(self, inbox: Inbox) -> None:
        """Raises ConnectionLost when nothing is heard any more."""
        await self._entered.wait()
        adapter, silence, gaps = self.adapter, _Silence(self._clock), 0
        reading: asyncio.Task[None] | None = None
        try:
            while True:
                heard = self._listen(adapter, silence) if isinstance(adapter, Heard) else self._clock.now()
                if isinstance(adapter, CatchesUp) and adapter.gaps() > gaps:
                    self.health.reconnects += adapter.gaps() - max(gaps, 1)
                    gaps = adapter.gaps()
                    self._missed(self._listened_until)
                    if reading is None or reading.done():
                        reading = asyncio.create_task(self._read_back(adapter, inbox))
                elif heard is not None and (gaps or not isinstance(adapter, CatchesUp)):
                    self._listened_until = heard
                await self._clock.sleep(_FIRST_LOOK if heard is None else _LOOK)
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait({reading})

    def _listen(self, adapter: Heard, silence: _Silence) -> datetime | None:
        heard = adapter.last_heard()
        if isinstance(adapter, AwaitsScan) and adapter.login_code() is not None:
            silence.forget()  # it is a person who is waited for
            self.health.last_heard = heard
            self._become(AccountState.WAITING, WAITING_FOR_SCAN)
            return heard
        seconds = silence.since(heard)
        if seconds > adapter.deaf_after.total_seconds():
            raise ConnectionLost(f"nothing was heard for {seconds:.0f} s")
        if heard is not None:
            self.health.last_heard = heard
            if self.health.state is not AccountState.CONNECTED:
                self._become(AccountState.CONNECTED)
        return heard

    def _missed(self, since: datetime) -> None:
        """Messages may not have been heard from then on."""
        self._missed_since = min(since, self._missed_since or since)

    async def _read_back(self, adapter: CatchesUp, inbox: Inbox) -> None:
        """A gap that opens meanwhile is read back in the next round; one that cannot be read waits for the next gap."""
        while self._backfill is not None and (since := self._missed_since) is not None:
            self._missed_since, whole = None, False
            try:
                whole = await self._backfill.read(adapter, since, inbox)
            except Exception:
                log.exception("reading missed messages back failed", account=self.account)
            finally:
                if not whole:
                    self._missed(since)
            if not whole:
                return

    # States

    async def _pause(self, error: BaseException, failures: int, lasted: float) -> None:
        """A link that breaks every few seconds is there for four fifths of the time at least; one that breaks within the
        first second counts as none."""
        if isinstance(error, ConnectionLost | DeliveryError | OSError):
            longest = min(lasted / 4, LONGEST_PAUSE) if lasted > FIRST_PAUSE else LONGEST_PAUSE
            pause = _LEAST_PAUSE + full_jitter(failures, first=FIRST_PAUSE, longest=longest)
            if isinstance(error, RateLimited):
                pause += error.retry_after
            self._become(AccountState.WAITING, str(error) if isinstance(error, GatewayError) else type(error).__name__)
            log.warning("the connection was lost", account=self.account, error=str(error), seconds=round(pause, 1))
        else:
            pause = BROKEN_PAUSE
            self._become(AccountState.FAILED, f"{type(error).__name__}; the log says more")
            log.error("the account's adapter broke", account=self.account, seconds=pause, exc_info=error)
        self.health.reconnects += 1
        await self._clock.sleep(pause)

    def _become(self, state: AccountState, reason: str = "") -> None:
        changed = state is not self.health.state
        if changed:
            log.info("account", account=self.account, state=state.value)
            self.health.since = self._clock.now()
        if state is AccountState.CONNECTED and self._connected_at is None:
            self._connected_at = self._clock.monotonic()
        self.health.state = state
        self.health.reason = reason
        if state is not AccountState.STARTING and not self.settled.is_set():
            self.settled_after = self._clock.monotonic() - self._began
            self.settled.set()
        if changed and state is AccountState.CONNECTED:
            self._tell_connected()


class _Silence:
    """How long an adapter has told the same time: by monotonic time, so that setting the machine's clock does no harm."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard: datetime | None = None
        self._at = clock.monotonic()

    def forget(self) -> None:
        """Begin to measure now."""
        self._at = self._clock.monotonic()

    def since(self, heard: datetime | None) -> float:
        """Seconds."""
        if heard != self._heard:
            self._heard, self._at = heard, self._clock.monotonic()
        return self._clock.monotonic() - self._at


def _cause(error: BaseException) -> BaseException:
    """Of several errors at once, the one that decides."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [_cause(each) for each in error.exceptions]
    for kind in (AuthenticationError, ConfigError, ConnectionLost):
        for cause in causes:
            if isinstance(cause, kind):
                return cause
    return causes[0]
