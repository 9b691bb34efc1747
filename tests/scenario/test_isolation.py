"""Fifty users at once, each with a canary of their own: nobody ever sees another's.

The canary is told once and kept in the history, so that every later prompt and every answer would show a mix-up: the
model names all canaries it sees. The number of requests is CHATGPT_MS_EXAMPLES (1,000).
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Sequence
from typing import Any

import aiohttp
import pytest

from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import GatewayProcess, assert_discreet
from tests.simulators.openai_server import OpenAIServer

pytestmark = [pytest.mark.process, pytest.mark.slow]

EXAMPLES = int(os.environ.get("CHATGPT_MS_EXAMPLES", "1000"))
USERS = 50
KEYS = {"red": "cms-red-0123456789abcdef", "blue": "cms-blue-0123456789abcdef"}
CANARY = re.compile(r"canary-[0-9a-z]+-end")

Findings = list[str]


class Person:
    """One user behind one key."""

    def __init__(self, name: str, canary: str, namespace: str | None = None) -> None:
        self.name = name
        self.canary = canary
        self.headers = {"Authorization": f"Bearer {KEYS[namespace]}"} if namespace is not None else {}
        self.answers = 0

    def strangers(self, text: str) -> Findings:
        return [f"{self.name}: {found}" for found in CANARY.findall(text) if found != self.canary]


async def act(person: Person, gateway: GatewayProcess, http: aiohttp.ClientSession, chance: random.Random) -> Findings:
    """One request through a door taken by chance; what it showed of others."""
    said = {"message": f"I am {person.canary}, number {chance.random()}", "user": person.name}
    completion = {"messages": [{"role": "user", "content": said["message"]}], "user": person.name}
    command = {
        "message": chance.choice(("/status", "/export", "/retry", "/stop", "reset", "/whoami")),
        "user": person.name,
    }
    path, body, patient = chance.choices(
        [
            ("/chat", said, True),
            ("/chat-stream", said, True),
            ("/v1/chat/completions", completion, True),
            ("/v1/chat/completions", completion | {"stream": True}, True),
            ("/chat", command, True),
            ("/chat-stream", said, False),
        ],
        [4, 3, 2, 2, 2, 1],
    )[0]
    async with http.post(gateway.url + path, json=body, headers=person.headers) as response:
        if not patient:
            return person.strangers((await response.content.read(100)).decode())  # and hang up
        text = await response.text()
    assert response.status in (200, 409), text  # 409: a reset overtook it
    person.answers += response.status == 200
    return person.strangers(text)


async def mingle(
    people: Sequence[Person], gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer, requests: int
) -> Findings:
    """All of them at once; whatever anybody saw of another, in answers, prompts and stored sessions."""
    chance = random.Random(requests)
    found: Findings = []

    async def live(person: Person, times: int) -> None:
        for _ in range(times):
            found.extend(await act(person, gateway, http, chance))

    await asyncio.gather(*(live(person, requests // len(people)) for person in people))
    assert await gateway.stop() == 0
    for request in model.requests:
        if len(set(CANARY.findall(str(request.messages)))) > 1:
            found.append(f"prompt {request.number}")
    return found


def parrot(model: OpenAIServer) -> None:
    """A model that names every canary in its prompt, after a while that differs each time."""
    chance = random.Random(1)

    def reply(body: dict[str, Any]) -> list[str]:
        model.settings.token_delay = chance.choice((0.0, 0.0, 0.001, 0.005))
        return ["I ", "know ", *sorted(set(CANARY.findall(str(body["messages"]))))]

    model.reply = reply


def crowd() -> list[Person]:
    return [Person(f"user {number} /ü%2F", f"canary-{number}-end") for number in range(USERS)]


async def test_nobody_sees_another_s_canary(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    parrot(model)
    gateway = await make_gateway(config={"limits": {"queued": 1000}, "sessions": {"max_turns": 3}})
    await gateway.start()
    people = crowd()
    found = await mingle(people, gateway, http, model, EXAMPLES)

    with capsys.disabled():
        answers, prompts = sum(person.answers for person in people), len(model.requests)
        print(
            f"\nS5: {USERS} users, {EXAMPLES} interleavings, {answers} answers, {prompts} prompts, {len(found)} canaries"
        )
    assert found == []
    assert sum(person.answers for person in people) > EXAMPLES * 0.8
    sessions = (await gateway.command("sessions", "list", "--json", "--limit", "1000")).json
    assert len(sessions) >= USERS
    for session in sessions[:5]:
        export = (await gateway.command("sessions", "export", session["key"])).out
        assert len(set(CANARY.findall(export))) <= 1
    assert CANARY.findall("\n".join(gateway.lines)) == []
    assert_discreet(gateway)


async def test_the_same_names_behind_two_keys_are_different_people(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    parrot(model)
    keys = [{"key": key, "namespace": namespace} for namespace, key in KEYS.items()]
    gateway = await make_gateway(config={"server": {"api_keys": keys}, "limits": {"queued": 1000}})
    await gateway.start()
    people = [
        Person(f"user-{number}", f"canary-{namespace}{number}-end", namespace)
        for namespace in KEYS
        for number in range(5)
    ]
    # names that try to be those of the other namespace
    people += [Person("blue/user-1", "canary-redx-end", "red"), Person("../blue/user-1", "canary-redy-end", "red")]

    assert await mingle(people, gateway, http, model, 240) == []
    assert all(person.answers for person in people)


async def test_the_harness_sees_a_shared_conversation(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    parrot(model)
    gateway = await make_gateway(**broken("broken_gateway", "shared"), config={"limits": {"queued": 1000}})
    await gateway.start()
    people = crowd()[:10]

    assert await mingle(people, gateway, http, model, 100)
