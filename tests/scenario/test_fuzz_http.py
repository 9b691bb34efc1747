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
from contextlib import suppress
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
    key: str = ""
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
        heard = await spoken(self.port, request("/chat", [JSON, ("Authorization", f"Bearer {self.key}")], body))
        assert heard.status == 200, heard
        assert json.loads(heard.body)["response"].startswith("answer to: still there?")

    async def enters(self) -> str:
        """A browser gets its cookie, and the token of its page."""
        url = self.app.url
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}/web/session", headers={"Origin": url}) as response,
        ):
            self.cookie = "; ".join(f"{name}={value.value}" for name, value in response.cookies.items())
            return str((await response.json())["csrf"])

    def unexpected(self) -> list[str]:
        return [f"{entry['event']}: {entry}" for entry in self.logs if entry.get("exc_info")]


@pytest.fixture
async def server(
    request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Server]:
    """A parameter is the keys that it takes, each with the namespace in its middle; without, anybody is welcome."""
    path, taken = tmp_path / "config.yaml", getattr(request, "param", ())
    keys = json.dumps([{"key": key, "namespace": key.split("-")[1]} for key in taken])
    async with OpenAIServer() as model:
        path.write_text(
            f"chat: {{api_key: sk-test, base_url: '{model.url}', model: test-model, retries: 0}}\n"
            f"storage: {{url: 'sqlite:{tmp_path}/data/chat.db'}}\n"
            f"server: {{port: 0, api_keys: {keys}}}\n"
            "limits: {messages_per_minute: null, messages_per_day: null, tokens_per_day: null}\n"
        )
        with capture_logs() as logs, caplog.at_level(logging.ERROR):
            async with App(load(path, {})) as app:
                made = Server(app, model, logs, key=taken[0] if taken else "")
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
    await server.enters()

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


