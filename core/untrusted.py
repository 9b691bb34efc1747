"""Reading JSON that somebody else wrote, where anything may stand anywhere: what is not as expected counts as missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def json_of(text: str | bytes | bytearray) -> Any:
    """What is written in JSON. Raises ValueError and nothing else: for what is none or no UTF-8, for numbers of thousands
    of digits, and for nesting that is too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply to be read") from None


def text_in(part: Any, key: str) -> str:
    """The string at `key`; empty where there is none."""
    value = part.get(key) if isinstance(part, Mapping) else None
    return value if isinstance(value, str) else ""


def part_in(part: Any, key: str) -> Mapping[str, Any]:
    """The object at `key`; empty where there is none."""
    value = part.get(key) if isinstance(part, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def items_in(part: Any, key: str) -> list[Mapping[str, Any]]:
    """The objects in the list at `key`."""
    items = part.get(key) if isinstance(part, Mapping) else None
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
