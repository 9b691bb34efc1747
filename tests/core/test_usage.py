"""What is paid for, by whom, and what people are told of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.account import Access, AccountConfig
from core.adapter import Receipt
from core.archive import PersonBudget
from core.budgets import Allowance, Used
from core.chat import Usage
from core.errors import ChatRefused, ChatUnavailable
from core.limits import LimitSettings
from core.messages import AccountId, Person, Scope, UserId
from core.prices import Price, Prices
from core.storage import spending
from tests.clock import HeldClock
from tests.core.gateway import Gateway, until
from tests.simulators.pager import Edits, Forms, Pager, Streams

ANN = Person(AccountId("work"), UserId("ann"))
PRICES = Prices({"test-model": Price(1.0, 2.0), "other-model": Price(10.0, 20.0)})
PRICED = LimitSettings(model="test-model", prices=PRICES)


async def used(gateway: Gateway, user: str = "ann") -> Used:
    """Today."""
    ((today, _), *_) = await gateway.store.used(Person(AccountId("work"), UserId(user)))
    return today


async def test_an_answer_costs_what_the_model_s_server_counted(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, limits=PRICED) as gateway:
        await gateway.ask("1")
        assert await used(gateway) == Used(messages=1, tokens=15, money=20e-6)
        await gateway.ask("/model other-model")
        await gateway.ask("2")
        assert (await used(gateway)).money == pytest.approx(220e-6)


async def test_an_answer_is_estimated_where_nobody_counted(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, limits=PRICED) as gateway:
        await gateway.ask("x" * 400)
        gateway.model.usage = None
        before = await used(gateway)
        gateway.model.will("y" * 4000)
        await gateway.ask("x" * 400)
        assert (await used(gateway)).tokens - before.tokens > 1000


async def test_a_stopped_answer_costs_what_was_asked_and_written(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Streams), limits=PRICED) as gateway:
        gateway.model.will("z" * 4000, asyncio.Event())
        await gateway.hear("1")
        await until(lambda: gateway.pager.texts() and gateway.pager.texts()[0])
        await gateway.ask("/stop")
        assert 1000 < (await used(gateway)).tokens < 1100


async def test_an_answer_that_is_stopped_before_its_first_word_is_not_free(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock) as gateway:
        gateway.model.will(asyncio.Event())
        await gateway.hear("x" * 4000)
        await until(lambda: gateway.model.running)
        await gateway.ask("/stop")
        assert 1000 < (await used(gateway)).tokens < 1100


async def test_an_answer_that_breaks_off_costs_what_was_written(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock) as gateway:
        gateway.model.will("z" * 4000, ChatUnavailable("gone"))
        await gateway.ask("1")
        assert 1000 < (await used(gateway)).tokens < 1100


async def test_a_call_that_the_server_did_not_take_is_free(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock) as gateway:
        gateway.model.will(ChatUnavailable("down"))
        await gateway.ask("1")
        assert await used(gateway) == Used(messages=1)


async def test_a_mistake_of_the_program_does_not_make_an_answer_free(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock) as gateway:
        gateway.model.will("z" * 4000, RuntimeError("a mistake"))
        await gateway.ask("1")
        assert 1000 < (await used(gateway)).tokens < 1100
        assert not gateway.responder.unpaid


async def test_an_answer_without_text_costs_what_the_server_counted(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock) as gateway:
        gateway.model.will(" ")
        await gateway.ask("1")
        assert (await used(gateway)).tokens == 15
        gateway.model.will(ChatRefused("no"))
        await gateway.ask("2")
        assert (await used(gateway)).tokens == 15


async def test_asking_again_a_new_conversation_and_making_way_are_not_free(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Edits), busy="interrupt") as gateway:
        await gateway.ask("1")
        await gateway.ask("/retry")
        assert (await used(gateway)).tokens == 30
        gateway.model.will("z" * 4000, asyncio.Event())
        await gateway.hear("2")
        await until(lambda: gateway.pager.texts()[-1].startswith("zzz"))
        await gateway.ask("/new")
        after_new = (await used(gateway)).tokens
        assert after_new > 1030
        gateway.model.will(asyncio.Event())
        await gateway.hear("x" * 4000)
        await until(lambda: gateway.model.running)
        await gateway.ask("4")
        assert (await used(gateway)).tokens > after_new + 1000


async def test_a_forgotten_answer_is_paid(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock) as gateway:
        gateway.model.will("z" * 4000, asyncio.Event())
        await gateway.hear("1")
        await until(lambda: gateway.model.running)
        await gateway.ask("/forget yes")
        assert (await used(gateway)).tokens > 1000


# Budgets


async def test_a_question_for_which_nothing_is_left_is_answered_with_the_time_of_the_reset(
    path: Path, clock: HeldClock
) -> None:
    limits = LimitSettings(person=Allowance(tokens_per_day=15))
    async with Gateway(path, clock, Pager(Forms), limits=limits) as gateway:
        gateway.model.will(hold := asyncio.Event(), "one")
        await gateway.hear("1")
        await until(lambda: gateway.model.running)
        await gateway.hear("2")  # there is something left
        hold.set()
        await gateway.idle()
        ((_, failure),) = gateway.pager.failures
        assert failure.text.startswith("You have used up today's amount of text (15 tokens).")
        assert "2026-11-03 00:00 UTC" in failure.text
        assert failure.retry_after == 15 * 3600
        assert gateway.model.questions == ["1"]


async def test_a_question_for_which_nothing_was_left_can_be_asked_again(path: Path, clock: HeldClock) -> None:
    limits = LimitSettings(person=Allowance(tokens_per_day=15))
    async with Gateway(path, clock, limits=limits) as gateway:
        gateway.model.will(hold := asyncio.Event(), "one")
        await gateway.hear("1")
        await until(lambda: gateway.model.running)
        await gateway.hear("2")
        hold.set()
        await gateway.idle()
        assert await gateway.hear("/retry") is Receipt.REFUSED
        await clock.advance(15 * 3600)
        await gateway.ask("/retry")
        assert gateway.model.questions == ["1", "2"]


async def test_two_conversations_of_one_person_wait_for_each_other_where_little_is_left(
    path: Path, clock: HeldClock
) -> None:
    limits = LimitSettings(person=Allowance(tokens_per_day=1000))
    async with Gateway(path, clock, limits=limits, scope=Scope.CHANNEL) as gateway:
        gateway.model.will(hold := asyncio.Event(), "one")
        for place in ("a", "b", "c", "d"):
            await gateway.hear(place, place=place)
        await until(lambda: gateway.headroom.waiting == 3)
        assert await gateway.hear("e", place="e", user="bob") is Receipt.ACCEPTED
        await until(lambda: gateway.pager.texts("e"))  # he waits for nobody
        hold.set()
        await gateway.idle()
        assert gateway.model.questions == ["a", "e", "b", "c", "d"]  # first come, first served
        assert not gateway.headroom.waiting


async def test_what_waits_for_a_budget_makes_way_for_new(path: Path, clock: HeldClock) -> None:
    limits = LimitSettings(person=Allowance(tokens_per_day=1000))
    async with Gateway(path, clock, limits=limits, scope=Scope.CHANNEL) as gateway:
        gateway.model.will(hold := asyncio.Event(), "one")
        await gateway.hear("1", place="a")
        await until(lambda: gateway.model.running)
        await gateway.hear("2", place="b")
        await until(lambda: gateway.headroom.waiting)
        await gateway.hear("/new", place="b")
        await until(lambda: not gateway.headroom.waiting)
        await gateway.hear("3", place="b")
        hold.set()
        await gateway.idle()
        assert gateway.model.questions == ["1", "3"]


@pytest.mark.parametrize("kind", [None, Forms])
async def test_what_waits_for_a_budget_is_stopped_and_says_so(
    path: Path, clock: HeldClock, kind: type[Forms] | None
) -> None:
    limits = LimitSettings(person=Allowance(tokens_per_day=1000))
    async with Gateway(path, clock, Pager(kind), limits=limits, scope=Scope.CHANNEL) as gateway:
        gateway.model.will(hold := asyncio.Event(), "one")
        await gateway.hear("1", place="a")
        await until(lambda: gateway.model.running)
        await gateway.hear("2", place="b")
        await gateway.hear("3", place="b")
        await until(lambda: gateway.headroom.waiting)
        await gateway.hear("/status", place="b")
        await until(lambda: gateway.pager.texts("b"))
        assert gateway.pager.texts("b")[-1].endswith("Now: 2 waiting until a budget has room")
        await gateway.hear("/stop", place="b")
        await until(lambda: gateway.pager.texts("b")[-1] == "Stopped.")
        hold.set()
        await gateway.idle()
        assert [failure.text for _, failure in gateway.pager.failures] == (["Stopped."] if kind else [])
        assert gateway.model.questions == ["1", "3"]  # what was asked after it has its turn
        assert (await gateway.ask("/stop", place="b"))[-1] == "There is nothing to stop."
        assert (await used(gateway)).tokens == 30
        await gateway.ask("/status", place="b")
        assert gateway.pager.texts("b")[-1].endswith("Now: idle")


@pytest.mark.parametrize("again", ["/retry", "2"])
async def test_what_was_stopped_before_it_had_its_turn_can_be_asked_again(
    path: Path, clock: HeldClock, again: str
) -> None:
    limits = LimitSettings(person=Allowance(tokens_per_day=1000))
    async with Gateway(path, clock, limits=limits, scope=Scope.CHANNEL) as gateway:
        gateway.model.will(hold := asyncio.Event(), "one")
        await gateway.hear("1", place="a")
        await until(lambda: gateway.model.running)
        await gateway.hear("2", place="b")
        await until(lambda: gateway.headroom.waiting)
        await gateway.hear("/stop", place="b")
        await until(lambda: gateway.pager.texts("b"))
        await gateway.hear(again, place="b")
        await until(lambda: gateway.headroom.waiting)
        hold.set()
        await gateway.idle()
        assert gateway.pager.texts("b") == ["Stopped.", "answer to 2"]


async def test_the_end_does_not_wait_for_a_budget(path: Path, clock: HeldClock) -> None:
    limits = LimitSettings(person=Allowance(tokens_per_day=1000))
    async with Gateway(path, clock, limits=limits, scope=Scope.CHANNEL) as gateway:
        gateway.model.will(hold := asyncio.Event(), "one")
        await gateway.hear("1", place="a")
        await until(lambda: gateway.model.running)
        await gateway.hear("2", place="b")
        await until(lambda: gateway.headroom.waiting)
        draining = asyncio.create_task(gateway.dispatcher.drain(turns=20, outbox=20))
        await asyncio.sleep(0)
        hold.set()
        assert await draining
        await gateway.crash()
    async with gateway.again(limits=limits, scope=Scope.CHANNEL) as later:
        await later.idle()
        assert later.model.questions[-1] == "2"


async def test_what_is_set_for_one_person_counts_before_the_configuration(path: Path, clock: HeldClock) -> None:
    limits = LimitSettings(person=Allowance(messages_per_day=1, tokens_per_day=1_000_000))
    async with Gateway(path, clock, limits=limits) as gateway:
        await gateway.people.set_budget(ANN, PersonBudget(messages_per_day=2), by="test")
        receipts = [await gateway.hear(text) for text in ("1", "2", "3")]
        assert receipts == [Receipt.ACCEPTED, Receipt.ACCEPTED, Receipt.REFUSED]
        assert await gateway.hear("1", user="bob") is Receipt.ACCEPTED
        assert await gateway.hear("2", user="bob") is Receipt.REFUSED


@pytest.mark.parametrize("exempt", [False, True])
async def test_admins_may_be_free_of_the_limits_per_person_only(path: Path, clock: HeldClock, exempt: bool) -> None:
    limits = LimitSettings(
        per_minute=1,
        person=Allowance(messages_per_day=1),
        accounts={"work": Allowance(messages_per_day=3)},
        exempt_admins=exempt,
    )
    accounts = {"work": AccountConfig(access=Access(admins=("ann",)))}
    async with Gateway(path, clock, limits=limits, accounts=accounts) as gateway:
        receipts = [await gateway.hear(text) for text in ("1", "2", "3", "4")]
        assert receipts.count(Receipt.ACCEPTED) == (3 if exempt else 1)
        await gateway.idle()
        if exempt:
            assert any(
                "Everyone here together has reached today's limit of 3" in text for text in gateway.pager.texts()
            )


@pytest.mark.parametrize(("whose", "words"), [("account", "I am asked for more"), ("total", "More is asked for")])
async def test_an_account_s_rate_is_told_as_such(path: Path, clock: HeldClock, whose: str, words: str) -> None:
    limits = LimitSettings(total_per_minute=2) if whose == "total" else LimitSettings(account_per_minute={"work": 2})
    async with Gateway(path, clock, limits=limits) as gateway:
        for user in ("ann", "bob"):
            await gateway.hear("1", user=user, place=user)
        assert await gateway.hear("1", user="cy", place="cy") is Receipt.REFUSED
        await gateway.idle()
        (text,) = gateway.pager.texts("cy")
        assert text.startswith(words)
        await clock.advance(30)
        assert await gateway.hear("1", user="cy", place="cy") is Receipt.ACCEPTED


async def test_messages_of_several_people_are_not_answered_on_one_bill(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, scope=Scope.CHANNEL, busy="merge") as gateway:
        gateway.model.will(hold := asyncio.Event(), "one")
        await gateway.inbox.receive(gateway.in_channel("1", user="ann", channel="room"))
        await until(lambda: gateway.model.running)
        for user, text in (("ann", "2"), ("ann", "3"), ("bob", "4"), ("ann", "5")):
            await gateway.inbox.receive(gateway.in_channel(text, user=user, channel="room"))
        hold.set()
        await gateway.idle()
        assert gateway.model.questions == ["Ann: 1", "Ann: 2\n\nAnn: 3", "Bob: 4", "Ann: 5"]
        assert (await used(gateway)).tokens == 3 * (await used(gateway, "bob")).tokens


# /usage


async def test_usage_tells_what_was_used_and_what_is_left(path: Path, clock: HeldClock) -> None:
    limits = replace(PRICED, person=Allowance(messages_per_day=500, tokens_per_day=200_000, money_per_month=5.0))
    async with Gateway(path, clock, limits=limits) as gateway:
        gateway.model.usage = Usage(1000, 500)
        await gateway.ask("1")
        await clock.advance(24 * 3600)
        await gateway.ask("2")
        assert (await gateway.ask("/usage"))[-1].split("  \n") == [
            "Your usage, today: 1 of 500 messages, 1,500 of 200,000 tokens",
            "Your usage, this month: 2 messages, 3,000 tokens, cost 0.0040 of 5.00",
            "The day starts afresh at 2026-11-04 00:00 UTC, the month at 2026-12-01 00:00 UTC.",
        ]
        assert (await gateway.ask("/用量"))[-1].startswith("您的用量，今天：1/500 条消息")


async def test_usage_without_prices_does_not_speak_of_money(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock) as gateway:
        await gateway.ask("1")
        first, second, _ = (await gateway.ask("/usage"))[-1].split("  \n")
        assert first == "Your usage, today: 1 message, 15 tokens"
        assert second == "Your usage, this month: 1 message, 15 tokens"


async def test_admins_see_the_account_and_everybody(path: Path, clock: HeldClock) -> None:
    accounts = {"work": AccountConfig(access=Access(admins=("ann",))), "other": AccountConfig()}
    async with Gateway(path, clock, accounts=accounts) as gateway:
        await gateway.ask("1", user="bob", place="bob")
        await gateway.ask("1", user="cy", place="cy", account="other")
        text = "\n".join(await gateway.ask("/usage"))
        assert "Everyone on this account, today: 1 message, 15 tokens" in text
        assert "All accounts, today: 2 messages, 30 tokens" in text
        assert "account" not in (await gateway.ask("/usage", user="bob", place="bob"))[-1]


async def test_a_stale_message_that_waited_for_its_budget_is_apologised_for(path: Path, clock: HeldClock) -> None:
    limits = LimitSettings(person=Allowance(tokens_per_day=1000))
    async with Gateway(path, clock, limits=limits, scope=Scope.CHANNEL, stale_after=timedelta(minutes=1)) as gateway:
        gateway.model.will(hold := asyncio.Event(), "one")
        await gateway.hear("1", place="a")
        await until(lambda: gateway.model.running)
        await gateway.hear("2", place="b")
        await until(lambda: gateway.headroom.waiting)
        await clock.advance(61)
        hold.set()
        await gateway.idle()
        assert gateway.pager.texts("b")[-1].startswith("I was away and 1 of your messages grew old")


# One person in fifty conversations at once


@pytest.mark.parametrize("measure", ["tokens", "money"])
async def test_ten_times_a_budget_in_fifty_conversations_is_the_budget_and_one_answer(
    path: Path, clock: HeldClock, measure: str
) -> None:
    cap = Allowance(tokens_per_day=6000) if measure == "tokens" else Allowance(money_per_month=0.006)
    limits = replace(PRICED, person=cap, tokens_per_prompt=100, tokens_per_answer=150)
    async with Gateway(path, clock, limits=limits, scope=Scope.CHANNEL) as gateway:
        gateway.model.usage, hold = Usage(300, 100), asyncio.Event()
        gateway.model.default = lambda _: [hold, "answer"]
        await asyncio.gather(*(gateway.hear(f"{n}", place=f"room{n % 50}") for n in range(400)))
        await until(lambda: gateway.model.running + gateway.headroom.waiting == 50)
        assert gateway.model.running > 1
        hold.set()
        await gateway.idle()
        today = await used(gateway)
        answered = len(gateway.model.prompts)
        assert today.tokens == 400 * answered  # what the model counted
        assert today.money == pytest.approx(500e-6 * answered)
        assert answered in ((15, 16) if measure == "tokens" else (12, 13))
        texts = [text for n in range(50) for text in gateway.pager.texts(f"room{n}")]
        notices = [text for text in texts if not text.startswith("answer")]
        assert len(texts) - len(notices) == answered
        assert notices
        reset = "2026-11-03 00:00" if measure == "tokens" else "2026-12-01 00:00"
        assert all(reset in text for text in notices if "used up" in text)


async def test_without_what_is_set_aside_the_same_would_be_exceeded(
    path: Path, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spending, "check_room", lambda *_: None)
    limits = LimitSettings(person=Allowance(tokens_per_day=600), tokens_per_prompt=20, tokens_per_answer=20)
    async with Gateway(path, clock, limits=limits, scope=Scope.CHANNEL) as gateway:
        gateway.model.default = lambda _: [hold, "answer"]
        hold = asyncio.Event()
        await asyncio.gather(*(gateway.hear(f"{n}", place=f"room{n % 50}") for n in range(400)))
        await until(lambda: gateway.model.running == 50)
        hold.set()
        await gateway.idle()
        assert (await used(gateway)).tokens > 600 + 15
