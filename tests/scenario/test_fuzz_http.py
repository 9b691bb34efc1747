"""The gateway's HTTP server under bytes of all sorts: broken JSON and encodings, wrong heads, halves, requests in a row;
and its API as a client may use it over time.

Nothing is answered with 5xx but 503 and 504 where they are documented, nothing is logged that nobody expected, and the
gateway answers afterwards. CHATGPT_MS_EXAMPLES sets how many requests there are.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.app import App
from gateway.config import load
from tests.fuzzing import EXAMPLES, Mutator, figure, request, spoken, text_of
from tests.simulators.openai_server import OpenAIServer

JSON = ("Content-Type", "application/json")
ALLOWED = (503, 504)
"""What may be answered with 5xx: nothing can be stored, too many wait, or the model does not answer (in time)."""


@dataclass
class Server:
    """A gateway with its API and its page."""

    app: App
    model: OpenAIServer
    logs: list[Any]
    cookie: str = ""

    @property
    def port(self) -> int:
        return int(self.app.url.rpartition(":")[2])

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    async def asks(self) -> None:
        """A question is answered."""
        body = json.dumps({"message": "still there?", "user": "ann"}).encode()
        heard = await spoken(self.port, request("/chat", [JSON], body))
        assert heard.status == 200, heard
        assert json.loads(heard.body)["response"].startswith("answer to: still there?")

    def unexpected(self) -> list[str]:
        return [f"{entry['event']}: {entry}" for entry in self.logs if entry.get("exc_info")]


@pytest.fixture
async def server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Server]:
    path = tmp_path / "config.yaml"
    async with OpenAIServer() as model:
        path.write_text(
            f"chat: {{api_key: sk-test, base_url: '{model.url}', model: test-model, retries: 0}}\n"
            f"storage: {{url: 'sqlite:{tmp_path}/data/chat.db'}}\n"
            "server: {port: 0}\n"
            "limits: {messages_per_minute: null, messages_per_day: null, tokens_per_day: null}\n"
        )
        with capture_logs() as logs, caplog.at_level(logging.ERROR):
            async with App(load(path, {})) as app:
                made = Server(app, model, logs)
                await made.asks()
                yield made
                await made.asks()
                assert made.unexpected() == []
                assert [record.getMessage() for record in caplog.records if record.name != "asyncio"] == []


# One request after the other

CHAT = {"message": "hi", "user": "alice"}
COMPLETION = {
    "model": "test-model",
    "messages": [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ],
    "user": "alice",
    "temperature": 0.5,
    "max_tokens": 10,
    "stream": False,
    "stop": ["x"],
    "stream_options": None,
    "metadata": {"a": "b"},
}
_PLACES = ("/chat", "/chat-stream", "/v1/chat/completions", "/web/login", "/web/session", "/web/logout", "/scan/x")
_READ = (
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/v1/models",
    "/v1/x",
    "/web/socket",
    "/web/0123456789ab/x",
)
_PATHS = (
    *("/%00", "/%ff", "/..%2f..%2fetc/passwd", "//", "/chat/", "/chat?user=%ud800", "*", "/" + "a" * 9_000, "/\u00e9"),
    *("http://127.0.0.1/chat", "http://[", "localhost:80", "/scan/%2e%2e", "/web/0123456789ab/..%2fapp.js", "/v1/%0a"),
)
_HEADERS: tuple[tuple[str, str | bytes], ...] = (
    ("Content-Type", "application/json; charset=utf-16"),
    ("Content-Type", "application/json; charset=\u00fc; ;="),
    ("Content-Type", "multipart/form-data; boundary="),
    ("Content-Encoding", "gzip"),
    ("Content-Encoding", "deflate"),
    ("Content-Encoding", "br"),
    ("Content-Encoding", "zstd"),
    ("Transfer-Encoding", "chunked"),
    ("Transfer-Encoding", "gzip, chunked"),
    ("Content-Length", "1"),
    ("Content-Length", "99999999999999999999"),
    ("Content-Length", "-1"),
    ("Expect", "100-continue"),
    ("Expect", "the unexpected"),
    ("Origin", "http://["),
    ("Origin", "null"),
    ("Origin", "http://evil.example"),
    ("Host", "["),
    ("Host", "localhost:99999999"),
    ("Host", b"\xff\xfe"),
    ("Authorization", b"Bearer \xff\x00"),
    ("Authorization", "Basic =="),
    ("Authorization", "Bearer " + "x" * 7_000),
    ("Cookie", "cms=\x7f; cms; =; " + "a=b; " * 500),
    ("Cookie", b"cms_browser=\xff\xff"),
    ("Accept-Language", "x" * 3_000),
    ("Accept-Language", b"\xe4\xb8\xad"),
    ("Idempotency-Key", "k1"),
    ("Idempotency-Key", ""),
    ("Idempotency-Key", "\u00fc"),
    ("Idempotency-Key", "k" * 5_000),
    ("Range", "bytes=9-1,-"),
    ("If-Modified-Since", "yesterday"),
    ("If-None-Match", '"\u00e9", W/*'),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", "x"),
    ("X-Forwarded-For", "::, \x01"),
    ("X" * 9_000, "y"),
    ("X", "y" * 20_000),
    ("Bad Name", "x"),
    ("", "x"),
)


class Sender:
    """Makes requests that go wrong in some way."""

    def __init__(self, server: Server, chance: Random) -> None:
        self.server = server
        self.chance = chance
        self.mutator = Mutator(chance)

    def body(self) -> bytes:
        samples = [CHAT, COMPLETION, {"key": "x"}]
        text = text_of(self.mutator.altered(samples, 3))
        match self.chance.randrange(6):
            case 0:
                return self.mutator.broken(text)
            case 1:
                return gzip.compress(text.encode("utf-8", "surrogatepass"))[: self.chance.randrange(20, 200)]
            case 2:
                return json.dumps(self.chance.choice(samples)).encode()
        return text.encode("utf-8", "surrogatepass")

    def request(self) -> bytes:
        chance = self.chance
        if chance.randrange(4):
            path, method, body = chance.choice(_PLACES), "POST", self.body()
        else:
            path, method, body = chance.choice(_READ), "GET", b""
        if chance.randrange(8) == 0:
            path = chance.choice((*_PATHS, *_PLACES, *_READ))
            method = chance.choice(("GET", "POST", "PUT", "OPTIONS", "TRACE", "X", "get", "\u00fc"))
        headers: list[tuple[str, str | bytes]] = [JSON, ("Origin", f"http://{self.server.host}")]
        if self.server.cookie:
            headers.append(("Cookie", self.server.cookie))
        for _ in range(chance.randrange(3)):
            headers.insert(chance.randrange(len(headers) + 1), chance.choice(_HEADERS))
        made = request(path, headers, body, method=method, host=self.server.host)
        match chance.randrange(12):
            case 0:
                return self.mutator.broken(made.decode("latin-1"))
            case 1:
                return made[: chance.randrange(len(made))]
            case 2:
                return made.replace(
                    b"HTTP/1.1", chance.choice((b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/x", b"")), 1
                )
            case 3:
                return made.replace(b"\r\n", b"\n")
        return made


async def fire(server: Server, number: int) -> Counter[str]:
    """So many connections, with one to three requests on each; sixteen at once."""
    sender, counted, free = Sender(server, Random(1)), Counter[str](), asyncio.Semaphore(16)
    url = server.app.url
    async with aiohttp.ClientSession() as http, http.post(f"{url}/web/session", headers={"Origin": url}) as response:
        server.cookie = "; ".join(f"{name}={value.value}" for name, value in response.cookies.items())
    assert server.cookie

    async def connect(requests: list[bytes]) -> None:
        async with free:
            heard = await spoken(server.port, *requests, responses=9, quiet=0.25)
        for status in heard.statuses:
            counted[str(status)] += 1
            assert status < 500 or status in ALLOWED, (heard, requests)
        counted["without an answer"] += not heard.statuses

    async with asyncio.TaskGroup() as tasks:
        for _ in range(number):
            requests = [sender.request() for _ in range(sender.chance.choice((1, 1, 1, 2, 3)))]
            tasks.create_task(connect(requests))
    return counted


async def test_no_bytes_make_the_server_fail(server: Server) -> None:
    counted = await fire(server, EXAMPLES or 300)
    figure("raw HTTP requests", counted)
    assert counted["200"] > 0
    assert counted["400"] > 0


async def test_a_server_that_fails_is_found(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The paired negative: a handler that trusts what it reads."""

    def trusting(body: bytes) -> Any:
        return dict(json.loads(body))

    with monkeypatch.context() as patched:
        patched.setattr("adapters.api.reading._parse", trusting)
        with pytest.raises(ExceptionGroup, match="unhandled errors"):
            await fire(server, 100)
    server.logs.clear()
    caplog.clear()
