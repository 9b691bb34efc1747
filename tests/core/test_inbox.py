"""Admission: what each message gets, and what its sender is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.account import Access, AccountConfig
from core.adapter import FailureCode, Receipt
from core.budgets import Allowance
from core.errors import StorageUnavailable
from core.journal import InboxId, Quota
from core.limits import LimitSettings
from core.messages import AccountId, Attachment, EventId, MessageId, Person, Quoted, Sender, UserId
from tests.clock import HeldClock
from tests.core.gateway import WORK, Gateway, until
from tests.simulators.pager import Forms, Pager


async def test_an_accepted_message_is_answered_once(gateway: Gateway) -> None:
    assert await gateway.ask("hello") == ["answer to hello"]
    assert gateway.inbox.seen[WORK].accepted == 1


async def test_a_redelivery_is_a_duplicate_and_is_not_answered_again(gateway: Gateway) -> None:
    message = gateway.message("hello")
    assert await gateway.inbox.receive(message) is Receipt.ACCEPTED
    assert await gateway.inbox.receive(message) is Receipt.DUPLICATE
    await gateway.idle()
    assert await gateway.inbox.receive(message) is Receipt.DUPLICATE
    await gateway.idle()
    assert gateway.pager.texts() == ["answer to hello"]


async def test_two_events_about_one_message_are_one_turn(gateway: Gateway) -> None:
    message = gateway.message("hello")
    other = replace(message, event=EventId("app_mention-of-it"))
    receipts = await asyncio.gather(gateway.inbox.receive(message), gateway.inbox.receive(other))
    assert Counter(receipts) == {Receipt.ACCEPTED: 1, Receipt.DUPLICATE: 1}


async def test_a_storm_of_200_redeliveries_is_one_turn_and_costs_one_message_of_the_rate(
    path: Path, clock: HeldClock
) -> None:
    async with Gateway(path, clock, per_minute=20) as gateway:
        message = gateway.message("hello")
        receipts = Counter(await asyncio.gather(*(gateway.inbox.receive(message) for _ in range(200))))
        assert receipts == {Receipt.ACCEPTED: 1, Receipt.DUPLICATE: 199}
        await gateway.idle()
        assert gateway.pager.texts() == ["answer to hello"]
        for number in range(19):
            assert await gateway.hear(f"more {number}") is Receipt.ACCEPTED
        assert await gateway.hear("too much") is Receipt.REFUSED
        await gateway.idle()


async def test_over_the_rate_a_known_message_is_still_a_duplicate_whichever_event_brings_it(
    path: Path, clock: HeldClock
) -> None:
    async with Gateway(path, clock, per_minute=1) as gateway:
        message = gateway.message("hello")
        assert await gateway.inbox.receive(message) is Receipt.ACCEPTED
        assert await gateway.inbox.receive(message) is Receipt.DUPLICATE
        assert await gateway.inbox.receive(replace(message, event=EventId("other"))) is Receipt.DUPLICATE
        await gateway.idle()
        assert gateway.pager.texts() == ["answer to hello"]


@pytest.mark.parametrize(
    ("fields", "receipt"),
    [
        ({"sender": Sender(id=UserId("robot"), is_bot=True)}, Receipt.IGNORED),
        ({"is_direct": False, "mentions_bot": False}, Receipt.IGNORED),
        ({"is_direct": False, "mentions_bot": True}, Receipt.ACCEPTED),
        ({"text": " \n "}, Receipt.IGNORED),
        ({"text": "x" * 32_001}, Receipt.REFUSED),
        ({"text": "x" * 32_000}, Receipt.ACCEPTED),
    ],
)
async def test_each_kind_of_message_gets_its_receipt(
    gateway: Gateway, fields: dict[str, Any], receipt: Receipt
) -> None:
    assert await gateway.inbox.receive(gateway.message(**{"text": "hello", **fields})) is receipt
    await gateway.idle()


async def test_a_file_without_words_is_accepted_and_answered_with_a_hint(gateway: Gateway) -> None:
    file = Attachment(name="a.pdf", media_type="application/pdf", size=10, source="x")
    (text,) = await gateway.ask("", attachments=(file,))
    assert "can't read files" in text
    assert not gateway.model.prompts


async def test_what_is_forwarded_or_pointed_at_without_a_word_is_answered(gateway: Gateway) -> None:
    (text,) = await gateway.ask("", quoted=Quoted(author="Ann", text="Why is the sky blue?"))
    assert text.startswith("answer to [In reply to a message by Ann:]")
    assert "Why is the sky blue?" in gateway.model.prompts[0][-1].content
    assert await gateway.hear(" ", quoted=Quoted(author="Ann", text=" ")) is Receipt.IGNORED


async def test_a_message_of_yesterday_is_stale_and_stores_nothing(gateway: Gateway, clock: HeldClock) -> None:
    assert await gateway.hear("old", sent_at=clock.now() - timedelta(hours=25)) is Receipt.STALE
    assert await gateway.hear("fine", sent_at=clock.now() - timedelta(hours=23)) is Receipt.ACCEPTED
    await gateway.idle()
    assert gateway.model.questions == ["fine"]


async def test_who_is_not_allowed_is_refused_before_anything_else_is_looked_at(path: Path, clock: HeldClock) -> None:
    accounts = {"work": AccountConfig(access=Access(direct="allowlist", allow=("ann",)))}
    async with Gateway(path, clock, accounts=accounts, per_minute=1) as gateway:
        assert await gateway.hear("x" * 40_000, user="eve", sent_at=clock.now() - timedelta(days=9)) is Receipt.REFUSED
        await gateway.idle()
        (notice,) = gateway.pager.texts()
        assert "Your id is eve" in notice
        assert await gateway.ask("hello", user="ann", place="desk") == ["answer to hello"]


@pytest.mark.parametrize(
    ("access", "direct", "mentioned", "unmentioned"),
    [
        (Access(), Receipt.ACCEPTED, Receipt.ACCEPTED, Receipt.IGNORED),
        (Access(direct="off"), Receipt.REFUSED, Receipt.ACCEPTED, Receipt.IGNORED),
        (Access(direct="allowlist"), Receipt.REFUSED, Receipt.ACCEPTED, Receipt.IGNORED),
        (Access(channels="always"), Receipt.ACCEPTED, Receipt.ACCEPTED, Receipt.ACCEPTED),
        (Access(channels="off"), Receipt.ACCEPTED, Receipt.REFUSED, Receipt.IGNORED),
        (Access(channels="always", allow=("elsewhere",)), Receipt.ACCEPTED, Receipt.REFUSED, Receipt.IGNORED),
        (Access(channels="always", allow=("home",)), Receipt.ACCEPTED, Receipt.ACCEPTED, Receipt.ACCEPTED),
        (Access(channels="always", allow=("ann",)), Receipt.ACCEPTED, Receipt.ACCEPTED, Receipt.ACCEPTED),
    ],
)
async def test_access_decides_for_direct_messages_and_channels(
    path: Path, clock: HeldClock, access: Access, direct: Receipt, mentioned: Receipt, unmentioned: Receipt
) -> None:
    async with Gateway(path, clock, accounts={"work": AccountConfig(access=access)}) as gateway:
        assert await gateway.hear("a") is direct
        assert await gateway.hear("b", is_direct=False, mentions_bot=True) is mentioned
        assert await gateway.hear("c", is_direct=False) is unmentioned
        await gateway.idle()


async def test_who_may_not_talk_is_told_once_an_hour(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, accounts={"work": AccountConfig(access=Access(direct="off"))}) as gateway:
        for _ in range(5):
            assert await gateway.hear("hello") is Receipt.REFUSED
        assert await gateway.hear("hello", user="bob", place="desk") is Receipt.REFUSED
        await gateway.idle()
        assert (len(gateway.pager.texts()), len(gateway.pager.texts("desk"))) == (1, 1)
        await clock.advance(3599.0)
        await gateway.hear("hello")
        await gateway.idle()
        assert len(gateway.pager.texts()) == 1
        await clock.advance(1.0)
        await gateway.hear("hello")
        await gateway.idle()
        assert len(gateway.pager.texts()) == 2


async def test_where_somebody_waits_for_each_answer_every_refusal_is_told(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Forms), per_minute=1) as gateway:
        assert await gateway.hear("first") is Receipt.ACCEPTED
        for _ in range(5):
            assert await gateway.hear("again") is Receipt.REFUSED
        await gateway.idle()
        codes = [failure.code for _, failure in gateway.pager.failures]
        assert codes == [FailureCode.RATE_LIMITED] * 5
        assert gateway.pager.failures[0][1].retry_after == pytest.approx(60.0)


async def test_a_refusal_that_cannot_be_told_harms_nobody(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, per_minute=1) as gateway:
        gateway.pager.fail("send", RuntimeError("a mistake of an adapter"))
        gateway.model.will(asyncio.Event())
        assert await gateway.hear("first") is Receipt.ACCEPTED
        assert await gateway.hear("second") is Receipt.REFUSED
        await asyncio.gather(*gateway.inbox._notices)
        assert gateway.pager.texts() == []


async def test_the_day_s_messages_end_with_the_time_when_they_start_afresh(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, limits=LimitSettings(person=Allowance(messages_per_day=2))) as gateway:
        await gateway.ask("one")
        await gateway.ask("two")
        assert await gateway.hear("三，你好") is Receipt.REFUSED
        assert await gateway.hear("hello", user="bob", place="desk") is Receipt.ACCEPTED
        await gateway.idle()
        assert gateway.pager.texts()[-1] == "您今天的 2 条消息额度已用完，将于 2026-11-03 00:00（UTC）重置。"
        await clock.advance(15 * 3600)
        assert await gateway.hear("three") is Receipt.ACCEPTED
        await gateway.idle()


async def test_the_day_s_tokens_end_too(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Forms), limits=LimitSettings(person=Allowance(tokens_per_day=15))) as gateway:
        await gateway.ask("one")  # the scripted model counts 15
        assert await gateway.hear("two") is Receipt.REFUSED
        await gateway.idle()
        ((_, failure),) = gateway.pager.failures
        assert "15 tokens" in failure.text
        assert failure.retry_after == 15 * 3600


async def test_whoever_waits_as_long_as_they_were_told_is_in_time(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, per_minute=1) as gateway:
        await gateway.ask("1")
        await clock.advance(0.6)
        assert await gateway.hear("2") is Receipt.REFUSED
        await gateway.idle()
        assert "try again in 60 s" in gateway.pager.texts()[-1]
        await clock.advance(60)
        assert await gateway.hear("2") is Receipt.ACCEPTED
        await gateway.idle()


async def test_a_full_queue_is_the_sender_s_and_a_full_store_is_everybody_s(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, quota=Quota(queued=2, pending=4)) as gateway:
        gateway.model.will(hold := asyncio.Event(), "done")
        await gateway.hear("running")
        await until(lambda: gateway.model.running)
        assert [await gateway.hear(text) for text in ("a", "b", "c")] == [
            Receipt.ACCEPTED,
            Receipt.ACCEPTED,
            Receipt.REFUSED,
        ]
        gateway.model.will(hold, "done")
        assert await gateway.hear("d", user="bob", place="desk") is Receipt.ACCEPTED
        assert await gateway.hear("e", user="joe", place="shop") is Receipt.OVERLOADED
        assert gateway.rates.take(Person(AccountId("work"), UserId("joe"))) is None
        hold.set()
        await gateway.idle()
        assert gateway.pager.texts("shop") == []
        assert any("Please wait until I have" in text for text in gateway.pager.texts())


async def test_while_as_many_are_being_stored_as_there_are_places_nothing_more_is_taken_into_memory(
    path: Path, clock: HeldClock
) -> None:
    async with Gateway(path, clock, quota=Quota(pending=4)) as gateway:
        gateway.journal.hold_before = "accept"
        stored = [asyncio.create_task(gateway.hear("hello", user=f"u{n}", place=f"p{n}")) for n in range(4)]
        await until(lambda: gateway.journal.calls.count("accept") == 4)
        assert await gateway.hear("too many", user="joe", place="shop") is Receipt.OVERLOADED
        assert gateway.journal.calls.count("accept") == 4
        gateway.journal.hold_before = ""
        gateway.journal.go_on.set()
        assert await asyncio.gather(*stored) == [Receipt.ACCEPTED] * 4
        await gateway.idle()
        assert await gateway.ask("again", user="joe", place="shop") == ["answer to again"]


async def test_a_command_passes_a_full_queue(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, quota=Quota(queued=1)) as gateway:
        gateway.model.will("part", hold := asyncio.Event())
        await gateway.hear("running")
        await until(lambda: gateway.model.running)
        await gateway.hear("waits")
        assert await gateway.hear("/whoami") is Receipt.ACCEPTED
        await until(gateway.pager.texts)
        assert "Your id is `ann`" in gateway.pager.texts()[0]
        assert gateway.dispatcher.busy(gateway.key())
        hold.set()
        await gateway.idle()


async def test_nobody_is_kept_from_a_command_by_what_they_or_others_wrote(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, per_minute=2) as gateway:
        gateway.limits.settings = replace(gateway.limits.settings, total_per_minute=2, account_per_minute={"work": 2})
        gateway.model.will("part", hold := asyncio.Event())
        assert [await gateway.hear(text) for text in ("one", "two", "three")] == [
            Receipt.ACCEPTED,
            Receipt.ACCEPTED,
            Receipt.REFUSED,
        ]
        assert await gateway.hear("hello", user="bob") is Receipt.REFUSED  # everybody's minute is used up
        assert await gateway.hear("/whoami", user="bob") is Receipt.ACCEPTED
        stop = gateway.message("/stop")
        assert await gateway.inbox.receive(stop) is Receipt.ACCEPTED
        assert await gateway.inbox.receive(stop) is Receipt.DUPLICATE
        assert await gateway.hear("/status") is Receipt.ACCEPTED
        assert await gateway.hear("/status") is Receipt.REFUSED  # a flood of commands is one, too
        hold.set()
        await gateway.idle()


async def test_commands_cost_nothing_of_the_rate(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, per_minute=1) as gateway:
        assert await gateway.hear("/whoami") is Receipt.ACCEPTED
        assert await gateway.hear("hello") is Receipt.ACCEPTED
        await gateway.idle()


async def test_a_bare_reset_starts_afresh(gateway: Gateway) -> None:
    await gateway.ask("one")
    assert (await gateway.ask("reset"))[-1] == "Started a new conversation."
    await gateway.ask("two")
    assert [message.content for message in gateway.model.prompts[-1]] == ["Be brief.", "two"]


async def test_a_closed_gateway_says_so_and_stores_nothing(gateway: Gateway) -> None:
    gateway.inbox.close()
    assert await gateway.hear("hello") is Receipt.CLOSED
    assert "accept" not in gateway.journal.calls


async def test_a_storage_fault_reaches_the_adapter_and_costs_nothing_of_the_rate(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, per_minute=1) as gateway:
        gateway.journal.errors["accept"] = [StorageUnavailable("the disk is full")]
        message = gateway.message("hello")
        with pytest.raises(StorageUnavailable):
            await gateway.inbox.receive(message)
        assert await gateway.inbox.receive(message) is Receipt.ACCEPTED
        await gateway.idle()
        assert gateway.pager.texts() == ["answer to hello"]


async def test_a_message_that_is_a_mistake_is_listed_and_told_of_and_answered_once_that_is_mended(
    gateway: Gateway,
) -> None:
    gateway.journal.errors["accept"] = [ValueError("a canary")]
    message = gateway.message("hello")
    assert await gateway.inbox.receive(message) is Receipt.REFUSED
    await asyncio.gather(*gateway.inbox._notices)
    (told,) = gateway.pager.texts()
    assert told.startswith("Something went wrong on my side.")
    (letter,) = await gateway.store.dead_letters()
    assert (letter.text, letter.reason) == ("hello", "ValueError, see the log")
    assert await gateway.inbox.receive(message) is Receipt.DUPLICATE
    figures = await gateway.store.figures()
    assert (figures.waiting, figures.dead, figures.pending_bytes) == (0, 1, 0)
    assert await gateway.store.reopen(InboxId(int(letter.id.removeprefix("in-"))))
    gateway.dispatcher.wake(gateway.key())
    await gateway.idle()
    assert gateway.pager.texts() == [told, "answer to hello"]


async def test_a_message_whose_body_cannot_be_stored_is_listed_without_it(gateway: Gateway) -> None:
    nonsense: Any = object()
    assert await gateway.hear("hello", attachments=(nonsense,)) is Receipt.REFUSED
    (letter,) = await gateway.store.dead_letters()
    assert (letter.text, letter.reason) == ("", "AttributeError, see the log")
    assert not await gateway.store.reopen(InboxId(int(letter.id.removeprefix("in-"))))
    assert await gateway.ask("and now?", place="desk", user="bob") == ["answer to and now?"]


async def test_a_message_whose_bringer_goes_away_is_answered_all_the_same(gateway: Gateway) -> None:
    bringer = asyncio.create_task(gateway.hear("hello"))
    await until(lambda: gateway.inbox._commits)
    bringer.cancel()
    assert isinstance((await asyncio.gather(bringer, return_exceptions=True))[0], asyncio.CancelledError)
    await until(gateway.pager.texts)
    await gateway.idle()
    assert gateway.pager.texts() == ["answer to hello"]


async def test_a_commit_that_takes_too_long_is_not_acknowledged(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.inbox._COMMIT_TIMEOUT", 0.01)
    gateway.journal.hold_after = "accept"
    message = gateway.message("hello", id=MessageId("m"))
    with pytest.raises(StorageUnavailable):
        await gateway.inbox.receive(message)
    await gateway.journal.held.wait()  # it is committed by now, and nobody was told
    for commit in gateway.inbox._commits:
        commit.cancel()
    gateway.journal.hold_after = ""
    monkeypatch.undo()
    assert await gateway.inbox.receive(message) is Receipt.DUPLICATE
