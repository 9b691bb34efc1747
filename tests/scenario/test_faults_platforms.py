"""A bad network between the gateway and every chat platform at once (R4): links that drop, hang and are refused, and
calls that are late, lost, doubled by a machine in between, or answered with nonsense.

One gateway has an account on each platform, so that it is also seen that none suffers from another. Judged by what
people read: each question has one whole answer, and nothing else stands there but what says that it may be repeated.
CHATGPT_MS_FAULTS_FOR (2 seconds) is how long each phase lasts; from 20 on the gateway keeps its own pauses.
"""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing

import pytest

from tests.contract.platform import Feature
from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.fronts import Front, fronts, on_all
from tests.scenario.gateway_process import COMMAND, GatewayProcess, assert_discreet, client, until
from tests.scenario.hurried import HURRIED
from tests.scenario.stage import Asked
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.wire_faults import SECRET, Fault, garbage, page, too_many

pytestmark = [pytest.mark.process, pytest.mark.slow]

FAULTS_FOR = float(os.environ.get("CHATGPT_MS_FAULTS_FOR", "2"))
LONG = FAULTS_FOR >= 20
PATIENCE = 240.0 if LONG else 30.0
"""Seconds in which everything is to come right after the last fault."""
BROUGHT_EVERY = 4.0
"""Seconds between two deliveries of what was not acknowledged; longer than a platform waits for that."""
STORM = 30
"""Attempts to connect in the first few seconds of an outage that are too many; later ones are fewer and fewer."""

FORGIVEN = re.compile(r"message_reaction\.delete: 231011")
"""Complaints that follow from lost answers: nobody knew that the sign had been taken away."""


def mix() -> list[Fault]:
    """Of five calls, two fail, each in its own way."""
    return [
        too_many(0.3, share=0.06),
        page(500, share=0.05),
        page(502, share=0.04, carried_out=True),
        garbage("a login page", share=0.03),
        garbage("no JSON", share=0.03),
        garbage("another JSON", share=0.03, carried_out=True),
        garbage("binary", share=0.02),
        garbage("nothing", share=0.02),
        garbage("no HTTP", share=0.02),
        Fault(kind="reset", share=0.03),
        Fault(kind="reset", share=0.03, carried_out=True),
        Fault(kind="stall", share=0.01),
        Fault(kind="stall", share=0.01, carried_out=True),
        Fault(kind="cut", share=0.03, after=40),
        Fault(kind="latency", share=0.1, seconds=0.4),
        Fault(kind="drip", share=0.03, after=20, seconds=0.02),
    ]


def keeps(front: Front) -> bool:
    """Whether what is written while nobody listens is heard later."""
    return front.stage.comes_again or Feature.HISTORY not in front.platform.lacks


async def drops(front: Front) -> None:
    """Its link drops again and again, every two seconds at most."""
    end = time.monotonic() + FAULTS_FOR
    while time.monotonic() < end:
        await front.ask()
        await asyncio.sleep(1.8)
        if front.stage.comes_again or front.platform.spec.platform == "slack":
            await front.ask()  # its acknowledgement may be lost
        await front.drop()
        front.stage.deliver_again()


async def hangs(front: Front) -> None:
    """Its link looks whole and carries nothing for a while; then all arrives."""
    await front.ask()
    await asyncio.sleep(0.3)
    front.incoming.hold()
    if front.stage.comes_again:
        await front.ask()
    await asyncio.sleep(min(FAULTS_FOR / 4, 10.0))
    front.incoming.release()
    await front.heard_again()
    front.stage.deliver_again()
    await front.ask()


async def outage(front: Front, *, tries: int = 0) -> int:
    """Nobody is there, and then somebody who breaks everything off, until the gateway has tried `tries` times at least; how
    often it tried."""
    if front.door is not None:
        return 0
    front.proxy.cut()
    await front.proxy.refuse()
    await asyncio.sleep(FAULTS_FOR / 4)
    before = front.proxy.hits["outage"]
    front.proxy.faults = [Fault(kind="reset", name="outage")]
    await front.proxy.accept()
    if keeps(front):
        await front.ask()
    await asyncio.sleep(FAULTS_FOR / 2)
    await until(lambda: front.proxy.hits["outage"] >= before + tries)
    front.proxy.faults = ()
    await front.heard_again()
    front.stage.deliver_again()
    await front.ask()
    return front.proxy.hits["outage"] - before


def few(front: Front) -> bool:
    """Whether not enough has gone wrong yet: a platform that is called seldom needs more questions for it."""
    return front.proxy.hits.total() < (8 if front.proxy.requests else 3)


async def bad_calls(front: Front) -> None:
    """Two of five calls go wrong, also those that open the next link."""
    front.proxy.faults = mix()
    end = time.monotonic() + FAULTS_FOR
    while (now := time.monotonic()) < end or (few(front) and now < end + PATIENCE):
        await front.ask()
        await asyncio.sleep(0.4)
    if front.door is None:
        front.proxy.cut()
        await asyncio.sleep(FAULTS_FOR / 8)
    front.proxy.faults = ()
    await front.heard_again()
    front.stage.deliver_again()
    await front.ask()


async def come_right(made: Sequence[Front], gateway: GatewayProcess, patience: float) -> None:
    """Wait until people read what they should and the gateway knows it, or until it is too late."""
    now = brought = time.monotonic()
    end = now + patience
    while (any(front.wrong for front in made) or await under_way(gateway)) and now < end:
        await asyncio.sleep(0.1)
        now = time.monotonic()
        if now - brought > BROUGHT_EVERY:  # a delivery may still have been under way when its link broke
            brought = now
            for front in made:
                front.stage.deliver_again()


