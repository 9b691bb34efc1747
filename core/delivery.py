"""Committed replies on their way out: order, retries, and what to do when nobody knows whether one arrived."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from threading import Lock
from typing import TypeVar

import structlog

from core.account import Ambiguous
from core.adapter import (
    CanEdit,
    CanFail,
    CanFind,
    CanWhisper,
    Failure,
    FailureCode,
    IdempotencyKey,
    Kept,
    Keyed,
    ReplyChannel,
    TextLimits,
)
from core.clock import Clock
from core.errors import (
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    HeldBack,
    RateLimited,
    StorageUnavailable,
    TargetGone,
)
from core.journal import Journal, OutboxPart, OutboxState, PartId
from core.markdown.dialect import Dialect, plain_markdown
from core.markdown.split import split
from core.messages import AccountId, ConversationKey, MessageId
from core.texts import say

log = structlog.get_logger(__name__)

T = TypeVar("T")

RETRY_AFTER = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds before each further attempt. After the last one the reply is a dead letter."""

SEND_TIMEOUT = 30.0
"""Seconds for one call to the platform."""

WAITS_FOR = timedelta(hours=24)
"""How long a reply waits for its account to be connected; messages that are older are not answered either."""

_AWAY = "the account is not connected"
"""What is stored of a reply that waits for that."""

_STORAGE_PAUSE = 1.0
"""Seconds between attempts to write down what became of a reply."""

_MARK_ROOM = 40
"""Units kept free in each part for the mark that it may be repeated."""


_LONG = 4_000
"""Characters of a text that is cut beside the event loop: they take some 10 ms."""

_CUTTING = Lock()
"""One thread cuts at a time, for it takes turns with the event loop: with several the loop would wait for each of them."""


def parts_of(reply: ReplyChannel, text: str) -> tuple[str, ...]:
    """`text` in pieces that each fit one message of this channel, the mark that it may be repeated included."""
    dialect = dialect_of(reply)
    if reply.dialect is None and dialect.limits.count(text) <= dialect.limits.max_length:
        return (text,) if text.strip() else ()
    return tuple(split(text, dialect))


async def parted(reply: ReplyChannel, text: str) -> tuple[str, ...]:
    """`parts_of`, without holding up the event loop where that takes long."""
    if len(text) > _LONG and not isinstance(reply, Kept):  # the text of a kept reply is one part as it is
        return await asyncio.to_thread(_parts_beside, reply, text)
    return parts_of(reply, text)


def _parts_beside(reply: ReplyChannel, text: str) -> tuple[str, ...]:
    with _CUTTING:
        return parts_of(reply, text)


def dialect_of(reply: ReplyChannel) -> Dialect:
    """How text is written there, with room for the mark in each message."""
    return _with_room(reply.dialect, reply.limits)


@lru_cache
def _with_room(dialect: Dialect | None, limits: TextLimits) -> Dialect:
    limits = replace(limits, max_length=max(1, limits.max_length - _MARK_ROOM))
    return plain_markdown(limits) if dialect is None else replace(dialect, limits=limits)


def failure_json(failure: Failure) -> str:
    """A failure as it is stored beside the notice that tells of it."""
    return json.dumps(
        {"code": failure.code, "text": failure.text, "id": failure.id, "retry_after": failure.retry_after},
        ensure_ascii=False,
    )


def failure_from(text: str) -> Failure:
    """Read back `failure_json`."""
    stored = json.loads(text)
    return Failure(
        code=FailureCode(stored["code"]), text=stored["text"], id=stored["id"], retry_after=stored["retry_after"]
    )


@dataclass(slots=True)
class _Attempt:
    """One attempt to bring a part to the platform, and what is known about it if it fails."""

    part: OutboxPart
    in_doubt: bool = field(init=False)
    """Whether this call or an earlier one may have taken effect. A doubt once had is kept: the part stays `unknown`."""
    sending_at: datetime | None = field(init=False)

    def __post_init__(self) -> None:
        self.in_doubt = self.part.state in (OutboxState.SENDING, OutboxState.UNKNOWN)
        self.sending_at = self.part.sending_at


