"""What a simulated API does to a call instead of carrying it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar


class Lost(Exception):
    """The connection breaks; nobody learns what happened."""


@dataclass
class Fault:
    """What happens to one of these calls, once."""

    calls: tuple[str, ...]
    kind: str
    """`limit`, `lost` (after it took effect), `broken` (before), `html` (a page of a proxy), or what the API adds."""
    seconds: float = 0.0
    """Of the pause that `limit` asks for."""


F = TypeVar("F", bound=Fault)


def befalls(faults: list[F], call: str) -> F | None:
    """Take the first of `faults` that is meant for `call`."""
    fault = next((each for each in faults if call in each.calls), None)
    if fault is not None:
        faults.remove(fault)
    return fault
