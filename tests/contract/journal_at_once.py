"""A turn that is begun in the transaction that accepts its message: the same as one that is begun after it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from core.adapter import Receipt
from core.budgets import BudgetInUse, Measure, Spent, Whose, nobody_ahead
from core.journal import Accepted, Turn
from core.messages import ConversationKey, InboundMessage
from core.states import TurnState
from tests.clock import HeldClock
from tests.contract.journal_budgets import person, refused, spent, start
from tests.contract.journal_scenes import (
    QUOTA,
    Engine,
    EngineContract,
    Store,
    accept,
    answered,
    begin,
    exchange,
    inbound,
    key,
)

DAY = timedelta(days=1)


async def at_once(
    store: Store, message: InboundMessage, conversation: ConversationKey | None = None, **options: object
) -> Accepted:
    """Somebody writes where nothing runs."""
    where = key(message.sender.id, message.account) if conversation is None else conversation
    return await store.accept(message, where, QUOTA, at_once=nobody_ahead, **options)  # type: ignore[arg-type]


def begun(accepted: Accepted) -> Turn:
    assert accepted.receipt is Receipt.ACCEPTED
    assert accepted.turn is not None
    return accepted.turn


class AtOnceContract(EngineContract):
    """`accept` with `at_once`."""

    async def test_the_turn_is_the_one_that_begin_would_give(self, engine: Engine) -> None:
        message = inbound("now")
        async with engine.open() as store:
            turn = begun(await at_once(store, message))
            assert [row.message for row in turn.rows] == [message]
            assert turn.rows[0].attempts == 1
            assert await store.begin(key(), most=1, idle_after=None) is None
            assert (await store.figures()).running == 1
            await engine.crash(store)
        async with engine.open() as store:
            assert (await store.recover()).conversations == (key(),)
            again = await begin(store)
        # the same turn, with its next owner
        assert again == replace(turn, epoch=again.epoch, rows=(replace(turn.rows[0], attempts=2),))
        assert again.epoch > turn.epoch

    async def test_it_ends_as_others_do(self, store: Store) -> None:
        turn = begun(await at_once(store, inbound("one"), idle_after=DAY))
        assert len(await store.finish(turn, answered("first", question="one"))) == 1
        assert [known.answer for known in await store.history(key(), turn.generation, most=5)] == ["first"]
        assert (await store.state(key())).turns == 1

    async def test_whoever_waits_goes_first(self, store: Store) -> None:
        await accept(store, "first")
        accepted = await at_once(store, inbound("second"))
        assert accepted.receipt is Receipt.ACCEPTED
        assert accepted.turn is None
        assert (await begin(store)).last.text == "first"

    async def test_a_turn_that_was_put_back_goes_first(self, store: Store) -> None:
        turn = begun(await at_once(store, inbound("first")))
        await store.release(turn)
        assert (await at_once(store, inbound("second"))).turn is None
        assert (await begin(store)).last.text == "first"

    async def test_neither_a_duplicate_nor_a_command_nor_what_is_refused_is_begun(self, store: Store) -> None:
        message = inbound()
        await store.finish(begun(await at_once(store, message)), answered())
        again = await at_once(store, message)
        assert (again.receipt, again.turn) == (Receipt.DUPLICATE, None)
        command = await at_once(store, inbound("/new"), command=True)
        assert (command.receipt, command.turn) == (Receipt.ACCEPTED, None)
        full = await store.accept(inbound(), key(), replace(QUOTA, queued=0), at_once=nobody_ahead)
        assert (full.receipt, full.turn) == (Receipt.REFUSED, None)

    async def test_a_conversation_that_rested_starts_afresh(self, store: Store, clock: HeldClock) -> None:
        await exchange(store, "old", "answer")
        before = await store.state(key())
        await clock.advance(DAY.total_seconds() + 1)
        turn = begun(await at_once(store, inbound("new"), idle_after=DAY))
        assert turn.generation == before.generation + 1
        assert (await store.state(key())).turns == 0

    async def test_the_chosen_model_and_persona_are_told(self, store: Store) -> None:
        await store.choose_model(key(), "model-2")
        await store.choose_persona(key(), "pirate")
        turn = begun(await at_once(store, inbound()))
        assert (turn.model, turn.persona) == ("model-2", "pirate")

    async def test_it_is_set_aside_and_paid_as_others_are(self, store: Store) -> None:
        budgets = replace(person(tokens_per_day=100), one=Spent(60, 0.0))
        turn = begun(await at_once(store, inbound(), budgets=budgets))
        other = ConversationKey(key().account, channel=inbound().channel)
        accepted = await at_once(store, inbound(), other, budgets=budgets)
        assert accepted.receipt is Receipt.ACCEPTED
        assert accepted.turn is None, "what is set aside leaves no room for a second one"
        try:
            await store.begin(other, most=1, idle_after=None, budgets=budgets)
        except BudgetInUse:
            pass
        else:
            raise AssertionError("it began all the same")
        await store.finish(turn, spent(100))
        assert (await store.begin(other, most=1, idle_after=None, budgets=budgets)).exhausted is not None  # type: ignore[union-attr]
        late = await at_once(store, inbound(), budgets=budgets)
        assert late == refused(Whose.PERSON, Measure.TOKENS, 100)

    async def test_whoever_waits_for_the_budget_is_not_overtaken(self, store: Store) -> None:
        budgets = person(tokens_per_day=100)
        accepted = await store.accept(inbound(), key(), QUOTA, budgets=budgets, at_once=lambda _: True)
        assert accepted.receipt is Receipt.ACCEPTED
        assert accepted.turn is None
        turn = await start(store, budgets)
        assert (await store.finish(turn, replace(spent(1), state=TurnState.COMPLETE))) != ()
