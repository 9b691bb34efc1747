"""From a waiting message to a turn that ended, across crashes, /new, /retry and reopening."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from core.journal import (
    Exchange,
    InboxId,
    InboxState,
    Outcome,
    Turn,
    TurnState,
)
from core.messages import (
    AccountId,
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
    exchange,
    inbound,
    key,
    state_of,
)


class TurnContract(EngineContract):
    """Turns, commands, generations."""

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
        late = await store.expire(key(), received_before=clock.now(), account=WORK)
        assert [row.message for row in late] == [old]
        assert await state_of(store, old) is InboxState.EXPIRED
        assert [row.message.text for row in (await begin(store, most=5)).rows] == ["young"]

    async def test_expire_leaves_what_came_through_another_account(self, store: Store, clock: HeldClock) -> None:
        here, there = inbound("here"), inbound("there", account="club")
        for message in (here, there):
            await store.accept(message, key(), QUOTA)
        await clock.advance(900)
        late = await store.expire(key(), received_before=clock.now(), account=AccountId("club"))
        assert [row.message for row in late] == [there]
        assert [row.message for row in (await begin(store, most=5)).rows] == [here]

    async def test_messages_of_two_accounts_are_never_answered_together(self, store: Store) -> None:
        for text, account in (("1", WORK), ("2", WORK), ("3", "club"), ("4", WORK)):
            await store.accept(inbound(text, account=account), key(), QUOTA)
        for together in (["1", "2"], ["3"], ["4"]):
            turn = await begin(store, most=5)
            assert [row.message.text for row in turn.rows] == together
            await store.finish(turn, answered())

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
        assert await store.expire(key(), received_before=clock.now(), account=WORK) == ()
