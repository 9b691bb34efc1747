"""How long to wait before trying again."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from core.clock import Clock


def full_jitter(attempt: int, *, first: float = 0.5, longest: float = 8.0) -> float:
    """Seconds before attempt `attempt` + 1 (attempts count from 0): random, so that many who failed do not return at once."""
    return random.uniform(0.0, min(longest, first * 2.0 ** min(attempt, 30)))  # noqa: S311 - spreads load, hides nothing


def retry_after(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Seconds that an HTTP answer asks to wait: Retry-After (RFC 9110: seconds or a date), or OpenAI's retry-after-ms.

    None where the header is missing or means nothing; never negative.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("Retry-After")
    if text is None:
        return None
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:  # "-0000" in the date
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - clock.now()).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None
