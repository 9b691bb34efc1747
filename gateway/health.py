"""Whether every configured account hears, and how each is: what /readyz tells."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from core.admission import Seen
from core.messages import AccountId
from gateway.supervisor import AccountState, Supervisor


class Store(Protocol):
    """What of the store is told."""

    @property
    def available(self) -> bool: ...

    def last_sent(self, account: AccountId) -> datetime | None:
        """When a part of a reply last arrived there."""
        ...


def readiness(
    store: Store, model: str, supervisors: Mapping[AccountId, Supervisor], seen: Mapping[AccountId, Seen]
) -> tuple[bool, dict[str, Any]]:
    """Whether all is well, and how it is, as JSON can hold it. `model` is `remote`, or the state of the embedded one."""
    ready = (
        store.available
        and model in ("remote", "ready")
        and all(one.health.state is AccountState.CONNECTED for one in supervisors.values())
    )
    accounts = {
        name: health_of(supervisor, seen.get(name), store.last_sent(name)) for name, supervisor in supervisors.items()
    }
    return ready, {"storage": "ok" if store.available else "unavailable", "model": model, "accounts": accounts}


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
