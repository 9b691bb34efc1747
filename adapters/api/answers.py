"""Answers on their way: requests wait for them, reply channels bring them.

Both sides know only the event, so that several requests may wait for one answer, and an answer for which nobody waits
(its client hung up, or the gateway was restarted) is delivered all the same: it is in the journal.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import islice

from adapters.api.faults import Refusal
from core.adapter import (
    CanFail,
    CanStream,
    Failure,
    IdempotencyKey,
    Kept,
    ReplyChannel,
    ReplyIsReceipt,
    SenderIsClaimed,
    StreamSink,
    TextLimits,
)
from core.messages import EventId, MessageId, ReplyAddress


class Answer:
    """What is known so far of one answer. Any number of requests read it, each at its own pace."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        """The text so far; its owner appends to it."""
        self.outcome: str | Failure | None = None
        """The whole text or why there is none; None while it is on its way."""
        self.accepted = False
        """The message is in the journal, so the journal knows how it ended."""
        self.readers = 0
        self.growing = False
        """Somebody wants to see it while it is written."""
        self._settled = asyncio.Event()
        self._news: asyncio.Event | None = None

    def show(self, pieces: list[str]) -> None:
        """More text is there: `pieces` is the list that was shown before, grown, or a new one for a new beginning."""
        self.pieces = pieces
        self._notify()

    def settle(self, outcome: str | Failure) -> None:
        """The end. The first one counts, for the same answer may be brought twice."""
        if self.outcome is None:
            self.outcome = outcome
            self._settled.set()
            self._notify()

    async def whole(self) -> str:
        """Wait for the end. Raises Refusal for a Failure."""
        await self._settled.wait()
        return self.text()

    def text(self) -> str:
        """The text so far. Raises Refusal for a Failure."""
        if isinstance(self.outcome, Failure):
            raise Refusal.of(self.outcome)
        return "".join(self.pieces) if self.outcome is None else self.outcome

    async def changed(self) -> None:
        """Wait until there is more than at the time of the call."""
        if self.outcome is not None:
            return
        if self._news is None:
            self._news = asyncio.Event()
        await self._news.wait()

    async def settled_within(self, seconds: float) -> bool:
        """Wait for the end, but not longer than that."""
        try:
            async with asyncio.timeout(seconds):
                await self._settled.wait()
        except TimeoutError:
            return False
        return True

    def _notify(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None


class Answers:
    """The answers that somebody waits for, at most `most` of them."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._by_event: OrderedDict[EventId, Answer] = OrderedDict()

    @contextmanager
    def wait(self, event: EventId, *, growing: bool = False) -> Iterator[Answer]:
        """Wait for the answer to `event`, together with others who do. Raises Refusal (503) when too many wait.

        `growing` asks to see it while it is written, if it has not begun yet.
        """
        answer = self._by_event.get(event)
        if answer is None or answer.outcome is not None:  # an ended one is left to those who still read it
            if len(self._by_event) >= self._most:
                raise Refusal(503, "overloaded", "Too many requests are waiting for an answer.", retry_after=5)
            answer = self._by_event[event] = Answer()
        answer.readers += 1
        answer.growing |= growing
        try:
            yield answer
        finally:
            answer.readers -= 1
            if not answer.readers and self._by_event.get(event) is answer:
                del self._by_event[event]

    def get(self, event: EventId) -> Answer | None:
        """The answer to `event`, if somebody waits for it."""
        return self._by_event.get(event)

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        """The way back to a request: one that streams only where somebody looks."""
        event = _event_of(address)
        answer = self._by_event.get(event)
        return ApiReply(self, event) if answer is not None and answer.growing else WholeReply(self, event)

    def unsettled(self, most: int) -> list[tuple[EventId, Answer]]:
        """Some answers that are still due, others with each call."""
        chosen = list(islice(self._by_event.items(), most))
        for event, _ in chosen:
            self._by_event.move_to_end(event)
        return [(event, answer) for event, answer in chosen if answer.accepted and answer.outcome is None]

    def fail_all(self, failure: Failure) -> None:
        """Nobody will bring these answers any more."""
        for answer in list(self._by_event.values()):
            answer.settle(failure)

    def __len__(self) -> int:
        return len(self._by_event)


def address_of(event: EventId) -> ReplyAddress:
    """The reply address of a request."""
    return ReplyAddress(json.dumps({"request": event}))


def _event_of(address: ReplyAddress) -> EventId:
    return EventId(json.loads(address)["request"])


class WholeReply(ReplyChannel, CanFail, Kept, ReplyIsReceipt, SenderIsClaimed):
    """Back to whoever waits for this request. It never fails: without anyone waiting, the journal has the reply."""

    limits = TextLimits(max_length=1_000_000_000, edit_interval=0.0)

    def __init__(self, answers: Answers, event: EventId) -> None:
        self._answers = answers
        self._event = event

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:  # noqa: ARG002 - the first answer counts
        if answer := self._answers.get(self._event):
            answer.settle(text)
        return MessageId(self._event)

    async def fail(self, failure: Failure, *, key: IdempotencyKey) -> None:  # noqa: ARG002 - the first answer counts
        if answer := self._answers.get(self._event):
            answer.settle(failure)


class ApiReply(WholeReply, CanStream):
    """The same, for a request that wants to see the answer grow."""

    @asynccontextmanager
    async def stream(self, *, key: IdempotencyKey) -> AsyncIterator[StreamSink]:  # noqa: ARG002 - the first answer counts
        """Left by an exception it settles nothing: a failure, the text or a new beginning follows."""
        sink = _Sink(self._answers, self._event)
        yield sink
        if answer := self._answers.get(self._event):
            answer.settle("".join(sink.pieces))


class _Sink(StreamSink):
    def __init__(self, answers: Answers, event: EventId) -> None:
        self._answers = answers
        self._event = event
        self.pieces: list[str] = []

    @property
    def message(self) -> MessageId | None:
        return None  # nothing that could be edited later

    async def append(self, text: str) -> None:
        self.pieces.append(text)
        if answer := self._answers.get(self._event):  # looked up each time: a repeated request may join midway
            answer.show(self.pieces)
