"""What keeps a gateway going on a bad network, broken on purpose (tests/scenario/breaking.py)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from core import delivery
from core.adapter import Receipt
from core.inbox import Inbox
from core.messages import InboundMessage
from core.responder import Responder
from gateway import supervisor
from tests.scenario.breaking import run

_explained = Responder._explained


def _without_a_word(self: Responder, *arguments: Any) -> Any:
    return replace(_explained(self, *arguments), text="")


def silent() -> None:
    """Nobody is told that the model gave no answer."""
    Responder._explained = _without_a_word  # type: ignore[assignment, method-assign]  # broken on purpose


def resigned() -> None:
    """What could not be sent is hardly sent again."""
    delivery.RETRY_AFTER = (0.0,)  # type: ignore[assignment]  # broken on purpose


def restless() -> None:
    """A lost connection is opened again at once."""
    supervisor._LEAST_PAUSE = 0.001
    supervisor.full_jitter = lambda *_, **__: 0.0  # type: ignore[attr-defined]  # broken on purpose


_receive = Inbox.receive


async def _as_if(self: Inbox, message: InboundMessage) -> Receipt:
    receipt = await _receive(self, message)
    return Receipt.ACCEPTED if receipt is Receipt.OVERLOADED else receipt


def forgetting() -> None:
    """What is too much is dropped without a word."""
    Inbox.receive = _as_if  # type: ignore[method-assign]  # broken on purpose


if __name__ == "__main__":
    run(silent, resigned, restless, forgetting)
