"""What the store enforces of budgets: who pays, what is counted when, and that no budget is exceeded by more than a turn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from core.adapter import Receipt
from core.budgets import (
    EVERYBODY,
    UNLIMITED,
    Allowance,
    BudgetInUse,
    Exhausted,
    Measure,
    Spent,
    Subject,
    Used,
    Whose,
)
from core.chat import Usage
from core.journal import Accepted, Outcome, Quota, Reserved, Turn, TurnState
from core.messages import AccountId, ChannelId, ConversationKey, Person, UserId
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
    inbound,
    key,
)

ANN = Person(WORK, UserId("ann"))
SHARED = ConversationKey(WORK, channel=ChannelId("general"))


@dataclass(frozen=True)
class Caps:
    """Satisfies core.budgets.Budgets: the same for every person and account."""

    person: Allowance = UNLIMITED
    account: Allowance = UNLIMITED
    total: Allowance = UNLIMITED
    one: Spent = Spent(10, 1.0)  # noqa: RUF009 - frozen
    """What is set aside for a turn."""

    def allowances(self, sender: Person, payer: Person) -> tuple[Allowance, Allowance, Allowance]:
        del sender, payer
        return self.person, self.account, self.total

    def reserve(self, model: str | None, weight: int) -> Spent:
        del model, weight
        return self.one


def person(**caps: Any) -> Caps:
    """Each person may use so much."""
    return Caps(person=Allowance(**caps))


def spent(tokens: int, money: float = 0.0) -> Outcome:
    """A turn that went well and cost this."""
    return replace(answered(), usage=Usage(tokens, 0), spent=Spent(tokens, money))


async def start(store: Store, budgets: Caps, user: str = "ann", place: str | None = None, **options: Any) -> Turn:
    """The next turn of somebody, in a conversation of its own if `place` says so."""
    conversation = key(user) if place is None else ConversationKey(WORK, channel=ChannelId(place))
    turn = await store.begin(conversation, most=1, idle_after=None, budgets=budgets, **options)
    assert turn is not None
    return turn


async def ask(store: Store, user: str = "ann", *places: str) -> None:
    """Somebody asks in several conversations."""
    for place in places:
        conversation = ConversationKey(WORK, channel=ChannelId(place))
        accepted = await store.accept(inbound(user=user), conversation, QUOTA)
        assert accepted.receipt is Receipt.ACCEPTED


def refused(whose: Whose, measure: Measure, cap: float) -> Accepted:
    """By which budget."""
    return Accepted(receipt=Receipt.REFUSED, exhausted=Exhausted(whose=whose, measure=measure, cap=cap))


class BudgetContract(EngineContract):
    """`accept`, `begin`, `finish`, `release`, `reserve` and `charge`, as far as they count."""

    # messages

    async def test_messages_per_day_are_counted_by_sender_account_and_utc_day(
        self, store: Store, clock: HeldClock
    ) -> None:
        budgets = person(messages_per_day=1)
        await store.accept(inbound(), key(), QUOTA, budgets=budgets)
        again = await store.accept(inbound(), key(), QUOTA, budgets=budgets)
        assert again == refused(Whose.PERSON, Measure.MESSAGES, 1)
        assert (await store.accept(inbound(user="bob"), key("bob"), QUOTA, budgets=budgets)).receipt is Receipt.ACCEPTED
        elsewhere = inbound(account="other")
        accepted = await store.accept(elsewhere, key(account="other"), QUOTA, budgets=budgets)
        assert accepted.receipt is Receipt.ACCEPTED
        await clock.advance(15 * 3600)  # 09:00 becomes midnight
        assert (await store.accept(inbound(), key(), QUOTA, budgets=budgets)).receipt is Receipt.ACCEPTED

    async def test_an_account_s_and_everybody_s_messages_are_all_people_s_together(self, store: Store) -> None:
        account = Caps(account=Allowance(messages_per_day=2))
        for user in ("ann", "bob"):
            await store.accept(inbound(user=user), key(user), QUOTA, budgets=account)
        third = await store.accept(inbound(user="cy"), key("cy"), QUOTA, budgets=account)
        assert third == refused(Whose.ACCOUNT, Measure.MESSAGES, 2)
        other = inbound(account="other")
        assert (await store.accept(other, key(account="other"), QUOTA, budgets=account)).receipt is Receipt.ACCEPTED
        total = Caps(total=Allowance(messages_per_day=3))
        other = inbound(account="other")
        fourth = await store.accept(other, key(account="other"), QUOTA, budgets=total)
        assert fourth == refused(Whose.EVERYBODY, Measure.MESSAGES, 3)

    async def test_many_at_once_are_counted_exactly(self, store: Store) -> None:
        budgets = person(messages_per_day=7)
        receipts = await asyncio.gather(
            *(store.accept(inbound(), key(), Quota(queued=100), budgets=budgets) for _ in range(50))
        )
        assert [one.receipt for one in receipts].count(Receipt.ACCEPTED) == 7

    async def test_a_refused_message_and_a_duplicate_do_not_count(self, store: Store) -> None:
        message = inbound()
        await store.accept(message, key(), QUOTA)
        await store.accept(message, key(), QUOTA)
        await store.accept(inbound(), key(), Quota(queued=1))
        assert (await store.used(ANN))[0][0] == Used(messages=1)

    async def test_commands_are_free(self, store: Store) -> None:
        budgets = person(messages_per_day=1, tokens_per_day=1)
        await store.accept(inbound("/help"), key(), QUOTA, budgets=budgets, command=True)
        assert (await store.accept(inbound(), key(), QUOTA, budgets=budgets)).receipt is Receipt.ACCEPTED
        assert (await store.accept(inbound(), key(), QUOTA, budgets=budgets)).receipt is Receipt.REFUSED
        command = await store.accept(inbound("/usage"), key(), QUOTA, budgets=budgets, command=True)
        assert command.receipt is Receipt.ACCEPTED

    # tokens and money

    async def test_tokens_are_counted_when_turns_end(self, store: Store, clock: HeldClock) -> None:
        budgets = person(tokens_per_day=10)
        await store.accept(inbound(), key(), QUOTA, budgets=budgets)
        await store.finish(await start(store, budgets), answered(tokens=10))
        assert await store.accept(inbound(), key(), QUOTA, budgets=budgets) == refused(Whose.PERSON, Measure.TOKENS, 10)
        await clock.advance(15 * 3600)
        assert (await store.accept(inbound(), key(), QUOTA, budgets=budgets)).receipt is Receipt.ACCEPTED

    async def test_money_is_counted_by_months(self, store: Store, clock: HeldClock) -> None:
        budgets = person(money_per_month=2.0)
        await accept(store)
        await store.finish(await start(store, budgets), spent(1, 2.0))
        over = refused(Whose.PERSON, Measure.MONEY, 2.0)
        assert await store.accept(inbound(), key(), QUOTA, budgets=budgets) == over
        await clock.advance(28 * 86_400)  # still November
        assert await store.accept(inbound(), key(), QUOTA, budgets=budgets) == over
        await clock.advance(86_400)
        assert (await store.accept(inbound(), key(), QUOTA, budgets=budgets)).receipt is Receipt.ACCEPTED

    @pytest.mark.parametrize("state", [TurnState.STOPPED, TurnState.FAILED, TurnState.COMPLETE])
    async def test_a_turn_is_paid_whatever_its_end(self, store: Store, state: TurnState) -> None:
        await accept(store)
        await store.finish(await begin(store), Outcome(state=state, spent=Spent(5, 0.5)))
        assert (await store.used(ANN))[0] == (Used(messages=1, tokens=5, money=0.5),) * 2

    async def test_a_turn_that_comes_too_late_is_paid(self, store: Store) -> None:
        await accept(store)
        turn = await begin(store)
        await store.renew(key(), before=None)
        assert await store.finish(turn, spent(5)) == ()
        assert (await store.used(ANN))[0][0].tokens == 5

    async def test_a_turn_that_was_forgotten_meanwhile_is_paid(self, store: Store) -> None:
        await accept(store)
        turn = await begin(store)
        await store.forget(key())
        assert await store.finish(turn, spent(5)) == ()
        assert (await store.used(ANN))[0][0].tokens == 5

    async def test_a_turn_that_makes_way_is_paid_each_time(self, store: Store) -> None:
        await accept(store)
        await store.release(await begin(store), Spent(3))
        await store.finish(await begin(store), spent(5))
        assert (await store.used(ANN))[0][0].tokens == 8

    async def test_a_lost_owner_pays_nothing(self, store: Store) -> None:
        await accept(store)
        turn = await begin(store)
        await store.preview(turn, turn.last.id)
        await store.release(turn)
        await store.finish(turn, spent(5))
        await store.release(turn, Spent(5))
        assert (await store.used(ANN))[0][0].tokens == 0

    async def test_everybody_and_the_account_pay_too(self, store: Store) -> None:
        await accept(store)
        await store.finish(await begin(store), spent(5, 0.5))
        other = inbound(account="other", user="bob")
        await store.accept(other, key("bob", "other"), QUOTA)
        turn = await store.begin(key("bob", "other"), most=1, idle_after=None)
        assert turn is not None
        await store.finish(turn, spent(2, 0.25))
        used = Used(messages=1, tokens=5, money=0.5)
        total = Used(messages=2, tokens=7, money=0.75)
        assert await store.used(ANN) == [(used, used), (used, used), (total, total)]
        assert list(await store.used_by_person(account=None, month=True)) == [
            (ANN, used),
            (Person(AccountId("other"), UserId("bob")), Used(messages=1, tokens=2, money=0.25)),
        ]
        assert [who for who, _ in await store.used_by_person(account=WORK, month=False)] == [ANN]

    # room

    async def test_what_runs_is_set_aside(self, store: Store) -> None:
        budgets = person(tokens_per_day=25)
        await ask(store, "ann", "a", "b", "c")
        first = await start(store, budgets, place="a")
        await start(store, budgets, place="b")
        with pytest.raises(BudgetInUse) as in_use:
            await start(store, budgets, place="c")
        assert in_use.value.subject == Subject("work", "ann")
        await store.finish(first, spent(4))
        assert (await start(store, budgets, place="c")).exhausted is None

    async def test_a_turn_begins_alone_where_less_is_left_than_it_may_cost(self, store: Store) -> None:
        budgets = person(tokens_per_day=5)
        await ask(store, "ann", "a", "b")
        first = await start(store, budgets, place="a")
        with pytest.raises(BudgetInUse):
            await start(store, budgets, place="b")
        await store.finish(first, spent(4))
        second = await start(store, budgets, place="b")
        assert second.exhausted is None
        await store.finish(second, spent(10))
        assert (await store.used(ANN))[0][0].tokens == 14  # the cap and less than one turn

    async def test_a_turn_for_which_nothing_is_left_begins_to_say_so(self, store: Store) -> None:
        budgets = person(tokens_per_day=5)
        await ask(store, "ann", "a", "b")
        await store.finish(await start(store, budgets, place="a"), spent(5))
        turn = await start(store, budgets, place="b")
        assert turn.exhausted == Exhausted(whose=Whose.PERSON, measure=Measure.TOKENS, cap=5)
        await ask(store, "bob", "c")
        await start(store, Caps(total=Allowance(tokens_per_day=16)), "bob", place="c")  # it had set nothing aside

    @pytest.mark.parametrize("whose", ["account", "total"])
    async def test_others_wait_where_the_budget_is_shared(self, store: Store, whose: str) -> None:
        cap = Allowance(money_per_month=1.5)
        budgets = Caps(account=cap) if whose == "account" else Caps(total=cap)
        for user in ("ann", "bob"):
            await accept(store, user=user)
        first = await start(store, budgets)
        with pytest.raises(BudgetInUse) as in_use:
            await start(store, budgets, "bob")
        assert in_use.value.subject == (Subject("work", "") if whose == "account" else EVERYBODY)
        await store.finish(first, spent(1, 0.5))
        await start(store, budgets, "bob")

    async def test_nobody_is_overtaken(self, store: Store) -> None:
        budgets = person(tokens_per_day=100)
        await accept(store)
        with pytest.raises(BudgetInUse):
            await start(store, budgets, ahead=lambda subject: subject == Subject("work", "ann"))
        await start(store, budgets, ahead=lambda subject: subject == Subject("work", "bob"))

    async def test_what_waits_for_room_has_not_begun(self, store: Store) -> None:
        budgets = person(tokens_per_day=5)
        await ask(store, "ann", "a", "b")
        await start(store, budgets, place="a")
        for _ in range(3):
            with pytest.raises(BudgetInUse):
                await start(store, budgets, place="b")
        figures = await store.figures()
        assert (figures.waiting, figures.running) == (1, 1)

    async def test_what_is_put_back_is_not_set_aside(self, store: Store) -> None:
        budgets = person(tokens_per_day=10)
        await ask(store, "ann", "a", "b")
        await store.release(await start(store, budgets, place="a"))
        second = await start(store, budgets, place="b")
        await store.preview(second, second.last.id)
        await store.release(second)
        await start(store, budgets, place="a")

    async def test_what_failed_expired_or_was_forgotten_is_not_set_aside(self, store: Store, clock: HeldClock) -> None:
        budgets = person(tokens_per_day=10)
        await ask(store, "ann", "a", "b", "c")
        await store.finish(await start(store, budgets, place="a"), FAILED)
        expired = await start(store, budgets, place="b")
        await store.renew(expired.conversation, before=None)
        await store.finish(expired, replace(FAILED, spent=None))
        forgotten = await start(store, budgets, place="c")
        await store.forget(forgotten.conversation)
        await store.finish(forgotten, FAILED)
        await accept(store)
        await start(store, budgets)

    async def test_over_a_crash_it_stays_set_aside_for_the_turn_that_is_begun_again(self, engine: Engine) -> None:
        budgets = person(tokens_per_day=10)
        async with engine.open() as store:
            await ask(store, "ann", "a", "b")
            await start(store, budgets, place="a")
            await engine.crash(store)
        async with engine.open() as store:
            await store.recover()
            with pytest.raises(BudgetInUse):
                await start(store, budgets, place="b")
            first = await start(store, budgets, place="a", ahead=lambda _: True)  # it is not checked again
            assert first.exhausted is None
            await store.finish(first, spent(1))
            await start(store, budgets, place="b")

    async def test_nothing_is_set_aside_for_turns_that_are_left_for_another_start(self, engine: Engine) -> None:
        budgets = person(tokens_per_day=10)
        async with engine.open() as store:
            await ask(store, "ann", "a", "b")
            await start(store, budgets, place="a")
            await engine.crash(store)
        async with engine.open() as store:
            await store.recover(resuming=False)
            await start(store, budgets, place="b")

    @pytest.mark.parametrize("end", ["renew", "expire", "forget"])
    async def test_what_is_not_begun_again_is_not_set_aside(self, engine: Engine, clock: HeldClock, end: str) -> None:
        budgets = person(tokens_per_day=10)
        async with engine.open() as store:
            await ask(store, "ann", "a", "b")
            turn = await start(store, budgets, place="a")
            await engine.crash(store)
        async with engine.open() as store:
            await store.recover()
            match end:
                case "renew":
                    await store.renew(turn.conversation, before=None)
                case "expire":
                    await store.expire(
                        turn.conversation, account=WORK, received_before=clock.now() + timedelta(seconds=1)
                    )
                case _:
                    await store.forget(turn.conversation)
            await start(store, budgets, place="b")

    async def test_a_turn_for_which_nothing_was_left_is_checked_when_a_crash_brings_it_back(
        self, engine: Engine
    ) -> None:
        budgets = person(tokens_per_day=5)
        async with engine.open() as store:
            await ask(store, "ann", "a", "b")
            await store.finish(await start(store, budgets, place="a"), spent(5))
            assert (await start(store, budgets, place="b")).exhausted
            await engine.crash(store)
        async with engine.open() as store:
            await store.recover()
            assert (await start(store, budgets, place="b")).exhausted

    async def test_a_turn_that_made_way_is_checked_when_it_comes_back(self, store: Store) -> None:
        budgets = person(tokens_per_day=5)
        await ask(store, "ann", "a")
        turn = await start(store, budgets, place="a")
        await store.preview(turn, turn.last.id)
        await store.release(turn, Spent(5))
        again = await start(store, budgets, place="a")
        assert again.id == turn.id
        assert again.exhausted is not None

    async def test_a_turn_begun_before_a_crash_is_paid_by_whom_it_was_begun_for(self, engine: Engine) -> None:
        async with engine.open() as store:
            await accept(store)
            await begin(store)
            await engine.crash(store)
        async with engine.open() as store:
            await store.recover()
            await store.finish(await begin(store), spent(5))
            assert (await store.used(ANN))[0][0].tokens == 5

    # shared conversations

    async def test_in_a_shared_conversation_each_pays_for_what_they_ask(self, store: Store) -> None:
        for user in ("ann", "ann", "bob", "ann"):
            await store.accept(inbound(user=user), SHARED, QUOTA)
        costs = iter((4, 2, 1))
        asked = []
        while turn := await store.begin(SHARED, most=20, idle_after=None):
            asked.append([row.message.sender.id for row in turn.rows])
            await store.finish(turn, spent(next(costs)))
        assert asked == [["ann", "ann"], ["bob"], ["ann"]]
        bob = Person(WORK, UserId("bob"))
        assert [(await store.used(who))[0][0] for who in (ANN, bob)] == [
            Used(messages=3, tokens=5),
            Used(messages=1, tokens=2),
        ]

    # calls that are no turns

    async def test_a_call_that_is_no_turn_is_paid_like_one(self, store: Store) -> None:
        budgets = person(tokens_per_day=15, messages_per_day=3)

        async def reserve() -> Reserved | Exhausted:
            return await store.reserve(ANN, budgets=budgets, model=None, weight=1)

        first = await reserve()
        assert isinstance(first, Reserved)
        with pytest.raises(BudgetInUse):
            await reserve()
        await store.charge(first, Spent(2, 0.5))
        second = await reserve()
        assert isinstance(second, Reserved)
        await store.charge(second, Spent(13))
        assert await reserve() == Exhausted(whose=Whose.PERSON, measure=Measure.TOKENS, cap=15)
        assert (await store.used(ANN))[0][0] == Used(messages=2, tokens=15, money=0.5)
        unheard = await store.reserve(ANN, budgets=Caps(), model=None, weight=1, message=False)
        assert isinstance(unheard, Reserved)
        assert (await store.used(ANN))[0][0].messages == 2

    async def test_a_call_and_a_turn_share_the_room(self, store: Store) -> None:
        budgets = person(tokens_per_day=15)
        await accept(store)
        call = await store.reserve(ANN, budgets=budgets, model=None, weight=1)
        assert isinstance(call, Reserved)
        with pytest.raises(BudgetInUse):
            await start(store, budgets)
        await store.charge(call, Spent(1))
        await start(store, budgets)

    async def test_nobody_waits_for_a_caller_who_has_left(self, store: Store) -> None:
        budgets = person(tokens_per_day=10)
        for steps in range(4):
            call = asyncio.ensure_future(store.reserve(ANN, budgets=budgets, model=None, weight=1))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            (left,) = await asyncio.gather(call, return_exceptions=True)
            if isinstance(left, Reserved):
                await store.charge(left, Spent())
            await store.state(key())
            await store.state(key())  # until what is taken back is taken back
        assert isinstance(await store.reserve(ANN, budgets=budgets, model=None, weight=1), Reserved)

    # keeping

    async def test_usage_is_kept_for_a_year_whatever_the_retention_of_texts(
        self, store: Store, clock: HeldClock
    ) -> None:
        await accept(store)
        await store.finish(await begin(store), spent(5))
        await clock.advance(399 * 86_400)
        while await store.sweep(older_than=clock.now() - timedelta(days=30)):
            pass
        await accept(store, user="bob")
        await clock.advance(5 * 86_400)
        removed = 0
        while gone := await store.sweep(older_than=clock.now() - timedelta(days=900), most=2):
            removed += gone
        assert removed == 3  # Ann's, the account's and everybody's row of that day
