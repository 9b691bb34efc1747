"""Mistakes with secrets, and the rule against them broken on purpose (tests/scenario/breaking.py)."""

from __future__ import annotations

import os
from typing import Any

from core.delivery import Delivery
from core.responder import Responder
from gateway.redaction import Redactor
from tests.scenario.breaking import run

MISTAKE = "make a mistake"
"""In a question: the program fails there, in words that hold a secret."""


def mistaken() -> None:
    """A turn fails, and a send, with exceptions that speak of a secret; so do their tracebacks."""
    secret = os.environ["CANARY"]
    answer, attempt = Responder.answer, Delivery._attempt

    async def fail(self: Responder, turn: Any, *arguments: Any) -> None:
        if f"{MISTAKE} in a turn" in turn.last.text:
            raise RuntimeError(f"cannot go on with https://model.example/?key={secret}")
        await answer(self, turn, *arguments)

    async def fail_to_send(self: Delivery, reply: Any, trial: Any) -> Any:
        if f"{MISTAKE} in a send" in trial.part.text:
            raise RuntimeError(f"cannot send with {secret}")
        return await attempt(self, reply, trial)

    Responder.answer = fail  # type: ignore[method-assign,assignment]
    Delivery._attempt = fail_to_send  # type: ignore[method-assign,assignment]


def unredacted() -> None:
    """The log says everything that it is told, on top of those mistakes."""
    mistaken()

    def text(self: Redactor, text: str) -> str:
        return text

    Redactor.text = text  # type: ignore[method-assign]


if __name__ == "__main__":
    run(mistaken, unredacted)
