"""An answer that grows in a thread: native streams, several if it is long, edits where a stream is not possible.

Slack: https://docs.slack.dev/reference/methods/chat.startStream, chat.appendStream, chat.stopStream. What is appended
cannot be taken back, so only text that will not change any more is; where that was wrong, and where Slack ends the
stream (5 minutes after its start, whatever happens: slackapi/python-slack-sdk#1859), the same message goes on by
chat.update. The last call always leaves the message with its whole text.
"""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from itertools import pairwise
from types import TracebackType

import structlog

from adapters.slack.address import Address, message_id, ts_of
from adapters.slack.api import SlackError
from adapters.slack.workspace import Trail, Workspace
from core.adapter import IdempotencyKey, StreamSink
from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain, RateLimited
from core.markdown.dialects.slack import SLACK_MARKDOWN
from core.markdown.preview import Preview
from core.messages import MessageId

log = structlog.get_logger(__name__)

STREAM_LASTS = 240.0
"""Seconds after which a stream is ended by us; Slack ends it after about 300."""
_APPEND_EVERY = 0.7
"""Seconds between two pieces: chat.appendStream may be called a hundred times a minute (tier 4)."""
_UPDATE_EVERY = 1.5
_LONGEST_PAUSE = 20.0
_PATIENCE = 24.0
"""Seconds that the end of an answer may take; the core gives 30."""
_ROOM = 60
"""Characters kept free, since two blocks may need some between them."""
_DIALECT = replace(
    SLACK_MARKDOWN, limits=replace(SLACK_MARKDOWN.limits, max_length=SLACK_MARKDOWN.limits.max_length - _ROOM)
)
_NO_STREAMS = ("unknown_method", "feature_not_enabled", "missing_scope", "not_allowed_token_type")
_MARK = re.compile(r"[^\w\s.,;:?!'\"()/%€$+-]")
"""What may become markup, or part of an escape, once more text follows."""


_FORMULA = 80
"""Characters after a single dollar that may still turn out to be a formula."""


@dataclass(slots=True)
class _Message:
    """One message of the answer."""

    ts: str
    key: str
    shown: str
    """Its text, in Slack's dialect."""
    began: float
    streaming: bool
    ended: bool = False


