"""Showing an answer while it is written, in the best way the reply channel has.

A preview never decides anything: the answer is committed first and delivered after, and whatever a preview could not
show is shown then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from enum import Enum
from functools import partial
from types import TracebackType
from typing import Any, Self

import structlog

from core.adapter import (
    CanEdit,
    CanFail,
    CanFind,
    CanStream,
    CanType,
    IdempotencyKey,
    Kept,
    Keyed,
    ReplyChannel,
    StreamSink,
)
from core.clock import Clock
from core.delivery import dialect_of, until_stored
from core.errors import DeliveryError, DeliveryUncertain, RateLimited, StorageUnavailable
from core.journal import Journal, OutboxPart, OutboxState, Turn
from core.markdown import preview as markdown
from core.messages import MessageId
from core.typing_sign import TypingSign

log = structlog.get_logger(__name__)

_CALL_TIMEOUT = 30.0
"""Seconds for one call to the platform."""

_LOOK_AGAIN = (1.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds before each further look for a first message of which nobody knows whether it is there."""

_LONGEST_PAUSE = 60.0
"""Seconds between two updates, however much the platform slows us down."""


def preview_for(reply: ReplyChannel, turn: Turn, journal: Journal, clock: Clock, *, stream: bool) -> Preview:
    """The richest preview that `reply` can show of `turn`."""
    if stream and isinstance(reply, CanStream) and turn.preview is None:
        return StreamPreview(reply, turn, journal, clock)
    if stream and isinstance(reply, CanEdit):
        return EditPreview(reply, turn, journal, clock)
    return Preview(reply, turn, journal, clock)


class Preview:
    """The plainest one: a typing sign, where there is such a thing. Enter it when the turn starts."""

    def __init__(self, reply: ReplyChannel, turn: Turn, journal: Journal, clock: Clock) -> None:
        self._reply = reply
        self._turn = turn
        self._journal = journal
        self._clock = clock
        self._sign: TypingSign | None = None
        self._beginning: asyncio.Handle | None = None
        self._show: asyncio.Task[_Shown] | None = None

    async def __aenter__(self) -> Self:
        if isinstance(self._reply, CanType):
            self._sign = TypingSign(self._reply, self._clock)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, Exception):
            await self.settle()  # the turn will run again: it has to know what is shown
        self._stop()
        if self._show is not None:
            self._show.cancel()
        if self._sign is not None:
            await self._sign.gone()
        if self._show is not None:
            await asyncio.gather(self._show, return_exceptions=True)

    def add(self, piece: str) -> None:
        """The next piece of the answer. Never waits: what the platform cannot take yet is shown later."""

    async def settle(self) -> None:
        """Show nothing new, and wait for a call that is under way: what is committed next has to know its message."""
        self._stop()

    async def complete(self, text: str, parts: Sequence[OutboxPart]) -> Sequence[OutboxPart]:
        """`text` is committed as `parts`: show the end of it; returns the parts that are still to be delivered."""
        del text
        return parts

    def _begin_soon(self, show: Callable[[], Coroutine[Any, Any, _Shown]]) -> None:
        """Once what has come was read: an answer that is whole by then needs no preview, which takes more calls."""
        if self._beginning is None:
            self._beginning = asyncio.get_running_loop().call_soon(self._begin, show)

    def _begin(self, show: Callable[[], Coroutine[Any, Any, _Shown]]) -> None:
        self._stop()
        self._show = asyncio.create_task(show())

    def _stop(self) -> None:
        """Show no sign any more, and do not begin with a preview."""
        if self._sign is not None:
            self._sign.stop()
        if self._beginning is not None:
            self._beginning.cancel()

    async def _remember(self, message: MessageId) -> bool:
        """So that the final text, also that of a later process, takes the preview's place. False: it is not stored."""
        try:
            await self._journal.preview(self._turn, message)
        except StorageUnavailable as error:
            log.warning("a preview could not be remembered", error=str(error))
            return False
        return True


class _Shown(Enum):
    """How far a preview came."""

    WHOLE = "whole"
    PARTLY = "partly"
    IN_DOUBT = "in doubt"
    """All of it was handed over; whether the platform took the end of it is not known."""


class _BrokenOff(Exception):
    """Leaves a sink's context so that the platform shows the answer as broken off."""


