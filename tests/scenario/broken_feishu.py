"""The gateway with Feishu's chats broken on purpose: what the harness for kills must notice.

`python -m tests.scenario.broken_feishu FAULT run --config F`.
"""

from __future__ import annotations

import sys

from adapters.feishu.address import Address
from adapters.feishu.card import Card
from adapters.feishu.chats import Chats


async def _nothing(self: Chats, address: Address, unwanted: Card) -> None:
    """Leaves what a dead process put up."""


def main() -> None:
    match sys.argv.pop(1):
        case "leftovers":
            Chats.take_away = _nothing  # type: ignore[method-assign]  # broken on purpose
        case fault:
            raise SystemExit(f"no such fault: {fault}")
    from gateway.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
