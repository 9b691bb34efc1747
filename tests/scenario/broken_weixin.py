"""Weixin's adapter broken on purpose (tests/scenario/breaking.py)."""

from __future__ import annotations

from functools import partial

from adapters.weixin import adapter
from core.adapter import Inbox
from core.clock import Clock
from core.messages import InboundMessage
from tests.scenario.breaking import late, run


async def _hasty(message: InboundMessage, inbox: Inbox, clock: Clock) -> None:
    """Lets the cursor move on over a message that is stored later."""
    late(partial(inbox, message))


def hasty() -> None:
    """The cursor moves on before the commit."""
    adapter.hand_over = _hasty  # type: ignore[attr-defined]  # broken on purpose


if __name__ == "__main__":
    run(hasty)