class StreamPreview(Preview):
    """A message that grows. One task opens, feeds and closes the sink; pieces that wait are shown together."""

    def __init__(self, reply: ReplyChannel, turn: Turn, journal: Journal, clock: Clock) -> None:
        super().__init__(reply, turn, journal, clock)
        self._wake = asyncio.Event()
        self._waiting: list[str] = []
        self._added = 0
        self._ending = False
        self._broken = False
        self._message: MessageId | None = None
        self._pausing: asyncio.Task[None] | None = None

    def add(self, piece: str) -> None:
        self._waiting.append(piece)
        self._added += len(piece)
        self._wake.set()
        self._begin_soon(self._feed)

    async def settle(self) -> None:
        """A kept reply shows also what there is of an answer that broke off; it needs no calls."""
        await super().settle()
        if self._show is None and self._waiting and isinstance(self._reply, Kept):
            self._begin(self._feed)

    async def complete(self, text: str, parts: Sequence[OutboxPart]) -> Sequence[OutboxPart]:
        if self._show is None:
            return parts
        self._broken = isinstance(self._reply, CanFail) and (not parts or bool(parts[0].failure))
        if not self._broken:
            if parts and not isinstance(self._reply, Kept):
                await until_stored(partial(self._journal.sending, parts[0]), self._clock)
            if rest := text[self._added :]:
                self._waiting.append(rest)
        self._ending = True
        self._wake.set()
        if self._pausing is not None:
            self._pausing.cancel()
        shown = await self._show
        if self._broken or not parts:
            return parts
        if shown is _Shown.WHOLE:
            if not isinstance(self._reply, Kept):
                for part in parts:
                    await until_stored(partial(self._journal.sent, part, self._message), self._clock)
            return ()
        first = parts[0]
        if isinstance(self._reply, CanEdit) and self._message is not None:
            first = replace(first, edits=self._message)
        elif shown is _Shown.IN_DOUBT:
            first = replace(first, state=OutboxState.SENDING, sending_at=self._clock.now())
        return (first, *parts[1:])

    async def _feed(self) -> _Shown:
        assert isinstance(self._reply, CanStream)
        closing = False
        try:
            async with _opened(self._reply.stream(key=self._turn.part_key(0))) as sink:
                while not (self._ending and not self._waiting):
                    await self._wake.wait()
                    self._wake.clear()
                    await self._until_due(sink)
                    if self._broken:
                        raise _BrokenOff
                    if self._waiting:
                        piece = "".join(self._waiting)
                        self._waiting.clear()
                        await self._append(sink, piece)
                closing = True
            self._message = sink.message or self._message
        except _BrokenOff:
            return _Shown.PARTLY
        except (DeliveryUncertain, TimeoutError) as error:
            log.warning("an answer could not be streamed", error=str(error))
            return _Shown.IN_DOUBT if closing else _Shown.PARTLY
        except DeliveryError as error:
            log.warning("an answer could not be streamed", error=str(error))
            return _Shown.PARTLY
        except Exception:
            log.exception("streaming an answer failed")
            return _Shown.IN_DOUBT if closing else _Shown.PARTLY
        return _Shown.WHOLE

    async def _until_due(self, sink: StreamSink) -> None:
        """What comes meanwhile is shown with the next piece; the end of the answer ends the wait."""
        if self._ending or (wait := sink.due()) <= 0:
            return
        self._pausing = asyncio.create_task(self._clock.sleep(wait))
        try:
            await asyncio.wait((self._pausing,))
        finally:
            self._pausing.cancel()
            self._pausing = None

    async def _append(self, sink: StreamSink, piece: str) -> None:
        for pause in (1.0, 5.0, 15.0, None):
            try:
                async with asyncio.timeout(_CALL_TIMEOUT):
                    await sink.append(piece)
                break
            except RateLimited as error:
                if pause is None:
                    raise
                await self._clock.sleep(min(max(error.retry_after, pause), _LONGEST_PAUSE))
        while sink.message is not None and sink.message != self._message:
            if isinstance(self._reply, CanEdit) and not await self._remember(sink.message):
                return  # with the next piece
            self._message = sink.message
            if isinstance(self._reply, CanEdit):
                async with asyncio.timeout(_CALL_TIMEOUT):
                    await sink.stored()


@asynccontextmanager
async def _opened(stream: AbstractAsyncContextManager[StreamSink]) -> AsyncIterator[StreamSink]:
    """`stream`, with a limit of time on the calls that open and end it."""
    async with asyncio.timeout(_CALL_TIMEOUT):
        sink = await stream.__aenter__()
    try:
        yield sink
    except BaseException as error:
        async with asyncio.timeout(_CALL_TIMEOUT):
            await stream.__aexit__(type(error), error, error.__traceback__)
        raise
    async with asyncio.timeout(_CALL_TIMEOUT):
        await stream.__aexit__(None, None, None)


