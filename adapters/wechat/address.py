"""The way back to a message, as it is stored with it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from core.errors import TargetGone
from core.messages import ReplyAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A conversation, and who asked in it."""

    conversation: str
    """The room (`…@chatroom`) or the person (`wxid_…`). Web puppets give ids that change at each login (`@…`, `@@…`)."""
    name: str = ""
    """What the person goes by in the room; empty in a direct chat."""

    def dump(self) -> ReplyAddress:
        """As it is stored."""
        return ReplyAddress(json.dumps(asdict(self), separators=(",", ":")))

    @classmethod
    def load(cls, address: ReplyAddress) -> Address:
        """Read back `dump`. Raises TargetGone."""
        try:
            fields = json.loads(address)
            return cls(conversation=str(fields["conversation"]), name=str(fields["name"]))
        except (ValueError, TypeError, KeyError):
            raise TargetGone(f"not an address of this platform: {address[:100]!r}") from None
