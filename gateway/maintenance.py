"""What has to be done now and then: old rows go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog

from core.archive import Archive
from core.clock import Clock
from core.errors import StorageUnavailable

log = structlog.get_logger(__name__)

_EVERY = 3600.0
_FIRST_AFTER = 60.0
_BATCH = 500


class Maintenance:
    """The retention sweep, in small batches that let messages through."""

    def __init__(
        self,
        archive: Archive,
        clock: Clock,
        *,
        retention: Callable[[], timedelta | None],
        swept: Callable[[], None] = lambda: None,
    ) -> None:
        """`swept` is called when rows were removed, so that nobody holds their texts in memory any longer."""
        self._archive = archive
        self._clock = clock
        self._retention = retention
        self._swept = swept

    async def run(self) -> None:
        """Until cancelled."""
        await self._clock.sleep(_FIRST_AFTER)
        while True:
            try:
                await self._sweep()
            except StorageUnavailable as error:
                log.warning("old rows could not be removed", error=str(error))
            await self._clock.sleep(_EVERY)

    async def _sweep(self) -> None:
        keep = self._retention()
        if keep is None:
            return
        removed = 0
        while gone := await self._archive.sweep(older_than=self._clock.now() - keep, most=_BATCH):
            removed += gone
            await self._clock.sleep(0.05)
        if removed:
            self._swept()
            log.info("old rows were removed", rows=removed)
