"""A bad network between the gateway and the model's server (R5): each fault alone for a while, and all at once.

What a server says that fails is in test_model_faults.py; here the wire fails, and people ask on a chat platform beside
the HTTP API. CHATGPT_MS_MODEL_MESSAGES (300) says how many are asked through the mix.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from typing import Any

import aiohttp
import pytest

from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import GatewayProcess, assert_discreet, until
from tests.scenario.stage import Asked
from tests.scenario.test_slack_kill import SlackStage
from tests.simulators.fault_proxy import FaultProxy
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.slack import SimulatedSlack
from tests.simulators.wire_faults import GARBAGE, SECRET, Fault, garbage, page, too_many

pytestmark = [pytest.mark.process, pytest.mark.slow]

MESSAGES = int(os.environ.get("CHATGPT_MS_MODEL_MESSAGES", "300"))
AT_ONCE = 6
BEGUN = 900
"""Bytes of the model's answer after which some of its text was there."""

HASTY = {"first_byte_timeout": "700ms", "idle_timeout": "700ms", "connect_timeout": "700ms"}

PURE: dict[str, Fault | None] = {
    "refused": None,
    "reset": Fault(kind="reset"),
    "stall": Fault(kind="stall"),
    "reset in the middle": Fault(kind="reset", after=BEGUN),
    "cut in the middle": Fault(kind="cut", after=BEGUN),
    "stall in the middle": Fault(kind="stall", after=BEGUN),
    "answer lost": Fault(kind="reset", carried_out=True),
    "page of a proxy": page(),
    "too many": too_many(60),
    **{what: garbage(what) for what in GARBAGE},
}
"""None of these lets an answer through."""

SLOW = {"late": Fault(kind="latency", seconds=0.3), "dripping": Fault(kind="drip", after=300, seconds=0.02)}
"""These do."""

FIRST = '"first-model"'
MIX = [
    page(500, share=0.15, calls=FIRST),
    page(503, share=0.15, calls=FIRST),
    Fault(kind="stall", share=0.05, calls=FIRST),
    Fault(kind="stall", share=0.05, after=BEGUN, calls=FIRST, name="stall in the middle"),
    Fault(kind="reset", share=0.05, after=BEGUN, calls=FIRST, name="reset in the middle"),
    Fault(kind="cut", share=0.05, after=BEGUN, calls=FIRST, name="cut in the middle"),
    too_many(0.05, share=0.05, calls=FIRST),
    page(502, share=0.1, calls='"second-model"'),
]
"""30 % 5xx, 10 % stall, 10 % cut mid-stream, 5 % 429; the second model, to which the breaker soon turns all, fails too."""


