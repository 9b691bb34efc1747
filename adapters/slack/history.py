"""What was written while nobody listened: https://docs.slack.dev/reference/methods/conversations.history and
conversations.replies. Slack itself sends an event again for about six minutes; this is for longer gaps."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from adapters.slack.address import Address
from adapters.slack.api import SlackError
from adapters.slack.reception import Reception
from adapters.slack.workspace import Workspace
from core.adapter import Place
from core.errors import DeliveryUnavailable, RateLimited, TargetGone
from core.messages import InboundMessage

log = structlog.get_logger(__name__)

_OTHERS = 40
"""Places beyond those that are known to be alive; Slack allows 50 look-ups a minute."""


async def missed(
    workspace: Workspace, reception: Reception, since: datetime, places: Sequence[Place]
) -> AsyncGenerator[InboundMessage, None]:
    """Each channel once, and each thread; oldest first in each."""
    seen: set[tuple[str, str]] = set()
    oldest = f"{since.timestamp():.6f}"
    for place in places:
        address = Address.load(place.reply_to)
        for thread in ("", address.thread):
            if (address.channel, thread) in seen:
                continue
            seen.add((address.channel, thread))
            async for message in _written(workspace, reception, address, thread, oldest):
                yield message
    try:
        for address in await _others(workspace, {channel for channel, _ in seen}):
            async for message in _written(workspace, reception, address, "", oldest):
                yield message
    except (RateLimited, SlackError) as error:
        log.info("not every place can be looked into for what was missed", error=str(error))


async def _others(workspace: Workspace, seen: set[str]) -> list[Address]:
    """Where nobody has written to the bot lately: somebody may have for the first time."""
    found = []
    for channel in await workspace.conversations():
        id = str(channel.get("id") or "")
        if id and id not in seen:
            direct = bool(channel.get("is_im"))
            found.append(Address(channel=id, thread="", after="", user="", team="", direct=direct))
    return found[:_OTHERS]


async def _written(
    workspace: Workspace, reception: Reception, address: Address, thread: str, oldest: str
) -> AsyncGenerator[InboundMessage, None]:
    kind = "im" if address.direct else "channel"
    where = Address(channel=address.channel, thread=thread, after="", user="", team="")
    found: list[Mapping[str, Any]] = []
    try:
        async for written in workspace.messages(where, since=oldest):
            if str(written.get("ts")) >= oldest:  # the root of a thread always comes along
                found.append(written)  # noqa: PERF401 - what was read before an error counts
    except (TargetGone, SlackError) as error:
        log.info("what was missed in a place cannot be read", channel=address.channel, error=str(error))
        return
    except DeliveryUnavailable as error:
        if not found:
            raise
        log.warning("not all that was missed can be read", channel=address.channel, error=str(error))
    for written in sorted(found, key=lambda each: str(each.get("ts"))):
        event = {**written, "type": "message", "channel": address.channel, "channel_type": kind}
        message = await reception.hand_over({"event": event})
        if message is not None:
            yield message
