"""What each kind of bad input gets: the table.

At the start (`chatgpt-ms run`), exit codes: 2 the configuration or the surroundings are wrong, 78 the database is not
usable; one line on standard error says what and where, and nothing else is written.

Over HTTP: a status and JSON with a code that programs can rely on. The model's server at fault: the same, with an id
that finds the cause in the log; its words and the keys stay inside.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import MODEL_KEY, GatewayProcess, assert_discreet
from tests.simulators.openai_server import OpenAIServer

pytestmark = pytest.mark.process


async def refused(gateway: GatewayProcess) -> tuple[int, list[str]]:
    """Start, and see it refuse: the exit code and what it wrote."""
    await gateway.spawn()
    code = await gateway.ended()
    assert_discreet(gateway)
    return code, gateway.lines


# Faults of the configuration

GOOD = """\
chat: {{base_url: "{model}", api_key: {key}, model: test-model}}
storage: {{url: "sqlite:{database}"}}
server: {{port: 0}}
"""

CONFIGURATIONS: dict[str, tuple[str, list[str]]] = {
    "broken YAML": ("chat: {model: [\n", [r"config\.yaml:\d+: not valid YAML"]),
    "a tab": ("chat:\n\tmodel: x\n", [r"config\.yaml:2: .*tab"]),
    "not a block": ("- chat\n", [r"config\.yaml:1: not a configuration"]),
    "unknown key": (GOOD + "limits: {{mesages_per_day: 5}}\n", [r"limits\.mesages_per_day.*messages_per_day"]),
    "unknown section": (GOOD + "sesions: {{}}\n", [r"sesions.*sessions"]),
    "wrong type": (GOOD + "limits: {{queued: many}}\n", [r"limits\.queued.*'many'.*whole number"]),
    "out of range": (GOOD + "log: {{level: loud}}\n", [r"log\.level.*'loud'"]),
    "unset variable": (GOOD + "sessions: {{max_turns: '${{NO_SUCH_VARIABLE}}'}}\n", [r"max_turns.*NO_SUCH_VARIABLE"]),
    "missing secret file": (GOOD.replace("{key}", "file:/no/such/file"), [r"chat\.api_key.*/no/such/file"]),
    "unknown platform": (GOOD + "accounts: {{slak: {{}}}}\n", [r"accounts\.slak"]),
    "public without a key": (
        GOOD.replace("port: 0", "port: 0, host: 0.0.0.0"),
        [r"server: .*'0\.0\.0\.0' can be reached from other machines.*api_keys"],
    ),
    "two accounts at one path": (
        GOOD + "accounts: {{api-2: {{platform: api}}}}\n",
        [r"accounts\.api-2.*'/chat'.*'api'"],
    ),
    "several faults at once": (
        "chat: {{model: ''}}\nserver: {{port: 70000}}\nlimit: {{}}\n",
        [r":1: chat\.model", r":2: server\.port", r":3: limit: .*limits"],
    ),
    "not UTF-8": ("chat: {{model: \udcff}}\n", [r"config\.yaml:1: not UTF-8"]),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
async def test_a_faulty_configuration_is_refused(make_gateway: MakeGateway, model: OpenAIServer, name: str) -> None:
    text, expected = CONFIGURATIONS[name]
    gateway = await make_gateway()
    text = text.format(model=model.url, key=MODEL_KEY, database=gateway.database) if "{{" in text else text
    gateway.file.write_bytes(text.encode("utf-8", "surrogateescape"))
    code, lines = await refused(gateway)

    assert code == 2
    lines = [line for line in lines if not line.startswith("{")]
    assert len(lines) == len(expected), lines
    for line, pattern in zip(lines, expected, strict=True):
        assert line.startswith("chatgpt-ms: ")
        assert re.search(pattern, line), line


async def test_a_named_file_that_does_not_exist_is_refused(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    gateway.file.unlink()
    result = await gateway.command("run")
    assert result.code == 2
    assert "config.yaml: does not exist; `chatgpt-ms init` writes one" in result.err


# Faults of the surroundings


def busy_port(gateway: GatewayProcess) -> Callable[[], None]:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    gateway.configure({"server": {"port": taken.getsockname()[1]}})
    return taken.close


def folder_under_a_file(gateway: GatewayProcess) -> None:
    (gateway.folder / "file").write_text("x")
    gateway.configure({"storage": {"url": f"sqlite:{gateway.folder}/file/x.db"}})


def folder_nobody_may_write(gateway: GatewayProcess) -> None:
    gateway.configure({"storage": {"url": "sqlite:/proc/chatgpt-ms/x.db"}})


def database_is_a_folder(gateway: GatewayProcess) -> None:
    gateway.database.mkdir(parents=True)


def random_bytes(gateway: GatewayProcess) -> None:
    gateway.database.write_bytes(os.urandom(200_000))


def page_overwritten(gateway: GatewayProcess) -> None:
    with gateway.database.open("r+b") as file:
        for page in range(2, 12):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)


def truncated(gateway: GatewayProcess) -> None:
    os.truncate(gateway.database, gateway.database.stat().st_size // 2)


def foreign(gateway: GatewayProcess) -> None:
    gateway.database.unlink()
    with closing(sqlite3.connect(gateway.database)) as db:
        db.execute("CREATE TABLE recipes (name TEXT)")


def newer(gateway: GatewayProcess) -> None:
    with closing(sqlite3.connect(gateway.database)) as db:
        db.execute("PRAGMA user_version = 999")


@dataclass(frozen=True)
class Surrounding:
    """Something on this machine that is not as it should be."""

    spoil: Callable[[GatewayProcess], Callable[[], None] | None]
    code: int
    says: str
    used: bool = False
    """The gateway has run before, so that there is a database."""


SURROUNDINGS = {
    "busy port": Surrounding(busy_port, 2, r"server: 127\.0\.0\.1:\d+: the port is in use by another program"),
    "folder under a file": Surrounding(folder_under_a_file, 2, r"storage: cannot create the folder .*file'"),
    "unwritable folder": Surrounding(
        folder_nobody_may_write, 2, r"storage: cannot create the folder '/proc/chatgpt-ms'"
    ),
    "database is a folder": Surrounding(
        database_is_a_folder, 2, r"storage: .* is a folder; storage\.url must name a file"
    ),
    "random bytes": Surrounding(random_bytes, 78, r"is not an SQLite database.*restore a backup.*\.recover", used=True),
    "page overwritten": Surrounding(page_overwritten, 78, r"is damaged \(.*restore a backup.*\.recover", used=True),
    "truncated": Surrounding(truncated, 78, r"is damaged \(.*restore a backup.*\.recover", used=True),
    "database of another program": Surrounding(foreign, 78, r"is a database of another program", used=True),
    "newer schema": Surrounding(newer, 78, r"has schema version 999, this program knows 1 to \d+", used=True),
}


@pytest.mark.parametrize("name", SURROUNDINGS)
async def test_surroundings_that_do_not_fit_are_refused(make_gateway: MakeGateway, name: str) -> None:
    fault = SURROUNDINGS[name]
    gateway = await make_gateway()
    if fault.used:
        await gateway.start()
        assert await gateway.stop() == 0
        gateway.lines.clear()
    mend = fault.spoil(gateway)
    before = gateway.database.read_bytes() if gateway.database.is_file() else b""
    code, lines = await refused(gateway)
    if mend is not None:
        mend()

    assert code == fault.code
    (line,) = [line for line in lines if not line.startswith("{")]
    assert line.startswith("chatgpt-ms: ")
    assert re.search(fault.says, line), line
    assert [json.loads(one)["event"] for one in lines if one.startswith("{")] == []
    if fault.used:
        assert gateway.database.read_bytes() == before  # a refused file is left as it was


async def test_a_second_process_on_one_database_is_refused(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    second = await gateway.command("run")
    assert (second.code, second.out) == (2, "")
    assert re.fullmatch(
        rf"chatgpt-ms: storage: .* is in use by process {gateway.pid}; stop that one first.*\n", second.err
    )
    assert (await gateway.chat(http, "still there?")).status == 200
    assert (await gateway.command("sessions", "list", "--json")).json[0]["turns"] == 1  # its control socket, too


# Faults of the model's server


@dataclass(frozen=True)
class Upstream:
    """A model's server that does not answer as it should."""

    settings: dict[str, Any]
    status: int
    code: str


