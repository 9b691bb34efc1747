"""Conversations: their order, what passes the queue, how they end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from core.account import AccountConfig
from core.adapter import FailureCode, Receipt, ReplyChannel
from core.dispatcher import Busy
from core.errors import DeliveryUnavailable, StorageUnavailable
from core.messages import AccountId, ReplyAddress
from tests.clock import HeldClock
from tests.core.gateway import Gateway, until
from tests.simulators.pager import Attaches, Edits, Forms, Pager, Streams, StreamsAndForms


async def test_replies_of_a_conversation_keep_the_order_of_its_messages(gateway: Gateway) -> None:
    gateway.model.will(first := asyncio.Event(), "one")
    gateway.model.will("two")
    gateway.model.will("three")
    for text in ("1", "2", "3"):
        assert await gateway.hear(text) is Receipt.ACCEPTED
    await until(lambda: gateway.model.running)
    assert gateway.model.questions == ["1"]
    first.set()
    await gateway.idle()
    assert gateway.pager.texts() == ["one", "two", "three"]
    assert gateway.model.most_at_once == 1


async def test_conversations_do_not_wait_for_each_other(gateway: Gateway) -> None:
    hold = asyncio.Event()
    for number in range(10):
        gateway.model.will(hold, "done")
        await gateway.hear("hello", user=f"user{number}", place=f"place{number}")
    await until(lambda: gateway.model.running == 10)
    assert gateway.dispatcher.workers == 10
    hold.set()
    await gateway.idle()
    assert all(gateway.pager.texts(f"place{number}") == ["done"] for number in range(10))


async def test_a_platform_that_hangs_holds_up_only_its_own_conversation(gateway: Gateway) -> None:
    gateway.pager.gates["send"] = asyncio.Event()
    await gateway.hear("hello")
    await until(lambda: gateway.pager.waiting)
    release = gateway.pager.gates.pop("send")
    await gateway.hear("hello", user="bob", place="desk")
    await until(lambda: gateway.pager.texts("desk"))
    assert gateway.pager.texts() == []
    release.set()
    await gateway.idle()
    assert gateway.pager.texts() == ["answer to hello"]


async def test_an_idle_gateway_has_no_tasks_left(gateway: Gateway) -> None:
    before = asyncio.all_tasks()
    for number in range(50):
        await gateway.hear("hello", user=f"user{number}", place=f"place{number}")
        await gateway.hear("/status", user=f"user{number}", place=f"place{number}")
    await gateway.idle()
    await until(lambda: asyncio.all_tasks() == before)
    assert gateway.dispatcher.workers == 0
    assert not gateway.dispatcher._commanded


async def test_messages_during_a_turn_are_answered_together_where_so_configured(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, busy="merge") as gateway:
        gateway.model.will(hold := asyncio.Event(), "one")
        await gateway.hear("1")
        await until(lambda: gateway.model.running)
        for text in ("2", "/retry", "3"):
            await gateway.hear(text)
        hold.set()
        await gateway.idle()
        assert gateway.model.questions == ["1", "2\n\n3"]
        assert gateway.pager.texts() == ["one", "answer to 2\n\n3"]


async def test_an_interrupted_turn_that_showed_nothing_is_answered_with_the_newer_message(
    path: Path, clock: HeldClock
) -> None:
    async with Gateway(path, clock, busy="interrupt") as gateway:
        gateway.model.will(asyncio.Event())
        await gateway.hear("1")
        await until(lambda: gateway.model.running)
        assert await gateway.ask("2") == ["answer to 1\n\n2"]
        assert gateway.model.cancelled == 1


async def test_an_interrupted_turn_that_showed_something_ends_as_interrupted_and_stays_in_the_history(
    path: Path, clock: HeldClock
) -> None:
    async with Gateway(path, clock, Pager(Edits), busy="interrupt") as gateway:
        gateway.model.will("so far", asyncio.Event())
        await gateway.hear("1")
        await until(gateway.pager.texts)
        assert await gateway.ask("2") == ["so far\n\n(interrupted)", "answer to 2"]
        assert [message.content for message in gateway.model.prompts[-1]] == ["Be brief.", "1", "so far", "2"]


async def test_stop_ends_the_answer_with_what_it_has_shown(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Streams)) as gateway:
        gateway.model.will("so far", asyncio.Event())
        await gateway.hear("1")
        await until(gateway.pager.texts)
        await until(lambda: gateway.pager.texts()[0])
        assert await gateway.ask("/stop") == ["so far\n\n(stopped)", "Stopped."]
        assert await gateway.ask("/stop") == ["so far\n\n(stopped)", "Stopped.", "There is nothing to stop."]


async def test_stop_while_a_finished_answer_is_being_sent_stops_nothing(gateway: Gateway) -> None:
    gateway.pager.gates["send"] = asyncio.Event()
    await gateway.hear("1")
    await until(lambda: gateway.pager.waiting)
    assert not gateway.dispatcher.stop(gateway.key())
    gateway.pager.gates["send"].set()
    await gateway.idle()
    assert gateway.pager.texts() == ["answer to 1"]


@pytest.mark.parametrize("shown", [True, False])
async def test_new_ends_the_running_answer_and_dismisses_what_waited(path: Path, clock: HeldClock, shown: bool) -> None:
    async with Gateway(path, clock, Pager(StreamsAndForms)) as gateway:
        gateway.model.will(*(["so far"] if shown else []), asyncio.Event())
        await gateway.hear("1")
        await until(lambda: gateway.model.running)
        if shown:
            await until(gateway.pager.texts)
            await until(lambda: gateway.pager.texts()[0])
        await gateway.hear("2")
        await gateway.hear("3")
        await gateway.ask("/new")
        texts = ["so far"] if shown else []
        assert gateway.pager.texts() == [*texts, "Started a new conversation. 2 waiting messages were set aside."]
        codes = [failure.code for _, failure in gateway.pager.failures]
        assert codes == [FailureCode.SUPERSEDED] * (2 if shown else 3)
        await gateway.ask("4")
        assert [message.content for message in gateway.model.prompts[-1]] == ["Be brief.", "4"]


async def test_what_is_written_after_new_is_answered_even_if_both_come_at_once(gateway: Gateway) -> None:
    await gateway.ask("1")
    for number in range(20):
        await asyncio.gather(gateway.hear("/new"), gateway.hear(f"after {number}"))
        await gateway.idle()
        assert gateway.pager.texts()[-1] == f"answer to after {number}"
        assert [message.content for message in gateway.model.prompts[-1]] == ["Be brief.", f"after {number}"]


async def test_nothing_is_begun_while_an_earlier_command_is_carried_out(gateway: Gateway) -> None:
    gateway.journal.hold_before = "renew"
    await gateway.hear("/new")
    await gateway.hear("after")
    await until(gateway.journal.held.is_set)
    for _ in range(20):  # time enough for a worker to ask the store three times
        await gateway.store.figures()
    assert "begin" not in gateway.journal.calls
    gateway.journal.go_on.set()
    await gateway.idle()
    assert sorted(gateway.pager.texts()) == ["Started a new conversation.", "answer to after"]


async def test_new_and_what_follows_it_keep_their_order_over_a_restart(gateway: Gateway) -> None:
    gateway.dispatcher._draining = True  # accepted, and the process dies before anything is begun
    await gateway.hear("before")
    await gateway.hear("/new")
    await gateway.hear("after")
    await gateway.crash()
    async with gateway.again() as later:
        await later.idle()
        assert later.pager.texts()[-1] == "answer to after"
        assert later.model.questions == ["after"]


async def test_an_answer_that_is_complete_just_as_new_comes_is_dropped_and_its_waiter_told(
    path: Path, clock: HeldClock
) -> None:
    async with Gateway(path, clock, Pager(Forms)) as gateway:
        gateway.journal.hold_before = "finish"
        await gateway.hear("1")
        await until(gateway.journal.held.is_set)
        await gateway.store.renew(gateway.key(), before=None)
        gateway.journal.hold_before = ""
        worker = gateway.dispatcher._workers[gateway.key()]
        assert worker.task is not None
        worker.task.cancel()
        await asyncio.gather(worker.task, return_exceptions=True)
    async with gateway.again() as later:
        await later.idle()
        assert [failure.code for _, failure in later.pager.failures] == [FailureCode.SUPERSEDED]
        assert later.pager.texts() == []


async def test_commands_of_a_conversation_and_its_reply_are_each_sent_once(gateway: Gateway) -> None:
    gateway.pager.gates["send"] = asyncio.Event()
    await gateway.hear("/whoami")
    await until(lambda: gateway.pager.waiting == 1)
    await gateway.hear("hello")
    await until(lambda: gateway.pager.waiting == 2)
    gateway.pager.gates["send"].set()
    await gateway.idle()
    assert len(gateway.pager.texts()) == 2


async def test_a_drain_lets_running_turns_finish_and_begins_nothing(gateway: Gateway) -> None:
    gateway.model.will(hold := asyncio.Event(), "one")
    await gateway.hear("1")
    await gateway.hear("2")
    await until(lambda: gateway.model.running)
    draining = asyncio.create_task(gateway.dispatcher.drain(turns=20, outbox=5))
    await asyncio.sleep(0)
    hold.set()
    assert await draining
    assert gateway.pager.texts() == ["one"]
    await gateway.crash()
    async with gateway.again() as later:
        await later.idle()
        assert later.pager.texts() == ["one", "answer to 2"]


async def test_a_turn_that_outlasts_the_drain_runs_again_with_its_key_and_its_preview(
    path: Path, clock: HeldClock
) -> None:
    async with Gateway(path, clock, Pager(Edits)) as gateway:
        gateway.model.will("so far", asyncio.Event())
        await gateway.hear("1")
        await until(gateway.pager.texts)
        assert await gateway.dispatcher.drain(turns=0.01, outbox=20)
    (preview,) = gateway.pager.messages.values()
    async with gateway.again() as later:
        await later.idle()
        (shown,) = later.pager.messages.values()
        assert (shown.id, shown.key, shown.text) == (preview.id, preview.key, "answer to 1")


async def test_a_reply_that_the_platform_does_not_take_does_not_hold_up_the_end(gateway: Gateway) -> None:
    gateway.pager.fail("send", DeliveryUnavailable("not now"))
    await gateway.hear("1")
    await until(lambda: gateway.clock.sleeping)
    async with asyncio.timeout(20):
        assert not await gateway.dispatcher.drain(turns=600, outbox=0.01)
    await gateway.crash()
    async with gateway.again() as later:
        await later.pass_time(1)
        await later.idle()
        assert later.pager.texts() == ["answer to 1"]


async def test_a_command_survives_a_crash(gateway: Gateway) -> None:
    gateway.journal.hold_before = "begin_command"
    await gateway.hear("/whoami")
    await until(gateway.journal.held.is_set)
    await gateway.crash()
    async with gateway.again() as later:
        await later.idle()
        assert "Your id is `ann`" in later.pager.texts()[0]


STAGES = [
    ("hold_after", "accept"),
    ("hold_before", "preview"),
    ("hold_after", "preview"),
    ("hold_before", "finish"),
    ("hold_after", "finish"),
    ("hold_before", "sent"),
]


@pytest.mark.parametrize(("where", "method"), STAGES)
async def test_a_crash_at_any_stage_leaves_one_whole_reply(
    path: Path, clock: HeldClock, where: str, method: str
) -> None:
    gateway = Gateway(path, clock, Pager(Edits))
    async with gateway:
        setattr(gateway.journal, where, method)
        if method == "preview":
            gateway.model.will("answer", asyncio.Event())  # time enough to show something
        shown = asyncio.Event()
        if method in ("finish", "sent"):
            gateway.model.will("answer", shown, " to 1")
        hearing = asyncio.create_task(gateway.hear("1"))
        if method in ("finish", "sent"):
            await until(gateway.pager.texts)
            shown.set()
        await until(gateway.journal.held.is_set)
        await gateway.crash()
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)
    async with gateway.again() as later:
        await later.idle()
        lost = ["answer"] if (where, method) == ("hold_before", "preview") else []  # nobody knows that preview's id
        assert later.pager.texts() == [*lost, "answer to 1"]
        assert (await later.store.figures()).waiting == 0


@pytest.mark.parametrize("where", ["hold_before", "hold_after"])
async def test_a_crash_while_a_waiting_message_is_begun_leaves_one_whole_reply(
    path: Path, clock: HeldClock, where: str
) -> None:
    gateway = Gateway(path, clock)
    async with gateway:
        first = asyncio.Event()
        gateway.model.will(first, "answer to 1")
        await gateway.hear("1")
        await gateway.hear("2")
        setattr(gateway.journal, where, "begin")
        first.set()
        await until(gateway.journal.held.is_set)
        assert gateway.pager.texts() == ["answer to 1"]
        await gateway.crash()
    async with gateway.again() as later:
        await later.idle()
        assert later.pager.texts() == ["answer to 1", "answer to 2"]


async def test_a_crash_between_call_and_record_marks_the_repetition(gateway: Gateway) -> None:
    gateway.journal.hold_before = "sent"
    await gateway.hear("1")
    await until(gateway.journal.held.is_set)
    await gateway.crash()
    async with gateway.again() as later:
        await later.idle()
        assert later.pager.texts() == ["answer to 1", "answer to 1\n\n(may be repeated)"]


async def test_three_crashes_on_one_message_end_in_a_visible_error(gateway: Gateway) -> None:
    gateway.journal.hold_before = "finish"
    await gateway.hear("poison")
    await until(gateway.journal.held.is_set)
    await gateway.crash()
    for _ in range(2):
        async with gateway.again(hold_before="finish") as later:
            await until(later.journal.held.is_set)
            await later.crash()
    async with gateway.again() as last:
        await last.idle()
        (text,) = last.pager.texts()
        assert text.startswith("I could not answer this message after several attempts.")
        assert len(last.model.prompts) == 3
        assert await last.ask("next") == [text, "answer to next"]


async def test_messages_that_grew_old_get_one_notice_together(gateway: Gateway, clock: HeldClock) -> None:
    gateway.dispatcher._draining = True
    for text in ("1", "2", "3"):
        await gateway.hear(text)
    await gateway.crash()
    await clock.advance(16 * 60)
    async with gateway.again() as later:
        assert await later.ask("fresh") == [
            "I was away and 3 of your messages grew old meanwhile. Please send again what still matters.",
            "answer to fresh",
        ]


async def test_old_messages_that_are_merged_with_a_fresh_one_are_answered(gateway: Gateway, clock: HeldClock) -> None:
    gateway.dispatcher._draining = True
    await gateway.hear("old")
    await clock.advance(16 * 60)
    await gateway.hear("fresh")
    await gateway.crash()
    busy: Busy = "merge"
    async with gateway.again(busy=busy) as later:
        await later.idle()
        assert later.pager.texts() == ["answer to old\n\nfresh"]


async def test_a_message_of_an_account_that_was_removed_is_a_dead_letter(gateway: Gateway) -> None:
    gateway.dispatcher._draining = True
    await gateway.hear("1")
    await gateway.crash()
    async with gateway.again(accounts={"other": AccountConfig()}) as later:
        await later.idle()
        (letter,) = await later.store.dead_letters()
        assert "'work' is not configured" in letter.reason
        assert not later.model.prompts


async def test_a_reply_of_an_account_that_was_removed_is_a_dead_letter(gateway: Gateway) -> None:
    gateway.journal.hold_before = "sending"
    await gateway.hear("1")
    await until(gateway.journal.held.is_set)
    await gateway.crash()
    async with gateway.again(accounts={"other": AccountConfig()}) as later:
        await later.idle()
        assert [letter.text for letter in await later.store.dead_letters()] == ["answer to 1"]


async def test_a_mistake_of_the_model_client_is_told_and_does_not_stop_the_conversation(gateway: Gateway) -> None:
    gateway.model.will(RuntimeError("a mistake"))
    (text,) = await gateway.ask("1")
    assert text.startswith("Something went wrong on my side.")
    assert "mistake" not in text
    assert (await gateway.ask("2"))[-1] == "answer to 2"
    assert [message.content for message in gateway.model.prompts[-1]] == ["Be brief.", "2"]


async def test_a_mistake_after_the_commit_still_delivers_the_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(gateway.sessions, "grew", mistake)
    assert await gateway.ask("1") == ["answer to 1"]
    assert not await gateway.store.dead_letters()


async def test_an_adapter_that_cannot_read_its_own_address_does_not_stop_the_conversation(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = gateway.adapter.reply

    def picky(address: ReplyAddress) -> ReplyChannel:
        if "odd" in address:
            raise ValueError("what is this?")
        return reply(address)

    monkeypatch.setattr(gateway.adapter, "reply", picky)
    await gateway.hear("1", place="odd")
    await gateway.idle()
    (letter,) = await gateway.store.dead_letters()
    assert "ValueError" in letter.reason
    assert await gateway.ask("2") == ["answer to 2"]


async def test_a_command_that_fails_is_told(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway.journal.errors["state"] = [RuntimeError("a mistake")]
    (text,) = await gateway.ask("/status")
    assert text.startswith("Something went wrong on my side.")


async def test_an_export_that_the_platform_does_not_take_as_a_file_comes_as_text(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Attaches)) as gateway:
        await gateway.ask("1")
        assert (await gateway.ask("/export"))[-1] == "Here is this conversation as a file."
        gateway.pager.fail("attach", DeliveryUnavailable("no"))
        assert "answer to 1" in (await gateway.ask("/export"))[-1]
        assert len(gateway.pager.files) == 1


@pytest.mark.parametrize("method", ["finish", "sending", "sent"])
async def test_a_storage_outage_delays_a_turn_and_nothing_else(gateway: Gateway, method: str) -> None:
    gateway.journal.errors[method] = [StorageUnavailable("the disk is full")] * 3
    assert await gateway.hear("1") is Receipt.ACCEPTED
    for left in (2, 1, 0):
        await until(lambda left=left: len(gateway.journal.errors[method]) == left and gateway.clock.sleeping)  # type: ignore[misc]
        await gateway.clock.advance(1.0)
    await gateway.idle()
    assert gateway.pager.texts() == ["answer to 1"]
    assert len(gateway.model.prompts) == 1


async def test_a_storage_outage_delays_the_beginning_of_a_turn(gateway: Gateway) -> None:
    first = asyncio.Event()
    gateway.model.will(first, "answer to 1")
    await gateway.hear("1")
    await gateway.hear("2")  # what comes alone would be begun in the step that accepts it
    gateway.journal.errors["begin"] = [StorageUnavailable("the disk is full")] * 2
    first.set()
    for left in (1, 0):
        await until(lambda left=left: len(gateway.journal.errors["begin"]) == left and gateway.clock.sleeping)  # type: ignore[misc]
        await gateway.clock.advance(1.0)
    await gateway.idle()
    assert gateway.pager.texts() == ["answer to 1", "answer to 2"]


async def test_a_message_that_comes_alone_is_begun_in_the_step_that_accepts_it(gateway: Gateway) -> None:
    await gateway.ask("1")
    assert gateway.journal.calls.count("accept") == 1
    assert "begin" not in gateway.journal.calls


@pytest.mark.parametrize("draining", [False, True])
async def test_a_message_that_is_refused_leaves_no_worker(gateway: Gateway, draining: bool) -> None:
    gateway.journal.errors["accept"] = [StorageUnavailable("the disk is full")]
    with pytest.raises(StorageUnavailable):
        await gateway.hear("1")
    assert not gateway.dispatcher.workers
    gateway.journal.hold_after = "accept"
    hearing = asyncio.create_task(gateway.hear("2"))
    await until(gateway.journal.held.is_set)
    gateway.dispatcher._draining = draining
    gateway.journal.go_on.set()
    assert await hearing is Receipt.ACCEPTED
    await gateway.idle()
    assert gateway.pager.texts() == ([] if draining else ["answer to 2"])
    figures = await gateway.store.figures()
    assert (figures.waiting, figures.running) == ((1, 0) if draining else (0, 0))


async def test_what_comes_while_a_message_is_begun_waits_for_its_turn(gateway: Gateway) -> None:
    gateway.journal.hold_before = "accept"
    first = asyncio.create_task(gateway.hear("1"))
    await until(gateway.journal.held.is_set)
    gateway.journal.hold_before = ""
    assert await gateway.hear("2") is Receipt.ACCEPTED  # overtakes the first on its way to the store
    gateway.journal.go_on.set()
    await first
    await gateway.idle()
    assert sorted(gateway.pager.texts()) == ["answer to 1", "answer to 2"]
    assert not gateway.dispatcher.workers


async def test_a_conversation_rests_and_starts_afresh(gateway: Gateway, clock: HeldClock) -> None:
    await gateway.ask("1")
    await clock.advance(timedelta(hours=24).total_seconds() - 60)
    await gateway.ask("2")
    assert len(gateway.model.prompts[-1]) == 4
    await clock.advance(timedelta(hours=24).total_seconds() + 60)
    await gateway.ask("3")
    assert [message.content for message in gateway.model.prompts[-1]] == ["Be brief.", "3"]


async def test_accounts_do_not_share_a_conversation(path: Path, clock: HeldClock) -> None:
    accounts = {"work": AccountConfig(), "work-eu": AccountConfig()}
    async with Gateway(path, clock, accounts=accounts) as gateway:
        await gateway.ask("1")
        await gateway.ask("2", account="work-eu", place="eu")
        assert [message.content for message in gateway.model.prompts[-1]] == ["Be brief.", "2"]
        assert gateway.model.people == ["work/ann", "work-eu/ann"]
        assert gateway.inbox.seen.keys() == {AccountId("work"), AccountId("work-eu")}
