"""The gateway as a process on a simulated Feishu: kill -9 in the middle of growing cards, a connection that drops every two
seconds, and how soon an answer begins to be seen. Each prints a line of figures.

CHATGPT_MS_KILLS (20) and CHATGPT_MS_DROPS_FOR (10 seconds) say how much.
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
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.openai_server import OpenAIServer

pytestmark = [pytest.mark.process, pytest.mark.slow]

KILLS = int(os.environ.get("CHATGPT_MS_KILLS", "20"))
DROPS_FOR = float(os.environ.get("CHATGPT_MS_DROPS_FOR", "10"))
LONG = 30_000
"""Characters: more than one message holds."""


def answer_to(question: str) -> str:
    """Always the same, so that it is known what must be read; long for some."""
    words = LONG // 12 if "long" in question else 60
    return f"To {question}:\n\n" + " ".join(f"word{number:06d}," for number in range(words)) + " and that is all."


def _last(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


@pytest.fixture
async def feishu() -> AsyncIterator[SimulatedFeishu]:
    async with SimulatedFeishu() as feishu:
        yield feishu


@asynccontextmanager
async def answering(model: OpenAIServer, *, delay: float) -> AsyncIterator[None]:
    model.reply = lambda body: answer_to(_last(body))
    model.configure(token_delay=delay, piece=60, pieces_apart=True)
    yield


async def started(feishu: SimulatedFeishu, make_gateway: MakeGateway, **options: Any) -> GatewayProcess:
    accounts = {"accounts": {"api": "off", "web": "off", "bot": {"platform": "feishu", **feishu.account()}}}
    gateway = await make_gateway(config=accounts, **options)
    await gateway.start()
    await feishu.listening()
    return gateway


async def killed(feishu: SimulatedFeishu, gateway: GatewayProcess) -> None:
    await gateway.kill()
    feishu.api.forget_pauses()


def seen(feishu: SimulatedFeishu, asked: Delivery) -> str:
    """The visible characters of what the bot has written where something was asked."""
    texts = [each.text for each in feishu.visible(asked.room) if each.thread == asked.thread]
    return "".join(filter(is_visible, "".join(texts)))


def growing(feishu: SimulatedFeishu, asked: Delivery) -> bool:
    return any(each.growing for each in feishu.visible(asked.room) if each.thread == asked.thread)


def wrong(feishu: SimulatedFeishu, asked: Sequence[tuple[str, Delivery]]) -> list[str]:
    """Questions whose place shows anything but one whole answer."""
    return [
        question
        for question, delivery in asked
        if seen(feishu, delivery) != whole(answer_to(question)) or growing(feishu, delivery)
    ]


async def ask(feishu: SimulatedFeishu, question: str, *, place: str) -> tuple[str, Delivery]:
    """A person of their own in a place of their own, so that nothing waits for anything else."""
    name = question.replace(" ", "")
    feishu.state.group(name, topics=place == "topic")
    asked = await feishu.person_writes(question, user=name, channel=name, direct=place == "direct")
    await until(lambda: feishu.acknowledged(asked) > 0)
    return question, asked


async def test_after_kills_in_the_middle_of_streams_each_place_shows_one_whole_answer(
    feishu: SimulatedFeishu, make_gateway: MakeGateway, model: OpenAIServer
) -> None:
    chance = random.Random(7)
    gateway = await started(feishu, make_gateway)
    asked: list[tuple[str, Delivery]] = []
    kills, hits = KILLS, 0
    async with answering(model, delay=0.004):
        for kill in range(KILLS):
            fresh = [
                await ask(feishu, f"long question {kill}a", place="group"),
                await ask(feishu, f"question {kill}b", place="topic"),
                await ask(feishu, f"question {kill}c", place="direct"),
            ]
            asked += fresh
            await until(lambda: any(seen(feishu, delivery) for _, delivery in fresh))  # noqa: B023 - awaited here
            await asyncio.sleep(chance.uniform(0, 2.0))
            await killed(feishu, gateway)
            hits += any(
                seen(feishu, delivery) and wrong(feishu, [(question, delivery)]) for question, delivery in fresh
            )
            await gateway.start()
            if kill % 3 == 2:  # once more, while it recovers
                await asyncio.sleep(chance.uniform(0, 1.0))
                await killed(feishu, gateway)
                kills += 1
                await gateway.start()
            await feishu.listening()
            with contextlib.suppress(TimeoutError):
                await until(lambda: not wrong(feishu, fresh))  # noqa: B023 - awaited here
    await gateway.stop()
    print(
        f"\nFeishu: {kills} kills, {hits} of them in the middle of a visible answer; {len(asked)} questions, "
        f"{len(wrong(feishu, asked))} places that show anything but one whole answer; too many calls: {dict(feishu.api.limits)}"
    )
    assert wrong(feishu, asked) == []
    assert hits >= KILLS // 3
    assert feishu.complaints() == []
    assert_discreet(gateway)


async def test_the_harness_notices_what_a_dead_process_left(
    feishu: SimulatedFeishu, make_gateway: MakeGateway, model: OpenAIServer
) -> None:
    command = (sys.executable, "-m", "tests.scenario.broken_feishu", "leftovers")
    root = os.fspath(Path(__file__).parents[2])
    gateway = await started(feishu, make_gateway, command=command, environ={"PYTHONPATH": root})
    async with answering(model, delay=0.005):
        asked = [await ask(feishu, "long question", place="group")]
        await until(lambda: len(feishu.visible(asked[0][1].room)) > 1)
        await gateway.kill()
        await gateway.start()
        await until(lambda: seen(feishu, asked[0][1]).endswith("andthatisall."))
        await gateway.stop()
    assert wrong(feishu, asked) == ["long question"]


async def test_a_connection_that_drops_every_two_seconds_loses_and_doubles_nothing(
    feishu: SimulatedFeishu, make_gateway: MakeGateway, model: OpenAIServer
) -> None:
    gateway = await started(feishu, make_gateway)
    asked: list[tuple[str, Delivery]] = []
    drops, gaps = 0, list[float]()
    async with answering(model, delay=0.0):
        end = time.monotonic() + DROPS_FOR
        while time.monotonic() < end:
            for _ in range(4):
                name = f"question {len(asked)}"
                alone = name.replace(" ", "")
                asked.append(
                    (name, await feishu.person_writes(name, user=alone, channel=alone, direct=len(asked) % 2 == 0))
                )
                await asyncio.sleep(0.5)
            await feishu.drop()
            drops += 1
            since = time.monotonic()
            await feishu.listening()
            gaps.append(time.monotonic() - since)
        await until(lambda: not wrong(feishu, asked))
        await until(lambda: model.running == 0)
    await gateway.stop()
    requests = [request.last for request in model.requests]
    print(
        f"\nFeishu: {drops} drops in {DROPS_FOR:g} s; {len(asked)} questions, {len(wrong(feishu, asked))} lost or doubled, "
        f"{len(requests) - len(set(requests))} asked twice; connected again after {statistics.median(gaps):.2f} s (p50), "
        f"{max(gaps):.2f} s (longest)"
    )
    assert wrong(feishu, asked) == []
    assert sorted(requests) == sorted(question for question, _ in asked)
    assert feishu.complaints() == []


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "group"])
async def test_how_soon_an_answer_is_seen(
    feishu: SimulatedFeishu, make_gateway: MakeGateway, model: OpenAIServer, direct: bool
) -> None:
    gateway = await started(feishu, make_gateway)
    took: list[float] = []
    async with answering(model, delay=0.0):
        for number in range(200):
            name = f"question {number}"
            since = time.monotonic()
            asked = await feishu.person_writes(name, user=f"u{number}", channel=f"c{number}", direct=direct)
            async with asyncio.timeout(30):
                while not seen(feishu, asked):
                    await asyncio.sleep(0.0005)
            took.append(time.monotonic() - since)
            await until(lambda: not wrong(feishu, [(name, asked)]))  # noqa: B023 - awaited here
    await gateway.stop()
    took.sort()
    where = "directly" if direct else "in a group"
    print(
        f"\nFeishu: from event to first visible text {where}, a model that answers at once: "
        f"p50 {took[100] * 1000:.1f} ms, p99 {took[197] * 1000:.1f} ms (200 questions)"
    )
    assert len(took) == 200