class Street:
    """People who ask on Slack and over HTTP, and the model behind the proxy."""

    def __init__(self, stage: SlackStage, gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
        self.stage = stage
        self.gateway = gateway
        self.http = http
        self.asked: list[Asked] = []
        self.statuses = Counter[int]()

    async def chat(self, question: str) -> int:
        answer = await self.gateway.chat(self.http, question, question.replace(" ", ""))
        self.statuses[answer.status] += 1
        assert SECRET not in answer.text
        return answer.status

    async def ask(self, question: str) -> Asked:
        asked = await self.stage.ask(question, "direct")
        self.asked.append(asked)
        return asked

    def settled(self, asked: Asked) -> bool:
        """Whether something stands there that does not grow any more."""
        shown = self.stage.platform.visible(asked.delivery.room)
        return bool(shown) and not any(each.growing for each in shown) and (self.right(asked) or self.told(asked))

    def right(self, asked: Asked) -> bool:
        return self.stage.right(asked)

    def told(self, asked: Asked) -> bool:
        """Whether a notice tells that there is no (whole) answer."""
        return any(
            "can't reach the model" in text or "broke off here" in text or "would not answer" in text
            for text in self.stage.shown(asked)
        )

    async def end(self) -> Counter[str]:
        """Stop; the states in the journal. Nothing may be under way."""
        assert await self.gateway.stop() == 0
        with closing(sqlite3.connect(self.gateway.database)) as db:
            (pending,) = db.execute("SELECT count(*) FROM outbox WHERE state NOT IN ('sent', 'dead')").fetchone()
            states = Counter(state for (state,) in db.execute("SELECT state FROM inbox"))
        assert pending == 0
        assert set(states) <= {"done", "dead"}
        for asked in self.asked:
            assert not any(SECRET in text for text in self.stage.shown(asked))
        assert list(self.stage.platform.complaints()) == []
        assert_discreet(self.gateway)
        return states


@pytest.fixture
async def proxy(model: OpenAIServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(model.url) as made:
        yield made


OpenStreet = Callable[..., Any]


@pytest.fixture
async def open_street(
    model: OpenAIServer, proxy: FaultProxy, make_gateway: MakeGateway, http: aiohttp.ClientSession
) -> AsyncIterator[OpenStreet]:
    async with SimulatedSlack() as slack:
        stage = SlackStage("Slack", slack, model, make_gateway)

        async def opened(chat: dict[str, Any], **options: Any) -> Street:
            stage.answers()
            account = {"platform": "slack", **slack.account()}
            gateway = await make_gateway(
                model=proxy.url, config={"chat": chat, "accounts": {"web": "off", "bot": account}}, **options
            )
            await gateway.start()
            await slack.listening()
            return Street(stage, gateway, http)

        yield opened


async def test_each_fault_is_told_and_is_over_when_it_is_over(
    open_street: OpenStreet, proxy: FaultProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    street: Street = await open_street(HASTY)
    for name, fault in PURE.items():
        before = proxy.hits.total()
        if fault is None:
            await proxy.refuse()
        else:
            proxy.faults = [fault]
        asked = await street.ask(f"{name} asked there")
        statuses = await asyncio.gather(*(street.chat(f"{name} {number}") for number in range(3)))
        await until(lambda asked=asked: street.settled(asked))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        assert statuses == [503] * 3, name
        assert street.told(asked), name
        assert proxy.hits.total() - before == (0 if fault is None else 4), name
        await proxy.accept()
        proxy.faults = ()
        # more than failed, so that the breaker sees a server that works; its own opening is in test_model_faults.py
        again = await asyncio.gather(*(street.chat(f"after {name} {number}") for number in range(12)))
        assert again == [200] * 12, name
        assert street.right(await _settled(street, f"after {name}")), name
    for name, fault in SLOW.items():
        assert fault is not None
        proxy.faults = [fault]
        assert await street.chat(name) == 200, name
        assert street.right(await _settled(street, f"{name} there")), name
    faults, states = proxy.hits, await street.end()
    with capsys.disabled():
        print(
            f"\nR5, {len(PURE)} faults alone: {faults.total()} hits, {len(street.asked)} asked on Slack, "
            f"{street.statuses.total()} over HTTP ({street.statuses[200]} answered, {street.statuses[503]} told why not); "
            f"{dict(states)} in the journal"
        )
    assert states.total() == len(street.asked) + street.statuses.total()


async def _settled(street: Street, question: str) -> Asked:
    asked = await street.ask(question)
    await until(lambda: street.settled(asked))
    return asked


async def through_the_mix(street: Street, proxy: FaultProxy) -> tuple[int, int]:
    """Everything at once; how many were answered, and how many see neither an answer nor a notice."""
    proxy.faults = MIX
    turns = asyncio.Semaphore(AT_ONCE)
    lost = list[Asked]()

    async def one(number: int) -> None:
        async with turns:
            asked = await street.ask(f"question {number}")
            try:
                async with asyncio.timeout(20):
                    await until(lambda: street.settled(asked))
            except TimeoutError:
                lost.append(asked)

    async with asyncio.TaskGroup() as group:
        for number in range(MESSAGES):
            group.create_task(one(number))
    return sum(map(street.right, street.asked)), len(lost)


async def test_of_all_faults_at_once_people_notice_almost_nothing(
    open_street: OpenStreet, proxy: FaultProxy, capsys: pytest.CaptureFixture[str]
) -> None:
    street: Street = await open_street(
        {**HASTY, "model": "first-model", "fallback_models": ["second-model"], "retries": 2}
    )
    answered, lost = await through_the_mix(street, proxy)
    states = await street.end()
    with capsys.disabled():
        print(
            f"\nR5, a bad network: {MESSAGES} messages on Slack, {proxy.requests} calls, {proxy.hits.total()} faults "
            f"{dict(proxy.hits)}; {answered / MESSAGES:.1%} answered, {lost} without a word; {dict(states)} in the journal"
        )
    assert proxy.hits.total() >= 15
    assert lost == 0
    assert states.total() == MESSAGES
    assert answered >= 0.97 * MESSAGES


async def test_the_harness_notices_a_gateway_without_fallback(open_street: OpenStreet, proxy: FaultProxy) -> None:
    street: Street = await open_street({**HASTY, "model": "first-model", "retries": 0})
    answered, lost = await through_the_mix(street, proxy)
    await street.end()
    assert answered < 0.97 * MESSAGES
    assert lost == 0


async def test_the_harness_notices_a_gateway_that_does_not_tell(open_street: OpenStreet, proxy: FaultProxy) -> None:
    street: Street = await open_street(HASTY, **broken("broken_faults", "silent"))
    proxy.faults = [page()]
    asked = await street.ask("question")
    await until(lambda: proxy.hits.total() == 1)
    await street.gateway.logged("the model gave no answer")
    assert await street.gateway.stop() == 0
    assert not street.settled(asked)
