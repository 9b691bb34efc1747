"""What every engine of durable storage must do: the rules of core/journal.py and core/archive.py as tests.

An engine's test module subclasses `JournalContract` and brings an `Engine`.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from core.adapter import Receipt
from core.archive import ApiKey, Archive
from core.chat import Usage
from core.errors import ConfigError
from core.journal import (
    Accepted,
    Bound,
    Exchange,
    InboxId,
    InboxState,
    Journal,
    OutboxPart,
    OutboxState,
    Outcome,
    PartId,
    Quota,
    Turn,
    TurnId,
    TurnState,
)
from core.messages import (
    AccountId,
    ChannelId,
    ConversationKey,
    EventId,
    InboundMessage,
    MessageId,
    ReplyAddress,
    Sender,
    ThreadId,
    UserId,
)
from tests.clock import HeldClock

QUOTA = Quota()
WORK = AccountId("work")
_numbers = itertools.count(1)


class Store(Journal, Archive, Protocol):
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


class JournalContract:
    """Subclass it and override `engine`."""

    @pytest.fixture
    def engine(self, tmp_path: Path, clock: HeldClock) -> Engine:
        """The engine under test, with an empty database."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, engine: Engine) -> AsyncIterator[Store]:
        async with engine.open() as store:
            yield store

    # accept

    async def test_a_new_message_is_accepted_with_a_rising_id(self, store: Store) -> None:
        first, second = await accept(store), await accept(store)
        assert first < second

    async def test_a_message_outlives_the_process(self, engine: Engine) -> None:
        message = inbound("keep me")
        async with engine.open() as store:
            await store.accept(message, key(), QUOTA)
            await engine.crash(store)
        async with engine.open() as store:
            assert (await store.recover()).conversations == (key(),)
            turn = await begin(store)
        assert turn.rows[0].message == message

    async def test_the_same_event_is_a_duplicate_that_names_the_first_row(self, store: Store) -> None:
        message = inbound()
        first = await store.accept(message, key(), QUOTA)
        again = await store.accept(message, key(), QUOTA)
        assert again == Accepted(receipt=Receipt.DUPLICATE, inbox=first.inbox)

    async def test_two_events_of_one_message_are_one_row(self, store: Store) -> None:
        first = await store.accept(inbound(id="m", event="message"), key(), QUOTA)
        again = await store.accept(inbound(id="m", event="app_mention"), key(), QUOTA)
        assert again == Accepted(receipt=Receipt.DUPLICATE, inbox=first.inbox)

    async def test_message_ids_are_told_apart_by_channel_and_account(self, store: Store) -> None:
        messages = [
            inbound(id="m", event="e1", channel="a"),
            inbound(id="m", event="e2", channel="b"),
            inbound(id="m", event="e1", channel="a", account="other"),
        ]
        receipts = [(await store.accept(message, key(), QUOTA)).receipt for message in messages]
        assert receipts == [Receipt.ACCEPTED] * 3

    async def test_one_event_delivered_many_times_at_once_is_one_row(self, store: Store) -> None:
        message = inbound()
        results = await asyncio.gather(*(store.accept(message, key(), QUOTA) for _ in range(200)))
        assert [result.receipt for result in results].count(Receipt.ACCEPTED) == 1
        assert len({result.inbox for result in results}) == 1

    async def test_a_duplicate_is_known_after_a_restart_and_after_its_answer(self, engine: Engine) -> None:
        message = inbound()
        async with engine.open() as store:
            await store.accept(message, key(), QUOTA)
            await deliver(store, await store.finish(await begin(store), answered()))
        async with engine.open() as store:
            assert (await store.accept(message, key(), QUOTA)).receipt is Receipt.DUPLICATE
            assert await store.begin(key(), most=1, idle_after=None) is None

    async def test_odd_characters_survive(self, store: Store) -> None:
        odd = "nul \0 quote ' \" emoji 😀 right\u200f to left \u2028 中文"
        message = replace(
            inbound(odd, event="e\0\ud800", id="m'\0"), thread=ThreadId("t/:%\0"), reply_to=ReplyAddress("{}\0")
        )
        accepted = await store.accept(message, key(), QUOTA)
        assert (await store.accept(message, key(), QUOTA)).inbox == accepted.inbox
        turn = await begin(store)
        assert turn.rows[0].message == message
        parts = await store.finish(turn, answered(odd, question=odd))
        assert (await store.unsent(key()))[0].text == parts[0].text == odd
        assert await store.history(key(), 1, most=1) == (Exchange(question=odd, answer=odd),)

    async def test_a_lone_surrogate_in_an_answer_does_not_break_the_store(self, store: Store) -> None:
        await accept(store, "half \ud83d")
        parts = await store.finish(await begin(store), answered("whole \ud83d\ude00, half \ud83d", question="\udc00"))
        assert parts[0].text == "whole 😀, half �"
        assert await store.history(key(), 1, most=1) == (Exchange(question="�", answer=parts[0].text),)

    # quotas

    async def test_more_than_queued_of_one_conversation_are_refused(self, store: Store) -> None:
        quota = Quota(queued=2)
        for _ in range(2):
            await store.accept(inbound(), key(), quota)
        assert await store.accept(inbound(), key(), quota) == Accepted(receipt=Receipt.REFUSED, bound=Bound.QUEUED)
        other = await store.accept(inbound(user="bob"), key("bob"), quota)
        assert other.receipt is Receipt.ACCEPTED

    async def test_what_runs_is_not_queued(self, store: Store) -> None:
        quota = Quota(queued=1)
        await store.accept(inbound(), key(), quota)
        await begin(store)
        assert (await store.accept(inbound(), key(), quota)).receipt is Receipt.ACCEPTED

    async def test_commands_are_not_counted_as_queued_and_not_held_up_by_it(self, store: Store) -> None:
        quota = Quota(queued=1)
        assert (await store.accept(inbound("/help"), key(), quota, command=True)).receipt is Receipt.ACCEPTED
        assert (await store.accept(inbound(), key(), quota)).receipt is Receipt.ACCEPTED
        assert (await store.accept(inbound("/stop"), key(), quota, command=True)).receipt is Receipt.ACCEPTED

    async def test_more_than_pending_of_all_is_overload(self, store: Store) -> None:
        quota = Quota(pending=2)
        await store.accept(inbound(), key(), quota)
        await store.accept(inbound(user="bob"), key("bob"), quota)
        turn = await begin(store)
        full = await store.accept(inbound(user="cy"), key("cy"), quota)
        assert full == Accepted(receipt=Receipt.OVERLOADED, bound=Bound.PENDING)
        await store.finish(turn, answered())
        assert (await store.accept(inbound(user="cy"), key("cy"), quota)).receipt is Receipt.ACCEPTED

    async def test_pending_bytes_bound_the_bodies_together(self, store: Store) -> None:
        quota = Quota(pending_bytes=3000)
        assert (await store.accept(inbound("x" * 2000), key(), quota)).receipt is Receipt.ACCEPTED
        full = await store.accept(inbound("x" * 2000, user="bob"), key("bob"), quota)
        assert full == Accepted(receipt=Receipt.OVERLOADED, bound=Bound.PENDING)
        await store.finish(await begin(store), answered())
        assert (await store.accept(inbound("x" * 2000, user="bob"), key("bob"), quota)).receipt is Receipt.ACCEPTED

    async def test_pending_is_counted_across_a_restart(self, engine: Engine) -> None:
        quota = Quota(pending=2)
        async with engine.open() as store:
            await store.accept(inbound(), key(), quota)
            await store.accept(inbound(user="bob"), key("bob"), quota)
            await begin(store)
            await engine.crash(store)
        async with engine.open() as store:
            await store.recover()
            assert (await store.accept(inbound(user="cy"), key("cy"), quota)).bound is Bound.PENDING

    async def test_a_refused_message_is_not_stored(self, store: Store) -> None:
        message = inbound()
        await accept(store)
        await store.accept(message, key(), Quota(queued=1))
        assert await store.reached(message.account, message.event) is None
        assert (await store.accept(message, key(), QUOTA)).receipt is Receipt.ACCEPTED

    async def test_a_duplicate_of_a_full_queue_is_a_duplicate(self, store: Store) -> None:
        message = inbound()
        quota = Quota(queued=1, pending=1, messages_per_day=1)
        await store.accept(message, key(), quota)
        assert (await store.accept(message, key(), quota)).receipt is Receipt.DUPLICATE

    async def test_messages_per_day_are_counted_by_sender_account_and_utc_day(
        self, store: Store, clock: HeldClock
    ) -> None:
        quota = Quota(messages_per_day=1)
        await store.accept(inbound(), key(), quota)
        assert await store.accept(inbound(), key(), quota) == Accepted(
            receipt=Receipt.REFUSED, bound=Bound.MESSAGES_PER_DAY
        )
        assert (await store.accept(inbound(user="bob"), key("bob"), quota)).receipt is Receipt.ACCEPTED
        elsewhere = inbound(account="other")
        assert (await store.accept(elsewhere, key(account="other"), quota)).receipt is Receipt.ACCEPTED
        await clock.advance(15 * 3600)  # 09:00 becomes midnight
        assert (await store.accept(inbound(), key(), quota)).receipt is Receipt.ACCEPTED

    async def test_tokens_per_day_are_counted_when_turns_end(self, store: Store, clock: HeldClock) -> None:
        quota = Quota(tokens_per_day=10)
        await store.accept(inbound(), key(), quota)
        await store.finish(await begin(store), answered(tokens=10))
        assert await store.accept(inbound(), key(), quota) == Accepted(
            receipt=Receipt.REFUSED, bound=Bound.TOKENS_PER_DAY
        )
        await clock.advance(15 * 3600)
        assert (await store.accept(inbound(), key(), quota)).receipt is Receipt.ACCEPTED

    async def test_commands_are_free_of_the_day_s_bounds(self, store: Store) -> None:
        quota = Quota(messages_per_day=1, tokens_per_day=1)
        await store.accept(inbound("/help"), key(), quota, command=True)
        assert (await store.accept(inbound(), key(), quota)).receipt is Receipt.ACCEPTED
        assert (await store.accept(inbound(), key(), quota)).receipt is Receipt.REFUSED
        assert (await store.accept(inbound("/usage"), key(), quota, command=True)).receipt is Receipt.ACCEPTED

    # begin, release, recover

    async def test_the_oldest_message_is_begun_first(self, store: Store) -> None:
        for text in ("one", "two"):
            await accept(store, text)
        turn = await begin(store)
        assert [row.message.text for row in turn.rows] == ["one"]
        assert (turn.epoch, turn.generation, turn.model, turn.preview) == (1, 1, None, None)
        assert turn.rows[0].attempts == 1

    async def test_up_to_most_messages_are_begun_together_oldest_first(self, store: Store) -> None:
        for text in ("one", "two", "three"):
            await accept(store, text)
        turn = await begin(store, most=2)
        assert [row.message.text for row in turn.rows] == ["one", "two"]
        assert turn.last.text == "two"

    async def test_nothing_waits_in_an_unknown_or_idle_conversation(self, store: Store) -> None:
        assert await store.begin(key(), most=1, idle_after=None) is None
        await exchange(store, "q", "a")
        assert await store.begin(key(), most=1, idle_after=None) is None

    async def test_running_messages_are_not_handed_out_again(self, store: Store) -> None:
        await accept(store, "one")
        await begin(store)
        assert await store.begin(key(), most=5, idle_after=None) is None
        await accept(store, "two")
        assert [row.message.text for row in (await begin(store, most=5)).rows] == ["two"]

    async def test_turn_keys_leave_room_for_parts_and_differ(self, store: Store) -> None:
        for user in ("ann", "bob"):
            await accept(store, user=user)
        one, two = await begin(store), await begin(store, "bob")
        assert one.key != two.key
        assert len(one.key) <= 20
        assert set(one.part_key(9999)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert len(one.part_key(9999)) <= 25

    async def test_a_conversation_that_rested_gets_a_new_generation(self, store: Store, clock: HeldClock) -> None:
        await exchange(store, "q", "a")
        await clock.advance(3600)
        await accept(store)
        turn = await begin(store, idle_after=timedelta(hours=1))
        assert turn.generation == 1  # not longer than an hour
        await store.finish(turn, answered())
        await clock.advance(3601)
        await accept(store)
        turn = await begin(store, idle_after=timedelta(hours=1))
        assert turn.generation == 2
        assert await store.history(key(), 2, most=10) == ()
        assert (await store.state(key())).turns == 0

    async def test_time_a_message_waited_is_not_rest(self, store: Store, clock: HeldClock) -> None:
        await exchange(store, "q", "a")
        await accept(store)
        await clock.advance(90_000)
        assert (await begin(store, idle_after=timedelta(hours=1))).generation == 1

    async def test_commands_do_not_count_as_activity(self, store: Store, clock: HeldClock) -> None:
        await exchange(store, "q", "a")
        await clock.advance(3601)
        command = await store.begin_command(await accept(store, "/status", command=True))
        assert command is not None
        await store.finish(command, Outcome(state=TurnState.COMMAND, parts=("fine",)))
        await accept(store)
        assert (await begin(store, idle_after=timedelta(hours=1))).generation == 2

    async def test_a_turn_that_a_crash_broke_off_comes_back_first_alone_and_as_itself(self, engine: Engine) -> None:
        async with engine.open() as store:
            await accept(store, "one")
            await accept(store, "two")
            first = await begin(store)
            await store.preview(first, MessageId("shown"))
            await engine.crash(store)
        async with engine.open() as store:
            assert (await store.recover()).conversations == (key(),)
            again = await begin(store, most=5)
            assert (again.id, again.key, again.generation) == (first.id, first.key, first.generation)
            assert again.epoch > first.epoch
            assert again.preview == "shown"
            assert [row.message.text for row in again.rows] == ["one"]
            assert again.rows[0].attempts == 2
            assert [row.message.text for row in (await begin(store, most=5)).rows] == ["two"]

    async def test_messages_that_were_merged_come_back_merged(self, engine: Engine) -> None:
        async with engine.open() as store:
            for text in ("one", "two"):
                await accept(store, text)
            await begin(store, most=2)
            await engine.crash(store)
        async with engine.open() as store:
            await store.recover()
            assert [row.message.text for row in (await begin(store)).rows] == ["one", "two"]

    async def test_each_crash_counts_an_attempt(self, engine: Engine) -> None:
        async with engine.open() as store:
            await accept(store)
            await engine.crash(store)
        for attempt in (1, 2, 3):
            async with engine.open() as store:
                await store.recover()
                assert (await begin(store)).rows[0].attempts == attempt
                await engine.crash(store)

    async def test_recovery_lists_work_oldest_first_and_commands_apart(self, engine: Engine, clock: HeldClock) -> None:
        async with engine.open() as store:
            await accept(store, user="cy")
            parts_of_cy = await store.finish(await begin(store, "cy"), answered())
            assert parts_of_cy
            await clock.advance(1)
            await accept(store, user="bob")
            await clock.advance(1)
            await accept(store, user="ann")
            await exchange(store, "done", "done", user="dan")
            command = await accept(store, "/new", user="eve", command=True)
            await engine.crash(store)
        async with engine.open() as store:
            recovery = await store.recover()
            assert recovery.conversations == (key("cy"), key("bob"), key("ann"))
            assert recovery.commands == ((command, key("eve")),)

    async def test_release_makes_the_messages_wait_again_and_counts_no_attempt(self, store: Store) -> None:
        await accept(store, "one")
        turn = await begin(store)
        await accept(store, "two")
        await store.release(turn)
        assert [waiting.message.text for waiting in await store.waiting(key())] == ["one", "two"]
        merged = await begin(store, most=5)
        assert [(row.message.text, row.attempts) for row in merged.rows] == [("one", 1), ("two", 1)]

    async def test_a_released_turn_is_over(self, store: Store) -> None:
        await accept(store)
        turn = await begin(store)
        await store.release(turn)
        assert await store.finish(turn, answered()) == ()
        await store.release(turn)
        assert len(await store.waiting(key())) == 1

    async def test_a_released_turn_that_was_begun_before_stays_itself(self, engine: Engine) -> None:
        async with engine.open() as store:
            await accept(store)
            first = await begin(store)
            await store.preview(first, MessageId("shown"))
            await engine.crash(store)
        async with engine.open() as store:
            await store.recover()
            await store.release(await begin(store))
            again = await begin(store)
            assert (again.id, again.key, again.preview) == (first.id, first.key, "shown")

    async def test_a_begin_that_nobody_waits_for_any_more_is_taken_back(self, store: Store) -> None:
        await accept(store)
        for _ in range(50):
            task = asyncio.create_task(store.begin(key(), most=1, idle_after=None))
            await asyncio.sleep(0)
            task.cancel()
            results = await asyncio.gather(task, return_exceptions=True)
            if isinstance(results[0], Turn):
                await store.release(results[0])
        await store.state(key())  # whatever was taken back is taken back by now
        await store.state(key())
        assert len(await store.waiting(key())) == 1
        assert (await begin(store)).rows[0].attempts == 1

    async def test_a_cancelled_accept_happens_whole_or_not_at_all(self, store: Store) -> None:
        messages = [inbound(user=f"u{number}") for number in range(50)]
        tasks = [asyncio.create_task(store.accept(message, key(message.sender.id), QUOTA)) for message in messages]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for message, result in zip(messages, results, strict=True):
            stored = await store.reached(message.account, message.event) is not None
            assert stored or isinstance(result, asyncio.CancelledError)
            assert stored == (len(await store.waiting(key(message.sender.id))) == 1)
        for message in messages[1::2]:
            assert await state_of(store, message) is InboxState.NEW

    # commands

    async def test_a_command_is_begun_by_its_id_and_once(self, store: Store) -> None:
        await accept(store, "waiting")
        inbox = await accept(store, "/status", command=True)
        turn = await store.begin_command(inbox)
        assert turn is not None
        assert [row.id for row in turn.rows] == [inbox]
        assert await store.begin_command(inbox) is None
        assert [row.message.text for row in (await begin(store, most=5)).rows] == ["waiting"]

    async def test_begin_command_takes_commands_only(self, store: Store) -> None:
        assert await store.begin_command(await accept(store)) is None
        assert await store.begin_command(InboxId(999_999)) is None

    async def test_a_command_that_a_crash_broke_off_is_begun_again_as_the_same_turn(self, engine: Engine) -> None:
        async with engine.open() as store:
            inbox = await accept(store, "/new", command=True)
            first = await store.begin_command(inbox)
            await engine.crash(store)
        async with engine.open() as store:
            assert (await store.recover()).commands == ((inbox, key()),)
            again = await store.begin_command(inbox)
            assert first is not None
            assert again is not None
            assert (again.id, again.key) == (first.id, first.key)
            assert again.epoch > first.epoch

    async def test_a_command_s_reply_is_sent_even_when_it_began_a_new_generation(self, store: Store) -> None:
        turn = await store.begin_command(await accept(store, "/new", command=True))
        assert turn is not None
        await store.renew(key(), before=turn.rows[0].id)
        parts = await store.finish(turn, Outcome(state=TurnState.COMMAND, parts=("A new conversation.",)))
        assert [part.text for part in parts] == ["A new conversation."]
        assert await store.history(key(), 2, most=5) == ()

    # finish and delivery

    async def test_finish_commits_reply_history_usage_and_state_together(
        self, engine: Engine, clock: HeldClock
    ) -> None:
        message = inbound("hello")
        async with engine.open() as store:
            await store.accept(message, key(), QUOTA)
            turn = await begin(store)
            parts = await store.finish(
                turn,
                Outcome(
                    state=TurnState.COMPLETE,
                    parts=("one", "two"),
                    exchange=Exchange(question="hello", answer="onetwo"),
                    model="m",
                    usage=Usage(input_tokens=3, output_tokens=4),
                ),
            )
            await engine.crash(store)
        assert [(part.number, part.of, part.text, part.key) for part in parts] == [
            (0, 2, "one", turn.part_key(0)),
            (1, 2, "two", turn.part_key(1)),
        ]
        assert all(part.reply_to == message.reply_to and part.account == WORK for part in parts)
        assert all(part.state is OutboxState.PENDING and part.next_at == clock.now() for part in parts)
        async with engine.open() as store:
            assert (await store.recover()).conversations == (key(),)
            assert await store.unsent(key()) == parts
            assert await store.history(key(), 1, most=5) == (Exchange(question="hello", answer="onetwo"),)
            reached = await store.reached(message.account, message.event)
            assert reached is not None
            assert (reached.state, reached.turn_state) == (InboxState.ANSWERED, TurnState.COMPLETE)
            assert (reached.text, reached.model, reached.usage) == ("onetwo", "m", Usage(3, 4))
            assert await store.begin(key(), most=1, idle_after=None) is None

    async def test_part_0_edits_the_preview(self, store: Store) -> None:
        await accept(store)
        turn = await begin(store)
        await store.preview(turn, MessageId("shown"))
        parts = await store.finish(turn, replace(answered(), parts=("one", "two")))
        assert [part.edits for part in parts] == ["shown", None]
        assert [part.edits for part in await store.unsent(key())] == ["shown", None]

    async def test_the_failure_goes_with_the_first_part(self, store: Store) -> None:
        message = inbound()
        await store.accept(message, key(), QUOTA)
        parts = await store.finish(await begin(store), replace(FAILED, parts=("sorry", "more")))
        assert [part.failure for part in parts] == [FAILED.failure, ""]
        reached = await store.reached(message.account, message.event)
        assert reached is not None
        assert (reached.failure, reached.turn_state) == (FAILED.failure, TurnState.FAILED)

    async def test_a_turn_ends_once(self, store: Store) -> None:
        await accept(store)
        turn = await begin(store)
        assert len(await store.finish(turn, answered("first"))) == 1
        assert await store.finish(turn, answered("second")) == ()
        assert [part.text for part in await store.unsent(key())] == ["first"]
        assert len(await store.history(key(), 1, most=5)) == 1

    async def test_an_earlier_owner_of_a_turn_hits_nothing(self, engine: Engine) -> None:
        async with engine.open() as store:
            await accept(store)
            stale = await begin(store)
            await engine.crash(store)
        async with engine.open() as store:
            await store.recover()
            turn = await begin(store)
            await store.preview(stale, MessageId("ghost"))
            await store.release(stale)
            assert await store.finish(stale, answered("ghost")) == ()
            parts = await store.finish(turn, answered("true"))
            assert [(part.text, part.edits) for part in parts] == [("true", None)]

    async def test_a_reply_is_done_with_its_last_part(self, store: Store) -> None:
        message = inbound()
        await store.accept(message, key(), QUOTA)
        one, two = await store.finish(await begin(store), replace(answered(), parts=("one", "two")))
        await deliver(store, (one,))
        assert await state_of(store, message) is InboxState.ANSWERED
        assert [part.id for part in await store.unsent(key())] == [two.id]
        await deliver(store, (two,))
        assert await state_of(store, message) is InboxState.DONE
        assert await store.unsent(key()) == ()

    async def test_a_turn_without_parts_is_done_at_once(self, store: Store) -> None:
        message = inbound()
        await store.accept(message, key(), QUOTA)
        assert await store.finish(await begin(store), Outcome(state=TurnState.STOPPED)) == ()
        assert await state_of(store, message) is InboxState.DONE

    async def test_a_dead_turn_is_a_dead_letter_with_its_reason(self, store: Store) -> None:
        message = inbound("what is the answer")
        await store.accept(message, key(), QUOTA)
        turn = await begin(store)
        assert await store.finish(turn, replace(FAILED, dead=True)) == ()
        assert await state_of(store, message) is InboxState.DEAD
        (letter,) = await store.dead_letters()
        assert (letter.id, letter.conversation, letter.account) == (f"in-{turn.rows[0].id}", key(), WORK)
        assert (letter.text, letter.reason) == ("what is the answer", FAILED.error)
        assert (await store.figures()).dead == 1

    async def test_sending_is_remembered_across_a_crash(self, engine: Engine, clock: HeldClock) -> None:
        async with engine.open() as store:
            await accept(store)
            (part,) = await store.finish(await begin(store), answered())
            await clock.advance(1)
            await store.sending(part)
            await engine.crash(store)
        async with engine.open() as store:
            await store.recover()
            (left,) = await store.unsent(key())
            assert (left.state, left.sending_at, left.key) == (OutboxState.SENDING, clock.now(), part.key)

    async def test_postponing_counts_an_attempt_and_says_until_when(self, store: Store, clock: HeldClock) -> None:
        await accept(store)
        (part,) = await store.finish(await begin(store), answered())
        await store.sending(part)
        until = clock.now() + timedelta(seconds=5)
        later = await store.postpone(part, until, "busy", state=OutboxState.PENDING)
        assert (later.state, later.attempts, later.next_at) == (OutboxState.PENDING, 1, until)
        later = await store.postpone(later, until, "silence", state=OutboxState.UNKNOWN)
        (left,) = await store.unsent(key())
        assert (left.state, left.attempts, left.next_at) == (OutboxState.UNKNOWN, 2, until)
        assert later.attempts == 2

    async def test_burying_a_part_buries_the_ones_after_it_and_the_messages(self, store: Store) -> None:
        message = inbound()
        await store.accept(message, key(), QUOTA)
        parts = await store.finish(await begin(store), replace(answered(), parts=("one", "two", "three")))
        await deliver(store, parts[:1])
        await store.bury(parts[1], "the channel is gone")
        assert await store.unsent(key()) == ()
        assert await state_of(store, message) is InboxState.DEAD
        (letter,) = await store.dead_letters()
        assert (letter.id, letter.text, letter.reason) == (f"out-{parts[1].id}", "two", "the channel is gone")

    async def test_what_is_settled_stays_settled(self, store: Store, clock: HeldClock) -> None:
        message = inbound()
        await store.accept(message, key(), QUOTA)
        (part,) = await store.finish(await begin(store), answered())
        await deliver(store, (part,))
        await store.sending(part)
        await store.bury(part, "too late")
        await store.postpone(part, clock.now(), "too late", state=OutboxState.PENDING)
        assert await store.unsent(key()) == ()
        assert await state_of(store, message) is InboxState.DONE

    async def test_unsent_parts_come_in_the_order_they_are_to_be_sent(self, store: Store) -> None:
        for text in ("one", "two"):
            await accept(store, text)
        first = await store.finish(await begin(store), replace(answered(), parts=("1a", "1b")))
        await store.finish(await begin(store), replace(answered(), parts=("2a", "2b")))
        await deliver(store, first[:1])
        assert [part.text for part in await store.unsent(key())] == ["1b", "2a", "2b"]
        assert await store.unsent(key("bob")) == ()

    # history, generations

    async def test_history_is_the_newest_exchanges_oldest_first(self, store: Store) -> None:
        for number in range(5):
            await exchange(store, f"q{number}", f"a{number}")
        assert [found.question for found in await store.history(key(), 1, most=3)] == ["q2", "q3", "q4"]
        assert await store.history(key("bob"), 1, most=3) == ()

    async def test_history_has_no_failures_commands_or_interrupted_turns(self, store: Store) -> None:
        await exchange(store, "q", "a")
        for outcome in (FAILED, Outcome(state=TurnState.STOPPED), Outcome(state=TurnState.COMMAND, parts=("x",))):
            await accept(store)
            await store.finish(await begin(store), outcome)
        assert await store.history(key(), 1, most=9) == (Exchange(question="q", answer="a"),)
        assert (await store.state(key())).turns == 1

    async def test_renew_expires_what_waited_before_and_returns_it(self, store: Store) -> None:
        await exchange(store, "q", "a")
        await accept(store, "old")
        command = await accept(store, "/new", command=True)
        await accept(store, "young")
        dropped = await store.renew(key(), before=command)
        assert [row.message.text for row in dropped] == ["old"]
        state = await store.state(key())
        assert (state.generation, state.turns) == (2, 0)
        turn = await begin(store, most=5)
        assert [row.message.text for row in turn.rows] == ["young"]
        assert turn.generation == 2

    async def test_renew_without_a_bound_expires_all_that_waits_but_no_command(self, store: Store) -> None:
        await accept(store, "one")
        command = await accept(store, "/status", command=True)
        await accept(store, "two")
        assert [row.message.text for row in await store.renew(key(), before=None)] == ["one", "two"]
        assert await store.begin_command(command) is not None
        assert await store.renew(key("nobody"), before=None) == ()

    async def test_a_late_answer_to_an_earlier_generation_is_dropped(self, store: Store) -> None:
        message = inbound()
        await store.accept(message, key(), QUOTA)
        turn = await begin(store)
        await store.renew(key(), before=None)
        assert await store.finish(turn, answered()) == ()
        assert await store.unsent(key()) == ()
        assert await state_of(store, message) is InboxState.EXPIRED
        for generation in (1, 2):
            assert await store.history(key(), generation, most=5) == ()

    async def test_that_a_turn_was_stopped_is_told_after_renew_and_not_remembered(self, store: Store) -> None:
        await accept(store)
        turn = await begin(store)
        await store.renew(key(), before=None)
        stopped = replace(answered("half"), state=TurnState.STOPPED)
        assert [part.text for part in await store.finish(turn, stopped)] == ["half"]
        for generation in (1, 2):
            assert await store.history(key(), generation, most=5) == ()

    async def test_expire_takes_what_was_received_before(self, store: Store, clock: HeldClock) -> None:
        old = inbound("old")
        await store.accept(old, key(), QUOTA)
        await clock.advance(900)
        await accept(store, "young")
        late = await store.expire(key(), received_before=clock.now())
        assert [row.message for row in late] == [old]
        assert await state_of(store, old) is InboxState.EXPIRED
        assert [row.message.text for row in (await begin(store, most=5)).rows] == ["young"]

    async def test_expiring_a_broken_off_turn_ends_it(self, engine: Engine) -> None:
        async with engine.open() as store:
            await accept(store, "one")
            turn = await begin(store)
            await engine.crash(store)
        async with engine.open() as store:
            await store.recover()
            assert len(await store.renew(key(), before=None)) == 1
            assert await store.begin(key(), most=1, idle_after=None) is None
            assert await store.finish(replace(turn, epoch=turn.epoch), answered()) == ()
            (stored,) = await store.turns(key())
            assert stored.state is TurnState.EXPIRED

    async def test_a_turn_that_only_says_it_is_too_late_can_be_reopened(self, store: Store) -> None:
        inbox = await accept(store)
        parts = await store.finish(await begin(store), Outcome(state=TurnState.EXPIRED, parts=("I was away.",)))
        await deliver(store, parts)
        assert await store.reopen(inbox)

    # model, state, last turn, retry

    async def test_a_conversation_remembers_its_model(self, engine: Engine) -> None:
        async with engine.open() as store:
            await store.choose_model(key(), "big")
            await accept(store)
        async with engine.open() as store:
            assert (await store.state(key())).model == "big"
            assert (await begin(store)).model == "big"
            await store.choose_model(key(), None)
            assert (await store.state(key())).model is None

    async def test_the_state_of_a_conversation(self, store: Store, clock: HeldClock) -> None:
        state = await store.state(key())
        assert (state.generation, state.model, state.turns, state.last_active) == (1, None, 0, None)
        await exchange(store, "q", "a")
        assert (await store.state(key())).last_active == clock.now()
        assert (await store.state(key())).turns == 1

    async def test_last_turn_is_the_newest_question_whose_turn_ended(self, store: Store) -> None:
        assert await store.last_turn(key()) is None
        await exchange(store, "first", "a")
        await accept(store, "second")
        await store.finish(await begin(store), FAILED)
        command = await store.begin_command(await accept(store, "/status", command=True))
        assert command is not None
        await store.finish(command, Outcome(state=TurnState.COMMAND, parts=("fine",)))
        await accept(store, "/retry")
        await begin(store)
        last = await store.last_turn(key())
        assert last is not None
        assert (last.question, last.state) == ("second", TurnState.FAILED)
        await store.renew(key(), before=None)
        assert await store.last_turn(key()) is None

    async def test_a_repeated_question_replaces_its_first_answer(self, store: Store) -> None:
        await exchange(store, "q0", "a0")
        await exchange(store, "q1", "first answer")
        last = await store.last_turn(key())
        assert last is not None
        await accept(store, "/retry")
        outcome = replace(answered("second answer", question="q1"), replaces=last.id)
        await store.finish(await begin(store), outcome)
        assert await store.history(key(), 1, most=5) == (
            Exchange(question="q0", answer="a0"),
            Exchange(question="q1", answer="second answer"),
        )
        assert (await store.state(key())).turns == 2
        assert [(turn.question, turn.answer) for turn in await store.turns(key())] == [
            ("q0", "a0"),
            ("q1", "second answer"),
        ]

    async def test_a_repeated_question_that_failed_again_is_still_the_last_question(self, store: Store) -> None:
        await accept(store, "why?")
        await store.finish(await begin(store), FAILED)
        for _ in range(2):
            last = await store.last_turn(key())
            assert last is not None
            assert last.question == "why?"
            await accept(store, "/retry")
            await store.finish(await begin(store), replace(FAILED, replaces=last.id))

    async def test_nobody_s_turn_is_replaced_from_another_conversation(self, store: Store) -> None:
        await exchange(store, "secret", "kept", user="bob")
        theirs = await store.last_turn(key("bob"))
        assert theirs is not None
        await accept(store)
        await store.finish(await begin(store), replace(answered(), replaces=theirs.id))
        assert await store.history(key("bob"), 1, most=5) == (Exchange(question="secret", answer="kept"),)
        assert len(await store.turns(key("bob"))) == 1

    # reached, reopen

    async def test_reached_follows_a_message(self, store: Store) -> None:
        message = inbound("hello")
        assert await store.reached(message.account, message.event) is None
        inbox = (await store.accept(message, key(), QUOTA)).inbox
        reached = await store.reached(message.account, message.event)
        assert reached is not None
        assert (reached.inbox, reached.state, reached.turn_state) == (inbox, InboxState.NEW, None)
        assert (reached.body, reached.text, reached.failure) == (message, "", "")
        turn = await begin(store)
        assert await state_of(store, message) is InboxState.RUNNING
        await deliver(store, await store.finish(turn, replace(answered(), parts=("one ", "two"))))
        reached = await store.reached(message.account, message.event)
        assert reached is not None
        assert (reached.state, reached.turn_state, reached.text) == (InboxState.DONE, TurnState.COMPLETE, "one two")

    async def test_a_reply_that_was_shown_without_parts_is_reached_too(self, store: Store) -> None:
        message = inbound()
        await store.accept(message, key(), QUOTA)
        await store.finish(await begin(store), replace(answered("streamed"), parts=()))
        reached = await store.reached(message.account, message.event)
        assert reached is not None
        assert (reached.state, reached.text) == (InboxState.DONE, "streamed")

    @pytest.mark.parametrize("sent", [False, True])
    async def test_a_failed_message_can_be_reopened_whether_or_not_its_notice_was_sent(
        self, store: Store, clock: HeldClock, sent: bool
    ) -> None:
        inbox = await accept(store, "again please")
        first = await begin(store)
        parts = await store.finish(first, FAILED)
        if sent:
            await deliver(store, parts)
        await clock.advance(60)
        assert await store.reopen(inbox)
        assert await store.unsent(key()) == ()
        turn = await begin(store)
        assert turn.id != first.id
        assert turn.key != first.key
        assert turn.rows[0].id == inbox
        assert turn.rows[0].attempts == 1
        assert turn.rows[0].received_at == clock.now()

    async def test_a_message_reopened_at_once_gets_a_key_of_its_own(self, store: Store) -> None:
        inbox = await accept(store)
        first = await begin(store)
        await store.finish(first, FAILED)
        assert await store.reopen(inbox)
        assert (await begin(store)).key != first.key

    async def test_dead_and_expired_messages_can_be_reopened(self, store: Store) -> None:
        dead = await accept(store, "dead")
        await store.finish(await begin(store), replace(FAILED, dead=True))
        expired = await accept(store, "expired")
        await store.renew(key(), before=None)
        buried = await accept(store, "buried")
        parts = await store.finish(await begin(store), answered())
        await store.bury(parts[0], "gone")
        for inbox in (dead, expired, buried):
            assert await store.reopen(inbox)
            assert not await store.reopen(inbox)
        assert [row.message.text for row in (await begin(store, most=5)).rows] == ["dead", "expired", "buried"]
        assert await store.dead_letters() == []
        assert (await store.figures()).dead == 0

    async def test_what_is_on_its_way_or_answered_cannot_be_reopened(self, store: Store) -> None:
        inbox = await accept(store)
        assert not await store.reopen(inbox)
        turn = await begin(store)
        assert not await store.reopen(inbox)
        parts = await store.finish(turn, answered())
        assert not await store.reopen(inbox)
        await deliver(store, parts)
        assert not await store.reopen(inbox)
        assert not await store.reopen(InboxId(999_999))

    async def test_messages_that_failed_together_are_reopened_together(self, store: Store) -> None:
        first, _ = await accept(store, "one"), await accept(store, "two")
        await store.finish(await begin(store, most=2), FAILED)
        assert await store.reopen(first)
        assert [row.message.text for row in (await begin(store, most=5)).rows] == ["one", "two"]

    async def test_a_reopened_message_is_not_stale(self, store: Store, clock: HeldClock) -> None:
        inbox = await accept(store)
        await store.finish(await begin(store), FAILED)
        await clock.advance(3600)
        await store.reopen(inbox)
        assert await store.expire(key(), received_before=clock.now()) == ()

    # forget

    async def test_forget_removes_the_texts_and_keeps_what_deduplicates(self, store: Store) -> None:
        message = inbound("my secret")
        await store.accept(message, key(), QUOTA)
        await deliver(store, await store.finish(await begin(store), answered("a secret too")))
        await exchange(store, "another", "one")
        await exchange(store, "kept", "kept", user="bob")
        assert await store.forget(key()) == 2
        assert await store.turns(key()) == []
        assert await store.history(key(), 1, most=5) == ()
        assert [info.key for info in await store.sessions()] == [key("bob")]
        assert (await store.accept(message, key(), QUOTA)).receipt is Receipt.DUPLICATE
        reached = await store.reached(message.account, message.event)
        assert reached is not None
        assert (reached.state, reached.text, reached.body.text) == (InboxState.DONE, "", "")
        assert (reached.body.id, reached.body.sender.id) == (message.id, message.sender.id)
        assert len(await store.turns(key("bob"))) == 1

    async def test_forget_ends_what_waits_runs_or_is_unsent(self, store: Store) -> None:
        unsent = inbound("unsent")
        await store.accept(unsent, key(), QUOTA)
        await store.finish(await begin(store), answered())
        running, waits = inbound("running"), inbound("waits")
        await store.accept(running, key(), QUOTA)
        turn = await begin(store)
        await store.accept(waits, key(), QUOTA)
        await store.forget(key())
        assert await store.finish(turn, answered("late")) == ()
        assert await store.unsent(key()) == ()
        assert await store.begin(key(), most=5, idle_after=None) is None
        for message in (unsent, running, waits):
            assert await state_of(store, message) is InboxState.EXPIRED
        figures = await store.figures()
        assert (figures.waiting, figures.running, figures.unsent, figures.pending_bytes) == (0, 0, 0, 0)

    async def test_the_command_that_asks_to_forget_is_answered(self, store: Store) -> None:
        await exchange(store, "q", "a")
        turn = await store.begin_command(await accept(store, "/forget yes", command=True))
        assert turn is not None
        assert await store.forget(key()) == 1
        parts = await store.finish(turn, Outcome(state=TurnState.COMMAND, parts=("Forgotten.",)))
        assert [part.text for part in parts] == ["Forgotten."]
        await deliver(store, parts)

    async def test_a_forgotten_conversation_can_go_on(self, store: Store) -> None:
        await exchange(store, "q", "a")
        await store.forget(key())
        await exchange(store, "new", "start")
        (info,) = await store.sessions()
        assert (info.title, info.turns) == ("new", 1)
        assert await store.forget(key("nobody")) == 0

    # archive

    async def test_sessions_are_listed_most_recent_first_and_filtered(self, store: Store, clock: HeldClock) -> None:
        created = clock.now()
        await exchange(store, "  first\n question " + "x" * 100, "a", user="ann")
        await clock.advance(1)
        await exchange(store, "q", "a", user="bob")
        thread = ConversationKey(WORK, channel=ChannelId("general"), thread=ThreadId("t"))
        await clock.advance(1)
        await store.accept(inbound("in a thread", user="cy"), thread, QUOTA)
        turn = await store.begin(thread, most=1, idle_after=None)
        assert turn is not None
        await store.finish(turn, answered())
        assert [info.key for info in await store.sessions()] == [thread, key("bob"), key("ann")]
        assert [info.key for info in await store.sessions(limit=1)] == [thread]
        assert [info.key for info in await store.sessions(channel=ChannelId("general"))] == [thread]
        assert [info.key for info in await store.sessions(account=WORK, user=UserId("bob"))] == [key("bob")]
        assert await store.sessions(account=AccountId("other")) == []
        ann = (await store.sessions(user=UserId("ann")))[0]
        assert ann.title == ("first question " + "x" * 100)[:80]
        assert (ann.person, ann.turns, ann.created_at, ann.last_active) == ("Ann", 1, created, created)

    async def test_a_conversation_of_commands_alone_is_no_session(self, store: Store) -> None:
        await accept(store, "/help", command=True)
        assert await store.sessions() == []
        await accept(store, "a question")
        assert [info.title for info in await store.sessions()] == ["a question"]

    async def test_turns_of_all_generations_are_listed_oldest_first_without_commands(self, store: Store) -> None:
        await exchange(store, "q1", "a1")
        await store.renew(key(), before=None)
        message = inbound("q2")
        await store.accept(message, key(), QUOTA)
        await store.finish(await begin(store), FAILED)
        command = await store.begin_command(await accept(store, "/status", command=True))
        assert command is not None
        assert len(await store.turns(key())) == 2
        await store.finish(command, Outcome(state=TurnState.COMMAND, parts=("fine",)))
        await accept(store, "q3")
        await begin(store)
        turns = await store.turns(key())
        assert [(turn.generation, turn.state, turn.question, turn.answer) for turn in turns] == [
            (1, TurnState.COMPLETE, "q1", "a1"),
            (2, TurnState.FAILED, "q2", "sorry"),
            (2, TurnState.RUNNING, "q3", ""),
        ]
        assert turns[1].failure == FAILED.failure
        assert turns[1].messages == (message.id,)
        assert turns[2].ended_at is None
        assert [turn.question for turn in await store.turns(key(), limit=2)] == ["q2", "q3"]

    async def test_messages_answered_together_are_read_together(self, store: Store) -> None:
        for text in ("one", "two"):
            await accept(store, text)
        await begin(store, most=2)
        (turn,) = await store.turns(key())
        assert turn.question == "one\n\ntwo"
        assert len(turn.messages) == 2

    async def test_a_reopened_message_is_listed_once(self, store: Store) -> None:
        inbox = await accept(store, "again")
        await store.finish(await begin(store), FAILED)
        await store.reopen(inbox)
        assert await store.turns(key()) == []
        await store.finish(await begin(store), answered("now", question="again"))
        assert [(turn.question, turn.answer) for turn in await store.turns(key())] == [("again", "now")]

    async def test_waiting_messages_are_listed_oldest_first(self, store: Store, clock: HeldClock) -> None:
        for text in ("one", "two", "three"):
            await accept(store, text)
        await accept(store, "/help", command=True)
        await begin(store)
        waiting = await store.waiting(key())
        assert [(found.message.text, found.received_at) for found in waiting] == [
            ("two", clock.now()),
            ("three", clock.now()),
        ]

    async def test_a_trace_tells_the_road_of_a_message_in_order(self, store: Store, clock: HeldClock) -> None:
        inbox = await accept(store)
        await clock.advance(1)
        turn = await begin(store)
        await clock.advance(1)
        one, two = await store.finish(turn, replace(answered(), parts=("one", "two")))
        await clock.advance(1)
        await store.sending(one)
        await clock.advance(1)
        await store.sent(one, MessageId("p1"))
        await store.sending(two)
        await store.postpone(two, clock.now() + timedelta(seconds=5), "rate limited", state=OutboxState.PENDING)
        steps = await store.trace(inbox)
        assert [step.what for step in steps] == [
            "received",
            "turn started",
            "model done",
            "sending",
            "sent",
            "sending",
            "waiting",
        ]
        assert [step.at for step in steps] == sorted(step.at for step in steps)
        assert "model-1" in steps[2].detail
        assert "p1" in steps[4].detail
        assert "rate limited" in steps[6].detail
        await store.bury(two, "gone")
        assert "gone" in (await store.trace(inbox))[-1].detail
        assert await store.trace(InboxId(999_999)) == []

    async def test_a_trace_tells_why_there_is_no_reply(self, store: Store) -> None:
        failed = await accept(store)
        await store.finish(await begin(store), FAILED)
        assert [step.what for step in await store.trace(failed)][:3] == ["received", "turn started", "failed"]
        expired = await accept(store)
        await store.renew(key(), before=None)
        assert [step.what for step in await store.trace(expired)] == ["received", "expired"]
        dead = await accept(store)
        await store.finish(await begin(store), replace(FAILED, dead=True))
        steps = await store.trace(dead)
        assert steps[-1].what == "dead"
        assert steps[-1].detail == FAILED.error

    async def test_dead_letters_come_newest_first_and_bounded(self, store: Store, clock: HeldClock) -> None:
        for text in ("one", "two" * 100, "three"):
            await accept(store, text)
            await store.finish(await begin(store), replace(FAILED, dead=True))
            await clock.advance(1)
        letters = await store.dead_letters()
        assert [letter.text for letter in letters] == ["three", ("two" * 100)[:200], "one"]
        assert len(await store.dead_letters(limit=2)) == 2

    async def test_a_dead_part_can_be_retried_with_the_ones_after_it(self, store: Store) -> None:
        message = inbound()
        await store.accept(message, key(), QUOTA)
        parts = await store.finish(await begin(store), replace(answered(), parts=("one", "two", "three")))
        assert await store.retry_part(parts[0].id) is None
        await deliver(store, parts[:1])
        await store.bury(parts[1], "gone")
        assert await store.retry_part(parts[1].id) == key()
        unsent = await store.unsent(key())
        assert [(part.text, part.attempts, part.state) for part in unsent] == [
            ("two", 0, OutboxState.PENDING),
            ("three", 0, OutboxState.PENDING),
        ]
        await deliver(store, unsent)
        assert await state_of(store, message) is InboxState.DONE
        assert await store.dead_letters() == []
        assert await store.retry_part(PartId(999_999)) is None

    async def test_whose_message_a_row_is(self, store: Store) -> None:
        assert await store.conversation_of(await accept(store)) == key()
        assert await store.conversation_of(InboxId(999_999)) is None

    async def test_api_keys_are_kept_listed_and_revoked_once(self, engine: Engine, clock: HeldClock) -> None:
        first = ApiKey(
            id="aaaaaaaa",
            name="ci",
            namespace="team",
            scopes=("chat", "admin"),
            created_at=clock.now(),
            revoked_at=None,
        )
        async with engine.open() as store:
            await store.add_api_key(first, b"\0digest")
        async with engine.open() as store:
            assert await store.api_keys() == [(first, b"\0digest")]
            assert await store.revoke_api_key("aaaaaaaa")
            assert not await store.revoke_api_key("aaaaaaaa")
            assert not await store.revoke_api_key("bbbbbbbb")
            assert await store.api_keys() == [(replace(first, revoked_at=clock.now()), b"\0digest")]

    async def test_figures_count_what_waits_runs_and_is_unsent(self, store: Store) -> None:
        await accept(store)
        await accept(store)
        turn = await begin(store)
        figures = await store.figures()
        assert (figures.waiting, figures.running, figures.unsent, figures.dead) == (1, 1, 0, 0)
        assert figures.pending_bytes > 0
        assert figures.file_bytes > 0
        await store.finish(turn, answered())
        figures = await store.figures()
        assert (figures.waiting, figures.running, figures.unsent) == (1, 0, 1)

    # sweep

    async def test_a_sweep_removes_what_is_finished_and_old(self, store: Store, clock: HeldClock) -> None:
        old = inbound("old")
        await store.accept(old, key(), QUOTA)
        await deliver(store, await store.finish(await begin(store), answered()))
        await clock.advance(40 * 86_400)
        await exchange(store, "young", "a", user="bob")
        limit = clock.now() - timedelta(days=30)
        assert await store.sweep(older_than=limit) > 0
        assert await store.sweep(older_than=limit) == 0
        assert await store.turns(key()) == []
        assert [info.key for info in await store.sessions()] == [key("bob")]
        assert len(await store.history(key("bob"), 1, most=5)) == 1
        assert await store.reached(old.account, old.event) is None

    async def test_a_sweep_keeps_what_is_unfinished(self, store: Store, clock: HeldClock) -> None:
        await accept(store, "waits", user="ann")
        await accept(store, "runs", user="bob")
        running = await begin(store, "bob")
        await accept(store, "unsent", user="cy")
        unsent = await store.finish(await begin(store, "cy"), answered())
        await clock.advance(40 * 86_400)
        await store.sweep(older_than=clock.now())
        assert await store.unsent(key("cy")) == unsent
        assert len(await store.finish(running, answered())) == 1
        assert (await begin(store)).rows[0].message.text == "waits"

    async def test_a_sweep_keeps_ids_for_seven_days_without_their_texts(self, store: Store, clock: HeldClock) -> None:
        message = inbound("secret")
        await store.accept(message, key(), QUOTA)
        await deliver(store, await store.finish(await begin(store), answered()))
        await clock.advance(6 * 86_400)
        await store.sweep(older_than=clock.now())
        assert await store.turns(key()) == []
        assert (await store.accept(message, key(), QUOTA)).receipt is Receipt.DUPLICATE
        reached = await store.reached(message.account, message.event)
        assert reached is not None
        assert (reached.body.text, reached.text) == ("", "")
        await clock.advance(2 * 86_400)
        await store.sweep(older_than=clock.now())
        assert await store.reached(message.account, message.event) is None

    async def test_a_sweep_removes_at_most_so_many_at_once(self, store: Store, clock: HeldClock) -> None:
        for number in range(5):
            await exchange(store, f"q{number}", "a")
        await clock.advance(40 * 86_400)
        await store.sweep(older_than=clock.now(), most=2)
        assert len(await store.turns(key())) == 3
        while await store.sweep(older_than=clock.now(), most=2):
            pass
        assert await store.turns(key()) == []
        assert (await store.state(key())).turns == 0

    async def test_ids_are_never_used_again(self, store: Store, clock: HeldClock) -> None:
        inbox = await exchange(store, "q", "a")
        (turn,) = await store.turns(key())
        await clock.advance(40 * 86_400)
        await store.sweep(older_than=clock.now())
        assert await exchange(store, "q", "a") > inbox
        assert (await store.turns(key()))[0].id > turn.id
        assert TurnId(turn.id) == turn.id

    # where an account was written to

    async def test_places_are_those_of_one_account_the_most_lately_active_first(
        self, store: Store, clock: HeldClock
    ) -> None:
        start = clock.now()
        for channel, thread in (("a", None), ("b", None), ("b", "t"), ("a", None)):
            message = inbound(channel=channel)
            await store.accept(replace(message, thread=ThreadId(thread) if thread else None), key(), QUOTA)
            await clock.advance(60)
        await store.accept(inbound(channel="c", account="home"), key(account="home"), QUOTA)
        places = await store.places(WORK, since=start)
        assert [(place.channel, place.thread) for place in places] == [("a", None), ("b", "t"), ("b", None)]
        assert places[0].last == start + timedelta(minutes=3)
        assert (places[0].is_direct, places[0].reply_to) == (True, message.reply_to)
        assert await store.places(WORK, since=start, limit=1) == places[:1]
        assert await store.places(WORK, since=places[1].last) == places[:2]
        assert [place.channel for place in await store.places(AccountId("home"), since=start)] == ["c"]

    async def test_places_outlive_the_process_and_forgotten_texts_take_theirs_along(
        self, engine: Engine, clock: HeldClock
    ) -> None:
        start = clock.now()
        async with engine.open() as store:
            await accept(store, user="ann")
            await store.accept(inbound(user="bob", channel="other"), key("bob"), QUOTA)
        async with engine.open() as store:
            assert [place.channel for place in await store.places(WORK, since=start)] == ["other", "general"]
            await store.forget(key("bob"))
            assert [place.channel for place in await store.places(WORK, since=start)] == ["general"]

    async def test_the_last_reply_of_an_account_is_known_since_it_was_opened(
        self, store: Store, clock: HeldClock
    ) -> None:
        assert store.last_sent(WORK) is None
        await exchange(store, "q", "a")
        assert store.last_sent(WORK) == clock.now()
        assert store.last_sent(AccountId("home")) is None

    # backup, closing

    async def test_a_backup_is_a_whole_store(self, engine: Engine, store: Store, tmp_path: Path) -> None:
        await exchange(store, "q", "a")
        target = tmp_path / "backup"
        size = await store.backup(target)
        assert size == target.stat().st_size > 0
        with pytest.raises(ConfigError, match="exists"):
            await store.backup(target)
        with pytest.raises(ConfigError, match="missing"):
            await store.backup(tmp_path / "missing" / "backup")
        assert len(await store.turns(key())) == 1
