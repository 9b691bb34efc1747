"""DingTalk's adapter broken on purpose (tests/scenario/breaking.py)."""

from __future__ import annotations

import secrets
from functools import partial
from typing import Any

import adapters.dingtalk.growing
from adapters.dingtalk.parse import parse_message
from adapters.dingtalk.reception import Reception
from tests.scenario.breaking import late, run

_SALT = secrets.token_hex(4)


def _of_this_process(first: str, number: int) -> str:
    """Names cards so that a later process does not find them."""
    return f"{first}-{number}-{_SALT}"


async def _hasty(self: Reception, data: Any) -> None:
    """Lets a message be acknowledged that is stored later."""
    message = parse_message(data, account=self._account)
    if message is not None:
        late(partial(self._inbox, message))


def strangers() -> None:
    """No process finds the cards of another one."""
    adapters.dingtalk.growing.card_of = _of_this_process


def hasty() -> None:
    """A message is acknowledged before it is committed."""
    Reception.take = _hasty  # type: ignore[method-assign]  # broken on purpose


if __name__ == "__main__":
    run(strangers, hasty)