class EditPreview(Preview):
    """One message that is edited now and then. The newest text wins; what does not fit in it comes at the end."""

    def __init__(self, reply: ReplyChannel, turn: Turn, journal: Journal, clock: Clock) -> None:
        super().__init__(reply, turn, journal, clock)
        self._text = markdown.Preview(dialect_of(reply))
        self._wake = asyncio.Event()
        self._calling = asyncio.Lock()
        self._settling = False
        self._limited_until = 0.0
        """When the platform, which asked to wait, may be called again; monotonic."""
        self._message = turn.preview
        self._in_doubt = turn.rows[0].attempts > 1
        """Whether a first message may be there whose id is not known."""

    def add(self, piece: str) -> None:
        if not self._text.complete:  # what follows the first message comes at the end
            self._text.feed(piece)
            self._wake.set()
        self._begin_soon(self._keep_editing)

    async def settle(self) -> None:
        await super().settle()
        self._settling = True
        if self._show is not None:
            async with self._calling:  # no late edit overtakes the final text
                self._show.cancel()
            await asyncio.wait([self._show])
        await self._clear_up()

    async def complete(self, text: str, parts: Sequence[OutboxPart]) -> Sequence[OutboxPart]:
        """The answer is safe by now, so that there is time to look for a first message in whose place it belongs, and to
        wait as long as the platform says."""
        del text
        if parts and (wait := self._limited_until - self._clock.monotonic()) > 0:
            await self._clock.sleep(wait)
        if self._message is not None or not parts:
            return parts
        message = await self._looked_for()
        return parts if message is None else (replace(parts[0], edits=message), *parts[1:])

    async def _looked_for(self) -> MessageId | None:
        for pause in _LOOK_AGAIN:
            if not self._unclear:
                break
            await self._clock.sleep(pause)
            await self._clear_up()
        return self._message

    @property
    def _unclear(self) -> bool:
        """Whether a first message may be there, and can be looked for."""
        return self._message is None and self._in_doubt and isinstance(self._reply, Keyed | CanFind)

    async def _clear_up(self) -> None:
        if self._unclear:
            await self._update(self._visible())

    async def _keep_editing(self) -> _Shown:
        pause: float | None = self._reply.limits.edit_interval
        seen = ""
        while pause is not None:
            await self._wake.wait()
            self._wake.clear()
            text = self._visible()
            if text.strip() and text != seen:
                async with self._calling:
                    pause = await self._update(text)
                seen = text
            if pause is not None:
                await self._clock.sleep(min(pause, _LONGEST_PAUSE))
        return _Shown.PARTLY

    def _visible(self) -> str:
        """What of the answer fits into one message, made presentable where it is unfinished."""
        parts = self._text.complete or self._text.growing()
        return parts[0] if parts else ""

    async def _update(self, text: str) -> float | None:
        """Show `text`; returns the seconds to wait, more than usual where the platform says so, None to give up."""
        try:
            async with asyncio.timeout(_CALL_TIMEOUT):
                if self._message is None:
                    await self._first(text)
                else:
                    assert isinstance(self._reply, CanEdit)
                    await self._reply.edit(self._message, text)
        except RateLimited as error:
            self._limited_until = self._clock.monotonic() + min(error.retry_after, _LONGEST_PAUSE)
            return max(error.retry_after, 2 * self._reply.limits.edit_interval)
        except (DeliveryError, TimeoutError) as error:
            log.warning("a preview could not be shown", error=str(error))
            return None
        except Exception:
            log.exception("showing a preview failed")
            return None
        return self._reply.limits.edit_interval

    async def _first(self, text: str) -> None:
        key = IdempotencyKey(f"{self._turn.key}-p")
        if self._in_doubt and isinstance(self._reply, CanFind):
            self._message = await self._reply.find(key)
        if self._message is None:
            if self._settling and not (isinstance(self._reply, Keyed) and text.strip()):
                self._in_doubt = False
                return  # there is none, and none is needed any more
            doubted, self._in_doubt = self._in_doubt, True
            try:
                self._message = await self._reply.send(text, key=key)
            except DeliveryUncertain:
                raise
            except DeliveryError:
                self._in_doubt = doubted
                raise
        if self._message is None:
            raise DeliveryUncertain("the platform gave no id for a message that was to be edited")
        self._in_doubt = False
        await self._remember(self._message)
