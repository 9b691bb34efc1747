"""Fifty users at once, each with a canary of their own: nobody ever sees another's.

The canary is told once and kept in the history, so that every later prompt and every answer would show a mix-up: the
model names all canaries it sees. The number of requests is CHATGPT_MS_EXAMPLES (1,000).

Then people who are on two platforms and link what they are there: their canaries follow them, and only them.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.contract.platform import SimulatedPlatform
from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import GatewayProcess, assert_discreet, until
from tests.simulators.discord import DiscordPlatform
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.slack import SimulatedSlack

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


# People on two platforms


class Desk:
    """Somebody on one platform, in the direct chat with the bot."""

    def __init__(self, platform: SimulatedPlatform, account: str, user: str) -> None:
        self.canary = f"canary-{account}{user}-end"
        self._platform = platform
        self._account = account
        self._user = user
        self._read = 0

    async def says(self, text: str) -> str:
        """What the bot says to that, where it was said."""
        delivery = await self._platform.person_writes(text, user=self._user, account=self._account)

        def whole() -> bool:
            shown = self._platform.visible(delivery.room)[self._read :]
            return bool(shown) and not shown[-1].growing and shown[-1].text.endswith(END)

        await until(whole)
        shown = self._platform.visible(delivery.room)[self._read :]
        self._read += len(shown)
        assert len(shown) == 1, [each.text for each in shown]
        return shown[0].text

    async def knows(self) -> set[str]:
        """Every canary that the model is told."""
        return set(CANARY.findall(await self.says("what do you know?")))


END = (".", "。")


async def link(root: Desk, other: Desk) -> None:
    """The whole way."""
    found = re.search(r"/link ([A-Z2-9]{8})", await root.says("/link"))
    assert found is not None
    assert "This is the code of" in await other.says(f"/link {found[1]}")
    assert "was entered by" in await root.says("/link")
    assert "Linked with" in await root.says("/link yes")


@asynccontextmanager
async def two_platforms(model: OpenAIServer) -> AsyncIterator[dict[str, SimulatedPlatform]]:
    """Slack and Discord, and a model that names every canary in its prompt."""

    def reply(body: dict[str, Any]) -> str:
        return f"I know {', '.join(sorted(set(CANARY.findall(str(body['messages'])))))}."

    model.reply = reply
    async with SimulatedSlack() as slack, DiscordPlatform() as discord:
        discord.gateway.identify_interval = 0.0
        yield {"team": slack, "guild": discord}


async def on_both(
    platforms: dict[str, SimulatedPlatform], make_gateway: MakeGateway, **options: Any
) -> tuple[GatewayProcess, list[Desk], list[Desk]]:
    """A gateway with an account on each, and the desks of two people there: ann's and bob's."""
    accounts = {name: {"platform": each.spec.platform, **each.account(name)} for name, each in platforms.items()}
    gateway = await make_gateway(config={"accounts": {"web": "off", **accounts}}, **options)
    await start(gateway, platforms)
    ann, bob = ([Desk(platform, name, user) for name, platform in platforms.items()] for user in ("ann", "bob"))
    return gateway, ann, bob


async def start(gateway: GatewayProcess, platforms: dict[str, SimulatedPlatform]) -> None:
    await gateway.start()
    for name, platform in platforms.items():
        await platform.listening(name)


async def test_a_person_on_two_platforms_goes_on_where_they_stopped_and_nobody_else_does(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    async with two_platforms(model) as platforms:
        gateway, ann, bob = await on_both(platforms, make_gateway)
        for desk in (*ann, *bob):
            assert set(CANARY.findall(await desk.says(f"I am {desk.canary}"))) == {desk.canary}
        await link(*ann)
        assert await ann[1].knows() == {ann[0].canary}
        assert set(CANARY.findall(await ann[1].says("I am canary-both-end"))) == {ann[0].canary, "canary-both-end"}

        await gateway.kill()
        await start(gateway, platforms)
        for desk in ann:
            assert await desk.knows() == {ann[0].canary, "canary-both-end"}
        for desk in bob:
            assert await desk.knows() == {desk.canary}

        code = re.search(r"/link ([A-Z2-9]{8})", await bob[0].says("/link"))
        assert code is not None
        for text in ("/link", f"/link {code[1]}"):  # over HTTP anybody may say that they are anybody
            assert "Linking works on chat platforms only" in (await gateway.chat(http, text, user="bob")).text
        assert "Nobody has entered" in await bob[0].says("/link yes")

        assert "no longer linked" in await ann[1].says("/unlink")
        assert await ann[1].knows() == {ann[1].canary}
        assert await ann[0].knows() == {ann[0].canary, "canary-both-end"}

        await link(*ann)
        (listed,) = (await gateway.command("links", "list", "--json")).json
        assert (listed["account"], listed["to_account"]) == ("guild", "team")
        assert listed["user"] in (await gateway.command("links", "list", "--account", "guild")).out
        removed = await gateway.command("links", "remove", "guild", listed["user"])  # while it runs
        assert removed.code == 0
        assert (
            removed.out == f"no longer linked: {listed['user']!r} on 'guild'; each has their own conversation again\n"
        )
        assert await ann[1].knows() == {ann[1].canary}
        for platform in platforms.values():
            assert platform.complaints() == []
        assert await gateway.stop() == 0
        assert (await gateway.command("links", "list")).out == "nobody is linked\n"  # without one
        again = await gateway.command("links", "remove", "guild", listed["user"])
        assert again.code == 1
        assert "is linked with nobody" in again.err
        assert CANARY.findall("\n".join(gateway.lines)) == []
        assert_discreet(gateway)


async def test_the_harness_sees_a_link_that_leads_to_another(make_gateway: MakeGateway, model: OpenAIServer) -> None:
    async with two_platforms(model) as platforms:
        _, ann, bob = await on_both(platforms, make_gateway, **broken("broken_gateway", "astray"))
        for desk in (ann[0], bob[0]):
            await desk.says(f"I am {desk.canary}")
        await link(*ann)
        await link(*bob)
        assert await bob[1].knows() == {ann[0].canary}
