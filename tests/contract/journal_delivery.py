"""The end of a turn, and the parts of its reply on their way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from core.chat import Usage
from core.journal import (
    Exchange,
    InboxState,
    OutboxState,
    Outcome,
    TurnState,
)
from core.messages import (
    MessageId,
)
from tests.clock import HeldClock
from tests.contract.journal_scenes import (
    FAILED,
    QUOTA,
    WORK,
    Engine,
    EngineContract,
    Store,
    accept,
    answered,
    begin,
    deliver,
    inbound,
    key,
    state_of,
)


class DeliveryContract(EngineContract):
    """`finish` and what follows it."""

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
