"""The way back to a message, as it is stored with it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import TargetGone
from core.messages import ReplyAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an answer goes."""

    conversation: str
    """DingTalk's `conversationId`, which its API calls `openConversationId`."""
    direct: bool
    staff: str = ""
    """Who asked, by the id in the company. Empty for people from outside, and while the app is not published:
    they can be written to by the webhook alone, or in their group."""
    message: str = ""
    """The question's `msgId`."""
    robot: str = ""
    """The code of the robot that was asked."""
    webhook: str = ""
    """The session webhook, which whoever knows it may post by."""
    until: int = 0
    """When the webhook ends, in milliseconds since 1970."""
    asked: int = 0
    """When the question was asked, in milliseconds since 1970."""

    def dump(self) -> ReplyAddress:
        """As it is stored, without what is empty."""
        fields = {name: value for name, value in asdict(self).items() if value or name == "direct"}
        return ReplyAddress(json.dumps(fields, separators=(",", ":")))

    @classmethod
    def load(cls, address: ReplyAddress) -> Address:
        """Read back `dump`. Raises TargetGone."""
        try:
            fields: dict[str, Any] = json.loads(address)
            return cls(**fields)
        except (ValueError, TypeError):
            raise TargetGone("not an address of this platform") from None