UPSTREAMS = {
    "wrong key": Upstream({"api_key": "sk-another"}, 502, "model_misconfigured"),
    "no such model": Upstream({"models": ["another"]}, 502, "model_misconfigured"),
    "no quota": Upstream({"faults": [{"kind": "insufficient_quota"}]}, 502, "model_misconfigured"),
    "server error": Upstream(
        {"faults": [{"kind": "status", "status": 500, "body": "secret upstream"}]}, 503, "model_unavailable"
    ),
    "rate limit": Upstream(
        {"faults": [{"kind": "status", "status": 429, "retry_after": "7"}]}, 503, "model_unavailable"
    ),
    "a proxy's page": Upstream({"faults": [{"kind": "content_type"}]}, 503, "model_unavailable"),
    "no text": Upstream({"faults": [{"kind": "empty"}]}, 422, "model_refused"),
    "bad request": Upstream({"rejects": ["messages"]}, 422, "model_refused"),
}


async def test_a_model_s_server_that_fails_is_told_kindly(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    pristine: dict[str, Any] = {"api_key": None, "models": None, "faults": [], "rejects": []}
    got = {}
    for number, (name, upstream) in enumerate(UPSTREAMS.items()):
        model.configure(**(pristine | upstream.settings))
        answer = await gateway.chat(http, "hi", f"user-{number}")
        error = answer.json["error"]
        got[name] = (answer.status, error["code"])
        assert error["id"] in error["message"]
        line = await gateway.logged("the model gave no answer", id=error["id"])
        assert line["level"] == "error"
        assert_discreet(gateway, answer.text)
        assert "secret upstream" not in answer.text
    assert got == {name: (upstream.status, upstream.code) for name, upstream in UPSTREAMS.items()}


async def test_an_unreachable_model_s_server_is_told_kindly(
    make_gateway: MakeGateway, http: aiohttp.ClientSession
) -> None:
    with socket.socket() as nobody:  # bound, but it does not listen
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        gateway = await make_gateway(model=url)
        check = await gateway.command("check", "--connect")
        assert check.code == 2
        assert re.search(r"chatgpt-ms: chat: ", check.err)
        await gateway.start()
        answer = await gateway.chat(http, "hi")
    assert (answer.status, answer.json["error"]["code"]) == (503, "model_unavailable")
    assert_discreet(gateway, answer.text, check.err)


# Requests

JSON = {"Content-Type": "application/json"}


def chat(**changes: Any) -> dict[str, Any]:
    """A request to /chat with some of it changed."""
    return {"data": json.dumps({"message": "hi", "user": "alice"} | changes), "headers": dict(JSON)}


def with_headers(**headers: str) -> dict[str, Any]:
    request = chat()
    request["headers"] |= {name.replace("_", "-"): value for name, value in headers.items()}
    return request


REQUESTS: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "bad JSON": ("/chat", {"data": "{", "headers": JSON}, 400, "invalid_json"),
    "not an object": ("/chat", {"data": "[]", "headers": JSON}, 400, "invalid_json"),
    "not UTF-8": ("/chat", {"data": b'{"message": "\xff"}', "headers": JSON}, 400, "invalid_json"),
    "half a surrogate pair": ("/chat", {"data": r'{"message": "\ud800", "user": "a"}', "headers": JSON}, 400, "invalid_json"),
    "nested too deeply": ("/chat", {"data": "[" * 100_000, "headers": JSON}, 400, "invalid_json"),
    "a field given twice": ("/chat", {"data": '{"user": "a", "user": "b"}', "headers": JSON}, 400, "duplicate_field"),
    "missing field": ("/chat", {"data": '{"message": "hi"}', "headers": JSON}, 400, "missing_field"),
    "wrong type": ("/chat", chat(message=7), 400, "invalid_field"),
    "empty message": ("/chat", chat(message=""), 400, "invalid_field"),
    "blank message": ("/chat", chat(message=" \n\u200b"), 400, "invalid_field"),
    "NUL": ("/chat", chat(message="a\0b"), 400, "invalid_field"),
    "long user": ("/chat", chat(user="u" * 257), 400, "invalid_field"),
    "long message": ("/chat", chat(message="m" * 32_001), 413, "too_long"),
    "1 MB message": ("/chat", chat(message="m" * 1_000_000), 413, "too_long"),
    "body over the limit": ("/chat", {"data": b" " * 1_000_001, "headers": JSON}, 413, "too_long"),
    "wrong content type": ("/chat", {"data": "message=hi", "headers": {"Content-Type": "text/plain"}}, 415, "unsupported_media_type"),
    "wrong charset": ("/chat", with_headers(Content_Type="application/json; charset=utf-7"), 415, "unsupported_media_type"),
    "wrong method": ("GET /chat", {}, 405, "method_not_allowed"),
    "unknown path": ("GET /chats", {}, 404, "not_found"),
    "unknown path of OpenAI's": ("GET /v1/images", {}, 404, "not_found"),
    "wrong method elsewhere": ("POST /healthz", {}, 405, "method_not_allowed"),
    "unknown model": (
        "/v1/chat/completions",
        {"json": {"model": "gpt-9", "messages": [{"role": "user", "content": "x"}]}},
        404,
        "model_not_found",
    ),
    "no messages": ("/v1/chat/completions", {"json": {"messages": []}}, 400, "invalid_field"),
    "long message without a session": (
        "/v1/chat/completions", {"json": {"messages": [{"role": "user", "content": "m" * 32_001}]}}, 413, "too_long"
    ),
    "foreign host": ("/chat", with_headers(Host="evil.example"), 421, "unknown_host"),
    "foreign origin": ("/chat", with_headers(Origin="http://evil.example"), 403, "foreign_origin"),
    "bad idempotency key": ("/chat", with_headers(Idempotency_Key="a b"), 400, "invalid_header"),
}  # fmt: skip