class Delivery:
    """Sends the parts of one reply, one after the other."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        *,
        ambiguous: Callable[[AccountId], Ambiguous],
        shared: Callable[[ConversationKey], bool] = lambda _: False,
        connected: Callable[[AccountId], bool] = lambda _: True,
    ) -> None:
        """`connected`: whether an account is. What cannot be sent while it is not is held back until somebody asks for
        `held`, once it is.

        `shared`: whether one person converses there from several accounts. What one of these cannot take yet does not
        hold up the others there: it is put aside, until `come_back`."""
        self.come_back: Callable[[ConversationKey, AccountId, float], None] = lambda *_: None
        """Called when parts to an account are put aside, with the seconds after which they are to be sent; whoever wakes
        the conversation then sets it."""
        self._journal = journal
        self._clock = clock
        self._ambiguous = ambiguous
        self._shared = shared
        self._connected = connected
        self._under_way: set[PartId] = set()
        self._held: dict[ConversationKey, set[AccountId]] = {}
        """By the accounts that the parts go to: a linked person's conversation has several."""

    def holds(self, conversation: ConversationKey, account: AccountId | None = None) -> bool:
        """Whether parts of this conversation, to this account or any, wait in the journal: for their person's next message,
        or put aside for a while."""
        accounts = self._held.get(conversation)
        return accounts is not None and (account is None or account in accounts)

    def held(self, account: AccountId) -> Sequence[ConversationKey]:
        """The conversations with parts to this account that `holds` is true of."""
        return [conversation for conversation, accounts in self._held.items() if account in accounts]

    def release(self, conversation: ConversationKey) -> None:
        """The person has written: what was held back may be tried again, before anything else."""
        self._held.pop(conversation, None)

    async def deliver(self, reply: ReplyChannel, parts: Sequence[OutboxPart]) -> bool:
        """Send each part until it arrived or is a dead letter, which ends the reply, or is held back. False if one is.

        Parts that are on their way already stay with whoever sends them. Where parts of the conversation to the same
        account are held back, these stay in the journal behind them.
        """
        if isinstance(reply, Kept):
            for part in parts:
                await _bring(reply, part)
            return True
        mine = [part for part in parts if part.id not in self._under_way]
        self._under_way.update(part.id for part in mine)
        try:
            for part in mine:
                if self.holds(part.conversation, part.account):
                    return False
                if part.error == _AWAY and self._clock.now() - part.next_at > WAITS_FOR:
                    hours = WAITS_FOR / timedelta(hours=1)
                    return await self._bury(part, f"it waited for more than {hours:g} h: {_AWAY}")
                if not await self._deliver(reply, part):
                    return False
        finally:
            self._under_way.difference_update(part.id for part in mine)
        return True

    async def _deliver(self, reply: ReplyChannel, part: OutboxPart) -> bool:
        while True:
            wait = (part.next_at - self._clock.now()).total_seconds()
            if wait > 0 and self._shared(part.conversation):
                self._held.setdefault(part.conversation, set()).add(part.account)
                self.come_back(part.conversation, part.account, wait)
                return False
            await self._clock.sleep(wait)
            attempt = _Attempt(part)
            pause = RETRY_AFTER[min(part.attempts, len(RETRY_AFTER) - 1)]
            try:
                message = await self._attempt(reply, attempt)
            except RateLimited as error:
                reason, pause = str(error), max(pause, min(error.retry_after, RETRY_AFTER[-1]))
            except (HeldBack, DeliveryUnavailable) as error:
                reason = str(error)
                if isinstance(error, HeldBack) or not self._connected(part.account):
                    return await self._hold(attempt, reason)
            except (DeliveryUncertain, TimeoutError) as error:
                reason, attempt.in_doubt = str(error) or "no answer in time", True
            except DeliveryError as error:
                return await self._bury(part, str(error))
            except StorageUnavailable as error:
                log.warning("a reply waits for the storage", error=str(error))
                await self._clock.sleep(_STORAGE_PAUSE)
                continue
            except Exception as error:
                log.exception("sending a reply failed", key=part.key)
                reason, attempt.in_doubt = mistake(error), True
            else:
                await until_stored(partial(self._journal.sent, part, message), self._clock)
                return True
            if part.attempts >= len(RETRY_AFTER):
                return await self._bury(part, f"gave up after {part.attempts + 1} attempts: {reason}")
            log.warning("a reply is tried again", key=part.key, seconds=pause, reason=reason)
            until = self._clock.now() + timedelta(seconds=pause)
            state = OutboxState.UNKNOWN if attempt.in_doubt else OutboxState.PENDING
            write = partial(self._journal.postpone, part, until, reason, state=state)
            part = replace(await until_stored(write, self._clock), sending_at=attempt.sending_at)

    async def _attempt(self, reply: ReplyChannel, attempt: _Attempt) -> MessageId | None:
        part = attempt.part
        if part.failure and isinstance(reply, CanFail):
            await _call(reply.fail(failure_from(part.failure), key=part.key))
            return None
        if part.edits is not None and isinstance(reply, CanEdit):
            try:
                await _call(reply.edit(part.edits, part.text))
            except TargetGone as error:
                log.info("a preview is gone; its text is sent anew", error=str(error))
            else:
                return part.edits
        text = part.text
        if attempt.in_doubt:
            found, text = await self._settle(reply, part)
            if found is not None:
                return found
        await self._journal.sending(part)
        attempt.sending_at = self._clock.now()
        return await _call(reply.send(text, key=part.key))

    async def _settle(self, reply: ReplyChannel, part: OutboxPart) -> tuple[MessageId | None, str]:
        """An earlier call may have taken effect: find its message, or decide what to send now."""
        if isinstance(reply, Keyed) and self._clock.now() - part.created_at < reply.KEY_LIFETIME:
            return None, part.text
        if isinstance(reply, CanFind):
            settled_at = (part.sending_at or part.created_at) + timedelta(seconds=SEND_TIMEOUT + 5)
            await self._clock.sleep((settled_at - self._clock.now()).total_seconds())
            return await _call(reply.find(part.key)), part.text
        match self._ambiguous(part.account):
            case Ambiguous.DROP:
                raise DeliveryError("it may have arrived, and `ambiguous: drop` says not to send it again")
            case Ambiguous.RESEND:
                return None, part.text
            case Ambiguous.MARK:
                chinese = re.search(r"[\u4e00-\u9fff]", part.text)
                return None, f"{part.text}\n\n{say('repeated', 'zh' if chinese else 'en')}"

    async def _hold(self, attempt: _Attempt, reason: str) -> bool:
        part = attempt.part
        log.info("a reply is kept for later", key=part.key, account=part.account, reason=reason)
        state = OutboxState.UNKNOWN if attempt.in_doubt else OutboxState.PENDING
        self._held.setdefault(part.conversation, set()).add(part.account)
        kept = _AWAY if not self._connected(part.account) else reason
        await until_stored(partial(self._journal.hold, part, kept, state=state), self._clock)
        return False

    async def _bury(self, part: OutboxPart, reason: str) -> bool:
        log.error("a reply cannot be delivered", key=part.key, account=part.account, reason=reason)
        await until_stored(partial(self._journal.bury, part, reason), self._clock)
        return False


