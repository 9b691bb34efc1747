"""Keeps one account connected: enter, run, and again after a pause when the link is lost."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import structlog

from core.adapter import Adapter, Inbox
from core.clock import Clock
from core.errors import AuthenticationError, ConnectionLost
from core.messages import AccountId

log = structlog.get_logger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_HEALTHY_AFTER = 60.0
"""Seconds of connection after which the next pause is a short one again."""


class AccountState(StrEnum):
    STARTING = "starting"
    CONNECTED = "connected"
    WAITING = "waiting"
    """The link was lost; the next attempt comes after a pause."""
    FAILED = "failed"
    """The credentials are refused, or the adapter broke: nothing is tried until a restart."""
    STOPPED = "stopped"


@dataclass(slots=True)
class AccountHealth:
    """How an account is, for /readyz, /metrics and the console."""

    state: AccountState = AccountState.STARTING
    since: datetime | None = None
    reason: str = ""
    """Why it is not connected."""
    reconnects: int = 0


class Supervisor:
    """One account's life. `run` ends when it is cancelled or the account has failed for good."""

    def __init__(self, account: AccountId, adapter: Adapter, clock: Clock) -> None:
        self.account = account
        self.adapter = adapter
        self.health = AccountHealth()
        self.settled = asyncio.Event()
        """Set once the first attempt to connect has succeeded or failed."""
        self._clock = clock

    async def run(self, inbox: Inbox) -> None:
        """Stay connected until cancelled."""
        attempts = 0
        try:
            while True:
                started = self._clock.monotonic()
                try:
                    async with self.adapter:
                        self._become(AccountState.CONNECTED)
                        await self.adapter.run(inbox)
                    raise ConnectionLost("the adapter stopped receiving by itself")
                except ConnectionLost as error:
                    attempts = 0 if self._clock.monotonic() - started > _HEALTHY_AFTER else attempts + 1
                    await self._pause(error, attempts)
                except AuthenticationError as error:
                    self._become(AccountState.FAILED, str(error))
                    log.error(
                        "the account's credentials are refused; it stays off", account=self.account, error=str(error)
                    )
                    return
                except Exception as error:
                    self._become(AccountState.FAILED, f"{type(error).__name__}: {error}")
                    log.exception("the account's adapter broke; it stays off until a restart", account=self.account)
                    return
        except asyncio.CancelledError:
            self._become(AccountState.STOPPED)
            raise

    async def _pause(self, error: ConnectionLost, attempts: int) -> None:
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(attempts, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        self.health.reconnects += 1
        self._become(AccountState.WAITING, str(error))
        log.warning("the connection was lost", account=self.account, error=str(error), seconds=round(pause, 1))
        await self._clock.sleep(pause)

    def _become(self, state: AccountState, reason: str = "") -> None:
        if state is not self.health.state:
            log.info("account", account=self.account, state=state.value)
        self.health.state = state
        self.health.reason = reason
        self.health.since = self._clock.now()
        if state is not AccountState.STARTING:
            self.settled.set()
