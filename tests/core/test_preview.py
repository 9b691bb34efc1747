"""Answers while they are written: streams, edits, typing signs, and that nothing is lost or doubled by them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from core.account import AccountConfig
from core.adapter import Kept
from core.errors import (
    ChatUnavailable,
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    RateLimited,
    StorageUnavailable,
)
from tests.clock import HeldClock
from tests.core.gateway import Gateway, until
from tests.simulators.pager import (
    Edits,
    EditsAndFinds,
    EditsAndTypes,
    EditsKeyed,
    Pager,
    PagerReply,
    Streams,
    StreamsAndEdits,
    StreamsAndForms,
    StreamsAnnounced,
    StreamsOnward,
    StreamsPaced,
    Types,
)

REASON = "no, thank you"


async def test_a_stream_grows_in_one_message(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Streams)) as gateway:
        gateway.model.will("one", hold := asyncio.Event(), " two", " three")
        await gateway.hear("1")
        await until(lambda: gateway.pager.texts() == ["one"])
        hold.set()
        await gateway.idle()
        (shown,) = gateway.pager.messages.values()
        assert shown.text == "one two three"
        assert not shown.growing
        assert not shown.broken
        assert "send" not in gateway.pager.calls
        assert (await gateway.store.figures()).unsent == 0


@pytest.mark.parametrize("kind", [Streams, StreamsAndEdits, StreamsAnnounced, Edits])
async def test_an_answer_that_is_whole_at_once_is_one_message(
    path: Path, clock: HeldClock, kind: type[PagerReply]
) -> None:
    """A preview would show nothing earlier, and take more calls."""
    async with Gateway(path, clock, Pager(kind)) as gateway:
        gateway.model.will("one", " two")
        assert await gateway.ask("1") == ["one two"]
        assert gateway.pager.calls == ["send"]


class Keeps(StreamsAndForms, Kept):
    """A stream of what is read where it is stored."""


async def test_a_kept_reply_shows_what_there_is_of_an_answer_that_breaks_off_at_once(
    path: Path, clock: HeldClock
) -> None:
    async with Gateway(path, clock, Pager(Keeps)) as gateway:
        gateway.model.will("one", ChatUnavailable("cut"))
        await gateway.ask("1")
        (shown,) = gateway.pager.messages.values()
        assert (shown.text, shown.broken) == ("one", True)
        assert len(gateway.pager.failures) == 1


async def test_pieces_that_come_while_the_platform_is_slow_are_shown_once(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Streams)) as gateway:
        gateway.pager.gates["append"] = asyncio.Event()
        gateway.model.will("one", " two", hold := asyncio.Event(), " three")
        await gateway.hear("1")
        await until(lambda: gateway.pager.waiting)
        hold.set()
        while not await gateway.store.unsent(gateway.key()):  # the answer is committed, the first call under way
            pass
        for _ in range(10):
            await gateway.store.figures()
        gateway.pager.gates.pop("append").set()
        await gateway.idle()
        assert gateway.pager.texts() == ["one two three"]


@pytest.mark.parametrize("kind", [Streams, StreamsAndEdits])
@pytest.mark.parametrize("call", ["open", "append", "close"])
@pytest.mark.parametrize("error", [DeliveryError(REASON), DeliveryUncertain(REASON), RuntimeError("a mistake")])
async def test_a_stream_that_fails_falls_back_to_the_whole_text(
    path: Path, clock: HeldClock, kind: type[Streams], call: str, error: Exception
) -> None:
    async with Gateway(path, clock, Pager(kind)) as gateway:
        gateway.model.will("one", hold := asyncio.Event(), " two", " three")
        gateway.pager.fail(call, *([None] if call == "append" else []), error)  # type: ignore[arg-type]
        await gateway.hear("1")
        await until(lambda: gateway.pager.texts() == ["one"] or call == "open")
        hold.set()
        await gateway.idle()
        whole = "one two three"
        sure = type(error) is DeliveryError
        expected = {
            "open": [whole],
            "append": ["one", whole],  # the broken-off stream stays
            "close": [whole, whole if sure else f"{whole}\n\n(may be repeated)"],
        }
        assert gateway.pager.texts() == ([whole] if kind is StreamsAndEdits else expected[call])
        assert (await gateway.store.figures()).unsent == 0


async def test_a_stream_that_can_be_edited_is_completed_in_place(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(StreamsAndEdits)) as gateway:
        gateway.model.will("one", hold := asyncio.Event(), " two")
        gateway.pager.fail("append", None, DeliveryUnavailable(REASON))
        await gateway.hear("1")
        await until(lambda: gateway.pager.texts() == ["one"])
        hold.set()
        await gateway.idle()
        assert gateway.pager.texts() == ["one two"]


async def test_every_further_message_of_a_stream_is_known_to_a_later_process(path: Path, clock: HeldClock) -> None:
    gateway = Gateway(path, clock, Pager(StreamsOnward))
    async with gateway:
        second, third = asyncio.Event(), asyncio.Event()
        gateway.model.will("one", second, " two", third, " three", asyncio.Event())
        await gateway.hear("1")
        for texts, hold in ((["one"], second), (["one", " two"], third), (["one", " two", " three"], None)):
            await until(lambda texts=texts: gateway.pager.texts() == texts)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            if hold is not None:
                hold.set()
        await until(lambda: gateway.journal.calls.count("preview") == 3)
        await gateway.store.figures()  # behind the last write
        await gateway.crash()
    async with gateway.again() as later:
        await later.idle()
        assert later.pager.texts() == ["answer to 1"]


async def test_pieces_are_shown_together_when_they_are_due_and_the_end_waits_for_nothing(
    path: Path, clock: HeldClock
) -> None:
    async with Gateway(path, clock, Pager(StreamsPaced)) as gateway:
        second, end = asyncio.Event(), asyncio.Event()
        gateway.model.will("one", second, " two", " three", end, " four")
        await gateway.hear("1")
        await until(gateway.pager.texts)
        second.set()
        await until(lambda: clock.sleeping)
        assert gateway.pager.texts() == ["one"]
        await clock.advance(10.0)
        await until(lambda: gateway.pager.texts() == ["one two three"])
        end.set()
        await gateway.idle()  # no time passes any more
        assert gateway.pager.texts() == ["one two three four"]


async def test_an_announced_message_goes_up_once_that_is_stored(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(StreamsAnnounced)) as gateway:
        second, third = asyncio.Event(), asyncio.Event()
        gateway.model.will("one", second, " two", third, " three")
        await gateway.hear("1")
        await until(lambda: gateway.journal.calls.count("preview") == 1)
        gateway.journal.errors["preview"] = [StorageUnavailable("the disk is full")]
        second.set()
        await until(lambda: gateway.journal.calls.count("preview") == 2)
        assert gateway.pager.texts() == ["one"]
        third.set()
        await gateway.idle()
        assert gateway.pager.texts() == ["one", " two three"]


async def test_a_stream_waits_as_long_as_the_platform_says(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Streams)) as gateway:
        gateway.model.will("one", end := asyncio.Event(), " two")
        gateway.pager.fail("append", RateLimited(REASON, retry_after=7.0))
        await gateway.hear("1")
        await until(lambda: gateway.pager.calls)
        end.set()
        await gateway.pass_time(6.9)
        assert gateway.pager.texts() == [""]
        await gateway.pass_time(0.1)
        await gateway.idle()
        assert gateway.pager.texts() == ["one two"]


async def test_a_stream_of_an_answer_that_breaks_off_says_so_in_its_own_form(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(StreamsAndForms)) as gateway:
        gateway.model.will("one", cut := asyncio.Event(), ChatUnavailable("cut"))
        await gateway.hear("1")
        await until(lambda: gateway.pager.texts() == ["one"])
        cut.set()
        await gateway.idle()
        (shown,) = gateway.pager.messages.values()
        assert (shown.text, shown.broken) == ("one", True)
        assert len(gateway.pager.failures) == 1


async def test_a_stream_of_an_answer_that_breaks_off_ends_with_a_notice(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Streams)) as gateway:
        gateway.model.will("one", ChatUnavailable("cut"))
        (text,) = await gateway.ask("1")
        assert text.startswith("one\n\nThe answer broke off here. /retry asks again.")


async def test_edits_keep_their_interval_and_the_newest_text_wins(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Edits)) as gateway:
        second, third, end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        gateway.model.will("one", second, " two", " three", third, " four", end, " five")
        await gateway.hear("1")
        await until(lambda: gateway.clock.sleeping)
        second.set()
        await clock.advance(0.9)
        assert gateway.pager.texts() == ["one"]
        await clock.advance(0.1)
        await until(lambda: gateway.pager.texts() == ["one two three"])
        await until(lambda: gateway.clock.sleeping)
        third.set()
        await clock.advance(1.0)
        await until(lambda: gateway.pager.texts() == ["one two three four"])
        end.set()
        await gateway.idle()
        (shown,) = gateway.pager.messages.values()
        assert shown.versions == ["one", "one two three", "one two three four", "one two three four five"]


async def test_a_rate_limited_edit_is_skipped_and_the_interval_grows(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Edits)) as gateway:
        second, third, end = asyncio.Event(), asyncio.Event(), asyncio.Event()
        gateway.model.will("one", second, " two", third, " three", end, " four")
        gateway.pager.fail("edit", RateLimited(REASON, retry_after=9.0))
        await gateway.hear("1")
        await until(lambda: gateway.clock.sleeping)
        second.set()
        await clock.advance(1.0)
        await until(lambda: gateway.pager.calls.count("edit") == 1 and gateway.clock.sleeping)
        third.set()
        await clock.advance(8.9)
        assert gateway.pager.texts() == ["one"]
        await clock.advance(0.1)
        await until(lambda: gateway.pager.texts() == ["one two three"])
        end.set()
        await gateway.idle()
        assert gateway.pager.texts() == ["one two three four"]


async def test_the_final_text_waits_as_long_as_the_platform_told_the_preview(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Edits)) as gateway:
        gateway.model.will("one", end := asyncio.Event(), " two")
        gateway.pager.fail("send", RateLimited(REASON, retry_after=7.0))
        await gateway.hear("1")
        await until(lambda: gateway.pager.calls == ["send"])
        end.set()
        while not await gateway.store.unsent(gateway.key()):
            pass
        await gateway.pass_time(6.9)
        assert gateway.pager.calls == ["send"]
        await gateway.pass_time(0.1)
        await gateway.idle()
        assert gateway.pager.texts() == ["one two"]


async def test_the_final_text_waits_for_the_edit_under_way_so_that_none_overtakes_it(
    path: Path, clock: HeldClock
) -> None:
    async with Gateway(path, clock, Pager(Edits)) as gateway:
        gateway.model.will("one", hold := asyncio.Event(), " two", end := asyncio.Event(), " three")
        await gateway.hear("1")
        await until(lambda: gateway.clock.sleeping)
        gateway.pager.gates["edit"] = asyncio.Event()
        hold.set()
        await clock.advance(1.0)
        await until(lambda: gateway.pager.waiting)
        end.set()
        await until(lambda: not gateway.model.running)
        assert "finish" not in gateway.journal.calls
        gateway.pager.gates.pop("edit").set()
        await gateway.idle()
        (shown,) = gateway.pager.messages.values()
        assert shown.versions == ["one", "one two", "one two three"]


async def test_an_answer_that_ends_while_its_first_preview_is_sent_is_one_message(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Edits)) as gateway:
        gateway.pager.gates["send"] = asyncio.Event()
        gateway.model.will("one", hold := asyncio.Event(), " two")
        await gateway.hear("1")
        await until(lambda: gateway.pager.waiting)
        hold.set()
        await until(lambda: not gateway.model.running)
        gateway.pager.gates.pop("send").set()
        await gateway.idle()
        assert gateway.pager.texts() == ["one two"]


async def test_a_preview_s_id_is_stored_before_it_is_edited(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Edits)) as gateway:
        gateway.journal.hold_before = "preview"
        gateway.model.will("one", " two", asyncio.Event())
        await gateway.hear("1")
        await until(gateway.journal.held.is_set)
        await clock.advance(10.0)
        assert gateway.pager.calls == ["send"]


@pytest.mark.parametrize("kind", [EditsKeyed, EditsAndFinds])
async def test_a_first_preview_of_which_nobody_knows_whether_it_arrived_is_not_doubled(
    path: Path, clock: HeldClock, kind: type[Edits]
) -> None:
    async with Gateway(path, clock, Pager(kind)) as gateway:
        gateway.pager.fail("send", DeliveryUncertain(REASON), after=True)
        gateway.model.will("one", hold := asyncio.Event(), " two")
        await gateway.hear("1")
        await until(lambda: gateway.pager.texts() == ["one"])
        hold.set()
        await gateway.idle()
        assert gateway.pager.texts() == ["one two"]


@pytest.mark.parametrize("kind", [EditsKeyed, EditsAndFinds])
async def test_a_first_preview_is_looked_for_again_while_the_platform_cannot_tell_of_it(
    path: Path, clock: HeldClock, kind: type[Edits]
) -> None:
    async with Gateway(path, clock, Pager(kind)) as gateway:
        gateway.pager.fail("send", DeliveryUncertain(REASON), after=True)
        # the message is asked for at the end of the answer, after a second and after five more
        gateway.pager.fail("send" if kind is EditsKeyed else "find", *[DeliveryUnavailable(REASON)] * 2)
        gateway.model.will("one", hold := asyncio.Event(), " two")
        await gateway.hear("1")
        await until(lambda: gateway.pager.texts() == ["one"])
        hold.set()
        await until(lambda: len(gateway.pager.calls) == 2 and clock.sleeping)
        await clock.advance(1.0)
        await until(lambda: len(gateway.pager.calls) == 3)
        assert gateway.pager.texts() == ["one"]
        await until(lambda: clock.sleeping)
        await clock.advance(5.0)
        await gateway.idle()
        assert gateway.pager.texts() == ["one two"]


@pytest.mark.parametrize("kind", [EditsKeyed, EditsAndFinds])
async def test_a_preview_of_a_process_that_died_before_it_noted_the_id_is_found_again(
    path: Path, clock: HeldClock, kind: type[Edits]
) -> None:
    gateway = Gateway(path, clock, Pager(kind))
    async with gateway:
        gateway.journal.hold_before = "preview"
        gateway.model.will("one", asyncio.Event())
        await gateway.hear("1")
        await until(gateway.journal.held.is_set)
        await gateway.crash()
    async with gateway.again() as later:
        await later.idle()
        assert later.pager.texts() == ["answer to 1"]


@pytest.mark.parametrize("error", [DeliveryError(REASON), DeliveryUnavailable(REASON), RuntimeError("a mistake")])
async def test_a_preview_that_cannot_be_shown_costs_nothing(path: Path, clock: HeldClock, error: Exception) -> None:
    async with Gateway(path, clock, Pager(Edits)) as gateway:
        gateway.pager.fail("send", error)
        gateway.model.will("one", hold := asyncio.Event(), " two")
        await gateway.hear("1")
        await until(lambda: gateway.pager.calls)
        hold.set()
        await gateway.idle()
        assert gateway.pager.texts() == ["one two"]


async def test_text_that_nobody_would_see_makes_no_preview(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Edits)) as gateway:
        gateway.model.will("\n", " ", hold := asyncio.Event(), "one")
        await gateway.hear("1")
        await until(lambda: gateway.model.running)
        await clock.advance(5.0)
        assert gateway.pager.calls == []
        hold.set()
        await gateway.idle()
        assert [text.strip() for text in gateway.pager.texts()] == ["one"]


async def test_a_long_answer_is_previewed_in_its_first_message_and_split_at_the_end(
    path: Path, clock: HeldClock
) -> None:
    words = [f"word{number} " for number in range(400)]
    async with Gateway(path, clock, Pager(Edits)) as gateway:
        gateway.model.will("start ", hold := asyncio.Event(), *words)
        await gateway.hear("1")
        await until(gateway.pager.texts)
        hold.set()
        await gateway.idle()
        texts = gateway.pager.texts()
        assert len(texts) > 5
        assert " ".join(texts).split() == ["start", *(word.strip() for word in words)]


async def test_an_answer_with_nothing_to_see_is_shown_as_it_was_written(gateway: Gateway) -> None:
    definition = "\n".join(f"[{number}]: http://example.invalid/{number}" for number in range(20))
    gateway.model.will(definition)
    texts = await gateway.ask("1")
    assert "http://example.invalid/7" in "".join(texts)


async def test_typing_is_shown_and_renewed_until_there_is_text(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(EditsAndTypes)) as gateway:
        gateway.model.will(first := asyncio.Event(), "one", end := asyncio.Event(), " two")
        await gateway.hear("1")
        await until(lambda: gateway.clock.sleeping)
        await clock.advance(0.2)
        assert not gateway.pager.calls
        await clock.advance(10.1)
        assert gateway.pager.calls == ["typing"] * 3
        first.set()
        await until(gateway.pager.texts)
        await until(lambda: gateway.clock.sleeping)
        await clock.advance(20.0)
        assert gateway.pager.calls.count("typing") == 3
        end.set()
        await gateway.idle()
        assert gateway.pager.texts() == ["one two"]


class Signs(Types):
    """A typing sign that stays up until it is taken away."""

    async def typing_over(self) -> None:
        await self.pager.act("typing over", lambda: None)


async def test_a_typing_sign_is_taken_away_once_when_nothing_more_is_written(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Signs)) as gateway:
        gateway.model.will(end := asyncio.Event(), "one")
        await gateway.hear("1")
        await until(lambda: clock.sleeping)
        await clock.advance(0.3)
        assert "typing" in gateway.pager.calls
        end.set()
        await gateway.idle()
        assert gateway.pager.texts() == ["one"]
        assert gateway.pager.calls.count("typing over") == 1
        assert gateway.pager.calls.index("typing over") > gateway.pager.calls.index("typing")


async def test_an_answer_that_comes_at_once_has_no_typing_sign(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Signs)) as gateway:
        gateway.model.will(end := asyncio.Event(), "one")
        await gateway.hear("1")
        await until(lambda: clock.sleeping)
        await clock.advance(0.2)
        end.set()
        await gateway.idle()
        assert gateway.pager.calls == ["send"]


@pytest.mark.parametrize(
    "error", [DeliveryError(REASON), RateLimited(REASON, retry_after=9), RuntimeError("a mistake")]
)
async def test_typing_that_fails_never_costs_the_reply(path: Path, clock: HeldClock, error: Exception) -> None:
    async with Gateway(path, clock, Pager(Signs)) as gateway:
        gateway.model.will(end := asyncio.Event(), "one")
        gateway.pager.fail("typing", error)
        gateway.pager.fail("typing over", error)
        await gateway.hear("1")
        await until(lambda: clock.sleeping)
        await clock.advance(0.3)
        end.set()
        await gateway.idle()
        assert gateway.pager.texts() == ["one"]
        assert "typing" in gateway.pager.calls


async def test_a_typing_sign_on_its_way_is_not_broken_off(path: Path, clock: HeldClock) -> None:
    """That would close its connection, and the next call had to open another."""
    async with Gateway(path, clock, Pager(Signs)) as gateway:
        gateway.pager.gates["typing"] = gate = asyncio.Event()
        gateway.model.will(end := asyncio.Event(), "one")
        await gateway.hear("1")
        await until(lambda: clock.sleeping)
        await clock.advance(0.3)
        end.set()
        await until(gateway.pager.texts)
        assert gateway.pager.waiting == 1
        gate.set()
        await gateway.idle()
        assert gateway.pager.calls[-1] == "typing over"


async def test_typing_that_hangs_never_delays_the_reply(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Signs)) as gateway:
        gateway.pager.gates["typing"] = gateway.pager.gates["typing over"] = asyncio.Event()
        gateway.model.will(end := asyncio.Event(), "one")
        await gateway.hear("1")
        await until(lambda: clock.sleeping)
        await clock.advance(0.3)
        assert gateway.pager.waiting == 1
        end.set()
        await gateway.idle()
        assert gateway.pager.texts() == ["one"]


async def test_an_account_that_does_not_stream_shows_finished_messages(path: Path, clock: HeldClock) -> None:
    accounts = {"work": AccountConfig(stream=False)}
    async with Gateway(path, clock, Pager(StreamsAndEdits), accounts=accounts) as gateway:
        gateway.model.will("one", " two")
        assert await gateway.ask("1") == ["one two"]
        assert gateway.pager.calls == ["send"]


async def test_a_stop_after_a_crash_ends_the_preview_that_was_left(path: Path, clock: HeldClock) -> None:
    gateway = Gateway(path, clock, Pager(Edits))
    async with gateway:
        gateway.journal.hold_after = "preview"
        gateway.model.will("one", asyncio.Event())
        await gateway.hear("1")
        await until(gateway.journal.held.is_set)
        await gateway.crash()
    async with gateway.again() as later:
        later.model.will(asyncio.Event())
        await until(lambda: later.model.running)
        assert await later.ask("/stop") == ["(stopped)", "Stopped."]
