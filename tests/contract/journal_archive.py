"""What people look up, remove and save."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.adapter import Receipt
from core.archive import ApiKey
from core.errors import ConfigError
from core.journal import (
    InboxId,
    InboxState,
    OutboxState,
    Outcome,
    PartId,
    TurnId,
    TurnState,
)
from core.messages import (
    AccountId,
    ChannelId,
    ConversationKey,
    MessageId,
    ThreadId,
    UserId,
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


class ArchiveContract(EngineContract):
    """core.archive, and `forget`."""

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
        assert (await store.state(key())).last_active is None  # nothing is left of the conversation

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

    async def test_a_backup_is_written_once_and_never_over_a_file(self, store: Store, tmp_path: Path) -> None:
        await exchange(store, "q", "a")
        target = tmp_path / "backup"
        size = await store.backup(target)
        assert size == target.stat().st_size > 0
        with pytest.raises(ConfigError, match="exists"):
            await store.backup(target)
        with pytest.raises(ConfigError, match="missing"):
            await store.backup(tmp_path / "missing" / "backup")
        assert len(await store.turns(key())) == 1