@pytest.mark.parametrize("path", ["/chat", "/chat-stream", "/v1/chat/completions", "/web/login", "/scan/x"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_a_body_in_a_wrong_encoding_is_the_sender_s_fault(server: Server, path: str, encoding: str) -> None:
    await server.enters()
    headers: list[tuple[str, str | bytes]] = [JSON, ("Content-Encoding", encoding), ("Cookie", server.cookie)]
    heard = await spoken(server.port, request(path, headers, b"no " + encoding.encode(), host=server.host), quiet=2.0)
    assert 400 <= heard.status < 500, heard


# The page's socket

FRAMES = [
    {"type": "hello", "csrf": "x"},
    {"type": "open", "conversation": "conversation-1", "turns": 40},
    {"type": "send", "conversation": "conversation-1", "client_id": "question-1", "text": "Hi", "language": "zh-CN"},
    {"type": "stop", "conversation": "conversation-1"},
    {"type": "retry", "conversation": "conversation-1", "client_id": "question-2", "language": None},
    {"type": "delete", "conversation": "conversation-2"},
    {"type": "list"},
]


async def test_garbage_on_the_page_s_socket_ends_no_more_than_that_socket(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a text, whatever it is, questions are taken; what is no text ends the socket."""
    monkeypatch.setattr("core.limits.Rates.take", lambda *_: None)
    chance, counted, shots = Random(1), Counter[str](), EXAMPLES or 60
    mutator = Mutator(chance)
    csrf = await server.enters()
    url, headers = f"{server.app.url}/web/socket", {"Origin": server.app.url, "Cookie": server.cookie}
    kinds = {"bytes": aiohttp.WSMsgType.BINARY, "ping": aiohttp.WSMsgType.PING}
    async with aiohttp.ClientSession() as http:
        while (shot := counted.total()) < shots:
            async with http.ws_connect(url, headers=headers) as socket:
                await socket.send_json({"type": "hello", "csrf": csrf})
                open_still = True
                while open_still and (shot := counted.total()) < shots:
                    way = chance.choice(("text", "text", "text", "text", "broken", "bytes", "ping"))
                    counted[way] += 1
                    text = text_of(mutator.altered(FRAMES, 2))
                    data = mutator.broken(text) if way == "broken" else text.encode("utf-8", "surrogatepass")
                    kind = kinds.get(way, aiohttp.WSMsgType.TEXT)
                    await socket._writer.send_frame(data[:100] if way == "ping" else data, kind)
                    open_still = await takes_a_question(socket, f"question-{shot:08d}")
                    assert open_still or way != "ping"
    figure("frames of the page", counted)


async def takes_a_question(socket: aiohttp.ClientWebSocketResponse, id: str) -> bool:
    """False: the socket was closed."""
    question = {"type": "send", "conversation": f"conversation-{id}", "client_id": id, "text": "still there?"}
    with suppress(ConnectionError):
        await socket.send_json(question)
        async with asyncio.timeout(10):
            while (event := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                told = json.loads(event.data)
                if told.get("client_id") == id:
                    assert told["type"] == "accepted", told
                    return True
    return False


# A client over time


@dataclass
class Talk:
    """What one person of one key has said since the session began."""

    key: str
    user: str
    said: list[str]
    answers: dict[str, tuple[dict[str, str], str]]
    """By the idempotency key: what was asked with it, and what was answered."""

    @property
    def namespace(self) -> str:
        return self.key.split("-")[1]


class Client:
    """Does what a client may do, and knows what must come of it."""

    def __init__(self, server: Server, http: aiohttp.ClientSession, chance: Random) -> None:
        self.server = server
        self.http = http
        self.chance = chance
        self.number = 0
        self.counted = Counter[str]()
        self.talks = [Talk(key, user, [], {}) for key in KEYS for user in ("alice", "bob", "\u738b")]

    async def step(self) -> None:
        """One thing more."""
        talk = self.chance.choice(self.talks)
        steps = (self.ask, self.ask, self.ask_openai, self.repeat, self.repeat, self.reuse, self.reset, self.read)
        step = self.chance.choice(steps)
        self.counted[step.__name__] += 1
        await step(talk)

    async def send(self, talk: Talk, path: str, body: Any, *, key: str = "") -> tuple[int, Any, Any]:
        headers = {"Authorization": f"Bearer {talk.key}", **({"Idempotency-Key": key} if key else {})}
        async with self.http.post(self.server.app.url + path, json=body, headers=headers) as response:
            return response.status, await response.json(), response.headers

    def question(self, talk: Talk) -> str:
        self.number += 1
        return f"{talk.namespace} {talk.user} {self.number}"

    def prompted(self, talk: Talk, text: str) -> None:
        """The model was told what this person said, and nobody else."""
        talk.said.append(text)
        messages = self.server.model.requests[-1].body["messages"]
        told = [message["content"] for message in messages if message["role"] == "user"]
        assert told == talk.said[-len(told) :]
        assert len(talk.said) > 8 or told == talk.said

    async def ask(self, talk: Talk) -> None:
        text, key = self.question(talk), f"key-{self.chance.randrange(5)}" if self.chance.randrange(2) else ""
        if key in talk.answers:
            key = ""
        body = {"message": text, "user": talk.user}
        status, answer, _ = await self.send(talk, "/chat", body, key=key)
        assert (status, answer) == (200, {"response": f"answer to: {text}"})
        self.prompted(talk, text)
        if key:
            talk.answers[key] = body, answer["response"]

    async def ask_openai(self, talk: Talk) -> None:
        text = self.question(talk)
        models = [{"model": "test-model"}, {}, {"model": "default"}]
        body = {**self.chance.choice(models), "messages": [{"role": "user", "content": text}], "user": talk.user}
        status, answer, _ = await self.send(talk, "/v1/chat/completions", body)
        assert (status, answer["choices"][0]["message"]["content"]) == (200, f"answer to: {text}")
        self.prompted(talk, text)

    async def repeat(self, talk: Talk) -> None:
        """The same request again: the same answer, and the model is not asked."""
        if not talk.answers:
            return
        asked, (key, (body, expected)) = len(self.server.model.requests), self.chance.choice(list(talk.answers.items()))
        status, answer, headers = await self.send(talk, "/chat", body, key=key)
        assert (status, answer, headers["Idempotent-Replayed"]) == (200, {"response": expected}, "true")
        assert len(self.server.model.requests) == asked

    async def reuse(self, talk: Talk) -> None:
        """The key of another request."""
        if talk.answers:
            body = {"message": self.question(talk), "user": talk.user}
            status, answer, _ = await self.send(talk, "/chat", body, key=self.chance.choice(list(talk.answers)))
            assert (status, answer["error"]["code"]) == (422, "idempotency_key_reused")

    async def reset(self, talk: Talk) -> None:
        body = {"message": self.chance.choice(("reset", "/new")), "user": talk.user}
        status, answer, _ = await self.send(talk, "/chat", body)
        assert status == 200, answer
        talk.said.clear()

    async def read(self, talk: Talk) -> None:
        headers = {"Authorization": f"Bearer {talk.key}"}
        async with self.http.get(f"{self.server.app.url}/v1/models", headers=headers) as response:
            assert [model["id"] for model in (await response.json())["data"]] == ["test-model"]


async def walk(client: Client, steps: int) -> None:
    """One after the other."""
    for _ in range(steps):
        await client.step()


KEYS = ("cms-red-0123456789abcdef", "cms-blue-0123456789abcdef")


@pytest.mark.parametrize("server", [KEYS], indirect=True)
async def test_a_client_over_time_gets_what_is_its_own(server: Server) -> None:
    async with aiohttp.ClientSession() as http:
        client = Client(server, http, Random(1))
        await walk(client, EXAMPLES or 150)
    figure("steps of API clients", client.counted)


@pytest.mark.parametrize("server", [KEYS], indirect=True)
async def test_a_session_that_is_shared_is_found(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paired negative: `user` alone names the session."""
    monkeypatch.setattr("adapters.api.intake.user_id", lambda _, user: user)
    async with aiohttp.ClientSession() as http:
        client = Client(server, http, Random(1))
        with pytest.raises(AssertionError):
            await walk(client, 150)
