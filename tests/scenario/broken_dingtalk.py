"""The gateway with DingTalk's adapter broken on purpose: what the harness for kills must notice.

`python -m tests.scenario.broken_dingtalk FAULT run --config F`.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
from typing import Any

import adapters.dingtalk.growing
from adapters.dingtalk.parse import parse_message
from adapters.dingtalk.reception import Reception

_SALT = secrets.token_hex(4)


def _of_this_process(first: str, number: int) -> str:
    """Names cards so that a later process does not find them."""
    return f"{first}-{number}-{_SALT}"


async def _hasty(self: Reception, data: Any) -> None:
    """Lets a message be acknowledged that is stored later."""
    message = parse_message(data, account=self._account)
    if message is not None:
        asyncio.get_running_loop().call_later(2.0, lambda: asyncio.ensure_future(self._inbox(message)))


def main() -> None:
    match sys.argv.pop(1):
        case "strangers":
            adapters.dingtalk.growing.card_of = _of_this_process
        case "hasty":
            Reception.take = _hasty  # type: ignore[method-assign]  # broken on purpose
        case fault:
            raise SystemExit(f"no such fault: {fault}")
    from gateway.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
