"""What was written while nobody listened: https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/reference/im-v1/message/list

Feishu itself sends an event again for seven hours, unless nothing was connected that could have taken it. Groups are
read with the permission im:message.group_msg alone; the list of a chat has of a topic only its root.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog

from adapters.feishu.address import Address
from adapters.feishu.api import FeishuApi
from adapters.feishu.parse import event_of
from adapters.feishu.reception import Reception
from core.adapter import Place
from core.clock import Clock
from core.errors import DeliveryError, RateLimited
from core.messages import InboundMessage
from core.untrusted import items_in, text_in

log = structlog.get_logger(__name__)

_PAGE = 50
_MOST_PAGES = 10
_OTHERS = 40
"""Groups, and topics in each place, beyond those that are known to be alive."""
_QUOTE = 3.0
_PATIENCE = 120.0
"""Seconds to wait for one page; an app may ask for 1,000 a minute."""


async def missed(
    api: FeishuApi, reception: Reception, clock: Clock, since: datetime, places: Sequence[Place]
) -> AsyncGenerator[InboundMessage, None]:
    """Each chat once, and each topic; oldest first in each. Raises RateLimited where Feishu lets us wait for long."""
    addresses = [Address.load(place.reply_to) for place in places]
    chats = {address.chat_id: "p2p" if address.direct else "group" for address in addresses}
    topics = {address.thread_id: address for address in addresses if address.thread_id}
    chats |= dict.fromkeys(await _others(api, set(chats)), "group")
    for chat, kind in chats.items():
        items = await _written(api, clock, "chat", chat, since)
        seen = {text_in(item, "message_id") for item in items}
        async for message in _messages(reception, items, kind):
            yield message
        roots = [topic for item in items if (topic := text_in(item, "thread_id")) and topic not in topics]
        known = [topic for topic, address in topics.items() if address.chat_id == chat]
        for topic in [*known, *dict.fromkeys(roots[-_OTHERS:])]:
            inside = [
                item
                for item in await _written(api, clock, "thread", topic, since)
                if text_in(item, "message_id") not in seen  # its root was in the chat
            ]
            async for message in _messages(reception, inside, kind):
                yield message


async def _messages(
    reception: Reception, items: Sequence[Mapping[str, Any]], kind: str
) -> AsyncGenerator[InboundMessage, None]:
    for item in items:
        event = event_of(item, kind)
        message = reception.parse(event) if item.get("deleted") is not True else None
        if message is not None:
            yield await reception.complete(message, event, within=_QUOTE)


async def _others(api: FeishuApi, seen: set[str]) -> list[str]:
    """Groups where nobody has written to the bot lately: somebody may have for the first time. Direct chats are not
    listed: https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/reference/im-v1/chat/list"""
    try:
        answer = await api.call(
            "GET", "/open-apis/im/v1/chats", params={"sort_type": "ByActiveTimeDesc", "page_size": "100"}
        )
    except RateLimited:
        raise
    except DeliveryError as error:
        log.info("not every place can be looked into for what was missed", error=str(error))
        return []
    alive = (chat for chat in items_in(answer.get("data"), "items") if chat.get("chat_status", "normal") == "normal")
    return [id for chat in alive if (id := text_in(chat, "chat_id")) and id not in seen][:_OTHERS]


async def _written(api: FeishuApi, clock: Clock, container: str, id: str, since: datetime) -> list[Mapping[str, Any]]:
    """What was written in a place since then, oldest first. A topic takes no times, so its end is read backwards."""
    start = int(since.timestamp())
    whole = container == "chat"
    params = {
        "container_id_type": container,
        "container_id": id,
        "sort_type": "ByCreateTimeAsc" if whole else "ByCreateTimeDesc",
        "page_size": str(_PAGE),
    }
    if whole:
        params["start_time"] = str(start)
    found: list[Mapping[str, Any]] = []
    try:
        for _ in range(_MOST_PAGES):
            data = await _page(api, clock, params)
            page = items_in(data, "items")
            found += [item for item in page if _written_at(item) >= start * 1000]
            token = text_in(data, "page_token") if isinstance(data, Mapping) and data.get("has_more") is True else ""
            if not token or not page or (not whole and _written_at(page[-1]) < start * 1000):
                break
            params["page_token"] = token
        else:
            log.warning("not all that was missed can be read", place=id)
    except RateLimited:
        raise
    except DeliveryError as error:
        log.info("what was missed in a place cannot be read", place=id, error=str(error))
    return sorted(found, key=_written_at)


async def _page(api: FeishuApi, clock: Clock, params: Mapping[str, str]) -> Any:
    """One page. There may be hundreds of places, and what one place was worth is lost if the next one gives up."""
    until = clock.monotonic() + _PATIENCE
    while True:
        try:
            return (await api.call("GET", "/open-apis/im/v1/messages", params=params)).get("data")
        except RateLimited as error:
            if clock.monotonic() + error.retry_after > until:
                raise
            await clock.sleep(error.retry_after)


def _written_at(item: Mapping[str, Any]) -> int:
    """Milliseconds."""
    digits = text_in(item, "create_time")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 14 else 0
