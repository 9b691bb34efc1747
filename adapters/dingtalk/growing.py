"""An answer that grows in AI cards: one for each part, the same ones that the finished parts are sent to.

The part that is complete is written to its card once more and ended; the one that grows is written whole, now and then.
Whatever breaks: the core sends the parts with their keys, and those are the names of these cards. A card after the first
is announced (`message` names how many there are) before it is made, and made with the next piece, when the core has
stored that: so a later process knows every card that there may be.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import structlog

from adapters.dingtalk.address import Address
from adapters.dingtalk.cards import Cards, NoCard
from core.adapter import IdempotencyKey, StreamSink
from core.errors import DeliveryUnavailable, DeliveryUncertain, RateLimited
from core.markdown.dialect import Dialect
from core.markdown.preview import Preview
from core.messages import MessageId

log = structlog.get_logger(__name__)

_LONGEST_WAIT = 2.0
"""Seconds that a piece waits for its turn; beyond, it is shown with a later one."""
_LONGEST_PAUSE = 20.0
_SLOWEST = 16.0
_MOST_FAILURES = 5
"""Updates in a row that may fail before the answer is shown another way."""
_PAUSE = 1.0
"""Seconds before the end of an answer is tried again after a failure."""
_PATIENCE = 24.0
"""Seconds that the end of an answer may take; the core gives 30."""


def card_of(first: str, number: int) -> str:
    """The name of card `number` of an answer; `first` is that of card 0."""
    return f"{first.removesuffix('-0')}-{number}" if number else first


def message_id(first: str, cards: int) -> MessageId:
    """The id of an answer in so many cards."""
    return MessageId(f"{first}/{cards}")


def cards_of(message: MessageId) -> list[str]:
    """The cards that an id made by `message_id` names."""
    first, _, count = message.partition("/")
    return [card_of(first, number) for number in range(max(1, int(count) if count.isdigit() else 1))]


class GrowingAnswer(StreamSink, AbstractAsyncContextManager[StreamSink]):
    """One answer; enter it once."""

    def __init__(
        self, cards: Cards, address: Address, key: IdempotencyKey, dialect: Dialect, *, begun: Callable[[], None]
    ) -> None:
        """`dialect` is that which the core cuts the answer by; `begun` is called when there is something to see."""
        self._begun = begun
        self._cards = cards
        self._address = address
        self._key = str(key)
        self._dialect = dialect
        self._preview = Preview(dialect)
        self._shown: list[str] = []
        """What each card says that was made."""
        self._ended = 0
        """Cards that are done."""
        self._announced = 1
        self._next = 0.0
        self._slower = 1.0
        self._failures = 0

    async def __aenter__(self) -> StreamSink:
        self._cards.growing += 1
        return self  # there is a card as soon as there is something to read

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                await self._finish()
        finally:
            self._cards.growing -= 1

    @property
    def message(self) -> MessageId | None:
        return message_id(self._key, self._announced) if self._shown else None

    async def append(self, text: str) -> None:
        """Takes `text` whatever happens; shows what is due. Raises where the answer cannot be shown here at all."""
        self._preview.feed(text)
        clock = self._cards.clock
        if (wait := self._next - clock.monotonic()) > 0:
            if wait > _LONGEST_WAIT:
                return
            await clock.sleep(wait)
        pause = self._cards.interval * self._slower
        try:
            await self._show(final=False)
        except RateLimited as limited:
            self._slower = min(self._slower * 2, _SLOWEST)
            pause = min(limited.retry_after, _LONGEST_PAUSE)
        except (DeliveryUnavailable, DeliveryUncertain) as error:
            self._failures += 1
            if self._failures >= _MOST_FAILURES:
                raise
            log.debug("an update of a card is left out", error=str(error))  # the next one says everything
        else:
            self._failures = 0
            self._slower = max(1.0, self._slower * 0.9)
        self._next = clock.monotonic() + pause

    async def _show(self, *, final: bool) -> None:
        """Bring the cards to what the answer is by now."""
        complete = self._preview.finish() if final else self._preview.complete
        for number in range(self._ended, len(complete)):
            if not (final or self._is_known(number)):
                return
            await self._write(number, self._dialect.render(complete[number]), last=True)
            self._ended = number + 1
        if not final and (growing := self._preview.growing()) and self._is_known(len(complete)):
            await self._write(len(complete), self._dialect.render(growing[0]), last=False)

    def _is_known(self, number: int) -> bool:
        """Whether a later process would know of the card; if not, it will by the next piece."""
        known = number < self._announced
        self._announced = max(self._announced, number + 1)
        return known

    async def _write(self, number: int, text: str, *, last: bool) -> None:
        card = card_of(self._key, number)
        if number == len(self._shown):
            await self._cards.make(self._address, card)
            self._shown.append("")
            if not number:
                self._begun()
        if last or (text.strip() and text != self._shown[number]):
            try:
                await self._cards.write(card, text, last=last)
            except NoCard:
                await self._cards.fail(card)  # the core may not know of it yet
                raise
            self._shown[number] = text

    async def _finish(self) -> None:
        """Show the end of the answer, however often DingTalk asks to wait; what fails again and again is raised."""
        clock = self._cards.clock
        until = clock.monotonic() + _PATIENCE
        while True:
            try:
                await self._show(final=True)
                return
            except RateLimited as limited:
                if clock.monotonic() + limited.retry_after > until:
                    raise
                await clock.sleep(limited.retry_after)
            except (DeliveryUnavailable, DeliveryUncertain):
                self._failures += 1
                if self._failures >= _MOST_FAILURES or clock.monotonic() + _PAUSE > until:
                    raise
                await clock.sleep(_PAUSE)
