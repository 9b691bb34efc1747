"""The way back to a message, as it is stored with it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from core.errors import TargetGone
from core.messages import ReplyAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
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

    def dump(self) -> ReplyAddress:
        """As it is stored."""
        return ReplyAddress(json.dumps(asdict(self), separators=(",", ":")))

    @classmethod
    def load(cls, address: ReplyAddress) -> Address:
        """Read back `dump`. Raises TargetGone."""
        try:
            fields = json.loads(address)
            return cls(user=str(fields["user"]), context=str(fields["context"]), at=int(fields["at"]))
        except (ValueError, TypeError, KeyError):
            raise TargetGone(f"not an address of this platform: {address[:100]!r}") from None