async def _bring(reply: ReplyChannel, part: OutboxPart) -> None:
    """News of a reply that is kept already."""
    try:
        if part.failure and isinstance(reply, CanFail):
            await _call(reply.fail(failure_from(part.failure), key=part.key))
        else:
            await _call(reply.send(part.text, key=part.key))
    except (DeliveryError, TimeoutError) as error:
        log.info("nobody heard of a reply; it is kept", key=part.key, error=str(error))
    except Exception:
        log.exception("bringing the news of a reply failed", key=part.key)


async def tell(reply: ReplyChannel, failure: Failure, *, key: IdempotencyKey, aloud: bool = False) -> bool:
    """Show a failure once, as well as it goes: of a message that is not in the journal, or no longer. Others do not see it
    where there is a way, unless it is to be said `aloud`.

    False: it did not arrive, as far as one knows.
    """
    try:
        async with asyncio.timeout(SEND_TIMEOUT):
            if isinstance(reply, CanFail):
                await reply.fail(failure, key=key)
            elif isinstance(reply, CanWhisper) and not aloud:
                await reply.whisper(failure.text, key=key)
            else:
                await reply.send(failure.text, key=key)
    except (DeliveryError, TimeoutError) as error:
        log.info("a failure could not be told", id=failure.id, error=str(error))
    except Exception:
        log.exception("telling of a failure failed", id=failure.id)
    else:
        return True
    return False


def mistake(error: Exception) -> str:
    """What is stored of an error that nobody expected. Its words may hold anything, an address with a key in it say: they
    are in the log alone, where secrets are hidden."""
    return f"{type(error).__name__}, see the log" if not isinstance(error, DeliveryError) else str(error)


async def until_stored(write: Callable[[], Awaitable[T]], clock: Clock) -> T:
    """Write, again and again: what happened to a message must be known before anything else happens to it."""
    while True:
        try:
            return await write()
        except StorageUnavailable as error:
            log.warning("the storage is awaited", error=str(error))
            await clock.sleep(_STORAGE_PAUSE)


async def _call(call: Awaitable[T]) -> T:
    async with asyncio.timeout(SEND_TIMEOUT):
        return await call
