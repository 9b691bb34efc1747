"""Who gets what from every route: each with no key, a wrong one, those of two namespaces, and those with one scope alone.

`golden/routes.txt` has the statuses, of a gateway that others reach, so that nothing is open because it is this machine.
After a change that is meant: CHATGPT_MS_GOLDEN=1 pytest tests/scenario/test_routes.py, and read the difference.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.contract.suite import hurry
from tests.contract.world import World
from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import GatewayProcess
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.slack import SimulatedSlack
from tests.simulators.weixin import SimulatedWeixin

GOLDEN = Path(__file__).parent / "golden" / "routes.txt"
OWN, FOREIGN = "https://chat.example.com", "https://evil.example"
RED, BLUE = "cms-red-0123456789abcdef", "cms-blue-0123456789abcdef"
CALLERS = ("none", "wrong", "other", "right", "admin", "chat")
"""Keys: none, one that is unknown, that of another namespace, ours; and ours with one scope alone."""

UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
QUESTION: dict[str, Any] = {"message": "hello", "user": "alice"}
COMPLETION: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "user": "alice"}

DOCUMENTED: dict[str, dict[str, Any]] = {
    "POST /chat": {"json": QUESTION},
    "POST /chat-stream": {"json": QUESTION},
    "POST /v1/chat/completions": {"json": COMPLETION},
    "GET /v1/models": {},
    "GET /v1/models/{model}": {"at": "/v1/models/test-model"},
    "GET /openapi.json": {},
}
"""What /openapi.json speaks of."""

OTHERS: dict[str, dict[str, Any]] = {
    "GET /v1/nowhere": {},
    "GET /healthz": {},
    "GET /readyz": {},
    "GET /metrics": {},
    "GET /scan/weixin": {},
    "POST /scan/weixin": {"data": {"digits": "1234"}},
    "GET /scan/nobody": {},
    "POST /webhooks/slack": {"data": b"{}"},
    "GET /": {},
    "GET /web/000000000000/app.js": {},
    "POST /web/session": {},
    "POST /web/login": {"json": {}},
    "POST /web/logout": {"json": {}},
    "GET /web/socket": {"headers": UPGRADE},
    "GET /nowhere": {},
}
"""What it does not."""

ORIGINS: dict[str, dict[str, str]] = {"": {}, "own page": {"Origin": OWN}, "another site": {"Origin": FOREIGN}}
"""Who lets a browser ask; programs say nothing."""

Table = dict[tuple[str, str, str], str]
"""By route, origin and caller: the status."""


def cells() -> list[tuple[str, str, str]]:
    """All there are."""
    return [(route, origin, who) for route in (*DOCUMENTED, *OTHERS) for origin in ORIGINS for who in CALLERS]


async def keys_of(gateway: GatewayProcess) -> dict[str, str]:
    """A key for each caller; those with one scope are made by the command."""
    keys = {"wrong": "cms-wrong-0123456789abcdef", "other": BLUE, "right": RED}
    for scope in ("admin", "chat"):
        made = await gateway.command("keys", "create", scope, "--namespace", "red", "--scope", scope, "--json")
        assert made.code == 0, made.err
        keys[scope] = made.json["secret"]
    return keys


async def play(make_gateway: MakeGateway, http: aiohttp.ClientSession, **options: Any) -> tuple[Table, dict[str, Any]]:
    """Knock at every door; the statuses, and the document."""
    table: Table = {}
    async with SimulatedSlack(mode="http") as slack, SimulatedWeixin() as weixin:
        weixin.state.bot("weixin")
        server = {
            "host": "0.0.0.0",
            "public_url": OWN,
            "api_keys": [{"key": RED, "namespace": "red"}, {"key": BLUE, "namespace": "blue"}],
        }
        accounts = {"slack": slack.account("slack"), "weixin": weixin.account("weixin")}
        gateway = await make_gateway(config={"server": server, "accounts": accounts}, **options)
        await gateway.start()
        gateway.url = f"http://127.0.0.1:{gateway.url.rsplit(':', 1)[1].rstrip('/')}"
        keys = await keys_of(gateway)
        for route, origin, who in cells():
            method, path = route.split()
            asked = {**DOCUMENTED, **OTHERS}[route]
            key = {"Authorization": f"Bearer {keys[who]}"} if who in keys else {}
            headers = {"Host": "chat.example.com", **asked.get("headers", {}), **ORIGINS[origin], **key}
            arguments = {**asked, "headers": headers, "allow_redirects": False}
            async with http.request(method, gateway.url + arguments.pop("at", path), **arguments) as response:
                table[route, origin, who] = str(response.status)
        answer = await gateway.get(http, "/openapi.json", headers={"Authorization": f"Bearer {RED}"})
        await gateway.kill()
        return table, answer.json


def written(table: Mapping[tuple[str, str, str], str]) -> str:
    """As it stands in the file."""
    lines = [f"{'':<48}" + "".join(f"{who:<7}" for who in CALLERS)]
    for route in (*DOCUMENTED, *OTHERS):
        for origin in ORIGINS:
            name = f"{route} from {origin}" if origin else route
            lines.append(f"{name:<48}" + "".join(f"{table[route, origin, who]:<7}" for who in CALLERS))
    return "\n".join(line.rstrip() for line in lines) + "\n"


@pytest.mark.process
async def test_every_route_gives_each_caller_what_the_table_says(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]
) -> None:
    table, document = await play(make_gateway, http)
    if os.environ.get("CHATGPT_MS_GOLDEN"):
        GOLDEN.write_text(written(table))
    with capsys.disabled():
        print(f"\nS4: {len(DOCUMENTED) + len(OTHERS)} routes, {len(ORIGINS)} origins, {len(CALLERS)} callers")
    documented = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert documented == set(DOCUMENTED)
    assert written(table).splitlines() == GOLDEN.read_text().splitlines()


def test_the_table_lets_nobody_in_who_has_no_right() -> None:
    rows = {line[:48].strip(): line[48:].split() for line in GOLDEN.read_text().splitlines()[1:]}
    for route in DOCUMENTED.keys() - {"GET /openapi.json"}:
        for origin in ("", " from own page"):
            none, wrong, other, right, admin, chat = rows[route + origin]
            assert (none, wrong, other, right, admin, chat) == ("401", "401", "200", "200", "403", "200"), route
        assert set(rows[f"{route} from another site"]) == {"403"}
    for route in ("GET /metrics", "GET /scan/weixin"):
        assert rows[route] == ["401", "401", "200", "200", "200", "401"], route
    assert set(rows["POST /webhooks/slack"]) == {"401"}, "a key is no signature"
    for route in ("POST /web/session", "POST /web/login", "POST /web/logout", "GET /web/socket"):
        assert set(rows[f"{route} from another site"]) == {"403"}, route
    assert "500" not in GOLDEN.read_text()


async def test_no_route_is_missing_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    async with OpenAIServer() as model, SimulatedSlack(mode="http") as slack, SimulatedWeixin() as weixin:
        world = World(slack, model, tmp_path, others={"api": {}, "web": {}, "weixin": weixin.account("weixin")})
        async with world.gateway("slack") as gateway:
            runner = gateway.app.server._runner
            assert runner is not None
            known = {
                (route.method, route.resource.canonical)
                for route in runner.app.router.routes()
                if route.resource is not None and route.method not in ("HEAD", "*")
            }
    named = {"/scan/weixin": "/scan/{account}", "/web/000000000000/app.js": "/web/{version}/{name}"}
    table = {tuple(route.split()) for route in (*DOCUMENTED, *OTHERS)}
    assert known <= {(method, named.get(path, path)) for method, path in table}


@pytest.mark.process
async def test_a_route_that_forgets_to_ask_would_be_seen(
    make_gateway: MakeGateway, http: aiohttp.ClientSession
) -> None:
    table, _ = await play(make_gateway, http, **broken("broken_gateway", "unlocked"))
    assert written(table).splitlines() != GOLDEN.read_text().splitlines()
    assert table["POST /chat", "", "none"] == "200"
