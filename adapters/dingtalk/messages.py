"""Finished messages in Markdown: by the question's webhook, else by the API.

https://open.dingtalk.com/document/development/the-robot-sends-a-group-message,
https://open.dingtalk.com/document/development/chatbots-send-one-on-one-chat-messages-in-batches. Neither knows a message
that comes a second time, nor lets a robot read back what it wrote: a send whose answer got lost stays in doubt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import structlog

from adapters.dingtalk.address import Address
from adapters.dingtalk.api import DingTalkApi
from adapters.dingtalk.webhook import WebhookRefuses, Webhooks
from core.errors import DeliveryUnavailable, RateLimited, TargetGone
from core.markdown.dialects.dingtalk import DINGTALK
from core.markdown.mentions import defuse
from core.markdown.parse import parse
from core.markdown.plaintext import plain
from core.markdown.tree import Blocks, Heading, List, Paragraph, Quote
from core.messages import MessageId

log = structlog.get_logger(__name__)

_TITLE = 40
"""Characters that the list of conversations and notifications show."""
_NUMBER = re.compile(r"@(?=\d)")
"""What might be a person's number or id."""
_FLOW_CONTROL = 60.0
"""Seconds before a person to whom DingTalk holds messages back is written to again."""


class Messages:
    """Writes to where a question came from. Text is CommonMark, one part of an answer."""

    def __init__(self, api: DingTalkApi, webhooks: Webhooks, robot: str) -> None:
        """`robot`: the robot's code, for questions that do not tell it."""
        self._api = api
        self._webhooks = webhooks
        self._robot = robot

    async def send(self, address: Address, text: str) -> MessageId | None:
        """Show `text`; the id is only known of messages that the API sent."""
        rendered, title = DINGTALK.render(text), title_of(text)
        if self._webhooks.usable(address):
            try:
                await self._webhooks.post(address, title, rendered)
                return None
            except (WebhookRefuses, RateLimited, DeliveryUnavailable) as error:
                if not _reachable(address):
                    raise
                log.debug("the webhook does not take it", error=str(error))
        elif not _reachable(address):
            raise TargetGone("the webhook has ended, and people from outside can be written to in no other way")
        return await self._send(address, {"title": title, "text": rendered})

    async def _send(self, address: Address, param: Mapping[str, Any]) -> MessageId | None:
        body: dict[str, Any] = {
            "robotCode": address.robot or self._robot,
            "msgKey": "sampleMarkdown",
            "msgParam": json.dumps(param, ensure_ascii=False),
        }
        if not address.direct:
            body["openConversationId"] = address.conversation
            data = await self._api.call("POST", "/v1.0/robot/groupMessages/send", body)
        else:
            data = await self._api.call(
                "POST", "/v1.0/robot/oToMessages/batchSend", {**body, "userIds": [address.staff]}
            )
            if address.staff in (data.get("invalidStaffIdList") or ()):
                raise TargetGone("oToMessages: DingTalk knows no such person (any more)")
            if address.staff in (data.get("flowControlledStaffIdList") or ()):
                raise RateLimited("oToMessages: messages to this person are held back", retry_after=_FLOW_CONTROL)
        key = data.get("processQueryKey")
        return MessageId(key) if isinstance(key, str) and key else None


def title_of(text: str) -> str:
    """The first words of an answer, as plain text in which nobody is mentioned; DingTalk demands a title."""
    words = " ".join(_first_line(parse(text)).split())
    words = words if len(words) <= _TITLE else f"{words[: _TITLE - 1]}…"
    return defuse(words, _NUMBER) or "…"


def _first_line(blocks: Blocks) -> str:
    for block in blocks:
        match block:
            case Heading(_, children) | Paragraph(children):
                found = plain(children)
            case Quote(children):
                found = _first_line(children)
            case List(_, _, items):
                found = next(filter(None, (_first_line(item.children) for item in items)), "")
            case _:
                found = ""
        if found.strip():
            return found
    return ""


def _reachable(address: Address) -> bool:
    """Whether the API can write there: a group, or a person whose id in the company is known."""
    return not address.direct or bool(address.staff)