async def under_way(gateway: GatewayProcess) -> bool:
    """Whether there are parts of answers that are neither sent nor given up: one may be there before its sender is told
    so."""
    async with client() as http:
        metrics = (await gateway.get(http, "/metrics")).text
    return 'chatgpt_ms_journal_rows{state="unsent"} 0.0' not in metrics


def taken(front: Front, asked: Asked) -> str:
    """Words for whether the platform was told that a question arrived: what is missing then is lost."""
    if Feature.ACKNOWLEDGEMENT in front.platform.lacks:
        return ""
    return ", acknowledged" if front.stage.taken(asked) else ", never acknowledged"


async def judge(made: Sequence[Front], gateway: GatewayProcess, *, patience: float = PATIENCE) -> list[str]:
    """What is wrong, in words; the gateway is stopped."""
    await come_right(made, gateway, patience)
    assert await gateway.stop() == 0
    wrong = [f"{question!r}: {front.stage.shown(asked)}{taken(front, asked)}" for front in made
             for question in front.wrong for asked in front.asked if asked.question == question]  # fmt: skip
    asked_of_the_model = Counter(request.last for request in made[0].stage.model.requests)
    wrong += [f"{question!r} was put {count} times" for question, count in asked_of_the_model.items() if count > 1]
    complaints = [(front.name, text) for front in made for text in front.platform.complaints()]
    wrong += [f"{name} complains: {text}" for name, text in complaints if not FORGIVEN.search(text)]
    for front in made:
        wrong += [f"{each.question!r} shows a foreign page" for each in front.asked if SECRET in front.stage.seen(each)]
    with closing(sqlite3.connect(gateway.database)) as db:
        wrong += [f"in the inbox: {state}" for (state,) in db.execute("SELECT state FROM inbox WHERE state <> 'done'")]
        wrong += [
            f"in the outbox: {state} {error}"
            for state, error in db.execute("SELECT state, error FROM outbox WHERE state <> 'sent'")
        ]
    return wrong


def _p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[int(0.95 * len(seconds))] if seconds else 0.0


async def test_a_bad_network_loses_and_doubles_nothing_anywhere(
    model: OpenAIServer, make_gateway: MakeGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    async with fronts(model, make_gateway) as made:
        for front in made:
            front.stage.answers()
        model.configure(token_delay=0.02)
        options = {"command": COMMAND} if LONG else HURRIED
        async with on_all(made, make_gateway, **options) as gateway:
            await asyncio.gather(*map(drops, made))
            await asyncio.gather(*map(hangs, made))
            tried = dict(zip((front.name for front in made), await asyncio.gather(*map(outage, made)), strict=True))
            await asyncio.gather(*map(bad_calls, made))
            wrong = await judge(made, gateway)
    with capsys.disabled():
        for front in made:
            hits = front.proxy.hits + (front.door.hits if front.door else Counter())
            print(
                f"\nR4 {front.name}: {len(front.asked)} questions, {len(front.wrong)} lost or doubled, "
                f"{sum(map(front.stage.marked, front.asked))} marked; {hits['cut link']} links cut, {hits['held']} held, "
                f"{sum(hits.values()) - hits['cut link'] - hits['held']} calls broken; heard again after "
                f"{statistics.median(front.away or [0.0]):.2f} s (p50), {_p95(front.away):.2f} s (p95); "
                f"{tried[front.name]} attempts in an outage of {FAULTS_FOR * 3 / 4:g} s",
                end="",
            )
        print()
    assert wrong == [], "\n".join(wrong)
    for front in made:
        assert front.incoming.hits["cut link"] >= 1 or front.door is not None, front.name
        assert not few(front), front.name
        assert tried[front.name] <= STORM, front.name
        assert not LONG or front.door is not None or _p95(front.away) < 1.0, front.name
    assert_discreet(gateway)


async def test_the_harness_notices_a_second_answer(model: OpenAIServer, make_gateway: MakeGateway) -> None:
    async with fronts(model, make_gateway, names=["slackhttp"]) as made:
        made[0].stage.answers()
        async with on_all(made, make_gateway, **broken("broken_gateway", "forgetful")) as gateway:
            await made[0].drop()
            await until(lambda: len(made[0].stage.shown(made[0].asked[0])) > 1)
            wrong = await judge(made, gateway, patience=0)
    assert any(re.fullmatch(r"'slackhttp question 0' was put \d+ times", one) for one in wrong), wrong


async def test_the_harness_notices_that_nothing_is_sent_again(model: OpenAIServer, make_gateway: MakeGateway) -> None:
    async with fronts(model, make_gateway, names=["dingtalktext"]) as made:
        made[0].stage.answers()
        async with on_all(made, make_gateway, **broken("broken_faults", "resigned")) as gateway:
            made[0].proxy.faults = [page()]
            await made[0].ask()
            await gateway.logged("a reply cannot be delivered")
            wrong = await judge(made, gateway, patience=0)
    assert any(text.startswith("'dingtalktext question 0'") for text in wrong)
    assert any(text.startswith("in the outbox: dead") for text in wrong)


async def test_the_harness_notices_a_storm(model: OpenAIServer, make_gateway: MakeGateway) -> None:
    async with fronts(model, make_gateway, names=["feishu"]) as made:
        made[0].stage.answers()
        async with on_all(made, make_gateway, **broken("broken_faults", "restless")):
            # However slow the machine is; a gateway that pauses needs far longer for so many than `until` waits.
            assert await outage(made[0], tries=STORM + 1) > STORM
