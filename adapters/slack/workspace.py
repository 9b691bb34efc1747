"""What all replies of one account share: messages put up, changed, streamed, found and taken away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import structlog

from adapters.slack.address import Address, ts_of
from adapters.slack.api import SlackApi, SlackError
from adapters.slack.identity import Identity
from adapters.slack.parse import time_of
from core.adapter import IdempotencyKey, OutboundFile
from core.clock import Clock
from core.errors import DeliveryUnavailable, DeliveryUncertain, RateLimited, TargetGone
from core.latest import Latest
from core.markdown.dialects.slack import SLACK_MARKDOWN
from core.messages import MessageId

log = structlog.get_logger(__name__)

EVENT_TYPE = "chatgpt_ms_reply"
"""Of the metadata that our messages carry (https://docs.slack.dev/messaging/message-metadata). Slack removes nothing
from it, and shows it to nobody; it is how a message whose sending was in doubt is known again."""

_LOST = "lost"
"""The key of a stream that was ended only to be removed."""

_SHORT = 10.0
"""Seconds that an answer may wait for the removal of what was begun before it."""
_KEPT = 5_000
_PAGE = 100
_MOST_PAGES = 10
_STATUS = "is writing…"
_STATUS_LASTS = 60.0
"""Seconds between two signs; Slack takes one away after two minutes, or with the answer."""


@dataclass(slots=True)
class Trail:
    """A message of ours, and the later messages of the same streamed answer."""

    key: str
    later: list[str] = field(default_factory=list)


class Workspace:
    """Lives as long as its adapter, across sign-ins. Text is CommonMark, one part of an answer."""

    def __init__(self, api: SlackApi, clock: Clock, *, stopped: Callable[[Address, str], None]) -> None:
        """`stopped` is told when a person pressed Stop on a stream: whose answer, and the message's `ts`."""
        self.api = api
        self.clock = clock
        self.stopped = stopped
        self.identity: Identity | None = None
        """None until the first sign-in."""
        self.can_stream = True
        """Slack may not know native streams here (GovSlack, an old server)."""
        self._can_type = True
        self._trails: Latest[str, Trail] = Latest(_KEPT)
        self._opening: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._born = clock.now()
        self._doubts: Latest[tuple[str, str], set[str]] = Latest(_KEPT)
        """Places, each with the question answered there, where messages of ours may be that nobody knows; their keys."""
        self._typed: Latest[tuple[str, str], float] = Latest(_KEPT)

    # Messages

    async def post(self, address: Address, text: str, key: str) -> str:
        """A new message; returns its `ts`."""
        return await self.post_rendered(address, SLACK_MARKDOWN.render(text), key)

    async def post_rendered(self, address: Address, rendered: str, key: str) -> str:
        """The same, for text that is in Slack's dialect."""
        arguments: dict[str, Any] = {"thread_ts": address.thread} if address.thread else {}
        data = await self.api.call(
            "chat_postMessage",
            slot=True,
            channel=address.channel,
            markdown_text=rendered,
            unfurl_links=False,
            unfurl_media=False,
            metadata=_metadata(key),
            **arguments,
        )
        ts = _ts(data)
        self.remember(ts, key)
        return ts

    async def whisper(self, address: Address, text: str) -> None:
        """A message that its addressee alone sees (https://docs.slack.dev/reference/methods/chat.postEphemeral). In a
        thread it is shown only once there is one: before that, it goes beside the question."""
        begun = bool(address.thread) and address.thread != address.after
        await self.api.call(
            "chat_postEphemeral",
            slot=True,
            channel=address.channel,
            user=address.user,
            thread_ts=address.thread if begun else None,
            markdown_text=SLACK_MARKDOWN.render(text),
        )

    async def update(self, channel: str, ts: str, rendered: str, key: str, *, later: str = "") -> None:
        """Replace the whole text (in Slack's dialect) of our message. `later` is the next message of the answer."""
        arguments: dict[str, Any] = {
            "channel": channel,
            "ts": ts,
            "markdown_text": rendered,
            "metadata": _metadata(key, later) if key else None,  # without it Slack keeps what there is
        }
        try:
            await self.api.call("chat_update", **arguments)
        except SlackError as error:
            if error.code != "streaming_state_conflict":
                raise
            await self._end_stream(channel, ts)  # of a process that died, or of a stop whose answer was lost
            await self.api.call("chat_update", **arguments)

    async def replace(self, address: Address, message: MessageId, text: str) -> None:
        """Let `text` be the answer that `message` begins; what a broken stream left after it is taken away."""
        ts = ts_of(message)
        trail, earlier = self._trails.get(ts), False
        if trail is None:
            trail, earlier = await self._read_trail(address, ts), True
        while trail.later:
            await self.remove(address.channel, trail.later[-1])
            trail.later.pop()
        if earlier and address.thread:  # that process may have died before the last message was named
            async with self.opening(address):
                await self.remove_lost_streams(address)
        else:
            await self.settle(address)
        await self.update(address.channel, ts, SLACK_MARKDOWN.render(text), trail.key)

    async def remove(self, channel: str, ts: str) -> None:
        """Take our message away; one that is gone is fine."""
        try:
            await self.api.call("chat_delete", channel=channel, ts=ts)
        except TargetGone:
            return
        except SlackError as error:
            if error.code != "streaming_state_conflict":
                raise
            await self._end_stream(channel, ts)
            await self.api.call("chat_delete", channel=channel, ts=ts)

    def remember(self, ts: str, key: str) -> None:
        """This process made the message: nothing has to be asked about it."""
        self._trails[ts] = Trail(key)

    def trail(self, ts: str) -> Trail:
        """What is known of a message that this process made."""
        return self._trails.of(ts, lambda: Trail(""))

    async def upload(self, address: Address, file: OutboundFile) -> None:
        """Share a file in the place of the answer."""
        await self.api.upload(
            channel=address.channel,
            thread_ts=address.thread or None,
            filename=file.name,
            content=file.content,
        )

    # Streams

    async def start_stream(self, address: Address, rendered: str) -> str:
        """A message that grows; returns its `ts`. Channels want to know for whom it is."""
        data = await self.api.call(
            "chat_startStream",
            slot=True,
            channel=address.channel,
            thread_ts=address.thread,
            markdown_text=rendered,
            recipient_team_id=address.team or None,
            recipient_user_id=address.user,
        )
        return _ts(data)

    async def append_stream(self, channel: str, ts: str, rendered: str) -> None:
        await self.api.call("chat_appendStream", channel=channel, ts=ts, markdown_text=rendered)

    async def stop_stream(self, channel: str, ts: str, rendered: str, key: str, *, later: str = "") -> None:
        metadata = _metadata(key, later)
        await self.api.call(
            "chat_stopStream",
            channel=channel,
            ts=ts,
            markdown_text=rendered if rendered.strip() else None,
            metadata=metadata,
        )

    async def _end_stream(self, channel: str, ts: str) -> None:
        try:
            await self.api.call("chat_stopStream", channel=channel, ts=ts)
        except SlackError as error:
            if error.code not in ("message_not_in_streaming_state", "stopped_by_user"):
                raise

    def opening(self, address: Address) -> asyncio.Lock:
        """Held while a stream begins in a thread, so that none that is about to be known is taken for a lost one."""
        place = (address.channel, address.thread)
        lock = self._opening.get(place)
        if lock is None:
            lock = self._opening[place] = asyncio.Lock()
        return lock

    def may_have_lost_streams(self, address: Address) -> bool:
        """Whether an earlier process, which cannot tell any more, may have begun to answer the question."""
        asked = time_of(address.after)
        return asked is not None and asked < self._born

    def doubt(self, address: Address, key: str) -> None:
        """A message with this key, or a stream that has none yet, may be below the question without our knowing."""
        place = (address.channel, address.after)
        self._doubts.of(place, set).add(key)

    def in_doubt(self, address: Address) -> bool:
        """Whether a message of ours may be below the question that this process does not know."""
        return (address.channel, address.after) in self._doubts

    async def settle(self, address: Address) -> None:
        """Take away what is in doubt below the question, before the whole answer is shown in another way. Raises
        RateLimited and DeliveryUnavailable where that has to wait a little; the answer does not wait for long."""
        if not self.in_doubt(address):
            return
        try:
            async with self.opening(address):
                await self.remove_lost_streams(address)
        except RateLimited as limited:
            if limited.retry_after <= _SHORT:
                raise
            log.info("a lost message is left for now", error=str(limited))
        except DeliveryUncertain as error:
            raise DeliveryUnavailable(f"a lost message could not be looked for: {error}") from None

    async def remove_lost_streams(self, address: Address) -> None:
        """Take away the streams below the question that nobody will ever end, and what else is in doubt: a process
        died, or the answer to the start was lost. Call it while `opening`; without the scope for history nothing is
        done."""
        place = (address.channel, address.after)
        doubted = self._doubts.get(place, set())
        try:
            async for message in self.messages(address, since=address.after):
                ts = str(message.get("ts"))
                if not self._is_own(message) or ts in self._trails:
                    continue
                key = _payload(message).get("key")
                if key == _LOST or key in doubted:
                    await self.remove(address.channel, ts)
                elif not message.get("metadata"):
                    await self._remove_stream(address.channel, ts)
        except (SlackError, TargetGone) as error:
            log.info("lost streams cannot be looked for", error=str(error))
        self._doubts.pop(place, None)

    async def _remove_stream(self, channel: str, ts: str) -> None:
        try:
            await self.api.call("chat_stopStream", channel=channel, ts=ts, metadata=_metadata(_LOST))
        except SlackError:
            return  # no stream: not what was looked for
        await self.remove(channel, ts)

    # Looking

    async def find(self, address: Address, key: IdempotencyKey) -> MessageId | None:
        """The message that was posted with `key`, looked up among those after the question."""
        async for message in self.messages(address, since=address.after):
            if self._is_own(message) and _payload(message).get("key") == key:
                return MessageId(f"{address.channel}/{message['ts']}")
        return None

    async def messages(self, address: Address, *, since: str, until: str = "") -> AsyncIterator[Mapping[str, Any]]:
        """The messages of a thread, or of a channel outside of threads. Raises DeliveryUnavailable where the answer
        would be a guess, since there are more than are read."""
        method = "conversations_replies" if address.thread else "conversations_history"
        arguments: dict[str, Any] = {"ts": address.thread} if address.thread else {}
        cursor = ""
        for _ in range(_MOST_PAGES):
            data = await self.api.call(
                method,
                channel=address.channel,
                oldest=since or None,
                latest=until or None,
                inclusive=True,
                limit=_PAGE,
                include_all_metadata=True,
                cursor=cursor or None,
                **arguments,
            )
            for message in data.get("messages") or ():
                yield message
            cursor = (data.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return
        raise DeliveryUnavailable(f"{method}: more than {_MOST_PAGES * _PAGE} messages since {since}")

    async def conversations(self) -> Sequence[Mapping[str, Any]]:
        """The channels and direct chats that the bot is in, at most a page of them."""
        data = await self.api.call(
            "users_conversations", types="im,public_channel,private_channel", exclude_archived=True, limit=200
        )
        return [each for each in data.get("channels") or () if isinstance(each, Mapping)]

    async def _read_trail(self, address: Address, ts: str) -> Trail:
        """The trail of a message of an earlier process: each message of a streamed answer names the next one."""
        trail = Trail("")
        at = ts
        while at:
            payload: Mapping[str, Any] = {}
            try:
                async for message in self.messages(address, since=at, until=at):
                    if message.get("ts") == at:
                        payload = _payload(message)
                        break
            except SlackError as error:
                log.warning("an earlier message cannot be read", error=str(error))  # no scope for history
            if at == ts:
                trail.key = str(payload.get("key") or "")
            at = str(payload.get("later") or "")
            if at and at not in trail.later and len(trail.later) < 50:
                trail.later.append(at)
        self._trails[ts] = trail
        return trail

    def _is_own(self, message: Mapping[str, Any]) -> bool:
        identity = self.identity
        return identity is not None and (
            message.get("user") == identity.user or bool(identity.bot and message.get("bot_id") == identity.bot)
        )

    # Signs

    async def typing(self, address: Address) -> None:
        """Show that an answer is being written (https://docs.slack.dev/reference/methods/assistant.threads.setStatus)."""
        place, now = (address.channel, address.thread), self.clock.monotonic()
        if not self._can_type or now - self._typed.get(place, -_STATUS_LASTS) < _STATUS_LASTS:
            return
        self._typed[place] = now
        try:
            await self._set_status(address, _STATUS)
            if place not in self._typed:  # an answer came meanwhile: the sign may be the later of the two
                await self._set_status(address, "")
        except SlackError as error:
            self._can_type = error.code not in ("missing_scope", "not_agent_app", "unknown_method", "not_allowed")
            raise

    async def _set_status(self, address: Address, status: str) -> None:
        await self.api.call(
            "assistant_threads_setStatus", channel_id=address.channel, thread_ts=address.thread, status=status
        )

    def answered(self, address: Address) -> None:
        """The sign went with the answer; the next question gets one at once."""
        self._typed.pop((address.channel, address.thread), None)


def _metadata(key: str, later: str = "") -> dict[str, Any]:
    payload = {"key": key, "later": later} if later else {"key": key}
    return {"event_type": EVENT_TYPE, "event_payload": payload}


def _payload(message: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = message.get("metadata") or {}
    payload = metadata.get("event_payload") if metadata.get("event_type") == EVENT_TYPE else None
    return payload if isinstance(payload, Mapping) else {}


def _ts(data: Mapping[str, Any]) -> str:
    ts = data.get("ts")
    if not isinstance(ts, str) or not ts:
        raise DeliveryUncertain("Slack gave no ts for a new message")
    return ts
