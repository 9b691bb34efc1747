"""How much may wait: the bounds that keep overload out of the store."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """The bounds that `accept` enforces in its own transaction. None is unlimited."""

    queued: int = 20
    """Messages of one conversation that wait."""
    pending: int = 10_000
    """Messages of all conversations that wait or run."""
    pending_bytes: int = 32 * 1024 * 1024
    """Their bodies together."""


class Bound(StrEnum):
    """Which bound of a Quota a message ran into."""

    QUEUED = "queued"
    PENDING = "pending"