FINE = {
    "control characters": chat(message="a\x01\x1b[31m\x7f\u202eb"),
    "emoji and astral planes": chat(message="👩‍👩‍👧 𝄞", user="用户 👤"),
    "longest message": chat(message="m" * 32_000),
    "an unknown field": chat(extra={"a": 1}),
    "a charset": with_headers(Content_Type="application/json; charset=UTF-8"),
}


@pytest.fixture
async def patient() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that waits for the answer although its body is refused half-way."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        yield session


async def test_a_bad_request_is_answered_with_what_is_wrong(
    gateway: GatewayProcess, patient: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    got = {}
    for name, (place, options, _, _) in REQUESTS.items():
        method, _, path = place.rpartition(" ")
        answer = await gateway.request(patient, method or "POST", path, **options)
        assert answer.headers["Content-Type"].startswith("application/json"), name
        got[name] = (answer.status, answer.json["error"]["code"])
        assert_discreet(gateway, answer.text)
    assert got == {name: (status, code) for name, (_, _, status, code) in REQUESTS.items()}
    assert len(model.requests) == 0
    assert set(gateway.events()) <= {"ready", "started", "account", "refused"}


async def test_what_only_looks_odd_is_answered(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    for name, options in FINE.items():
        answer = await gateway.request(http, "POST", "/chat", **options)
        assert answer.status == 200, name
        assert answer.json["response"].endswith(json.loads(options["data"])["message"])
    assert gateway.events("warning", "error", "critical") == []


async def test_what_is_no_http_is_answered_with_400_and_logs_nothing(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    port = int(gateway.url.rpartition(":")[2])
    for data, status in (
        (b"GARBAGE\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),  # TLS
        (b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"421"),  # no Host
        (b"GET /healthz HTTP/1.1\r\nHost: [::2]:80\r\n\r\n", b"421"),
        (
            b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{",
            b"",
        ),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        if status:
            assert status in await reader.readline(), data
        writer.close()
        await writer.wait_closed()
    assert (await gateway.get(http, "/healthz")).status == 200
    assert gateway.events("warning", "error", "critical") == []
    assert_discreet(gateway)


async def test_keys_open_their_own_namespace_alone(make_gateway: MakeGateway, http: aiohttp.ClientSession) -> None:
    keys = [{"key": f"cms-{name}-0123456789abcdef", "namespace": name} for name in ("red", "blue")]
    gateway = await make_gateway(config={"server": {"api_keys": keys}})
    await gateway.start()
    request = {"message": "hi", "user": "alice"}
    red, blue = ({"Authorization": f"Bearer {entry['key']}"} for entry in keys)

    async def ask(**headers: str) -> tuple[int, Any]:
        answer = await gateway.post(http, "/chat", request, headers=headers)
        return answer.status, answer.json["response"] if answer.status == 200 else answer.json["error"]["code"]

    refusal = (401, "invalid_api_key")
    assert await ask() == refusal
    assert await ask(Authorization="Bearer cms-wrong-0123456789abcdef") == refusal
    assert await ask(Authorization=f"Basic {keys[0]['key']}") == refusal
    assert await ask(Authorization="Bearer ") == refusal
    assert await ask(Authorization="Bearer cl\u00e9") == refusal
    assert await ask(**red) == (200, "answer 1 to: hi")
    assert await ask(**red) == (200, "answer 2 to: hi")
    assert await ask(**blue) == (200, "answer 1 to: hi")
    text = "\n".join(gateway.lines)
    assert not any(entry["key"] in text for entry in keys)
    for file in gateway.database.parent.iterdir():
        assert not any(entry["key"].encode() in file.read_bytes() for entry in keys if file.is_file()), file


async def test_the_database_is_for_its_owner_alone(gateway: GatewayProcess) -> None:
    def mode(path: Path) -> int:
        return path.stat().st_mode & 0o777

    assert mode(gateway.database.parent) == 0o700
    assert {path.name: mode(path) for path in gateway.database.parent.iterdir() if mode(path) & 0o077} == {}
