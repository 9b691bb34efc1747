"""How one account is, as /readyz tells it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from core.inbox import Seen
from gateway.supervisor import Supervisor


def health_of(supervisor: Supervisor, seen: Seen | None, last_reply: datetime | None) -> dict[str, Any]:
    """As JSON can hold it. `seen` is what passed the inbox for this account."""
    health = supervisor.health
    return {
        "state": health.state.value,
        "since": _iso(health.since),
        "reason": health.reason,
        "last_heard": _iso(health.last_heard),
        "last_inbound": _iso(seen.last_inbound if seen else None),
        "last_reply": _iso(last_reply),
        "reconnects": health.reconnects,
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