def _agreement(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


class GrowingAnswer(StreamSink, AbstractAsyncContextManager[StreamSink]):
    """One answer; enter it once. Messages after the first are known to its trail, so that a broken one leaves none."""

    def __init__(self, workspace: Workspace, address: Address, key: IdempotencyKey) -> None:
        self._workspace = workspace
        self._address = address
        self._key = key
        self._preview = Preview(_DIALECT)
        self._messages: list[_Message] = []
        self._trail: Trail | None = None
        self._rendered: dict[int, str] = {}
        """Complete parts, in Slack's dialect."""
        self._last_seen: tuple[int, str] = (-1, "")
        """The growing part as it was rendered last."""
        self._next = 0.0
        self._slower = 1.0
        self._stopped = False
        """A person pressed Stop."""

    async def __aenter__(self) -> StreamSink:
        return self  # Slack shows something only with the first piece

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self._finish()
        else:
            await self._break_off()

    @property
    def message(self) -> MessageId | None:
        return message_id(self._address.channel, self._messages[0].ts) if self._messages else None

    async def append(self, text: str) -> None:
        """Takes `text` whatever happens; shows what is due. Raises where the answer cannot be shown here at all."""
        self._preview.feed(text)
        if self._stopped or self.due() > 0:
            return
        clock = self._workspace.clock
        try:
            await self._show(final=False)
        except RateLimited as limited:
            self._slower = min(self._slower * 2, 16.0)
            self._next = clock.monotonic() + min(limited.retry_after, _LONGEST_PAUSE)
            return
        if self._messages:  # else nothing of the first piece could be shown: the next one need not wait
            every = _APPEND_EVERY if self._messages[-1].streaming else _UPDATE_EVERY
            self._next = clock.monotonic() + every * self._slower

    def due(self) -> float:
        return self._next - self._workspace.clock.monotonic()

    # What is to be seen

    async def _show(self, *, final: bool) -> None:
        """Bring the messages to what the answer is by now."""
        for message, following in pairwise(self._messages):
            if not message.ended:
                await self._end(message, later=following.ts)
        complete = self._preview.finish() if final else self._preview.complete
        for index in range(max(0, len(self._messages) - 1), len(complete)):
            whole = self._whole(index, complete[index])
            if not final or index < len(complete) - 1 or index >= len(self._messages):
                await self._show_part(index, whole)  # else the call that ends the message takes the rest along
        if not final and (growing := self._preview.growing()):
            index, rendered = len(complete), SLACK_MARKDOWN.render(growing[0])
            stable = self._stable(index, rendered)
            if stable.strip():
                await self._show_part(index, stable, rendered)

    def _whole(self, index: int, part: str) -> str:
        if index not in self._rendered:
            self._rendered[index] = SLACK_MARKDOWN.render(part)
        return self._rendered[index]

    def _stable(self, index: int, rendered: str) -> str:
        """What of a growing part will stay: where it was the same before, and plain words after that."""
        before = self._last_seen[1] if self._last_seen[0] == index else ""
        self._last_seen = (index, rendered)
        agreed = _agreement(before, rendered)
        mark = _MARK.search(rendered, agreed)
        stable = rendered[: mark.start()] if mark else rendered
        end = max(stable.rfind(" "), stable.rfind("\n"))  # the word at the end may become a link
        line = stable.rfind("\n") + 1
        if stable.count("$", line) % 2 and end - stable.rfind("$") < _FORMULA:
            end = stable.rfind("$")
        return stable[: max(end, 0)].rstrip()

    async def _show_part(self, index: int, text: str, now: str = "") -> None:
        """`text` will stay; `now` is how the part looks at the moment, for edits."""
        if index >= len(self._messages):
            await self._begin(text)
            return
        message = self._messages[index]
        if message.ended:
            return
        if message.streaming and self._workspace.clock.monotonic() - message.began > STREAM_LASTS:
            await self._end_stream(message)
        if message.streaming and text.startswith(message.shown):
            await self._append(message, text[len(message.shown) :])
        elif message.streaming and not message.shown.startswith(text):
            await self._end_stream(message)  # what is shown turned out differently
        if not message.streaming and not self._stopped and message.shown != (now or text):
            await self._update(message, now or text)

    async def _begin(self, text: str) -> None:
        """The next message of the answer. The one before it is ended with a note of where it goes on."""
        number = len(self._messages)
        key = f"{self._key}-s{number}"
        ts, streaming = await self._open(text, key)
        began = self._workspace.clock.monotonic()
        self._messages.append(_Message(ts, key, text, began, streaming))
        if self._trail is None:
            self._trail = self._workspace.trail(ts)
            self._workspace.answered(self._address)
        else:
            self._trail.later.append(ts)
            await self._end(self._messages[-2], later=ts)

    async def _open(self, text: str, key: str) -> tuple[str, bool]:
        """A stream, else a message to be edited; its `ts`, and whether it is a stream."""
        workspace, address = self._workspace, self._address
        async with workspace.opening(address):
            if workspace.in_doubt(address) or (not self._messages and workspace.may_have_lost_streams(address)):
                await workspace.remove_lost_streams(address)
            if workspace.can_stream:
                try:
                    ts = await workspace.start_stream(address, text)
                except RateLimited:
                    log.debug("too many streams begin at once; this answer is edited instead")
                except DeliveryUncertain as error:
                    workspace.doubt(address, key)
                    await workspace.remove_lost_streams(address)
                    log.info("a stream could not be begun", error=str(error))
                except SlackError as error:
                    workspace.can_stream = error.code not in _NO_STREAMS
                    log.info("no native stream here; the answer is edited instead", error=str(error))
                else:
                    workspace.remember(ts, key)
                    return ts, True
        try:
            return await workspace.post_rendered(address, text, key), False
        except DeliveryUncertain:
            workspace.doubt(address, key)
            found = await workspace.find(address, IdempotencyKey(key))
            if found is None:
                raise
            workspace.remember(ts_of(found), key)  # so that it is no longer in doubt
            return ts_of(found), False

    async def _append(self, message: _Message, piece: str) -> None:
        if not piece.strip():
            return  # Slack takes no piece that is empty to the eye; it goes with the next one
        try:
            await self._workspace.append_stream(self._address.channel, message.ts, piece)
        except DeliveryUncertain as error:
            log.info("a piece of a stream may be lost; the message is edited from here on", error=str(error))
            message.streaming, message.shown = False, ""  # whatever becomes of the call: no piece is appended twice
            await self._end_stream(message)
        except SlackError as error:
            self._stream_is_over(message, error)
        else:
            message.shown += piece

    async def _update(self, message: _Message, text: str) -> None:
        await self._workspace.update(self._address.channel, message.ts, text, message.key)
        message.shown = text

    # The end of a message

    async def _end_stream(self, message: _Message) -> None:
        """From here on the message is edited."""
        try:
            await self._workspace.stop_stream(self._address.channel, message.ts, "", message.key)
        except DeliveryUncertain:
            pass  # an update tells whether it still streams
        except SlackError as error:
            self._stream_is_over(message, error)
        message.streaming = False

    def _stream_is_over(self, message: _Message, error: SlackError) -> None:
        """Raises `error` if it says anything else."""
        message.streaming = False
        if error.code == "stopped_by_user":
            self._stopped = True
            self._workspace.stopped(self._address, message.ts)
        elif error.code != "message_not_in_streaming_state":
            raise error

    async def _end(self, message: _Message, *, later: str = "") -> None:
        """All of the message is shown, or will be by this."""
        index = self._messages.index(message)
        whole = self._rendered.get(index, message.shown)
        if message.streaming and whole.startswith(message.shown):
            rest = whole[len(message.shown) :]
            try:
                await self._workspace.stop_stream(self._address.channel, message.ts, rest, message.key, later=later)
                message.shown, message.streaming, message.ended = whole, False, True
            except DeliveryUncertain as error:
                log.info("the end of a stream may be lost; the message is edited", error=str(error))
                message.streaming, message.shown = False, ""
            except SlackError as error:
                self._stream_is_over(message, error)
                message.shown = ""
        elif message.streaming:
            await self._end_stream(message)
            message.shown = ""
        if not message.ended and not self._stopped:
            if message.shown != whole or later:
                await self._workspace.update(self._address.channel, message.ts, whole, message.key, later=later)
            message.shown = whole
        message.ended = True

    async def _finish(self) -> None:
        """Show the end of the answer, however often Slack asks to wait; what fails for good is raised."""
        clock = self._workspace.clock
        until = clock.monotonic() + _PATIENCE
        while not self._stopped:
            try:
                await self._show(final=True)
                if self._messages and not self._messages[-1].ended:
                    await self._end(self._messages[-1])
                return
            except (RateLimited, DeliveryUnavailable, DeliveryUncertain) as error:
                wait = error.retry_after if isinstance(error, RateLimited) else 1.0
                if clock.monotonic() + wait > until:
                    await self._take_back()
                    raise
                await clock.sleep(wait)
            except DeliveryError:
                await self._take_back()
                raise

    async def _break_off(self) -> None:
        """The answer will be shown another way, in the place of the first message."""
        if self._messages and self._messages[0].streaming:
            try:
                await self._end_stream(self._messages[0])
            except DeliveryError as error:
                log.debug("a broken stream could not be ended", error=str(error))
        await self._take_back()

    async def _take_back(self) -> None:
        """Only the first message stays; what cannot be removed now is when the first one is edited."""
        if self._trail is None:
            return
        try:
            while self._trail.later:
                await self._workspace.remove(self._address.channel, self._trail.later[-1])
                self._trail.later.pop()
        except DeliveryError as error:
            log.info("the rest of a broken answer is removed later", error=str(error))
