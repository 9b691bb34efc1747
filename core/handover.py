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

MISTAKES = 3
"""How often a message may meet a mistake of the program until it is passed over."""


async def hand_over(message: InboundMessage, inbox: Inbox, clock: Clock) -> None:
    """Returns when the message is stored, or never will be; meanwhile the adapter acknowledges nothing behind it.

    One that the program cannot take in, again and again, is lost, and the log says so: it would be brought again for ever,
    and everything that people write after it would wait.
    """
    mistakes = 0
    while True:
        try:
            receipt = await inbox(message)
        except StorageUnavailable as error:
            log.warning("a message waits for the storage", account=message.account, error=str(error))
        except Exception:
            mistakes += 1
            log.exception("taking a message in failed", account=message.account, message=message.id, times=mistakes)
            if mistakes == MISTAKES:
                log.error("a message is lost: it cannot be taken in", account=message.account, message=message.id)
                return
        else:
            if receipt not in (Receipt.OVERLOADED, Receipt.CLOSED):
                return
        await clock.sleep(HOLD)
