"""A small platform in memory: what a person would see of it, with reply channels of every ability and scripted errors."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar, Literal, TypeVar

from core.adapter import (
    Adapter,
    CanAttach,
    CanEdit,
    CanFail,
    CanFind,
    CanStream,
    CanType,
    Failure,
    IdempotencyKey,
    Inbox,
    Keyed,
    OutboundFile,
    ReplyChannel,
    StreamSink,
    TextLimits,
)
from core.errors import TargetGone
from core.messages import MessageId, ReplyAddress

T = TypeVar("T")

Call = Literal["send", "edit", "find", "typing", "typing over", "open", "append", "close", "fail", "attach"]


@dataclass(slots=True)
class Shown:
    """A message as a person sees it."""

    id: MessageId
    place: str
    text: str
    key: str
    growing: bool = False
    broken: bool = False
    versions: list[str] = field(default_factory=list)
    """Every text it has had."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An error of one call, before or after the call took effect."""

    error: Exception
    after: bool = False


class Pager:
    """The platform. `kind` is the class of reply channel that its adapter gives out."""

    def __init__(self, kind: type[PagerReply] | None = None) -> None:
        self.kind = kind or PagerReply
        self.messages: dict[MessageId, Shown] = {}
        self.failures: list[tuple[str, Failure]] = []
        self.files: list[tuple[str, OutboundFile]] = []
        self.calls: list[Call] = []
        self.faults: defaultdict[Call, deque[Fault | None]] = defaultdict(deque)
        """The next calls of each kind fail like this; None: one that works."""
        self.gates: dict[Call, asyncio.Event] = {}
        """Calls of these kinds wait for the event before they take effect."""
        self.waiting = 0
        """Calls that wait at a gate."""
        self.keys: dict[str, MessageId] = {}
        self._ids = itertools.count(1)

    def texts(self, place: str = "home") -> list[str]:
        """What is to be read in one place, oldest first."""
        return [shown.text for shown in self.messages.values() if shown.place == place]

    def fail(self, call: Call, *errors: Exception | None, after: bool = False) -> None:
        """Script the next calls of a kind."""
        self.faults[call].extend(None if error is None else Fault(error, after) for error in errors)

    def delete(self, id: MessageId) -> None:
        """A person removes a message; editing it finds nothing."""
        del self.messages[id]

    def post(self, place: str, text: str, key: str) -> Shown:
        """Put a new message up."""
        shown = Shown(MessageId(f"m{next(self._ids)}"), place, text, key, versions=[text])
        self.messages[shown.id] = shown
        self.keys.setdefault(key, shown.id)
        return shown

    async def act(self, call: Call, effect: Callable[[], T]) -> T:
        """One call to the platform."""
        self.calls.append(call)
        if gate := self.gates.get(call):
            self.waiting += 1
            try:
                await gate.wait()
            finally:
                self.waiting -= 1
        queue = self.faults[call]
        fault = queue.popleft() if queue else None
        if fault is not None and not fault.after:
            raise fault.error
        result = effect()
        if fault is not None:
            raise fault.error
        return result


class PagerReply(ReplyChannel):
    """Finished messages and nothing else; twice sent is twice shown."""

    limits: ClassVar[TextLimits] = TextLimits(max_length=400, edit_interval=1.0)

    def __init__(self, pager: Pager, place: str) -> None:
        self.pager = pager
        self.place = place

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        return await self.pager.act("send", lambda: self._post(text, key))

    def _post(self, text: str, key: IdempotencyKey) -> MessageId:
        assert text.strip(), "platforms refuse empty messages"
        assert len(text) <= self.limits.max_length, "platforms refuse messages that are too long"
        assert len(key) <= 25
        if isinstance(self, Keyed) and key in self.pager.keys:
            return self.pager.keys[key]
        return self.pager.post(self.place, text, key).id


class Edits(PagerReply, CanEdit):
    async def edit(self, message: MessageId, text: str) -> None:
        await self.pager.act("edit", lambda: self._change(message, text))

    def _change(self, message: MessageId, text: str) -> None:
        assert text.strip()
        assert len(text) <= self.limits.max_length
        if message not in self.pager.messages:
            raise TargetGone(f"message {message!r} is gone")
        shown = self.pager.messages[message]
        shown.text = text
        shown.versions.append(text)


class Types(PagerReply, CanType):
    async def typing(self) -> None:
        await self.pager.act("typing", lambda: None)


class Finds(PagerReply, CanFind):
    async def find(self, key: IdempotencyKey) -> MessageId | None:
        return await self.pager.act("find", lambda: self.pager.keys.get(key))


