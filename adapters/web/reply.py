"""The way back to a page: text lands in the live conversation, from where pages read it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

from adapters.web.live import Answer, Conversation, Conversations
from core.adapter import (
    CanFail,
    CanStream,
    Failure,
    IdempotencyKey,
    Kept,
    ReplyChannel,
    StreamSink,
    TextLimits,
)
from core.address import StoredAddress
from core.messages import ChannelId, MessageId, ThreadId


@dataclass(frozen=True, slots=True)
class Address(StoredAddress):
    """Where a question was asked. Only hashes and random ids: it names a browser and gives no access to it."""

    browser: ChannelId
    conversation: ThreadId
    message: MessageId


class _Sink(StreamSink):
    def __init__(self, conversation: Conversation, answer: Answer) -> None:
        self._conversation = conversation
        self._answer = answer

    @property
    def message(self) -> MessageId | None:
        """None: nothing outlives the process but what the journal has."""
        return None

    async def append(self, text: str) -> None:
        self._answer.append(text)
        self._conversation.changed()


class WebReply(ReplyChannel, CanStream, CanFail, Kept):
    """Replies to one question. Nothing here waits for a page; if none looks, the store has the reply.

    The same key is the same reply: sending it again shows it once.
    """

    limits: ClassVar[TextLimits] = TextLimits(max_length=1_000_000, edit_interval=0.05)

    def __init__(self, conversations: Conversations, address: Address) -> None:
        self._conversations = conversations
        self._address = address

    @property
    def _conversation(self) -> Conversation:
        return self._conversations.get(self._address.browser, self._address.conversation)

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        """Show a finished reply, in the place of what was streamed with the same key."""
        conversation = self._conversation
        conversation.answer(key, self._address.message).settle(text)
        self._ended(conversation)
        return None

    def stream(self, *, key: IdempotencyKey) -> AbstractAsyncContextManager[StreamSink]:
        """Show a growing reply."""
        return self._grow(key)

    @asynccontextmanager
    async def _grow(self, key: IdempotencyKey) -> AsyncIterator[StreamSink]:
        conversation = self._conversation
        answer = conversation.answer(key, self._address.message, anew=True)
        conversation.changed()
        try:
            yield _Sink(conversation, answer)
        except BaseException:
            answer.break_off()
            raise
        else:
            answer.end()
        finally:
            self._ended(conversation)

    async def fail(self, failure: Failure, *, key: IdempotencyKey) -> None:
        """Show why there is no reply."""
        conversation = self._conversation
        conversation.answer(key, self._address.message).fail(failure)
        self._ended(conversation)

    def _ended(self, conversation: Conversation) -> None:
        conversation.changed()
        self._conversations.tidy()
