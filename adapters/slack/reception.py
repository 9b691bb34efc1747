"""What Slack delivers, whichever way it comes: into the inbox, then acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import structlog

from adapters.slack.address import Address
from adapters.slack.api import SlackApi
from adapters.slack.identity import Identity
from adapters.slack.link import REFUSED, TAKEN, Verdict
from adapters.slack.names import Names
from adapters.slack.parse import ids_of, parse_message
from core.adapter import Inbox, Receipt
from core.clock import Clock
from core.commands import parse_command
from core.errors import DeliveryError, StorageUnavailable
from core.latest import Latest
from core.messages import (
    AccountId,
    Belongs,
    ChannelId,
    EventId,
    InboundMessage,
    MessageId,
    Sender,
    ThreadId,
    UserId,
)
from core.texts import language_of, say
from core.untrusted import text_in

log = structlog.get_logger(__name__)

_UNTITLED = 1_000
_TITLE = 60
_ERRANDS = 100
"""Things done beside the receiving at once."""


class Reception:
    """One sign-in's. Enter it to take events, leave it to end what it began."""

    def __init__(
        self,
        account: AccountId,
        identity: Identity,
        api: SlackApi,
        clock: Clock,
        inbox: Inbox,
        *,
        prompts: Sequence[str],
        may: Callable[[InboundMessage], bool],
    ) -> None:
        """`may`: whether the inbox would let somebody in."""
        self.names = Names(api, clock)
        self._account = account
        self._identity = identity
        self._api = api
        self._clock = clock
        self._inbox = inbox
        self._prompts = prompts
        self._may = may
        self._errands: set[asyncio.Task[None]] = set()
        self._untitled: Latest[tuple[str, str], None] = Latest(_UNTITLED)
        """Conversations in the assistant pane that have no title yet."""

    async def __aenter__(self) -> Self:
        await self.names.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.names.__aexit__(kind, error, trace)
        for task in self._errands:
            task.cancel()
        await asyncio.gather(*self._errands, return_exceptions=True)

    async def take(self, kind: str, payload: Mapping[str, Any]) -> Verdict:
        """Deal with a delivery. What is not stored is not acknowledged: Slack sends it again after a minute or so."""
        try:
            match kind:
                case "events_api":
                    return await self._event(payload)
                case "slash_commands":
                    return await self._command(payload)
        except StorageUnavailable as error:
            log.warning("an event was not taken in", account=self._account, error=str(error))
            return REFUSED
        except Exception:
            log.exception("an event could not be dealt with", account=self._account, kind=kind)
        return TAKEN

    async def hand_over(self, payload: Mapping[str, Any]) -> InboundMessage | None:
        """The message in `payload`, with the names of those in it and how its author belongs to the workspace."""
        message = self.parse(payload)
        if message is None:  # nobody is asked about what is not for us
            return None
        learnt = await self.names.learn(id for id in ids_of(payload) if id != self._identity.user)
        return self.parse(payload) if learnt else message

    def parse(self, payload: Mapping[str, Any]) -> InboundMessage | None:
        """The message in `payload`, with what is known of people."""
        return parse_message(
            payload,
            account=self._account,
            identity=self._identity,
            name=self.names.known,
            now=self._clock.now(),
            person=self.names.person,
        )

    async def _event(self, payload: Mapping[str, Any]) -> Verdict:
        event = payload.get("event")
        kind = event.get("type") if isinstance(event, Mapping) else payload.get("type")
        match kind:
            case "message" | "app_mention":
                message = await self.hand_over(payload)
                return await self._admit(message) if message is not None else TAKEN
            case "assistant_thread_started" if isinstance(event, Mapping):
                self._errand(self._welcome(event.get("assistant_thread")))
            case "agent_session_stopped" if isinstance(event, Mapping):
                log.info("a person stopped an answer", account=self._account)
            case "app_uninstalled" | "tokens_revoked":
                log.error("the app was removed from the workspace", account=self._account)
                self._api.refused.set()
            case "app_rate_limited":
                log.error("Slack holds events back: more than 30,000 within an hour", account=self._account)
        return TAKEN

    async def _command(self, payload: Mapping[str, Any]) -> Verdict:
        message = await self.hand_over(payload)
        if message is None:
            return TAKEN
        receipt = await self._inbox(message)
        if receipt in (Receipt.OVERLOADED, Receipt.CLOSED):  # Slack never sends a command again: its person has to know
            return Verdict(
                acknowledged=True, body={"response_type": "ephemeral", "text": say("overloaded", language_of(message))}
            )
        # Slack shows a command to nobody unless told to, and an answer without its question is odd.
        shown = receipt in (Receipt.ACCEPTED, Receipt.DUPLICATE) and parse_command(message.text) is None
        return Verdict(acknowledged=True, body={"response_type": "in_channel"}) if shown else TAKEN

    async def _admit(self, message: InboundMessage) -> Verdict:
        receipt = await self._inbox(message)
        if receipt is Receipt.ACCEPTED and message.thread is not None:
            place = (str(message.channel), str(message.thread))
            if self._untitled.pop(place, self) is None:
                self._errand(self._entitle(place, message.text))
        return REFUSED if receipt in (Receipt.OVERLOADED, Receipt.CLOSED) else TAKEN

    def stopped(self, address: Address, ts: str) -> None:
        """A person pressed Stop below an answer: the same as /stop in that conversation."""
        self._errand(self._stop(address, ts))

    async def _stop(self, address: Address, ts: str) -> None:
        message = InboundMessage(
            id=MessageId(f"{address.channel}/{ts}/stopped"),
            event=EventId(f"stopped/{address.channel}/{ts}"),
            account=self._account,
            sender=Sender(
                id=UserId(address.person or address.user), belongs=Belongs(address.belongs or Belongs.MEMBER)
            ),
            channel=ChannelId(address.channel),
            thread=ThreadId(address.thread) if address.thread else None,
            is_direct=address.direct,
            mentions_bot=True,
            text="/stop",
            sent_at=self._clock.now(),
            reply_to=address.dump(),
        )
        try:
            await self._inbox(message)
        except StorageUnavailable as error:
            log.warning("a stop was not taken in", error=str(error))

    # The assistant pane

    async def _welcome(self, thread: Any) -> None:
        """A conversation was opened (https://docs.slack.dev/ai/developing-ai-apps). Whoever may not talk sees nothing."""
        channel, ts, user = (text_in(thread, key) for key in ("channel_id", "thread_ts", "user_id"))
        if not channel or not ts or not user:
            return
        await self.names.learn([user])
        known = self.names.person(user)
        greeting = self.parse(_greeting(channel, ts, user, known.team if known is not None else ""))
        if greeting is None or not self._may(greeting):
            return
        self._untitled[(channel, ts)] = None
        if self._prompts:
            prompts = [{"title": prompt[:75], "message": prompt} for prompt in self._prompts]
            await self._api.call(
                "assistant_threads_setSuggestedPrompts", channel_id=channel, thread_ts=ts, prompts=prompts
            )

    async def _entitle(self, place: tuple[str, str], question: str) -> None:
        title = " ".join(question.split())
        title = title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"
        if title:
            await self._api.call("assistant_threads_setTitle", channel_id=place[0], thread_ts=place[1], title=title)

    def _errand(self, work: Any) -> None:
        if len(self._errands) >= _ERRANDS:
            work.close()
            return
        task = asyncio.create_task(_done(work))
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)


def _greeting(channel: str, ts: str, user: str, team: str) -> Mapping[str, Any]:
    """As if somebody who opened a conversation had written: who they are, and where."""
    written = {"type": "message", "channel_type": "im", "channel": channel, "ts": ts, "user": user, "user_team": team}
    return {"event": written}


async def _done(work: Any) -> None:
    try:
        await work
    except DeliveryError as error:
        log.info("something beside the answers failed", error=str(error))
    except Exception:
        log.exception("something beside the answers failed")
