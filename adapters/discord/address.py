"""The way back to a message, as it is stored with it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import DeliveryError
from core.messages import ReplyAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Ids are snowflakes, as text."""

    channel: str
    """Where the reply is written: a channel, a thread, or a direct chat."""
    guild: str = ""
    """Empty in a direct chat."""
    message: str = ""
    """The message that is replied to."""
    opens_in: str = ""
    """The channel where the thread `channel` is to be opened on `message`; a thread on a message has that message's id."""
    title: str = ""
    """The name of a thread that is to be opened."""
    interaction: str = ""
    """The slash command that is answered instead of a message."""
    token: str = ""
    """Answers that interaction for 15 minutes."""
    private: bool = False
    """Its answer is for its person alone."""

    def dump(self) -> ReplyAddress:
        """As JSON, without what is empty."""
        return ReplyAddress(json.dumps({name: value for name, value in asdict(self).items() if value}))

    @classmethod
    def load(cls, address: ReplyAddress) -> Address:
        """Read back `dump`. Raises DeliveryError for anything else."""
        try:
            fields: dict[str, Any] = json.loads(address)
            return cls(**fields)
        except (ValueError, TypeError):
            raise DeliveryError(f"not an address of this platform: {address[:100]!r}") from None
