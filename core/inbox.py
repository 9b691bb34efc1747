"""Admission: what becomes of a message before the platform is told that it arrived.

addressed → allowed → not too old, not too long → within the sender's rate, no loop → committed. No model, no network, no
lock.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from math import ceil
from types import TracebackType
from typing import Any, Self

import structlog

from core.access import Verdict, judge
from core.account import AccountConfig
from core.adapter import (
    CanFail,
    CanWhisper,
    Failure,
    FailureCode,
    IdempotencyKey,
    Receipt,
    ReplyChannel,
    ReplyIsReceipt,
)
from core.admission import InboxSettings, Seen
from core.budgets import Whose
from core.clock import Clock
from core.commands import parse_command
from core.delivery import mistake, tell
from core.dispatcher import Dispatcher
from core.errors import DeliveryError, StorageUnavailable
from core.journal import Accepted, Journal, Quota
from core.latest import Latest
from core.limits import Limits, MessageRates, TooFast
from core.links import Links
from core.loop_guard import PAUSE, Halt, LoopGuard, Passage
from core.messages import AccountId, ConversationKey, InboundMessage, Person, ReplyAddress, Scope
from core.pairing import Pairing
from core.people import People, sender_of
from core.texts import language_of, say
from core.worker import Claim

log = structlog.get_logger(__name__)

_NOTICE_EVERY = 60.0
"""Seconds between two notices of the same kind to the same person."""

_NOT_ALLOWED_EVERY = 3600.0
"""The same, for those who may not talk here."""

_NOTICES = 1_000
"""Notices on their way at once; more are not sent."""

_REMEMBERED = 10_000

_COMMIT_TIMEOUT = 2.0
"""Seconds; what takes longer is not acknowledged, so that the platform delivers again."""

_NOTHING_NEW = Quota(queued=0)
"""For a sender over the rate, or a loop: the store still knows a redelivery, and takes nothing else."""

_UNGUARDED = Passage(None, ())


class Inbox:
    """The one door for every platform. `receive` is what adapters get as their `Inbox`."""

    def __init__(
        self,
        journal: Journal,
        dispatcher: Dispatcher,
        rates: MessageRates,
        clock: Clock,
        settings: InboxSettings,
        *,
        limits: Limits,
        people: People,
        pairing: Pairing,
        guard: LoopGuard,
        links: Links,
        account: Callable[[AccountId], AccountConfig],
        reply: Callable[[AccountId, ReplyAddress], ReplyChannel],
    ) -> None:
        self.settings = settings
        """May be replaced while running."""
        self.seen: dict[AccountId, Seen] = {}
        self._journal = journal
        self._dispatcher = dispatcher
        self._rates = rates
        self._limits = limits
        self._clock = clock
        self._people = people
        self._pairing = pairing
        self._guard = guard
        self._links = links
        self._account = account
        self._reply = reply
        self._closed = False
        self._notices: set[asyncio.Task[object]] = set()
        self._commits: set[asyncio.Task[Receipt]] = set()
        self._commanding: dict[ConversationKey, int] = {}
        """Commands that are being accepted: what is written after one is not begun before it is carried out."""
        self._noticed: Latest[tuple[Person, str], float] = Latest(_REMEMBERED)

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

    def may(self, message: InboundMessage) -> bool:
        """Whether somebody in that place may talk to the bot: the same check, for what is no message."""
        standing = self._people.standing(sender_of(message))
        return judge(message, self._account(message.account).access, standing) is Verdict.ADMIT

    async def receive(self, message: InboundMessage) -> Receipt:
        """Returns when the message is committed, or with the reason why it is not. Raises StorageUnavailable."""
        if self._closed:
            return Receipt.CLOSED
        seen = self.seen.setdefault(message.account, Seen())
        seen.last_inbound = self._clock.now()
        try:
            return await self._admit(message, seen)
        except StorageUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - logged there
            return await self._lose(message, seen, error)

    async def _lose(self, message: InboundMessage, seen: Seen, error: Exception) -> Receipt:
        """A mistake of the program, which it would be each time: the message is listed, so that it can be answered once
        that is mended, and its sender is told. Brought again for ever it would hold up what people write after it."""
        log.error("a message cannot be taken in", account=message.account, message=message.id, exc_info=error)
        try:
            await self._journal.lose(message, mistake(error))
            return self._refuse(message, seen, FailureCode.INTERNAL, "internal")
        except StorageUnavailable:
            raise
        except Exception:
            log.exception("a message is lost", account=message.account, message=message.id)
            return Receipt.REFUSED

    async def _admit(self, message: InboundMessage, seen: Seen) -> Receipt:
        account = self._account(message.account)
        if not message.has_words and not message.attachments:
            return Receipt.IGNORED
        verdict = judge(message, account.access, self._people.standing(sender_of(message)))
        if verdict is Verdict.IGNORE:
            return Receipt.IGNORED
        if verdict is not Verdict.ADMIT:
            return self._turn_away(message, seen, account, pair=verdict is Verdict.PAIR)
        if self._clock.now() - message.sent_at > self.settings.oldest:
            log.info("a message is too old to be answered", message=message.id, sent_at=str(message.sent_at))
            return Receipt.STALE
        limit = self.settings.max_input_chars
        if len(message.text) > limit:
            return self._refuse(message, seen, FailureCode.TOO_LONG, "too_long", length=len(message.text), limit=limit)
        if len(self._commits) >= self.settings.quota.pending:
            return Receipt.OVERLOADED  # they alone fill every place: nothing more is kept in memory for it
        commit = asyncio.create_task(self._commit(message, account, seen))
        self._commits.add(commit)
        commit.add_done_callback(self._commits.discard)
        await asyncio.wait((commit,), timeout=_COMMIT_TIMEOUT)  # whoever goes away: what is stored is also begun
        if not commit.done():
            raise StorageUnavailable(f"storage: a message was not stored within {_COMMIT_TIMEOUT:g} s")
        return commit.result()

    async def _commit(self, message: InboundMessage, account: AccountConfig, seen: Seen) -> Receipt:
        person = sender_of(message)
        payer = self._links.person(*person)
        conversation = self._conversation(message, account, person, payer)
        command = parse_command(message.text)
        bypasses = command is not None and command.bypasses
        reply = self._way_back(message)
        wait = self._rates.take(person, payer, command=bypasses)
        passage = _UNGUARDED if wait is not None or bypasses else self._pass(message, conversation, reply)
        quota = self.settings.quota if wait is None and passage.halt is None else _NOTHING_NEW
        claim = None if wait is not None else self._claim(conversation, command=bypasses)
        accepted = None
        try:
            accepted = await self._journal.accept(
                message,
                conversation,
                quota,
                budgets=self._limits,
                command=bypasses and wait is None,
                lasting=not isinstance(reply, ReplyIsReceipt),
                at_once=None if claim is None else claim.ahead,
                idle_after=None if claim is None else claim.idle_after,
            )
        except StorageUnavailable:
            self._give_back(person, payer, wait, passage, command=bypasses)
            raise
        finally:
            if bypasses and wait is None:
                self._command_stored(conversation)
            if claim is not None:
                waits = accepted is not None and accepted.receipt is Receipt.ACCEPTED and accepted.turn is None
                claim.settle(None if accepted is None else accepted.turn, waits=waits)
        match accepted.receipt:
            case Receipt.ACCEPTED:
                seen.accepted += 1
                log.debug("accepted", conversation=str(conversation), inbox=accepted.inbox, text=message.text)
                if bypasses and accepted.inbox is not None:
                    self._dispatcher.wake_command(accepted.inbox, conversation)
                elif claim is None:
                    self._dispatcher.wake(conversation)
            case Receipt.DUPLICATE:
                seen.duplicates += 1
                self._give_back(person, payer, wait, passage, command=bypasses)
            case _ if wait is not None:
                return self._slow_down(message, seen, wait)
            case _ if passage.halt is not None:
                self._rates.give_back(person, payer)
                return self._halt(message, seen, passage)
            case Receipt.REFUSED:
                self._guard.give_back(passage)
                self._explain(message, seen, accepted)
            case _:
                self._give_back(person, payer, wait, passage, command=bypasses)  # the platform will deliver it again
                log.warning("overloaded, a message was not accepted", bound=accepted.bound)
        return accepted.receipt

    def _claim(self, conversation: ConversationKey, *, command: bool) -> Claim | None:
        """Where nothing of the conversation is worked on, its message is begun in the step that accepts it."""
        if command:
            self._commanding[conversation] = self._commanding.get(conversation, 0) + 1
            return None
        return None if conversation in self._commanding else self._dispatcher.claim(conversation)

    def _command_stored(self, conversation: ConversationKey) -> None:
        self._commanding[conversation] -= 1
        if not self._commanding[conversation]:
            del self._commanding[conversation]

    def _give_back(
        self, sender: Person, payer: Person, wait: TooFast | None, passage: Passage, *, command: bool
    ) -> None:
        """What was counted for a message that is not a new one."""
        if wait is None:
            self._rates.give_back(sender, payer, command=command)
        self._guard.give_back(passage)

    def _pass(self, message: InboundMessage, conversation: ConversationKey, reply: ReplyChannel | None) -> Passage:
        """Count the message against loops. Where the reply goes to its own caller there can be none."""
        if reply is not None and isinstance(reply, (CanFail, ReplyIsReceipt)):
            return _UNGUARDED
        settings = self.settings
        return self._guard.take(
            message,
            conversation,
            same_text=settings.same_text_per_minute,
            per_channel=settings.channel_messages_per_minute,
        )

    def _halt(self, message: InboundMessage, seen: Seen, passage: Passage) -> Receipt:
        """One message too many: the first one is told, those after it are not."""
        paused, first = passage.halt is Halt.PAUSED, self._guard.halt(passage)
        if not first and not _awaited(self._way_back(message)):
            seen.refused += 1
            return Receipt.IGNORED if paused else Receipt.REFUSED
        if paused and first:
            log.warning("the bot rests in a channel", account=message.account, channel=message.channel, seconds=PAUSE)
        minutes = round(PAUSE / 60)
        notice = "channel_paused" if paused else "repeating"
        aloud = paused and first  # it concerns everybody there
        return self._refuse(message, seen, FailureCode.RATE_LIMITED, notice, True, aloud=aloud, minutes=minutes)

    def _way_back(self, message: InboundMessage) -> ReplyChannel | None:
        try:
            return self._reply(message.account, message.reply_to)
        except Exception:  # noqa: BLE001 - the turn will say what is wrong with the address
            return None

    def _conversation(
        self, message: InboundMessage, account: AccountConfig, sender: Person, payer: Person
    ) -> ConversationKey:
        """Where the message belongs. A linked person has one conversation, wherever they write."""
        scope = account.scope or self.settings.scope
        if scope is Scope.USER and payer != sender:
            return ConversationKey(payer.account, user=payer.user)
        return ConversationKey.of(message, scope)

    def _slow_down(self, message: InboundMessage, seen: Seen, wait: TooFast) -> Receipt:
        seconds = max(1, ceil(wait.seconds))
        notice = "rate_limited" if wait.whose is Whose.PERSON else f"busy_{wait.whose}"
        return self._refuse(message, seen, FailureCode.RATE_LIMITED, notice, retry_after=wait.seconds, seconds=seconds)

    def _explain(self, message: InboundMessage, seen: Seen, accepted: Accepted) -> None:
        exhausted, code = accepted.exhausted, FailureCode.RATE_LIMITED
        if exhausted is None:
            self._refuse(message, seen, code, "queued", retry_after=10.0, count=self.settings.quota.queued)
            return
        now = self._clock.now()
        wait = (exhausted.resets(now) - now).total_seconds()
        self._refuse(message, seen, code, exhausted.notice, retry_after=wait, **exhausted.told(now))

    def _turn_away(self, message: InboundMessage, seen: Seen, account: AccountConfig, *, pair: bool) -> Receipt:
        """Somebody who may not talk here. With `pair` they may be told a code that lets them in once it is approved."""
        person, told = sender_of(message), account.access.refusals == "notice"
        reply = self._way_back(message)
        if not pair or not told:
            due = told and (self._notice_due(person, FailureCode.NOT_ALLOWED, _NOT_ALLOWED_EVERY) or _awaited(reply))
            return self._refuse(message, seen, FailureCode.NOT_ALLOWED, "not_allowed", due, person=person.user)
        seen.refused += 1
        if self._pairing.waits(person):
            due = False
        elif self._pairing.full(person.account):
            due = self._notice_due(person, "pairing_full", _NOT_ALLOWED_EVERY)
        else:
            due = self._notice_due(person, "pairing", _NOTICE_EVERY)
        if reply is not None and (due or isinstance(reply, CanFail) or _awaited(reply)):
            self._spawn(self._offer(message, reply))
        return Receipt.REFUSED

    async def _offer(self, message: InboundMessage, reply: ReplyChannel) -> None:
        """Tell a stranger a code, or why there is none. What could not be told does not count as told."""
        person, id, language = sender_of(message), secrets.token_hex(4), language_of(message)
        try:
            name, place = message.sender.display_name, message.reply_to
            offer = await self._pairing.offer(person, name, reply_to=place, language=language)
            if offer.notice == "pairing_waits" and not (isinstance(reply, CanFail) or _awaited(reply)):
                return  # two of their messages came at once
            how = f"`/approve {offer.code}`\n`chatgpt-ms pairing approve {offer.code}`"
            text = say(offer.notice, language, code=offer.code, how=how)
            failure = Failure(code=FailureCode.NOT_ALLOWED, text=text, id=id)
            if not await tell(reply, failure, key=IdempotencyKey(f"refused-{id}")) and offer.code:
                await self._pairing.withdraw(person)
        except StorageUnavailable as error:
            log.warning("a stranger was not told a code", error=str(error), account=person.account, person=person.user)

    def _refuse(
        self,
        message: InboundMessage,
        seen: Seen,
        code: FailureCode,
        notice: str,
        due: bool | None = None,
        /,
        *,
        retry_after: float | None = None,
        aloud: bool = False,
        **values: object,
    ) -> Receipt:
        """Tell the sender if it is `due`: by itself at most once a minute, where it costs them a chat message. The others
        in the place need not see it, unless it is said `aloud`."""
        seen.refused += 1
        id = secrets.token_hex(4)
        text = say(notice, language_of(message), id=id, **values)
        log.info("refused", why=notice, account=message.account, person=message.sender.id, id=id)
        try:
            reply = self._reply(message.account, message.reply_to)
        except DeliveryError as error:
            log.info("a refusal could not be told", error=str(error))
            return Receipt.REFUSED
        if due is None:
            due = self._notice_due(sender_of(message), code, _NOTICE_EVERY) or _awaited(reply)
        if due or isinstance(reply, CanFail):
            failure = Failure(code=code, text=text, id=id, retry_after=retry_after)
            self._spawn(tell(reply, failure, key=IdempotencyKey(f"refused-{id}"), aloud=aloud))
        return Receipt.REFUSED

    def _spawn(self, notice: Coroutine[Any, Any, object]) -> None:
        if len(self._notices) >= _NOTICES:
            notice.close()
            return
        task = asyncio.create_task(notice)
        self._notices.add(task)
        task.add_done_callback(self._notices.discard)

    def _notice_due(self, person: Person, kind: str, every: float) -> bool:
        key, now = (person, kind), self._clock.monotonic()
        last = self._noticed.pop(key, None)
        due = last is None or now - last >= every
        self._noticed[key] = now if last is None or due else last
        return due


def _awaited(reply: ReplyChannel | None) -> bool:
    """Whether its sender waits to be told something, each time."""
    return reply is not None and isinstance(reply, CanWhisper) and reply.AWAITED
