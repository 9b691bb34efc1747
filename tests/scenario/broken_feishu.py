"""Feishu's chats broken on purpose (tests/scenario/breaking.py)."""

from __future__ import annotations

from adapters.feishu.address import Address
from adapters.feishu.card import Card
from adapters.feishu.chats import Chats
from tests.scenario.breaking import run


async def _nothing(self: Chats, address: Address, unwanted: Card) -> None:
    """Leaves what a dead process put up."""


def leftovers() -> None:
    """What a dead process put up stays."""
    Chats.take_away = _nothing  # type: ignore[method-assign]  # broken on purpose


if __name__ == "__main__":
    run(leftovers)
