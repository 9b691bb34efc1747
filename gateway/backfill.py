"""After a gap or a restart: what people wrote meanwhile is read from the platform's history, through the same inbox.

The store recognises what it has, so reading too much does no harm; it is bounded all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime, timedelta

import structlog

from core.adapter import CatchesUp, Inbox, Receipt
from core.archive import Archive
from core.clock import Clock
from core.errors import ConnectionLost, DeliveryError, RateLimited, StorageUnavailable
from core.messages import AccountId, InboundMessage

log = structlog.get_logger(__name__)

MOST_ANSWERED = 200
"""Messages of one gap that may be accepted."""

_MOST_READ = 5_000
"""Messages of one gap that are looked at, most of which are not for the bot or known already."""

_PLACES = 50
"""Channels and threads that are looked into."""

_ACTIVE = timedelta(days=14)
"""Where nobody wrote for longer than this is not looked into."""

_OVERLAP = timedelta(minutes=1)
"""Messages may arrive in another order than they were written: reading starts this long before the gap."""

_TIME = 600.0
"""Seconds for one gap."""

_PAUSES = (5.0, 30.0)
"""Seconds before the second and the third attempt at one gap."""

_BUSY_PAUSE = 1.0
_BUSY_ATTEMPTS = 60
"""While the store is full or failing the same message is handed over again: nobody else would redeliver it."""

_OF_NO_ACCOUNT = (Receipt.IGNORED, Receipt.DUPLICATE, Receipt.STALE)


class Backfill:
    """Reads back what one account missed."""

    def __init__(
        self, account: AccountId, archive: Archive, clock: Clock, *, furthest: Callable[[], timedelta | None]
    ) -> None:
        """`furthest`: how far back to look; None turns it off."""
        self._account = account
        self._archive = archive
        self._clock = clock
        self._furthest = furthest

    async def last_accepted(self) -> datetime | None:
        """When the account last took a message in; None if it did not lately."""
        places = await self._archive.places(self._account, since=self._clock.now() - _ACTIVE, limit=1)
        return places[0].last if places else None

    async def read(self, adapter: CatchesUp, listened_until: datetime, inbox: Inbox) -> bool:
        """Hand over what was written since then; False if the platform could not tell all of it."""
        furthest = self._furthest()
        if furthest is None:
            return True
        for pause in (*_PAUSES, None):
            since = max(listened_until - _OVERLAP, self._clock.now() - furthest)
            try:
                async with asyncio.timeout(_TIME):
                    taken = await self._read(adapter, since, inbox)
            except (ConnectionLost, DeliveryError, StorageUnavailable, OSError) as error:
                log.warning("missed messages could not be read back", account=self._account, error=str(error))
                if pause is None:
                    return False
                await self._clock.sleep(max(pause, error.retry_after) if isinstance(error, RateLimited) else pause)
            else:
                if taken:
                    log.info("missed messages were read back", account=self._account, count=taken)
                return True
        return False

    async def _read(self, adapter: CatchesUp, since: datetime, inbox: Inbox) -> int:
        places = await self._archive.places(self._account, since=self._clock.now() - _ACTIVE, limit=_PLACES)
        taken = read = 0
        async with aclosing(adapter.missed(since, places)) as messages:
            async for message in messages:
                read += 1
                if message.sent_at >= since:
                    receipt = await self._hand_over(message, inbox)
                    if receipt is Receipt.CLOSED:
                        break
                    taken += receipt not in _OF_NO_ACCOUNT
                if taken >= MOST_ANSWERED or read >= _MOST_READ:
                    log.warning("more was missed than is read back", account=self._account, accepted=taken, read=read)
                    break
        return taken

    async def _hand_over(self, message: InboundMessage, inbox: Inbox) -> Receipt:
        for _ in range(_BUSY_ATTEMPTS):
            try:
                receipt = await inbox(message)
            except StorageUnavailable as error:
                log.warning("a missed message waits for the storage", account=self._account, error=str(error))
            else:
                if receipt is not Receipt.OVERLOADED:
                    return receipt
            await self._clock.sleep(_BUSY_PAUSE)
        raise StorageUnavailable("storage: a missed message could not be stored")
