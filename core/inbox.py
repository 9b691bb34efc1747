"""Admission: what becomes of a message before the platform is told that it arrived.

addressed → allowed → not too old, not too long → within the sender's rate → committed. No model, no network, no lock.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from types import TracebackType
from typing import Self

import structlog

from core.account import AccountConfig
from core.adapter import CanFail, Failure, FailureCode, IdempotencyKey, Receipt, ReplyChannel, ReplyIsReceipt
from core.clock import Clock
from core.commands import parse_command
from core.delivery import tell
from core.dispatcher import Dispatcher
from core.errors import DeliveryError, StorageUnavailable
from core.journal import Accepted, Bound, Journal, Quota
from core.limits import Rates
from core.messages import AccountId, ConversationKey, InboundMessage, ReplyAddress, Scope
from core.texts import language_of, say

log = structlog.get_logger(__name__)

_NOTICE_EVERY = 60.0
"""Seconds between two notices of the same kind to the same person."""

_NOTICES = 1_000
"""Notices on their way at once; more are not sent."""

_REMEMBERED = 10_000

_COMMIT_TIMEOUT = 2.0
"""Seconds; what takes longer is not acknowledged, so that the platform delivers again."""


_NOTHING_NEW = Quota(queued=0)
"""For a sender over the rate: the store still knows a redelivery, and takes nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxSettings:
    """What is admitted."""

    scope: Scope
    quota: Quota
    max_input_chars: int = 32_000
    oldest: timedelta = timedelta(hours=24)
    """Messages that the platform dates further back are not answered at all."""


@dataclass(slots=True)
class Seen:
    """What passed here for one account, for /readyz and /metrics."""

    last_inbound: datetime | None = None
    accepted: int = 0
    duplicates: int = 0
    refused: int = 0


