"""What becomes of a message that arrives: stored once, refused, or overload."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from core.adapter import Receipt
from core.journal import (
    Accepted,
    Bound,
    Exchange,
    Quota,
)
from core.messages import (
    ReplyAddress,
    ThreadId,
)
from tests.contract.journal_budgets import person
from tests.contract.journal_scenes import (
    QUOTA,
    Engine,
    EngineContract,
    Store,
    accept,
    answered,
    begin,
    deliver,
    inbound,
    key,
)


class AdmissionContract(EngineContract):
    """`accept` and its bounds."""

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
        quota, budgets = Quota(queued=1, pending=1), person(messages_per_day=1)
        await store.accept(message, key(), quota, budgets=budgets)
        assert (await store.accept(message, key(), quota, budgets=budgets)).receipt is Receipt.DUPLICATE
