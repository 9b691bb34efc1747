"""An answer that grows: a card for each of its parts, one after the other.

A card is made first, which nobody sees, and announced in `message`; once that is stored it is sent, with a `uuid` of its
own. So whatever a process that dies has put up can be found by the next one, which edits `message`:

- before a card is announced there is nothing to see of it, and nothing is left but an entity that ends by itself;
- announced, perhaps sent: sent again with its `uuid`, which Feishu does once; then the first one gets the whole text of
  the first part, the others are recalled;
- sent and stored: the same without that;
- recalled, since it could not be changed, and not sent anew yet: the next process looks whether its message is there;
- in the end the core has committed the answer in parts with keys of their own. The first one is an edit of `message`, as
  above; the others are sent with those keys, which no growing card ever had. More parts than were announced are left to
  the core in the same way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import structlog

from adapters.feishu.address import Address, dump_shown
from adapters.feishu.card import Card
from adapters.feishu.chats import Chats
from core.adapter import IdempotencyKey, StreamSink
from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain, RateLimited
from core.markdown.dialect import Dialect
from core.markdown.preview import Preview
from core.messages import MessageId

log = structlog.get_logger(__name__)

_UPDATE_EVERY = 0.25
"""Seconds between two updates of an answer."""
_UPDATES_PER_SECOND = 15.0
"""Of all answers together; an app may call each API 1,000 times a minute."""
_SHARE_OF_THE_LOOP = 20.0
"""How many times as long as an answer takes to be rendered it waits before that is done again."""
_LONGEST_PAUSE = 20.0
_PATIENCE = 24.0
"""Seconds that the end of an answer may take; the core gives 30."""
_FAREWELL = 3.0
"""Seconds to end a card whose answer is broken off."""


class GrowingAnswer(StreamSink, AbstractAsyncContextManager[StreamSink]):
    """One answer; enter it once."""

    def __init__(self, chats: Chats, address: Address, key: IdempotencyKey, dialect: Dialect) -> None:
        """Parts are cut as by `dialect`, which is that of the reply channel: they are those of the core."""
        self._chats = chats
        self._address = address
        self._key = key
        self._dialect = dialect
        self._preview = Preview(dialect)
        self._cards: list[Card] = []
        """Those that were sent, one for each part."""
        self._announced: Card | None = None
        """The next one: made, and perhaps sent."""
        self._ended = 0
        """How many of them have all of their text."""
        self._next = 0.0
        self._slower = 1.0

    async def __aenter__(self) -> StreamSink:
        self._chats.growing += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._chats.growing -= 1
        if kind is None:
            await self._finish()
        elif not issubclass(kind, DeliveryError):  # after that one the text comes another way at once
            await self._break_off()

    @property
    def message(self) -> MessageId | None:
        cards = [*self._cards, self._announced] if self._announced is not None else self._cards
        return dump_shown([card.shown for card in cards]) if cards else None

    async def append(self, text: str) -> None:
        """Takes `text` whatever happens; shows what is due. Raises where the answer cannot be shown here at all."""
        self._preview.feed(text)
        if self.due() <= 0:
            await self._update()

    def due(self) -> float:
        return self._next - self._chats.clock.monotonic()

    async def stored(self) -> None:
        """The announced card goes up."""
        if self._announced is not None:
            await self._update()

    async def _update(self) -> None:
        clock = self._chats.clock
        began = clock.monotonic()
        complete = self._preview.complete
        parts = [*complete, *self._preview.growing()]
        rendering = clock.monotonic() - began
        await clock.sleep(0)  # the other half of the work comes now; whoever waits goes first
        try:
            await self._show(parts, len(complete))
        except (RateLimited, DeliveryUnavailable, DeliveryUncertain) as error:
            log.debug("an answer is shown later", error=str(error))
            wait = error.retry_after if isinstance(error, RateLimited) else 1.0
            self._slower = min(self._slower * 2, 16.0)
            self._next = clock.monotonic() + min(wait, _LONGEST_PAUSE)
            return
        every = max(_UPDATE_EVERY, self._chats.growing / _UPDATES_PER_SECOND) * self._slower
        self._next = clock.monotonic() + max(every, rendering * _SHARE_OF_THE_LOOP)

    # What is to be seen

    async def _show(self, parts: Sequence[str], complete: int) -> None:
        """Bring the cards to what the answer is by now, as far as they may go up. The first `complete` parts stay."""
        for index in range(self._ended, len(parts)):
            text = parts[index]
            rendered = self._dialect.render(text)
            if index >= complete and not rendered.strip():
                return
            if index == len(self._cards) and not await self._put_up(index, rendered, text):
                return
            card = self._cards[index]
            if index < complete:
                await self._chats.cards.write(card, text, rendered)
                self._ended = index + 1
            else:
                await self._chats.cards.grow(card, rendered, text)
            await self._chats.answered(self._address)

    async def _put_up(self, index: int, rendered: str, text: str) -> bool:
        """The next card, if it is announced; else it is now, and goes up once that is stored."""
        if self._announced is None:
            self._announced = await self._chats.cards.make(rendered, text, f"{self._key}-s{index}")
            return False
        await self._chats.put_up(self._address, self._announced)
        self._cards.append(self._announced)
        self._announced = None
        return True

    # The end

    async def _finish(self) -> None:
        """Show the end of the answer, however often Feishu asks to wait; what fails for good is raised."""
        parts, clock = self._preview.finish(), self._chats.clock
        if len(parts) > len(self._cards) + (self._announced is not None):
            raise DeliveryUnavailable("more parts than were announced; they are sent as messages of their own")
        if not parts:
            raise DeliveryUnavailable("nothing of the answer can be seen; it is sent as it was written")
        until = clock.monotonic() + _PATIENCE
        while True:
            try:
                await self._show(parts, len(parts))
                while len(self._cards) > len(parts):  # the end was cut in another way while it grew
                    await self._chats.take_away(self._address, self._cards[-1])
                    self._cards.pop()
                return
            except (RateLimited, DeliveryUnavailable, DeliveryUncertain) as error:
                wait = error.retry_after if isinstance(error, RateLimited) else 1.0
                if clock.monotonic() + wait > until:
                    raise
                await clock.sleep(wait)

    async def _break_off(self) -> None:
        """Nobody may go on with it: it does not look as if somebody did."""
        for card in self._cards[-1:]:
            if card.streaming:
                try:
                    async with asyncio.timeout(_FAREWELL):
                        await self._chats.cards.write(card, "".join(self._preview.growing()[-1:]), card.rendered)
                except (DeliveryError, TimeoutError) as error:
                    log.debug("a broken card could not be ended", error=str(error))
