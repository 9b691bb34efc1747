"""What keeps a gateway going on a bad network, broken on purpose (tests/scenario/breaking.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core.responder import Responder
from tests.scenario.breaking import run

_explained = Responder._explained


def _without_a_word(self: Responder, *arguments: Any) -> Any:
    return replace(_explained(self, *arguments), text="")


def silent() -> None:
    """Nobody is told that the model gave no answer."""
    Responder._explained = _without_a_word  # type: ignore[assignment, method-assign]  # broken on purpose


if __name__ == "__main__":
    run(silent)
