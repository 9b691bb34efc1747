"""The way back to a message."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import ClassVar

from adapters.feishu.address import Address, dump_shown
from adapters.feishu.chats import Chats
from adapters.feishu.stream import GrowingAnswer
from core.adapter import (
    CanAttach,
    CanEdit,
    CanStream,
    CanType,
    IdempotencyKey,
    Keyed,
    OutboundFile,
    ReplyChannel,
    StreamSink,
    TextLimits,
)
from core.delivery import dialect_of
from core.markdown.dialect import Dialect
from core.markdown.dialects.feishu import FEISHU
from core.messages import MessageId


class FeishuReply(ReplyChannel, CanStream, CanEdit, CanType, CanAttach, Keyed):
    """Cards, which grow while they are written. In groups and topics they reply to the question.

    Every message carries our key as `uuid`: "at most one message within an hour"
    (https://open.feishu.cn/document/server-docs/im-v1/message/reply).
    """

    limits: ClassVar[TextLimits] = FEISHU.limits
    dialect: ClassVar[Dialect | None] = FEISHU
    KEY_LIFETIME: ClassVar[timedelta] = timedelta(minutes=55)
    """A send may still wait for its turn."""

    def __init__(self, chats: Chats, address: Address) -> None:
        self._chats = chats
        self._address = address

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        shown = await self._chats.send(self._address, text, key)
        return dump_shown([shown]) if shown.message else None

    async def edit(self, message: MessageId, text: str) -> None:
        await self._chats.replace(self._address, message, text)

    def stream(self, *, key: IdempotencyKey) -> AbstractAsyncContextManager[StreamSink]:
        return GrowingAnswer(self._chats, self._address, key, dialect_of(self))

    async def typing(self) -> None:
        await self._chats.typing(self._address)

    async def attach(self, file: OutboundFile, *, key: IdempotencyKey) -> MessageId | None:
        shown = await self._chats.attach(self._address, file, key)
        return dump_shown([shown]) if shown.message else None


def reply_to(chats: Chats, address: Address) -> FeishuReply:
    """The reply channel for a place."""
    return FeishuReply(chats, address)
