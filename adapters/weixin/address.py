"""The way back to where a message was written, as it is stored with the message."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from core.address import StoredAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Address(StoredAddress):
    """A person, and what came with their message."""

    user: str
    """`…@im.wechat`."""
    context: str
    """`context_token` of the message, which every answer carries. A later message of the person brings a better one."""
    at: int
    """When the person wrote, in milliseconds of the epoch."""

    @property
    def moment(self) -> datetime:
        """When the person wrote."""
        return datetime.fromtimestamp(self.at / 1000, UTC)
