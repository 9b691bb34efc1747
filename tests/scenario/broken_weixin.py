"""Weixin's adapter broken on purpose (tests/scenario/breaking.py)."""

from __future__ import annotations

from functools import partial

from adapters.weixin import WeixinAdapter
from core.adapter import Inbox
from core.messages import InboundMessage
from tests.scenario.breaking import late, run


async def _hasty(self: WeixinAdapter, message: InboundMessage, inbox: Inbox) -> None:
    """Lets the cursor move on over a message that is stored later."""
    late(partial(inbox, message))


def hasty() -> None:
    """The cursor moves on before the commit."""
    WeixinAdapter._commit = _hasty  # type: ignore[method-assign]  # broken on purpose


if __name__ == "__main__":
    run(hasty)
