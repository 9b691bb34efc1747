"""What a call of the model was, for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from core.chat import Usage
from core.errors import ChatError, ChatMisconfigured, ChatRateLimited, ChatRefused, ChatUnavailable, ContextTooLong

Outcome = Literal["answered", "abandoned", "rate_limited", "unavailable", "misconfigured", "refused", "too_long"]
_OUTCOMES: Mapping[type[ChatError], Outcome] = {
    ChatRateLimited: "rate_limited",
    ChatUnavailable: "unavailable",
    ChatMisconfigured: "misconfigured",
    ChatRefused: "refused",
    ContextTooLong: "too_long",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """What one call was, for metrics. Times are in seconds."""

    model: str
    """The one that answered, or the last one tried."""
    outcome: Outcome
    """`abandoned`: cancelled, or left before its end."""
    waited: float
    """For a place."""
    seconds_to_first: float | None
    """From getting the place to the first text, attempts and fallbacks included. None: there was none."""
    seconds: float
    """From getting the place to the end."""
    usage: Usage | None
    retries: int
    """Attempts beyond the first, of all models."""


def outcome_of(error: ChatError) -> Outcome:
    """The outcome of a call that ended with `error`."""
    return _OUTCOMES.get(type(error), "unavailable")
