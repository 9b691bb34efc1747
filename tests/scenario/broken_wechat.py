"""WeChat's adapter broken on purpose (tests/scenario/breaking.py)."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import datetime
from typing import Any

from adapters.wechat import parse_message, reception
from core.messages import AccountId, EventId, InboundMessage, MessageId
from tests.scenario.breaking import run

_SALT = secrets.token_hex(4)


def _of_this_process(payload: Any, *, account: AccountId, now: datetime | None = None) -> InboundMessage | None:
    """Names messages so that a later process does not recognise them."""
    message = parse_message(payload, account=account, now=now)
    if message is None:
        return None
    return replace(message, id=MessageId(f"{message.id}-{_SALT}"), event=EventId(f"{message.event}-{_SALT}"))


def forgetful() -> None:
    """No process knows which messages another one has answered."""
    reception.parse_message = _of_this_process  # type: ignore[attr-defined]  # broken on purpose


if __name__ == "__main__":
    run(forgetful)
