"""A model's server on a bad day: every message still comes to an end, almost every one to an answer."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections import Counter
from contextlib import closing

import aiohttp
import pytest

from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import Answered, assert_discreet
from tests.simulators.openai_server import OpenAIServer

pytestmark = [pytest.mark.process]

MESSAGES = int(os.environ.get("CHATGPT_MS_EXAMPLES", "300"))
USERS = 50
SECRET = "the secret words of another server"

FAULTS = [
    {"kind": "status", "status": 500, "probability": 0.15, "body": {"error": {"message": SECRET}}},
    {"kind": "status", "status": 503, "probability": 0.18, "body": SECRET},
    {"kind": "stall", "probability": 0.07},
    {"kind": "stall", "probability": 0.08, "after": 2},
    {"kind": "cut", "probability": 0.08},
    {"kind": "cut", "probability": 0.1, "after": 2},
    {
        "kind": "status",
        "status": 429,
        "probability": 0.1,
        "retry_after": "0.05",
        "body": {"error": {"message": SECRET}},
    },
]
"""Each probability is of what the earlier ones left over: together 30 % 5xx, 10 % stall, 10 % cut, 5 % 429."""

PATIENT = {
    "model": "first-model",
    "fallback_models": ["second-model"],
    "retries": 2,
    "first_byte_timeout": "500ms",
    "idle_timeout": "500ms",
    "timeout": "20s",
}


@pytest.mark.slow
async def test_every_message_ends_and_almost_every_one_with_an_answer(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = await make_gateway(config={"chat": PATIENT})
    await gateway.start()
    model.configure(reply="echo", faults=[{**fault, "model": "first-model"} for fault in FAULTS])

    async def talk(user: int) -> list[Answered]:
        return [
            await gateway.chat(http, f"message {number} of {user}", f"user-{user}", key=f"{user}-{number}")
            for number in range(MESSAGES // USERS)
        ]

    answers = [answer for some in await asyncio.gather(*map(talk, range(USERS))) for answer in some]
    assert await gateway.stop() == 0

    with closing(sqlite3.connect(gateway.database)) as db:
        states = Counter(state for (state,) in db.execute("SELECT state FROM inbox"))
        pending = db.execute("SELECT count(*) FROM outbox WHERE state NOT IN ('sent', 'dead')").fetchone()[0]
    faults = Counter(request.fault for request in model.requests if request.fault)
    statuses = Counter(answer.status for answer in answers)
    with capsys.disabled():
        print(
            f"\nR5: {len(answers)} messages, {len(model.requests)} calls, faults {dict(faults)}; "
            f"{statuses[200] / len(answers):.1%} answered, {dict(states)} in the journal"
        )
    # They did hit. Most of the later questions are spared them: the breaker sends those to the second model at once.
    assert faults.total() >= 20
    assert set(faults) == {"status", "stall", "cut"}
    assert states.total() == len(answers)
    assert set(states) <= {"done", "dead"}
    assert pending == 0
    assert set(statuses) <= {200, 503}
    assert statuses[200] >= 0.97 * len(answers)
    for answer in answers:
        assert SECRET not in answer.text
        if answer.status == 200:
            assert answer.json["response"].startswith("answer to: message ")
    assert_discreet(gateway, *(answer.text for answer in answers))


async def test_an_answer_that_breaks_off_is_told_and_can_be_asked_for_again(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    gateway = await make_gateway(config={"chat": {"idle_timeout": "500ms"}})
    await gateway.start()
    model.configure(script=[{"kind": "cut", "after": 2}, {"kind": "error_event", "after": 2}], pieces_apart=True)
    broken = await gateway.chat(http, "one two three", key="k")
    assert (broken.status, broken.json["error"]["code"]) == (503, "model_unavailable")
    body = {"message": "one two three", "user": "bob"}
    async with http.post(f"{gateway.url}/chat-stream", json=body) as response:
        assert response.status == 200
        *_, last = [json.loads(line) async for line in response.content]
    assert last["error"]["code"] == "model_unavailable"
    again = await gateway.chat(http, "one two three", key="k")
    assert again.json == {"response": "answer 1 to: one two three"}
    replayed = await gateway.chat(http, "one two three", key="k")
    assert (replayed.text, replayed.headers["Idempotent-Replayed"]) == (again.text, "true")
    assert len(model.requests) == 3


async def test_a_client_that_hangs_up_finds_its_answer_later(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    gateway = await make_gateway()
    await gateway.start()
    model.pause()
    impatient = asyncio.create_task(gateway.chat(http, "hello", key="k"))
    await model.until(lambda server: len(server.requests) == 1)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    model.resume()
    assert (await gateway.chat(http, "hello", key="k")).json == {"response": "answer 1 to: hello"}
    assert (await gateway.chat(http, "and then?")).json == {"response": "answer 2 to: and then?"}
    assert [request.hung_up for request in model.requests] == [False, False]


async def test_many_requests_with_one_key_are_one_question(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    gateway = await make_gateway()
    await gateway.start()
    answers = await asyncio.gather(*(gateway.chat(http, "hello", key="k") for _ in range(50)))
    assert {(answer.status, answer.text) for answer in answers} == {(200, '{"response":"answer 1 to: hello"}')}
    assert len(model.requests) == 1
    other = await gateway.chat(http, "something else", key="k")
    assert (other.status, other.json["error"]["code"]) == (422, "idempotency_key_reused")


@pytest.mark.slow
async def test_an_outage_is_over_when_it_is_over(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    gateway = await make_gateway(config={"chat": {"retries": 1}})
    await gateway.start()
    model.configure(faults=[{"kind": "status", "status": 500, "body": SECRET}])
    for number in range(8):
        answer = await gateway.chat(http, "anybody?", key=f"k{number}")
        assert (answer.status, answer.json["error"]["code"]) == (503, "model_unavailable")
        assert SECRET not in answer.text
    asked = len(model.requests)
    assert asked < 16  # the breaker spares a server that is down
    assert (await gateway.get(http, "/readyz")).status == 200
    model.configure(faults=[])
    async with asyncio.timeout(60):
        while (answer := await gateway.chat(http, "anybody?", key="k0")).status != 200:
            await asyncio.sleep(0.5)
    assert answer.json == {"response": "answer 1 to: anybody?"}  # no failed question is in the history
