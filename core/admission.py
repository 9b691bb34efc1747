"""What the inbox admits, and what it has seen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from core.journal import Quota
from core.messages import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxSettings:
    """What is admitted."""

    scope: Scope
    quota: Quota
    max_input_chars: int = 32_000
    oldest: timedelta = timedelta(hours=24)
    """Messages that the platform dates further back are not answered at all."""
    same_text_per_minute: int | None = 3
    """Replies to the same text in one conversation. None is no bound."""
    channel_messages_per_minute: int | None = 300
    """Messages that are answered in one channel. None is no bound."""


@dataclass(slots=True)
class Seen:
    """What passed here for one account, for /readyz and /metrics."""

    last_inbound: datetime | None = None
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0
