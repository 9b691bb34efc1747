"""Durations and sizes as people write them: `120s`, `24h`, `500ms`; `1MB`, `512KiB`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_LONGEST = timedelta(days=36500)

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|GB|KIB|MIB|GIB)?", re.IGNORECASE)
_BYTES = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}


def parse_duration(written: Any) -> timedelta:
    """`120s`, `15m`, `24h`, `30d`, `500ms`; a plain number is seconds. Raises ValueError."""
    if isinstance(written, timedelta):
        return written
    if isinstance(written, str) or (isinstance(written, (int, float)) and not isinstance(written, bool)):
        found = _DURATION.fullmatch(str(written).strip())
        if found:
            seconds = float(found[1]) * _SECONDS[found[2]]
            if seconds <= _LONGEST.total_seconds():
                return timedelta(seconds=seconds)
    raise ValueError("expected a duration such as 500ms, 30s, 15m, 24h or 30d")


def write_duration(duration: timedelta) -> str:
    """The shortest form that `parse_duration` reads back."""
    milliseconds = round(duration.total_seconds() * 1000)
    if not milliseconds:
        return "0s"
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds % size == 0:
            # 24h and 30d are how people say it
            if unit == "d" and milliseconds < 2 * size:
                continue
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"


def parse_size(written: Any) -> int:
    """`1MB` (1,000,000 bytes), `1MiB` (1,048,576 bytes); a plain number is bytes. Raises ValueError."""
    if isinstance(written, str) or (isinstance(written, int) and not isinstance(written, bool)):
        found = _SIZE.fullmatch(str(written).strip())
        if found:
            return int(float(found[1]) * _BYTES[(found[2] or "B").upper()])
    raise ValueError("expected a size such as 64KB, 1MB or 10MiB")


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(write_duration, when_used="json")]
Size = Annotated[int, BeforeValidator(parse_size)]
