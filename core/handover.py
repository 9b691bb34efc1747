"""Handing a message over that the platform will not bring again by itself."""

from __future__ import annotations

import structlog

from core.adapter import Inbox, Receipt
from core.clock import Clock
from core.errors import StorageUnavailable
from core.messages import InboundMessage

log = structlog.get_logger(__name__)

HOLD = 1.0
"""Seconds before a message that could not be stored is handed over again."""


async def hand_over(message: InboundMessage, inbox: Inbox, clock: Clock) -> None:
    """Returns when the message is stored, or never will be; meanwhile the adapter acknowledges nothing behind it."""
    while True:
        try:
            receipt = await inbox(message)
        except StorageUnavailable as error:
            log.warning("a message waits for the storage", account=message.account, error=str(error))
        else:
            if receipt not in (Receipt.OVERLOADED, Receipt.CLOSED):
                return
        await clock.sleep(HOLD)
