"""Who may talk over HTTP and on the page: the table of tests/scenario/test_authorisation.py, as statuses and red lines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from adapters.api.intake import user_id
from core.keys import LOCAL_NAMESPACE
from core.messages import AccountId, Person
from tests.contract.suite import hurry
from tests.contract.world import Gateway, World
from tests.scenario.cast import LISTED, SETTINGS, Cell
from tests.scenario.test_authorisation import golden
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.weixin import SimulatedWeixin

ROLES = ("member", "listed", "approved", "blocked", "admin")
DOORS = ("/chat", "/chat-stream", "/v1/chat/completions")
NAMESPACE = LOCAL_NAMESPACE


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    hurry(monkeypatch)
    async with OpenAIServer() as model, SimulatedWeixin() as platform:
        yield World(platform, model, tmp_path)


def access(setting: str) -> dict[str, Any]:
    named = SETTINGS[setting]
    allow = [user_id(NAMESPACE, role) for role in ROLES if role in LISTED] if "allow" in named else []
    return {**named, "allow": allow, "admins": [user_id(NAMESPACE, "admin")]}


async def decide(gateway: Gateway) -> None:
    for role, decision in (("approved", gateway.app.people.allow), ("blocked", gateway.app.people.block)):
        await decision(Person(AccountId("api"), user_id(NAMESPACE, role)), by="the test")


async def asked(http: aiohttp.ClientSession, url: str, door: str, user: str) -> tuple[int, str]:
    """The status of a question, and what was answered."""
    body: dict[str, Any] = {"message": "hello", "user": user}
    if door.startswith("/v1"):
        body = {"messages": [{"role": "user", "content": "hello"}], "user": user}
    async with http.post(url + door, json=body) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("setting", SETTINGS)
async def test_every_door_of_the_api_follows_the_table(world: World, setting: str) -> None:
    world.others = {"api": {"access": access(setting)}}
    table = golden()
    async with world.gateway() as gateway, aiohttp.ClientSession() as http:
        await decide(gateway)
        for role in ROLES:
            wanted = table[Cell(setting, role, "direct")]
            for door in DOORS:
                status, text = await asked(http, gateway.app.url, door, role)
                answered = status == 200 and "answer to: hello" in text
                assert answered == (wanted == "yes"), (setting, role, door, status, text)
                if not answered:  # programs are told always, whatever `refusals` says
                    assert status == 403, (setting, role, door, text)
                    assert ("`/approve " in text) == (wanted == "code" and door == DOORS[0]), "a code is told once"
        senders = {message.sender.id for message in gateway.store.accepted}
        assert senders == {user_id(NAMESPACE, role) for role in ROLES if table[Cell(setting, role, "direct")] == "yes"}


async def test_a_repeated_request_of_somebody_who_was_blocked_is_refused(world: World) -> None:
    world.others = {"api": {}}
    headers = {"Idempotency-Key": "the-same-key"}
    async with world.gateway() as gateway, aiohttp.ClientSession(headers=headers) as http:
        assert (await asked(http, gateway.app.url, "/chat", "blocked"))[0] == 200
        await decide(gateway)
        assert (await asked(http, gateway.app.url, "/chat", "blocked"))[0] == 403


async def stateless(http: aiohttp.ClientSession, url: str, *, stream: bool = False) -> tuple[int, str]:
    body = {"messages": [{"role": "user", "content": "hello"}], "stream": stream}
    async with http.post(url + "/v1/chat/completions", json=body) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("direct", ["open", "allowlist", "pairing", "off"])
async def test_requests_without_a_session_follow_the_table_too(world: World, direct: str) -> None:
    world.others = {"api": {"access": {"direct": direct}}}
    program = Person(AccountId("api"), user_id(NAMESPACE, ""))
    async with world.gateway() as gateway, aiohttp.ClientSession() as http:
        for stream in (False, True):
            status, text = await stateless(http, gateway.app.url, stream=stream)
            assert status == (200 if direct == "open" else 403), text
            assert direct == "open" or program.user in text, "whoever runs it reads whom to let in"
        await gateway.app.people.allow(program, by="the test")
        assert (await stateless(http, gateway.app.url))[0] == (403 if direct == "off" else 200)
        await gateway.app.people.block(program, by="the test")
        assert (await stateless(http, gateway.app.url))[0] == 403
        asked_the_model = len(world.model.requests)
        assert (await stateless(http, gateway.app.url, stream=True))[0] == 403
        assert len(world.model.requests) == asked_the_model


@pytest.mark.parametrize(("direct", "welcome"), [("open", True), ("off", False), ("allowlist", False)])
async def test_the_page_follows_the_table(world: World, direct: str, welcome: bool) -> None:
    world.others = {"web": {"access": {"direct": direct}}}
    async with world.gateway() as gateway, aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        url = gateway.app.url
        async with http.post(f"{url}/web/session", headers={"Origin": url}) as response:
            csrf = (await response.json())["csrf"]
        async with http.ws_connect(f"{url}/web/socket", headers={"Origin": url}) as socket:
            await socket.send_json({"type": "hello", "csrf": csrf})
            await socket.send_json({"type": "open", "conversation": "conversation-1"})
            for number, text in enumerate(("hello", "/help", "/forget yes")):
                message = {"type": "send", "conversation": "conversation-1", "client_id": f"question-{number}"}
                await socket.send_json({**message, "text": text})
                async for received in socket:
                    event = json.loads(received.data)
                    if event["type"] == "answer" and event["message"] == f"question-{number}" and _ended(event):
                        assert (event["failure"] is None) == welcome, event
                        break
        assert bool(gateway.store.accepted) == welcome


def _ended(event: dict[str, Any]) -> bool:
    return str(event["state"]) != "running"
