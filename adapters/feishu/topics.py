"""The topic of a message whose event does not name it.

In a group of topics each message belongs to one. The event of the message that begins it may lack its id, which all later
ones have (https://github.com/openclaw/openclaw/pull/78310); in a direct chat those in a topic may lack it, too, and look
like replies outside of one (https://github.com/openclaw/openclaw/issues/74620). Feishu tells it who asks for the message:
https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/reference/im-v1/message/get
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog

from adapters.feishu.api import FeishuApi
from adapters.feishu.parse import DIRECT, TOPICS
from adapters.feishu.text import is_key
from core.errors import DeliveryError
from core.untrusted import items_in, part_in, text_in

log = structlog.get_logger(__name__)


def lacks_topic(payload: Any) -> bool:
    """Whether a message may be in a topic that it does not name."""
    message = part_in(part_in(payload, "event"), "message")
    kind, parent = text_in(message, "chat_type"), text_in(message, "parent_id")
    return not text_in(message, "thread_id") and (kind == TOPICS or (kind == DIRECT and parent != ""))


async def with_topic(api: FeishuApi, payload: Mapping[str, Any], *, within: float) -> Mapping[str, Any]:
    """The event with the topic of its message, if that can be had `within` so many seconds; else as it is."""
    event = part_in(payload, "event")
    message = part_in(event, "message")
    id = text_in(message, "message_id")
    if not is_key(id) or within <= 0:
        return payload
    try:
        async with asyncio.timeout(within):
            answer = await api.call("GET", f"/open-apis/im/v1/messages/{id}")
    except (DeliveryError, TimeoutError) as error:
        log.info("the topic of a message is not known", message=id, error=str(error))
        return payload
    found = next(iter(items_in(answer.get("data"), "items")), {})
    return {**payload, "event": {**event, "message": {**message, "thread_id": text_in(found, "thread_id")}}}
