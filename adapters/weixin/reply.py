"""The way back to a person: plain text, sent whole."""

from __future__ import annotations

from typing import ClassVar

from adapters.weixin.address import Address
from adapters.weixin.outgoing import Outgoing
from core.adapter import CanAttach, CanType, IdempotencyKey, OutboundFile, ReplyChannel, TextLimits
from core.markdown.dialect import Dialect
from core.markdown.dialects.plain import WECHAT
from core.messages import MessageId


class WeixinReply(ReplyChannel, CanType, CanAttach):
    """Answers one message. `client_id` carries our key; that the platform refuses a second one with it is not known, so
    nothing relies on it."""

    limits: ClassVar[TextLimits] = WECHAT.limits
    dialect: ClassVar[Dialect | None] = WECHAT

    def __init__(self, outgoing: Outgoing, address: Address) -> None:
        self._outgoing = outgoing
        self._address = address

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        return await self._outgoing.send(self._address, {"type": 1, "text_item": {"text": WECHAT.render(text)}}, key)

    async def attach(self, file: OutboundFile, *, key: IdempotencyKey) -> MessageId | None:
        return await self._outgoing.attach(self._address, file, key)

    async def typing(self) -> None:
        await self._outgoing.typing(self._address)

    async def typing_over(self) -> None:
        await self._outgoing.typing_over(self._address)
