"""What the contract of durable storage is told with: an engine, and the scenes that its tests begin from."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from core.adapter import Receipt
from core.archive import Archive
from core.chat import Usage
from core.journal import (
    Exchange,
    InboxId,
    InboxState,
    Journal,
    OutboxPart,
    Outcome,
    Quota,
    Turn,
    TurnState,
)
from core.memory import Memories
from core.messages import (
    AccountId,
    ChannelId,
    ConversationKey,
    EventId,
    InboundMessage,
    MessageId,
    ReplyAddress,
    Sender,
    UserId,
)
from tests.clock import HeldClock

QUOTA = Quota()
WORK = AccountId("work")
_numbers = itertools.count(1)


class Store(Journal, Archive, Memories, Protocol):
    """What an engine implements."""


class Engine(ABC):
    """Opens one database again and again, as the program does from start to start."""

    @abstractmethod
    def open(self) -> AbstractAsyncContextManager[Store]:
        """Open what the last one left."""

    @abstractmethod
    async def crash(self, store: Store) -> None:
        """Let `store` end as kill -9 would: what is committed stays, nothing else happens."""


def key(user: str = "ann", account: str = WORK) -> ConversationKey:
    """A conversation per person."""
    return ConversationKey(AccountId(account), user=UserId(user))


def inbound(
    text: str = "hello",
    *,
    user: str = "ann",
    event: str | None = None,
    id: str | None = None,
    channel: str = "general",
    account: str = WORK,
) -> InboundMessage:
    """A message with ids of its own, unless they are given."""
    number = next(_numbers)
    return InboundMessage(
        id=MessageId(id if id is not None else f"m{number}"),
        event=EventId(event if event is not None else f"e{number}"),
        account=AccountId(account),
        sender=Sender(id=UserId(user), display_name=user.title()),
        channel=ChannelId(channel),
        is_direct=True,
        mentions_bot=False,
        text=text,
        sent_at=datetime(2026, 11, 2, 8, 59, tzinfo=UTC),
        reply_to=ReplyAddress(f'{{"to":"{user}"}}'),
    )


def answered(text: str = "hi", *, question: str = "hello", tokens: int = 10) -> Outcome:
    """A turn that went well, with a reply in one part."""
    return Outcome(
        state=TurnState.COMPLETE,
        parts=(text,),
        exchange=Exchange(question=question, answer=text),
        model="model-1",
        usage=Usage(input_tokens=tokens - 1, output_tokens=1),
    )


FAILED = Outcome(state=TurnState.FAILED, parts=("sorry",), error="id-1 ChatUnavailable: down", failure='{"code":"x"}')


async def accept(store: Store, text: str = "hello", *, user: str = "ann", command: bool = False) -> InboxId:
    """A message that is surely accepted."""
    accepted = await store.accept(inbound(text, user=user), key(user), QUOTA, command=command)
    assert accepted.receipt is Receipt.ACCEPTED
    assert accepted.inbox is not None
    return accepted.inbox


async def begin(store: Store, user: str = "ann", *, most: int = 1, idle_after: timedelta | None = None) -> Turn:
    """A turn that surely begins."""
    turn = await store.begin(key(user), most=most, idle_after=idle_after)
    assert turn is not None
    return turn


async def deliver(store: Store, parts: tuple[OutboxPart, ...]) -> None:
    """All parts arrive."""
    for part in parts:
        await store.sending(part)
        await store.sent(part, MessageId(f"p{part.id}"))


async def exchange(store: Store, question: str, answer: str, *, user: str = "ann") -> InboxId:
    """A whole turn, delivered."""
    inbox = await accept(store, question, user=user)
    turn = await begin(store, user)
    await deliver(store, await store.finish(turn, answered(answer, question=question)))
    return inbox


async def state_of(store: Store, message: InboundMessage) -> InboxState:
    """Where a message stands."""
    reached = await store.reached(message.account, message.event)
    assert reached is not None
    return reached.state


class EngineContract:
    """Tests of an engine; a subclass overrides `engine`."""

    @pytest.fixture
    def engine(self, tmp_path: Path, clock: HeldClock) -> Engine:
        """The engine under test, with an empty database."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, engine: Engine) -> AsyncIterator[Store]:
        async with engine.open() as store:
            yield store
