"""The way back to a conversation: plain text, sent whole, to a person or with their name into a room."""

from __future__ import annotations

from typing import ClassVar

from adapters.wechat.address import Address
from adapters.wechat.outgoing import Outgoing
from core.adapter import CanAttach, IdempotencyKey, OutboundFile, ReplyChannel, TextLimits
from core.markdown.dialect import Dialect
from core.markdown.dialects.plain import WECHAT, plain_text
from core.markdown.mentions import defuse
from core.messages import MessageId

_LONGEST_NAME = 32
"""Units of a name that is shown; WeChat's own limit is 32 characters."""
_ROOM_FOR_NAME = _LONGEST_NAME + 8
"""Units kept free in each message for `@name `."""

_WITH_NAME = plain_text(TextLimits(max_length=WECHAT.limits.max_length - _ROOM_FOR_NAME, count=WECHAT.limits.count))


class WechatReply(ReplyChannel, CanAttach):
    """Answers one message. Nothing makes a send unique, and what was sent cannot be looked up."""

    limits: ClassVar[TextLimits] = _WITH_NAME.limits
    dialect: ClassVar[Dialect | None] = _WITH_NAME

    def __init__(self, outgoing: Outgoing, address: Address) -> None:
        self._outgoing = outgoing
        self._address = address

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        written = _WITH_NAME.render(text)
        name = _shown(self._address.name)
        return await self._outgoing.send(self._address, defuse(f"@{name} {written}") if name else written, key)

    async def attach(self, file: OutboundFile, *, key: IdempotencyKey) -> MessageId | None:
        return await self._outgoing.attach(self._address, file, key)


def _shown(name: str) -> str:
    """In one line, and short. It is text like any other, and notifies nobody: that takes the ids of people."""
    name = " ".join(name.split())
    while WECHAT.limits.count(name) > _LONGEST_NAME:
        name = name[:-1]
    return name
