"""Showing an answer while it is written, in the best way the reply channel has.

A preview never decides anything: the answer is committed first and delivered after, and whatever a preview could not
show is shown then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import structlog

from core.adapter import CanEdit, CanFail, CanFind, CanStream, CanType, IdempotencyKey, ReplyChannel, StreamSink
from core.clock import Clock
from core.delivery import parts_of
from core.errors import DeliveryError, DeliveryUncertain, RateLimited, StorageUnavailable
from core.journal import Journal, OutboxPart, Turn
from core.messages import MessageId

log = structlog.get_logger(__name__)

_TYPING_EVERY = 5.0
"""Seconds; the signs of the platforms fade after 5 to 10."""

_CALL_TIMEOUT = 30.0
"""Seconds for one call to the platform."""

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
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        if isinstance(self._reply, CanType):
            self._tasks.append(asyncio.create_task(self._keep_typing(self._reply)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def add(self, piece: str) -> None:
        """The next piece of the answer. Never waits: what the platform cannot take yet is shown later."""

    async def complete(self, text: str, parts: Sequence[OutboxPart]) -> Sequence[OutboxPart]:
        """`text` is committed as `parts`: show the end of it; returns the parts that are still to be delivered."""
        del text
        return parts

    async def _keep_typing(self, reply: CanType) -> None:
        for _ in range(120):
            try:
                async with asyncio.timeout(_CALL_TIMEOUT):
                    await reply.typing()
            except (DeliveryError, TimeoutError) as error:
                log.debug("no typing sign", error=str(error))
            except Exception:
                log.exception("the typing sign failed")
                return
            await self._clock.sleep(_TYPING_EVERY)

    def _stop_typing(self) -> None:
        for task in self._tasks[:1] if isinstance(self._reply, CanType) else []:
            task.cancel()

    async def _remember(self, message: MessageId) -> None:
        try:
            await self._journal.preview(self._turn, message)
        except StorageUnavailable as error:
            log.warning("a preview could not be remembered", error=str(error))


class _BrokenOff(Exception):
    """Leaves a sink's context so that the platform shows the answer as broken off."""


class StreamPreview(Preview):
    """A message that grows. One task opens, feeds and closes the sink; pieces that wait are shown together."""

    def __init__(self, reply: ReplyChannel, turn: Turn, journal: Journal, clock: Clock) -> None:
        super().__init__(reply, turn, journal, clock)
        self._wake = asyncio.Event()
        self._waiting: list[str] = []
        self._shown = 0
        self._ending = False
        self._broken = False
        self._message: MessageId | None = None
        self._show: asyncio.Task[bool] | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._show is not None and not self._show.done():
            self._show.cancel()
            await asyncio.gather(self._show, return_exceptions=True)
        await super().__aexit__(kind, error, trace)

    def add(self, piece: str) -> None:
        self._waiting.append(piece)
        self._wake.set()
        if self._show is None:
            self._stop_typing()
            self._show = asyncio.create_task(self._feed())

    async def complete(self, text: str, parts: Sequence[OutboxPart]) -> Sequence[OutboxPart]:
        if self._show is None:
            return parts
        shown_or_waiting = self._shown + sum(map(len, self._waiting))
        failed = bool(parts and parts[0].failure) and isinstance(self._reply, CanFail)
        if failed:
            self._broken = True
        elif len(text) > shown_or_waiting:
            self._waiting.append(text[shown_or_waiting:])
        self._ending = True
        self._wake.set()
        whole = await self._show
        if failed:
            return parts
        if whole:
            for part in parts:
                await self._journal.sent(part, self._message)
            return ()
        return parts

    async def _feed(self) -> bool:
        """True when everything was shown and the message ended well."""
        assert isinstance(self._reply, CanStream)
        try:
            async with self._reply.stream(key=self._turn.part_key(0)) as sink:
                while not (self._ending and not self._waiting):
                    await self._wake.wait()
                    self._wake.clear()
                    if self._waiting and not self._broken:
                        piece = "".join(self._waiting)
                        self._waiting.clear()
                        await self._append(sink, piece)
                    elif self._broken:
                        raise _BrokenOff
            self._message = self._message or sink.message
        except _BrokenOff:
            return False
        except (DeliveryError, TimeoutError) as error:
            log.warning("an answer could not be streamed", error=str(error))
            return False
        except Exception:
            log.exception("streaming an answer failed")
            return False
        return True

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
        self._shown += len(piece)
        if self._message is None and sink.message is not None:
            self._message = sink.message
            await self._remember(sink.message)


class EditPreview(Preview):
    """One message that is edited now and then. The newest text wins; what does not fit in it comes at the end."""

    def __init__(self, reply: ReplyChannel, turn: Turn, journal: Journal, clock: Clock) -> None:
        super().__init__(reply, turn, journal, clock)
        self._text: list[str] = []
        self._length = 0
        self._wake = asyncio.Event()
        self._message = turn.preview
        self._show: asyncio.Task[None] | None = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()
        await super().__aexit__(kind, error, trace)

    def add(self, piece: str) -> None:
        if self._length <= 2 * self._reply.limits.max_length:  # what follows cannot be seen in the preview
            self._text.append(piece)
            self._length += len(piece)
            self._wake.set()
        if self._show is None:
            self._stop_typing()
            self._show = asyncio.create_task(self._keep_editing())

    async def complete(self, text: str, parts: Sequence[OutboxPart]) -> Sequence[OutboxPart]:
        del text
        await self._end()
        return parts

    async def _end(self) -> None:
        """Wait for the call that is under way, so that no late edit overtakes the final text."""
        if self._show is None:
            return
        show, self._show = self._show, None
        show.cancel()
        with suppress(asyncio.CancelledError):
            await show

    async def _keep_editing(self) -> None:
        pause = self._reply.limits.edit_interval
        seen = ""
        while True:
            await self._wake.wait()
            self._wake.clear()
            text = parts_of(self._reply, "".join(self._text))[0]
            if text and text != seen:
                call = asyncio.create_task(self._update(text))
                try:
                    pause = await asyncio.shield(call)
                except asyncio.CancelledError:
                    await asyncio.wait([call])
                    raise
                except (DeliveryError, TimeoutError) as error:
                    log.warning("a preview could not be shown", error=str(error))
                    return
                except Exception:
                    log.exception("showing a preview failed")
                    return
                seen = text
            await self._clock.sleep(min(pause, _LONGEST_PAUSE))

    async def _update(self, text: str) -> float:
        """Show `text`; returns the seconds to wait, more than usual where the platform says so."""
        try:
            async with asyncio.timeout(_CALL_TIMEOUT):
                if self._message is None:
                    self._message = await self._first(text)
                else:
                    assert isinstance(self._reply, CanEdit)
                    await self._reply.edit(self._message, text)
        except RateLimited as error:
            return max(error.retry_after, 2 * self._reply.limits.edit_interval)
        return self._reply.limits.edit_interval

    async def _first(self, text: str) -> MessageId | None:
        key = IdempotencyKey(f"{self._turn.key}-p")
        found = None
        if self._turn.rows[0].attempts > 1 and isinstance(self._reply, CanFind):
            found = await self._reply.find(key)
        message = found or await self._reply.send(text, key=key)
        if message is None:
            raise DeliveryUncertain("the platform gave no id for a message that was to be edited")
        await self._remember(message)
        return message
