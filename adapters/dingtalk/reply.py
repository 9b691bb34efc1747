"""The ways back: Markdown messages, or AI cards where they are configured and possible."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import structlog

from adapters.dingtalk.address import Address
from adapters.dingtalk.cards import Cards, NoCard
from adapters.dingtalk.growing import GrowingAnswer, cards_of, message_id
from adapters.dingtalk.messages import Messages
from adapters.dingtalk.signs import Signs
from core.adapter import CanEdit, CanStream, CanType, IdempotencyKey, Keyed, ReplyChannel, StreamSink, TextLimits
from core.delivery import dialect_of
from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain, TargetGone
from core.latest import Latest
from core.markdown.dialect import Dialect
from core.markdown.dialects.dingtalk import DINGTALK
from core.messages import MessageId
from core.texts import say

log = structlog.get_logger(__name__)

CARD = replace(
    DINGTALK,
    name="DingTalk card",
    limits=TextLimits(
        max_length=3_000, count=lambda text: len(text.encode("utf-8", "surrogatepass")), edit_interval=2.0
    ),
)
"""A card's text: 3 K in all are advised (https://open.dingtalk.com/document/development/api-streamingupdate), and with
more than 3,000 Chinese characters clients show it empty (https://github.com/soimy/openclaw-channel-dingtalk/issues/615)."""

_CJK = re.compile(r"[\u4e00-\u9fff]")
_REMEMBERED = 5_000
_ATTEMPTS = 3
"""Calls for cards that fail before a message is tried too. It comes after some seconds; where it fails as well, it is not
the cards that are the reason, and they are tried again."""


class Doubts:
    """Keys of Markdown messages that may have been shown in the place of a card."""

    def __init__(self) -> None:
        self._keys: Latest[str, None] = Latest(_REMEMBERED)

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def add(self, key: str) -> None:
        """Remember one."""
        self._keys[key] = None

    def discard(self, key: str) -> None:
        """It was surely not shown."""
        self._keys.pop(key, None)


class MarkdownReply(ReplyChannel, CanType):
    """Finished messages. They can be neither changed nor looked up."""

    limits: ClassVar[TextLimits] = DINGTALK.limits
    dialect: ClassVar[Dialect | None] = DINGTALK

    def __init__(self, messages: Messages, signs: Signs, address: Address) -> None:
        self._messages = messages
        self._signs = signs
        self._address = address

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        """Post `text`; DingTalk has nothing to put the key in."""
        del key
        message = await self._messages.send(self._address, text)
        self._signs.answered(self._address)
        return message

    async def typing(self) -> None:
        """Put the thinking sign on the question. It stays until it is answered."""
        await self._signs.show(self._address)


class CardReply(MarkdownReply, CanStream, CanEdit, Keyed):
    """AI cards. The one that is made with a key is always the same one.

    Where DingTalk refuses a card, the text is a Markdown message at once; where cards fail again and again, after a few
    attempts. A message is not `Keyed`: if its sending is in doubt, or the card may say the same, it is marked by us (after
    a crash in that very moment, it is not).
    """

    limits: ClassVar[TextLimits] = CARD.limits
    dialect: ClassVar[Dialect | None] = CARD
    KEY_LIFETIME: ClassVar[timedelta] = timedelta(days=1)
    """DingTalk names no end; within a day an answer is given up or expired."""

    def __init__(self, cards: Cards, doubts: Doubts, messages: Messages, signs: Signs, address: Address) -> None:
        super().__init__(messages, signs, address)
        self._cards = cards
        self._doubts = doubts
        self._failures = 0
        self._unsure: set[str] = set()
        """Cards that may say their text, though the call failed."""

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        """Show `text` on the card of this key."""
        fits = CARD.size(text) <= CARD.limits.max_length  # else it was cut for messages, while there were no cards
        if fits and key not in self._doubts and self._cards.usable(self._address):
            try:
                await self._cards.make(self._address, key)
                await self._write(key, text)
            except NoCard as error:
                log.info("a message goes in the place of a card", error=str(error))
            except (DeliveryUnavailable, DeliveryUncertain) as error:
                if not self._is_enough():
                    raise
                log.warning("a message goes in the place of a card that fails", error=str(error))
            else:
                self._signs.answered(self._address)
                return message_id(key, 1)
        message = await self._send_message(text, key)
        if self._cards.may_be(key):
            await self._cards.fail(key)
        return message

    async def edit(self, message: MessageId, text: str) -> None:
        """Let `text` be what the first card of the answer says. The others say a dash, until their part is sent."""
        first, *others = cards_of(message)
        try:
            await self._write(first, text)
        except NoCard as error:
            await self._cards.fail(first)
            raise TargetGone(str(error)) from None
        except (DeliveryUnavailable, DeliveryUncertain) as error:
            if not self._is_enough():
                raise
            raise TargetGone(str(error)) from None
        await self._cards.leave_over(first, others)
        self._signs.answered(self._address)

    def stream(self, *, key: IdempotencyKey) -> AbstractAsyncContextManager[StreamSink]:
        return GrowingAnswer(
            self._cards, self._address, key, dialect_of(self), begun=lambda: self._signs.answered(self._address)
        )

    async def _write(self, card: str, text: str) -> None:
        try:
            await self._cards.write(card, CARD.render(text), last=True)
        except DeliveryUncertain:
            self._unsure.add(card)
            raise

    def _is_enough(self) -> bool:
        """Another call for a card failed."""
        self._failures += 1
        return self._failures >= _ATTEMPTS

    async def _send_message(self, text: str, key: IdempotencyKey) -> MessageId | None:
        doubted = key in self._doubts
        if doubted or key in self._unsure:
            text = f"{text}\n\n{say('repeated', 'zh' if _CJK.search(text) else 'en')}"
        self._doubts.add(key)  # whoever waits may go before it is known what became of it
        try:
            return await super().send(text, key=key)
        except DeliveryError as error:
            if not doubted and not isinstance(error, DeliveryUncertain):
                self._doubts.discard(key)
            raise


def reply_to(cards: Cards, doubts: Doubts, messages: Messages, signs: Signs, address: Address) -> MarkdownReply:
    """The reply channel for a place: cards where there can be some."""
    if cards.usable(address):
        return CardReply(cards, doubts, messages, signs, address)
    return MarkdownReply(messages, signs, address)
