"""The gateway as a process on a simulated DingTalk: kill -9 in the middle of answers, a connection that drops every two
seconds, and how soon an answer begins to be seen; with cards and with Markdown messages. Each prints a line of figures.

DingTalk has no history to read back: what was not acknowledged is pushed again a minute later, which the tests bring
about when it is due. CHATGPT_MS_KILLS (20) and CHATGPT_MS_DROPS_FOR (30 seconds) say how much.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from core.markdown.visible import is_visible
from tests.contract.platform import Delivery
from tests.contract.world import whole
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import GatewayProcess, assert_discreet, until
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.openai_server import OpenAIServer

pytestmark = [pytest.mark.process, pytest.mark.slow]

KILLS = int(os.environ.get("CHATGPT_MS_KILLS", "20"))
DROPS_FOR = float(os.environ.get("CHATGPT_MS_DROPS_FOR", "30"))
LONG = 8_000
"""Characters: more than one card holds."""
MARK = "may be repeated"
"""What stands on an answer that the gateway had to send again without knowing whether the first one arrived."""


def answer_to(question: str) -> str:
    """Always the same, so that it is known what must be read; long for some."""
    words = LONG // 12 if "long" in question else 60
    return f"To {question}:\n\n" + " ".join(f"word{number:06d}," for number in range(words)) + " and that is all."


def _last(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


@pytest.fixture(params=[True, False], ids=["cards", "markdown"])
async def dingtalk(request: pytest.FixtureRequest) -> AsyncIterator[SimulatedDingTalk]:
    async with SimulatedDingTalk(card=request.param) as dingtalk:
        yield dingtalk


@asynccontextmanager
async def answering(model: OpenAIServer, *, delay: float) -> AsyncIterator[None]:
    model.reply = lambda body: answer_to(_last(body))
    model.configure(token_delay=delay, piece=60, pieces_apart=True)
    yield


async def started(dingtalk: SimulatedDingTalk, make_gateway: MakeGateway, **options: Any) -> GatewayProcess:
    accounts = {"accounts": {"api": "off", "web": "off", "bot": {"platform": "dingtalk", **dingtalk.account()}}}
    gateway = await make_gateway(config=accounts, **options)
    await gateway.start()
    await dingtalk.listening()
    return gateway


def texts(dingtalk: SimulatedDingTalk, asked: Delivery) -> list[str]:
    return [each.text for each in dingtalk.visible(asked.room)]


def seen(dingtalk: SimulatedDingTalk, asked: Delivery) -> str:
    """The visible characters of what the bot has written where something was asked."""
    return "".join(filter(is_visible, "".join(texts(dingtalk, asked))))


def right(dingtalk: SimulatedDingTalk, question: str, asked: Delivery) -> bool:
    """One whole answer; without cards a second one is allowed that says that it may be one."""
    if any(each.growing for each in dingtalk.visible(asked.room)):
        return False
    answer = whole(answer_to(question))
    if seen(dingtalk, asked) == answer:
        return True
    shown = texts(dingtalk, asked)
    return not dingtalk.card and len(shown) == 2 and MARK in shown[1] and seen(dingtalk, asked).count(answer) == 2


def wrong(dingtalk: SimulatedDingTalk, asked: Sequence[tuple[str, Delivery]]) -> list[str]:
    """Questions whose place shows anything else."""
    return [question for question, delivery in asked if not right(dingtalk, question, delivery)]


async def ask(dingtalk: SimulatedDingTalk, question: str, *, direct: bool) -> tuple[str, Delivery]:
    """A person of their own in a place of their own, so that nothing waits for anything else."""
    name = question.replace(" ", "")
    return question, await dingtalk.person_writes(question, user=name, channel=name, direct=direct)


async def test_after_kills_in_the_middle_of_answers_each_place_shows_one_whole_answer(
    dingtalk: SimulatedDingTalk, make_gateway: MakeGateway, model: OpenAIServer
) -> None:
    chance = random.Random(7)
    gateway = await started(dingtalk, make_gateway)
    asked: list[tuple[str, Delivery]] = []
    kills, amid, halves, repeated = KILLS, 0, 0, 0
    async with answering(model, delay=0.01):
        for kill in range(KILLS):
            fresh = [
                await ask(dingtalk, f"long question {kill}a", direct=False),
                await ask(dingtalk, f"question {kill}b", direct=False),
                await ask(dingtalk, f"question {kill}c", direct=True),
            ]
            if kill % 4:  # else at once: some are not even committed
                await until(lambda: all(dingtalk.acknowledged(delivery) for _, delivery in fresh))  # noqa: B023 - awaited here
                await until(lambda: model.running > 0 or any(seen(dingtalk, each) for _, each in fresh))  # noqa: B023 - awaited here
                await asyncio.sleep(chance.uniform(0, 1.5))
            await gateway.kill()
            begun = [(question, each) for question, each in fresh if dingtalk.acknowledged(each)]
            amid += bool(wrong(dingtalk, begun))
            halves += any(seen(dingtalk, each) and not right(dingtalk, question, each) for question, each in begun)
            fresh.append(await ask(dingtalk, f"question {kill}d", direct=True))  # while nobody runs
            await gateway.start()
            if kill % 3 == 2:  # once more, while it recovers
                await asyncio.sleep(chance.uniform(0, 1.0))
                await gateway.kill()
                kills += 1
                await gateway.start()
            await dingtalk.listening()
            repeated += dingtalk.gateway.after_a_minute()
            asked += fresh
            with contextlib.suppress(TimeoutError):
                await until(lambda: not wrong(dingtalk, fresh))  # noqa: B023 - awaited here
    await gateway.stop()
    marked = sum(len(texts(dingtalk, delivery)) == 2 and not dingtalk.card for _, delivery in asked)
    print(
        f"\nDingTalk, {'cards' if dingtalk.card else 'markdown'}: {kills} kills, {amid} of them in the middle of answers, "
        f"{halves} of visible ones; {len(asked)} questions, {repeated} pushed again, {len(wrong(dingtalk, asked))} places "
        f"that show anything but one whole answer, {marked} with one more that says that it may be a repetition"
    )
    assert wrong(dingtalk, asked) == []
    assert repeated >= KILLS
    assert amid >= KILLS // 2
    if dingtalk.card:  # a Markdown message is there at once
        assert halves >= KILLS // 3
    assert dingtalk.complaints() == []
    assert_discreet(gateway)


async def broken(dingtalk: SimulatedDingTalk, make_gateway: MakeGateway, fault: str) -> GatewayProcess:
    command = (sys.executable, "-m", "tests.scenario.broken_dingtalk", fault)
    root = os.fspath(Path(__file__).parents[2])
    return await started(dingtalk, make_gateway, command=command, environ={"PYTHONPATH": root})


@pytest.mark.parametrize("dingtalk", [True], indirect=True, ids=["cards"])
async def test_the_harness_notices_cards_that_nobody_finds_again(
    dingtalk: SimulatedDingTalk, make_gateway: MakeGateway, model: OpenAIServer
) -> None:
    gateway = await broken(dingtalk, make_gateway, "strangers")
    async with answering(model, delay=0.01):
        asked = [await ask(dingtalk, "long question", direct=False)]
        await until(lambda: bool(seen(dingtalk, asked[0][1])))
        await gateway.kill()
        await gateway.start()
        await until(lambda: seen(dingtalk, asked[0][1]).endswith("andthatisall."))
        await gateway.stop()
    assert wrong(dingtalk, asked) == ["long question"]


async def test_the_harness_notices_an_acknowledgement_before_the_commit(
    dingtalk: SimulatedDingTalk, make_gateway: MakeGateway, model: OpenAIServer
) -> None:
    gateway = await broken(dingtalk, make_gateway, "hasty")
    async with answering(model, delay=0.0):
        asked = [await ask(dingtalk, "question", direct=True)]
        await until(lambda: dingtalk.acknowledged(asked[0][1]) == 1)
        await gateway.kill()
        await gateway.start()
        await dingtalk.listening()
        assert dingtalk.gateway.after_a_minute() == 0
        asked.append(await ask(dingtalk, "another question", direct=True))
        await until(lambda: right(dingtalk, *asked[1]))
        await gateway.stop()
    assert wrong(dingtalk, asked) == ["question"]


async def test_a_connection_that_drops_every_two_seconds_loses_and_doubles_nothing(
    dingtalk: SimulatedDingTalk, make_gateway: MakeGateway, model: OpenAIServer
) -> None:
    gateway = await started(dingtalk, make_gateway)
    asked: list[tuple[str, Delivery]] = []
    drops, gaps, repeated = 0, list[float](), 0
    async with answering(model, delay=0.0):
        end = time.monotonic() + DROPS_FOR
        while time.monotonic() < end:
            for _ in range(4):
                asked.append(await ask(dingtalk, f"question {len(asked)}", direct=len(asked) % 2 == 0))
                await asyncio.sleep(0.5)
            late = await ask(dingtalk, f"question {len(asked)}", direct=True)  # its acknowledgement may be lost
            asked.append(late)
            await dingtalk.drop()
            drops += 1
            since = time.monotonic()
            await dingtalk.listening()
            gaps.append(time.monotonic() - since)
            repeated += dingtalk.gateway.after_a_minute()
        await until(lambda: not wrong(dingtalk, asked))
        await until(lambda: model.running == 0)
    await gateway.stop()
    requests = [request.last for request in model.requests]
    print(
        f"\nDingTalk: {drops} drops in {DROPS_FOR:g} s; {len(asked)} questions, {repeated} pushed again, "
        f"{len(wrong(dingtalk, asked))} lost or doubled, {len(requests) - len(set(requests))} asked twice; connected again "
        f"after {statistics.median(gaps):.2f} s (p50), {max(gaps):.2f} s (longest)"
    )
    assert wrong(dingtalk, asked) == []
    assert sorted(requests) == sorted(question for question, _ in asked)
    assert dingtalk.complaints() == []


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "group"])
async def test_how_soon_an_answer_is_seen(
    dingtalk: SimulatedDingTalk, make_gateway: MakeGateway, model: OpenAIServer, direct: bool
) -> None:
    gateway = await started(dingtalk, make_gateway)
    took: list[float] = []
    async with answering(model, delay=0.0):
        for number in range(200):
            since = time.monotonic()
            question, asked = await ask(dingtalk, f"question {number}", direct=direct)
            async with asyncio.timeout(30):
                while not seen(dingtalk, asked):
                    await asyncio.sleep(0.0005)
            took.append(time.monotonic() - since)
            await until(lambda: not wrong(dingtalk, [(question, asked)]))  # noqa: B023 - awaited here
    await gateway.stop()
    took.sort()
    print(
        f"\nDingTalk: from push to first visible text, {'a card' if dingtalk.card else 'Markdown'} "
        f"{'one-to-one' if direct else 'in a group'}, a model that answers at once: "
        f"p50 {took[100] * 1000:.1f} ms, p99 {took[197] * 1000:.1f} ms (200 questions)"
    )
    assert len(took) == 200
    assert dingtalk.complaints() == []
