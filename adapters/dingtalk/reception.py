"""What DingTalk pushes: into the inbox, then acknowledged."""

from __future__ import annotations

from typing import Any

import structlog

from adapters.dingtalk.link import NotTaken
from adapters.dingtalk.parse import over_quota, parse_message
from core.adapter import Inbox, Receipt
from core.clock import Clock
from core.errors import StorageUnavailable
from core.messages import AccountId

log = structlog.get_logger(__name__)

_TELL_EVERY = 3_600.0
"""Seconds between two complaints about the same thing."""


class Reception:
    """One sign-in's. Messages are handed over in the order in which they came: the SDK begins a task for each, in order,
    and nothing is waited for before the inbox."""

    def __init__(self, account: AccountId, clock: Clock, inbox: Inbox) -> None:
        self._account = account
        self._clock = clock
        self._inbox = inbox
        self._told = -_TELL_EVERY

    async def take(self, data: Any) -> None:
        """Returns when the message is committed, or is none. Raises NotTaken: it is to be pushed again."""
        message = parse_message(data, account=self._account)
        if message is None:
            if over_quota(data):
                self._tell_of_quota()
            return
        try:
            receipt = await self._inbox(message)
        except StorageUnavailable as error:
            log.warning("a message was not taken in", account=self._account, error=str(error))
            raise NotTaken from error
        if receipt in (Receipt.OVERLOADED, Receipt.CLOSED):
            raise NotTaken(receipt.value)

    def _tell_of_quota(self) -> None:
        now = self._clock.monotonic()
        if now - self._told >= _TELL_EVERY:
            self._told = now
            log.error(
                "DingTalk withholds what people write: the company has used up its calls (20001); "
                "its administrator can buy more",
                account=self._account,
            )
