"""What a chat platform's users must not notice, with the gateway as a process: kill -9 in the middle of answers, and a
connection that drops every two seconds; and how soon an answer begins to be seen. Each prints a line of figures.

A platform's test module subclasses `ProcessScenarios` and brings, as the fixture `stage`, its simulator and what is
different there (tests/scenario/stage.py). CHATGPT_MS_KILLS (20), CHATGPT_MS_DROPS_FOR (10 seconds) and CHATGPT_MS_TIMED (40
questions) say how much.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from tests.contract.platform import SimulatedPlatform
from tests.scenario.gateway_process import assert_discreet, until
from tests.scenario.stage import Asked, Stage

AnyStage = Stage[Any]

KILLS = int(os.environ.get("CHATGPT_MS_KILLS", "20"))
DROPS_FOR = float(os.environ.get("CHATGPT_MS_DROPS_FOR", "10"))
LASTS = 1.5
"""Seconds that a long answer takes at least; it is broken off at a random moment of them."""
TIMED = int(os.environ.get("CHATGPT_MS_TIMED", "40"))
"""Questions of which it is told how soon their answers are seen."""


@pytest.mark.process
@pytest.mark.slow
class ProcessScenarios:
    """See the module's text."""

    @pytest.fixture
    def stage(self) -> AnyStage:
        """The platform of the test, not entered yet."""
        raise NotImplementedError("bring the platform's stage")

    @pytest.fixture(autouse=True)
    async def _open(self, stage: AnyStage) -> AsyncIterator[None]:
        platform: SimulatedPlatform = stage.platform
        async with platform:
            yield

    async def test_after_kills_in_the_middle_of_answers_each_place_shows_one_whole_answer(
        self, stage: AnyStage
    ) -> None:
        chance = random.Random(7)
        gateway = await stage.gateway()
        asked: list[Asked] = []
        kills, amid, visible, again = KILLS, 0, 0, 0
        for kill in range(KILLS):
            stage.answers(lasting=LASTS)
            questions = (f"long question {kill}a", f"question {kill}b", f"question {kill}c")
            fresh = [await stage.ask(*each) for each in zip(questions, stage.places, strict=True)]
            if kill % 4 or not stage.comes_again:  # else at once: some are not even committed
                await begun(stage, fresh)
                await asyncio.sleep(chance.uniform(0, LASTS))
            await stage.kill(gateway)
            taken = [each for each in fresh if stage.taken(each)]
            amid += bool(stage.wrong(taken))
            visible += any(stage.seen(each) and not stage.right(each) for each in taken)
            if stage.comes_again:
                fresh.append(await stage.ask(f"question {kill}d", "direct"))  # while nobody runs
            await gateway.start()
            if kill % 3 == 2:  # once more, while it recovers
                await asyncio.sleep(chance.uniform(0, 1.0))
                await stage.kill(gateway)
                kills += 1
                await gateway.start()
            await stage.platform.listening()
            again += stage.deliver_again()
            asked += fresh
            if kill % 2:  # what was broken off is answered at once; else as slowly as before
                stage.answers()
            with contextlib.suppress(TimeoutError):
                await stage.come_right(*fresh)
        await gateway.stop()
        print(
            f"\n{stage.name}: {kills} kills, {amid} of them in the middle of answers, {visible} of visible ones; "
            f"{len(asked)} questions, {len(stage.wrong(asked))} places that show anything but one whole answer"
            f"{f'; {again} delivered again' if stage.comes_again else ''}{stage.about_kills(asked)}"
        )
        assert stage.wrong(asked) == []
        assert amid >= KILLS // 2
        assert visible >= KILLS // 3 or not stage.grows
        assert again >= KILLS or not stage.comes_again
        assert list(stage.platform.complaints()) == []
        assert_discreet(gateway)

    async def test_a_connection_that_drops_every_two_seconds_loses_and_doubles_nothing(self, stage: AnyStage) -> None:
        stage.answers()
        gateway = await stage.gateway()
        asked: list[Asked] = []
        drops, again, gaps = 0, 0, list[float]()
        end = time.monotonic() + DROPS_FOR
        while time.monotonic() < end:
            for _ in range(4):
                asked.append(await stage.ask(f"question {len(asked)}", stage.places[-1 if len(asked) % 2 == 0 else 0]))
                await asyncio.sleep(0.5)
            if stage.comes_again:
                asked.append(await stage.ask(f"question {len(asked)}", "direct"))  # its acknowledgement may be lost
            await stage.platform.drop()
            drops += 1
            since = time.monotonic()
            await stage.platform.listening()
            gaps.append(time.monotonic() - since)
            again += stage.deliver_again()
        await stage.come_right(*asked)
        await until(lambda: stage.model.running == 0)
        await gateway.stop()
        requests = [request.last for request in stage.model.requests]
        print(
            f"\n{stage.name}: {drops} drops in {DROPS_FOR:g} s; {len(asked)} questions, {len(stage.wrong(asked))} lost or "
            f"doubled, {len(requests) - len(set(requests))} asked twice"
            f"{f', {again} delivered again' if stage.comes_again else ''}; "
            f"connected again after {statistics.median(gaps):.2f} s (p50), {max(gaps):.2f} s (longest)"
        )
        assert stage.wrong(asked) == []
        assert sorted(requests) == sorted(each.question for each in asked)
        assert list(stage.platform.complaints()) == []

    @pytest.mark.parametrize("direct", [True, False], ids=["direct", "channel"])
    async def test_how_soon_an_answer_is_seen(self, stage: AnyStage, direct: bool) -> None:
        place = "direct" if direct else stage.places[0]
        if not direct and place == "direct":
            pytest.skip("the platform has direct chats alone")
        stage.answers()
        gateway = await stage.gateway()
        took: list[float] = []
        under_way: list[Asked] = []
        for number in range(TIMED):
            since = time.monotonic()
            asked = await stage.ask(f"question {number}", place)
            async with asyncio.timeout(30):
                while not stage.seen(asked):
                    await asyncio.sleep(0.0005)
            took.append(time.monotonic() - since)
            under_way.append(asked)
            if len(under_way) == stage.together or number == TIMED - 1:
                await stage.come_right(*under_way)
                under_way.clear()
        await gateway.stop()
        took.sort()
        print(
            f"\n{stage.name}: from a question to the first visible text {stage.way(place)}, a model that answers at once: "
            f"p50 {took[TIMED // 2] * 1000:.1f} ms, p99 {took[-1 - TIMED // 100] * 1000:.1f} ms ({TIMED} questions)"
        )
        assert len(took) == TIMED
        assert list(stage.platform.complaints()) == []