class Inbox:
    """The one door for every platform. `receive` is what adapters get as their `Inbox`."""

    def __init__(
        self,
        journal: Journal,
        dispatcher: Dispatcher,
        rates: Rates,
        clock: Clock,
        settings: InboxSettings,
        *,
        account: Callable[[AccountId], AccountConfig],
        reply: Callable[[AccountId, ReplyAddress], ReplyChannel],
    ) -> None:
        self.settings = settings
        """May be replaced while running."""
        self.seen: dict[AccountId, Seen] = {}
        self._journal = journal
        self._dispatcher = dispatcher
        self._rates = rates
        self._clock = clock
        self._account = account
        self._reply = reply
        self._closed = False
        self._notices: set[asyncio.Task[None]] = set()
        self._commits: set[asyncio.Task[Receipt]] = set()
        self._noticed: OrderedDict[tuple[str, FailureCode], float] = OrderedDict()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        tasks = (*self._notices, *self._commits)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        """Admit nothing more."""
        self._closed = True

    async def receive(self, message: InboundMessage) -> Receipt:
        """Returns when the message is committed, or with the reason why it is not. Raises StorageUnavailable."""
        if self._closed:
            return Receipt.CLOSED
        seen = self.seen.setdefault(message.account, Seen())
        seen.last_inbound = self._clock.now()
        account = self._account(message.account)
        if message.sender.is_bot or not _addressed(message, account):
            return Receipt.IGNORED
        if not message.text.strip() and not message.attachments:
            return Receipt.IGNORED
        if not _allowed(message, account):
            if not message.is_direct and not message.mentions_bot:
                return Receipt.IGNORED  # people talking among themselves, where the bot has nothing to say
            return self._refuse(message, seen, FailureCode.NOT_ALLOWED, "not_allowed", person=message.sender.id)
        if self._clock.now() - message.sent_at > self.settings.oldest:
            log.info("a message is too old to be answered", message=message.id, sent_at=str(message.sent_at))
            return Receipt.STALE
        limit = self.settings.max_input_chars
        if len(message.text) > limit:
            return self._refuse(message, seen, FailureCode.TOO_LONG, "too_long", length=len(message.text), limit=limit)
        commit = asyncio.create_task(self._commit(message, account, seen))
        self._commits.add(commit)
        commit.add_done_callback(self._commits.discard)
        try:
            async with asyncio.timeout(_COMMIT_TIMEOUT):
                return await asyncio.shield(commit)  # whoever goes away: what is stored is also begun
        except TimeoutError:
            raise StorageUnavailable(f"storage: a message was not stored within {_COMMIT_TIMEOUT:g} s") from None

    async def _commit(self, message: InboundMessage, account: AccountConfig, seen: Seen) -> Receipt:
        conversation = ConversationKey.of(message, account.scope or self.settings.scope)
        command = parse_command(message.text)
        bypasses = command is not None and command.bypasses
        person = f"{message.account}/{message.sender.id}"
        wait = self._rates.take(person)
        quota = self.settings.quota if wait is None else _NOTHING_NEW
        try:
            accepted = await self._journal.accept(
                message, conversation, quota, command=bypasses and wait is None, lasting=self._acknowledged(message)
            )
        except StorageUnavailable:
            if wait is None:
                self._rates.give_back(person)
            raise
        match accepted.receipt:
            case Receipt.ACCEPTED:
                seen.accepted += 1
                log.debug("accepted", conversation=str(conversation), inbox=accepted.inbox, text=message.text)
                if bypasses and accepted.inbox is not None:
                    self._dispatcher.wake_command(accepted.inbox, conversation)
                else:
                    self._dispatcher.wake(conversation)
            case Receipt.DUPLICATE:
                seen.duplicates += 1
                if wait is None:
                    self._rates.give_back(person)
            case _ if wait is not None:
                seconds = max(1, round(wait))
                notice = "rate_limited"
                self._refuse(message, seen, FailureCode.RATE_LIMITED, notice, retry_after=wait, seconds=seconds)
                return Receipt.REFUSED
            case Receipt.REFUSED:
                self._explain(message, seen, accepted)
            case _:
                self._rates.give_back(person)  # the platform will deliver it again
                log.warning("overloaded, a message was not accepted", bound=accepted.bound)
        return accepted.receipt

    def _acknowledged(self, message: InboundMessage) -> bool:
        """Whether the sender is told that the message arrived before there is a reply."""
        try:
            reply = self._reply(message.account, message.reply_to)
        except Exception:  # noqa: BLE001 - the turn will say what is wrong with the address
            return True
        return not isinstance(reply, ReplyIsReceipt)

    def _explain(self, message: InboundMessage, seen: Seen, accepted: Accepted) -> None:
        quota = self.settings.quota
        now = self._clock.now()
        midnight = datetime.combine(now.date() + timedelta(days=1), time(), tzinfo=now.tzinfo)
        until_midnight = (midnight - now).total_seconds()
        match accepted.bound:
            case Bound.MESSAGES_PER_DAY | Bound.TOKENS_PER_DAY as bound:
                count = quota.messages_per_day if bound is Bound.MESSAGES_PER_DAY else quota.tokens_per_day
                values: dict[str, object] = {"count": count, "reset": f"{midnight:%Y-%m-%d %H:%M}"}
                self._refuse(message, seen, FailureCode.RATE_LIMITED, bound.value, retry_after=until_midnight, **values)
            case _:
                self._refuse(message, seen, FailureCode.RATE_LIMITED, "queued", retry_after=10.0, count=quota.queued)

    def _refuse(
        self,
        message: InboundMessage,
        seen: Seen,
        code: FailureCode,
        notice: str,
        *,
        retry_after: float | None = None,
        **values: object,
    ) -> Receipt:
        """Tell the sender, at most once a minute where it costs them a chat message."""
        seen.refused += 1
        id = secrets.token_hex(4)
        text = say(notice, language_of(message), **values)
        log.info("refused", why=notice, account=message.account, person=message.sender.id, id=id)
        try:
            reply = self._reply(message.account, message.reply_to)
        except DeliveryError as error:
            log.info("a refusal could not be told", error=str(error))
            return Receipt.REFUSED
        due = isinstance(reply, CanFail) or self._notice_due(message, code)
        if due and len(self._notices) < _NOTICES:
            failure = Failure(code=code, text=text, id=id, retry_after=retry_after)
            task = asyncio.create_task(tell(reply, failure, key=IdempotencyKey(f"refused-{id}")))
            self._notices.add(task)
            task.add_done_callback(self._notices.discard)
        return Receipt.REFUSED

    def _notice_due(self, message: InboundMessage, code: FailureCode) -> bool:
        person, now = (f"{message.account}/{message.sender.id}", code), self._clock.monotonic()
        last = self._noticed.pop(person, None)
        due = last is None or now - last >= _NOTICE_EVERY
        self._noticed[person] = now if last is None or due else last
        if len(self._noticed) > _REMEMBERED:
            self._noticed.popitem(last=False)
        return due


def _addressed(message: InboundMessage, account: AccountConfig) -> bool:
    if message.is_direct:
        return True
    return message.mentions_bot or account.access.channels == "always"


def _allowed(message: InboundMessage, account: AccountConfig) -> bool:
    access = account.access
    if message.is_direct:
        return access.direct == "open" or (access.direct == "allowlist" and message.sender.id in access.allow)
    return access.channels != "off" and (
        not access.allow or message.channel in access.allow or message.sender.id in access.allow
    )
