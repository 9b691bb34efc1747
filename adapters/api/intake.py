"""From a question to a message in the inbox, and to the answer that is waited for."""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from urllib.parse import quote

from adapters.api.answers import Answer, Answers, address_of
from adapters.api.faults import Refusal
from core.adapter import Failure, FailureCode, Inbox, Receipt
from core.chat import Usage
from core.commands import without_code
from core.errors import StorageUnavailable
from core.host import Host
from core.journal import InboxState, Reached, TurnState
from core.messages import AccountId, ChannelId, EventId, InboundMessage, MessageId, Person, Sender, UserId

_PROCESS, _REQUESTS = secrets.token_hex(8), count(1)
"""Make the events of requests without a key unique, without asking the system for randomness each time."""

REFUSAL_WAIT = 5.0
"""Seconds that the reason of a refused message may take to arrive."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a request asks, apart from how it wants the answer."""

    namespace: str
    user: str
    text: str
    idempotency_key: str | None = None
    locale: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that is in the journal."""

    event: EventId
    answer: Answer
    replayed: bool
    """The answer was there already."""


def user_id(namespace: str, user: str) -> UserId:
    """Encoded part by part, so that two namespaces never meet, whatever `user` contains."""
    return UserId(f"{quote(namespace, safe='')}/{quote(user, safe='')}")


def parse_message(question: Question, account: AccountId, now: datetime) -> InboundMessage:
    """The message that a request stands for. Requests with one idempotency key are deliveries of one message."""
    if question.idempotency_key is None:
        event = EventId(f"r-{_PROCESS}-{next(_REQUESTS)}")
    else:
        named = json.dumps([question.namespace, question.user, question.idempotency_key])
        event = EventId(f"k-{hashlib.sha256(named.encode()).hexdigest()}")
    user = user_id(question.namespace, question.user)
    return InboundMessage(
        id=MessageId(event),
        event=event,
        account=account,
        sender=Sender(id=user, display_name=question.user, locale=question.locale),
        channel=ChannelId(user),
        is_direct=True,
        mentions_bot=True,
        text=question.text,
        sent_at=now,
        reply_to=address_of(event),
    )


class Intake:
    """Hands questions to the inbox and settles what came of it."""

    def __init__(self, account: AccountId, host: Host, answers: Answers, *, timeout: float) -> None:
        """`timeout`: seconds that a request may wait for its answer."""
        self._account = account
        self._timeout = timeout
        self._host = host
        self._answers = answers
        self.inbox: Inbox | None = None
        """None while the gateway does not receive."""

    @asynccontextmanager
    async def ask(self, question: Question, *, growing: bool = False) -> AsyncIterator[Asked]:
        """Hand the question in; inside the context its answer can be waited for, and watched if it is `growing`.

        Raises Refusal, also in place of what the context was doing when the time was up (504). Leaving early takes
        nothing back: the question will be answered, and the answer stored.
        """
        message = parse_message(question, self._account, self._host.clock.now())
        try:
            # Waiting begins before the inbox has the message: the answer may come at once.
            with self._answers.wait(message.event, growing=growing) as answer:
                async with asyncio.timeout(self._timeout):
                    replayed = await self._hand_in(message, answer)
                    answer.accepted = True
                    yield Asked(message.event, answer, replayed)
        except TimeoutError:
            keyed = question.idempotency_key is not None
            raise Refusal(
                504,
                "timeout",
                "The answer takes longer than this request may; it will be kept. "
                + ("Repeat the request to get it." if keyed else "With an Idempotency-Key, repeating would get it."),
                repeatable=keyed,
                retry_after=5 if keyed else None,
            ) from None

    async def spent(self, event: EventId) -> tuple[str | None, Usage | None]:
        """Which model answered and what it cost, where the journal has it by now."""
        try:
            reached = await self._host.journal.reached(self._account, event)
        except StorageUnavailable:
            return None, None
        return (None, None) if reached is None else (reached.model, reached.usage)

    async def settle_from_journal(self, event: EventId, answer: Answer) -> None:
        """Settle an answer that another node brought, or that came as part of another message's answer."""
        try:
            reached = await self._host.journal.reached(self._account, event)
        except StorageUnavailable:
            return  # the next round asks again
        if reached is not None and (outcome := _outcome(reached)) is not None:
            answer.settle(outcome)

    async def _hand_in(self, message: InboundMessage, answer: Answer) -> bool:
        """True if the journal had the answer already."""
        match await self._receipt(message):
            case Receipt.ACCEPTED:
                return False
            case Receipt.DUPLICATE:
                return await self._repeat(message, answer)
            case Receipt.REFUSED:
                if await answer.settled_within(REFUSAL_WAIT):
                    await answer.whole()  # raises the reason
                raise Refusal(429, "refused", "The message was refused: not allowed, or over a limit.", retry_after=5)
            case Receipt.OVERLOADED:
                raise Refusal(503, "overloaded", "Too much is waiting to be answered.", retry_after=5)
            case Receipt.CLOSED:
                raise closed()
            case Receipt.IGNORED | Receipt.STALE:
                raise Refusal(422, "ignored", "The message is not one that is answered.")

    async def _receipt(self, message: InboundMessage) -> Receipt:
        if self.inbox is None:
            raise closed()
        try:
            return await self.inbox(message)
        except StorageUnavailable:
            raise Refusal(503, "storage_unavailable", "Messages cannot be stored right now.", retry_after=5) from None

    async def _repeat(self, message: InboundMessage, answer: Answer) -> bool:
        try:
            reached = await self._host.journal.reached(self._account, message.event)
            if reached is None or reached.body.text not in (message.text, without_code(message.text)):
                raise Refusal(
                    422,
                    "idempotency_key_reused",
                    "This Idempotency-Key was used for another message, or its message is no longer stored; use a new one.",
                    field="Idempotency-Key",
                )
            outcome = _outcome(reached)
            if isinstance(outcome, Failure):
                return await self._ask_again(message, reached)
        except StorageUnavailable:
            raise Refusal(503, "storage_unavailable", "The store cannot be read right now.", retry_after=5) from None
        if outcome is None:
            return False
        answer.settle(outcome)
        return True

    async def _ask_again(self, message: InboundMessage, reached: Reached) -> bool:
        """A question that failed before. The inbox did not count this request, as it is no new message."""
        wait = self._host.rates.take(Person(self._account, message.sender.id))
        if wait is not None:
            raise Refusal(429, "rate_limited", "Too many messages in a minute.", retry_after=wait.seconds)
        if await self._host.journal.reopen(reached.inbox):
            conversation = await self._host.archive.conversation_of(reached.inbox)
            if conversation is not None:
                self._host.wake(conversation)
        # Otherwise a request beside this one was faster, and both wait for the same answer.
        return False


def closed() -> Refusal:
    """The gateway is starting or stopping."""
    return Refusal(503, "closed", "The gateway is starting or stopping; please try again.", retry_after=5)


def _outcome(reached: Reached) -> str | Failure | None:
    """How a message ended, None while it has not."""
    if reached.state in (InboxState.NEW, InboxState.RUNNING):
        return None
    if reached.failure:
        return _failure(reached.failure)
    if reached.state is InboxState.DEAD or reached.turn_state is TurnState.FAILED:
        return Failure(code=FailureCode.INTERNAL, text="This message could not be answered.", id="")
    if reached.state is InboxState.EXPIRED or reached.turn_state is TurnState.EXPIRED:
        return Failure(code=FailureCode.EXPIRED, text="This message waited too long and was not answered.", id="")
    return reached.text


def _failure(document: str) -> Failure:
    try:
        stored = json.loads(document)
        return Failure(
            code=FailureCode(stored["code"]),
            text=str(stored["text"]),
            id=str(stored["id"]),
            retry_after=stored.get("retry_after"),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return Failure(code=FailureCode.INTERNAL, text="This message could not be answered.", id="")
