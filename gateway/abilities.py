"""The table of what each platform can do, read from the class lines of its reply channel and adapter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from core.adapter import CanAttach, CanEdit, CanFind, CanStream, CanType, Kept, Keyed
from core.errors import ConfigError
from gateway import registry

_ABILITIES: dict[str, type | tuple[type, ...]] = {
    "stream": CanStream,
    "edit": CanEdit,
    "typing": CanType,
    "files": CanAttach,
    "idempotent send": (Keyed, Kept),
    "look-up of a send": CanFind,
}


def table(platforms: Iterable[str]) -> list[dict[str, Any]]:
    """A row for each platform; one whose packages are missing says what to install."""
    rows = []
    for platform in platforms:
        try:
            spec = registry.spec(platform)
        except ConfigError as error:
            rows.append({"platform": platform, "characters": None, **dict.fromkeys(_ABILITIES), "note": str(error)})
            continue
        reply = spec.reply
        limits = getattr(reply, "limits", None)
        length = limits.max_length if limits is not None and limits.max_length < 1_000_000 else None
        has = {name: reply is not None and issubclass(reply, ability) for name, ability in _ABILITIES.items()}
        rows.append({"platform": platform, "characters": length, **has, "note": ""})
    return rows
