"""How far messages, turns and parts of replies have come; core.journal passes the states on.

inbox rows   new → running → answered → done | dead | expired
outbox rows  pending → sending → sent | unknown → sent | dead
"""

from __future__ import annotations

from enum import StrEnum


class InboxState(StrEnum):
    NEW = "new"
    RUNNING = "running"
    ANSWERED = "answered"
    """The reply is committed and on its way."""
    DONE = "done"
    """Every part of the reply arrived."""
    DEAD = "dead"
    """No reply will arrive; the reason is kept and listed."""
    EXPIRED = "expired"
    """Overtaken by time or by /new; its sender was told once."""


class TurnState(StrEnum):
    RUNNING = "running"
    COMPLETE = "complete"
    STOPPED = "stopped"
    """Ended by the person; what was shown is the answer."""
    FAILED = "failed"
    """The person saw a failure instead of an answer."""
    COMMAND = "command"
    """A chat command and its reply; never history."""
    EXPIRED = "expired"


class OutboxState(StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    """A call is under way, or was when the process died."""
    UNKNOWN = "unknown"
    """It may have arrived and can neither be keyed nor looked up."""
    SENT = "sent"
    DEAD = "dead"