class DoubtScenarios(ProcessScenarios):
    """And where nothing tells whether a message arrived whose send was broken off."""

    async def test_a_message_whose_send_was_broken_off_comes_again_with_a_mark(self, stage: AnyStage) -> None:
        asked = await what_a_broken_send_left(stage)
        assert stage.right(asked)
        assert stage.marked(asked) == 1

    async def test_the_harness_notices_a_message_that_comes_again_without_a_mark(self, stage: AnyStage) -> None:
        assert not stage.right(await what_a_broken_send_left(stage, {"ambiguous": "resend"}))


async def begun(stage: AnyStage, asked: list[Asked]) -> None:
    """Wait until the gateway has all of it for good, and answers."""
    await until(lambda: all(map(stage.taken, asked)))
    await until(lambda: stage.model.running > 0 or any(map(stage.seen, asked)))


async def what_a_dead_process_left(stage: AnyStage, fault: dict[str, Any], *, messages: int = 1) -> list[str]:
    """A broken gateway is killed once so many messages of its answer are seen; what is wrong after the next is done."""
    stage.answers(lasting=LASTS)
    gateway = await stage.gateway(**fault)
    asked = await stage.ask("long question", stage.places[0])
    await until(lambda: bool(stage.seen(asked)) and len(stage.shown(asked)) >= messages)
    await stage.kill(gateway)
    await gateway.start()
    await until(lambda: stage.seen(asked).endswith("andthatisall."))
    await gateway.stop()
    return stage.wrong([asked])


async def what_a_hasty_process_lost(stage: AnyStage, fault: dict[str, Any]) -> list[str]:
    """A gateway that acknowledges before it commits is killed in between; what is wrong after the next is done."""
    stage.answers()
    gateway = await stage.gateway(**fault)
    asked = [await stage.ask("question", "direct")]
    await until(lambda: stage.platform.acknowledged(asked[0].delivery) == 1)
    await stage.kill(gateway)
    await gateway.start()
    await stage.platform.listening()
    assert stage.deliver_again() == 0
    asked.append(await stage.ask("another question", "direct"))
    await stage.come_right(asked[1])
    await gateway.stop()
    return stage.wrong(asked)


async def what_a_broken_send_left(stage: AnyStage, account: Mapping[str, Any] | None = None) -> Asked:
    """A gateway is killed while it waits to hear of a message that is there; where the next one is done. The stage's
    platform lets it wait."""
    stage.answers()
    stage.sends_take(3600.0)
    gateway = await stage.gateway(account)
    asked = await stage.ask("question", "direct")
    await until(lambda: bool(stage.shown(asked)))
    await stage.kill(gateway)
    stage.sends_take(0.0)
    await gateway.start()
    await until(lambda: len(stage.shown(asked)) > 1)
    await gateway.stop()
    return asked
