"""Summaries: what is remembered beside the newest exchanges, and how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from core.journal import Exchange, TurnId, TurnState
from core.memory import Summary
from tests.clock import HeldClock
from tests.contract.journal_scenes import Engine, EngineContract, Store, accept, answered, begin, deliver, exchange, key


async def told(store: Store, *questions: str) -> list[TurnId]:
    """So many whole turns; their ids."""
    for question in questions:
        await exchange(store, question, f"answer to {question}")
    return [turn.id for turn in await store.turns(key())]


async def sum_up(store: Store, turns: list[TurnId], text: str = "in short", *, generation: int = 1) -> Summary:
    """The oldest turns are surely summed up."""
    summary = Summary(text=text, first=turns[0], upto=turns[-1], turns=len(turns))
    assert await store.sum_up(key(), generation, summary, instead_of=None, of=tuple(turns))
    return summary


class SummaryContract(EngineContract):
    """`memory` and `sum_up`."""

    async def test_without_a_summary_the_newest_exchanges_are_remembered(self, store: Store) -> None:
        one, two, three = await told(store, "1", "2", "3")
        memory = await store.memory(key(), 1, most=2)
        assert memory.summary is None
        assert memory.exchanges == await store.history(key(), 1, most=2)
        assert [exchange.turn for exchange in memory.exchanges] == [two, three]
        assert len((await store.memory(key(), 1, most=9)).exchanges) == 3
        assert one < two

    async def test_a_summary_stands_for_what_it_was_made_of_and_survives_a_restart(self, engine: Engine) -> None:
        async with engine.open() as store:
            turns = await told(store, "1", "2", "3")
            summary = await sum_up(store, turns[:2])
        async with engine.open() as store:
            memory = await store.memory(key(), 1, most=9)
            assert memory.summary == summary
            assert memory.exchanges == (Exchange(question="3", answer="answer to 3"),)
            state = await store.state(key())
            assert (state.turns, state.summed_up) == (3, 2)
            assert len(await store.history(key(), 1, most=9)) == 3  # the turns themselves stay
            assert len(await store.turns(key())) == 3

    async def test_the_next_summary_takes_the_place_of_the_one_it_was_made_from(self, store: Store) -> None:
        turns = await told(store, "1", "2", "3", "4")
        first = await sum_up(store, turns[:2])
        second = Summary(text="shorter", first=turns[0], upto=turns[2], turns=3)
        assert not await store.sum_up(key(), 1, second, instead_of=None, of=(turns[2],))
        other = replace(first, text="another one")
        assert not await store.sum_up(key(), 1, second, instead_of=other, of=(turns[2],))
        assert (await store.memory(key(), 1, most=9)).summary == first
        assert await store.sum_up(key(), 1, second, instead_of=first, of=(turns[2],))
        memory = await store.memory(key(), 1, most=9)
        assert memory.summary == second
        assert [exchange.turn for exchange in memory.exchanges] == turns[3:]

    async def test_a_summary_of_exchanges_that_are_no_more_is_not_stored(self, store: Store) -> None:
        turns = await told(store, "1", "2", "3")
        summary = Summary(text="x", first=turns[0], upto=turns[1], turns=2)
        for of in ((), (turns[0], TurnId(turns[2] + 9)), (turns[0], turns[2])):
            assert not await store.sum_up(key(), 1, summary, instead_of=None, of=of)
        assert not await store.sum_up(key("bob"), 1, summary, instead_of=None, of=tuple(turns[:2]))
        assert not await store.sum_up(key(), 2, summary, instead_of=None, of=tuple(turns[:2]))
        assert (await store.memory(key(), 1, most=9)).summary is None

    @pytest.mark.parametrize("how", ["renew", "forget"])
    async def test_a_new_generation_has_no_summary_and_takes_none_of_the_old_one(self, store: Store, how: str) -> None:
        turns = await told(store, "1", "2", "3")
        summary = await sum_up(store, turns[:1])
        await (store.renew(key(), before=None) if how == "renew" else store.forget(key()))
        following = Summary(text="late", first=turns[0], upto=turns[1], turns=2)
        assert not await store.sum_up(key(), 1, following, instead_of=summary, of=(turns[1],))
        for generation in (1, 2):
            memory = await store.memory(key(), generation, most=9)
            assert (memory.summary, memory.exchanges) == (None, ())
        assert (await store.state(key())).summed_up == 0

    async def test_a_conversation_that_rested_has_no_summary(self, store: Store, clock: HeldClock) -> None:
        turns = await told(store, "1", "2")
        await sum_up(store, turns[:1])
        await clock.advance(7200)
        await accept(store, "3")
        turn = await begin(store, idle_after=timedelta(hours=1))
        assert turn.generation == 2
        await store.finish(turn, answered(question="3"))
        memory = await store.memory(key(), 2, most=9)
        assert (memory.summary, len(memory.exchanges)) == (None, 1)

    async def test_a_summary_goes_when_one_of_its_turns_is_replaced_and_stays_for_a_later_one(
        self, store: Store
    ) -> None:
        turns = await told(store, "1", "2", "3")
        summary = await sum_up(store, turns[:2])
        for replaced, kept in ((turns[2], summary), (turns[1], None)):
            await accept(store, "/retry")
            outcome = replace(answered("anew", question="x"), replaces=replaced)
            await deliver(store, await store.finish(await begin(store), outcome))
            assert (await store.memory(key(), 1, most=9)).summary == kept
        assert [kept.question for kept in (await store.memory(key(), 1, most=9)).exchanges] == ["1", "x", "x"]

    async def test_a_summary_goes_with_the_oldest_text_it_was_made_of(self, store: Store, clock: HeldClock) -> None:
        old = await told(store, "old")
        await clock.advance(20 * 86_400)
        turns = await told(store, "1", "2")
        assert turns[0] == old[0]
        summary = await sum_up(store, turns[:2])
        await exchange(store, "q", "a", user="bob")
        await store.sweep(older_than=clock.now() - timedelta(days=30))
        assert (await store.memory(key(), 1, most=9)).summary == summary
        await clock.advance(15 * 86_400)
        await store.sweep(older_than=clock.now() - timedelta(days=30))
        memory = await store.memory(key(), 1, most=9)
        assert memory.summary is None
        assert [kept.question for kept in memory.exchanges] == ["1", "2"]

    async def test_an_emptied_conversation_is_swept_with_its_summary(self, store: Store, clock: HeldClock) -> None:
        turns = await told(store, "1", "2")
        await sum_up(store, turns)
        await clock.advance(60 * 86_400)
        while await store.sweep(older_than=clock.now()):
            pass
        assert await store.sessions() == []
        assert (await store.state(key())).last_active is None

    async def test_stopped_answers_are_remembered_and_commands_are_not(self, store: Store) -> None:
        await told(store, "1")
        await accept(store, "2")
        await store.finish(await begin(store), replace(answered("so far", question="2"), state=TurnState.STOPPED))
        assert [kept.answer for kept in (await store.memory(key(), 1, most=9)).exchanges] == ["answer to 1", "so far"]