class KeyedReply(PagerReply, Keyed):
    KEY_LIFETIME: ClassVar[timedelta] = timedelta(hours=1)


class Forms(PagerReply, CanFail):
    async def fail(self, failure: Failure, *, key: IdempotencyKey) -> None:
        await self.pager.act("fail", lambda: self.pager.failures.append((self.place, failure)))


class Attaches(PagerReply, CanAttach):
    async def attach(self, file: OutboundFile, *, key: IdempotencyKey) -> MessageId | None:
        await self.pager.act("attach", lambda: self.pager.files.append((self.place, file)))
        return None


class _Sink(StreamSink):
    def __init__(self, pager: Pager, shown: Shown, *, tells_id: bool) -> None:
        self.pager = pager
        self.shown = shown
        self._tells_id = tells_id

    @property
    def message(self) -> MessageId | None:
        return self.shown.id if self._tells_id else None

    async def append(self, text: str) -> None:
        await self.pager.act("append", lambda: self._grow(text))

    def _grow(self, text: str) -> None:
        self.shown.text += text
        self.shown.versions.append(self.shown.text)


class Streams(PagerReply, CanStream):
    sink: ClassVar[type[_Sink]] = _Sink

    @asynccontextmanager
    async def stream(self, *, key: IdempotencyKey) -> AsyncIterator[StreamSink]:
        shown = await self.pager.act("open", lambda: self.pager.post(self.place, "", f"{key}-stream"))
        shown.growing = True
        try:
            yield self.sink(self.pager, shown, tells_id=isinstance(self, CanEdit))
        except BaseException:
            shown.growing, shown.broken = False, True
            raise

        def end() -> None:
            shown.growing = False

        await self.pager.act("close", end)


class _PacedSink(_Sink):
    """Shows something every ten seconds at most."""

    def due(self) -> float:
        return 10.0 if self.shown.text else 0.0


class StreamsPaced(Streams):
    sink = _PacedSink


class StreamsAndEdits(Streams, Edits):
    pass


class _OnwardSink(_Sink):
    """Each piece is a further message; the id names all of them."""

    def __init__(self, pager: Pager, shown: Shown, *, tells_id: bool) -> None:
        super().__init__(pager, shown, tells_id=tells_id)
        self._ids = [shown.id]

    @property
    def message(self) -> MessageId | None:
        return MessageId(";".join(self._ids))

    def _grow(self, text: str) -> None:
        if self.shown.text:
            self.shown.growing = False
            self.shown = self.pager.post(self.shown.place, "", f"{self.shown.key}-more")
            self._ids.append(self.shown.id)
        super()._grow(text)


class _AnnouncingSink(_OnwardSink):
    """A further message goes up when its announcement is stored, and not before."""

    def __init__(self, pager: Pager, shown: Shown, *, tells_id: bool) -> None:
        super().__init__(pager, shown, tells_id=tells_id)
        self._waiting = ""

    @property
    def message(self) -> MessageId | None:
        return MessageId(f"{super().message}{';next' if self._waiting else ''}")

    def _grow(self, text: str) -> None:
        if self.shown.text or self._waiting:
            self._waiting += text
        else:
            super()._grow(text)

    async def stored(self) -> None:
        if self._waiting:
            text, self._waiting = self._waiting, ""
            super()._grow(text)


class StreamsOnward(StreamsAndEdits):
    """An answer that is broken off and replaced leaves nothing of its further messages."""

    sink = _OnwardSink

    def _change(self, message: MessageId, text: str) -> None:
        first, *later = message.split(";")
        super()._change(MessageId(first), text)
        for id in later:
            self.pager.messages.pop(MessageId(id), None)


class StreamsAnnounced(StreamsOnward):
    sink = _AnnouncingSink


class StreamsAndForms(Streams, Forms):
    pass


class EditsAndTypes(Edits, Types):
    pass


class EditsAndFinds(Edits, Finds):
    pass


class EditsKeyed(Edits, KeyedReply):
    pass


class PagerAdapter(Adapter):
    """What the gateway sees of the platform. Tests hand messages to the inbox themselves."""

    def __init__(self, pager: Pager) -> None:
        self._pager = pager

    async def run(self, inbox: Inbox) -> None:
        await asyncio.Event().wait()

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        return self._pager.kind(self._pager, json.loads(address)["place"])


def address(place: str) -> ReplyAddress:
    """The way back to a place."""
    return ReplyAddress(json.dumps({"place": place}))
