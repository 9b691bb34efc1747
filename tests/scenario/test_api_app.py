"""The HTTP API with the whole gateway behind it: store, dispatcher, model client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from core.messages import AccountId
from gateway.app import App
from gateway.config import load
from tests.scenario.api_gateway import until
from tests.simulators.openai_server import Fault, OpenAIServer

ALICE = {"message": "Who are you?", "user": "alice"}

Post = tuple[int, Any, Mapping[str, str]]


class Client:
    """Speaks to one running gateway."""

    def __init__(self, app: App, http: aiohttp.ClientSession) -> None:
        self.app = app
        self.http = http

    async def post(self, path: str, body: Any, *, key: str | None = None) -> Post:
        headers = {"Idempotency-Key": key} if key else {}
        async with self.http.post(self.app.url + path, json=body, headers=headers) as response:
            return response.status, await response.json(), response.headers


@pytest.fixture
async def model() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@asynccontextmanager
async def running(folder: Path, model: OpenAIServer, more: str = "") -> AsyncIterator[Client]:
    """A gateway on the database in `folder`."""
    path = folder / "config.yaml"
    path.write_text(
        f"chat: {{api_key: sk-test, base_url: '{model.url}', model: test-model, retries: 0}}\n"
        f"storage: {{url: 'sqlite:{folder}/chat.db'}}\n"
        "server: {port: 0}\n"
        "accounts: {api: {}, web: null}\n" + more
    )
    async with App(load(path, {})) as app, aiohttp.ClientSession() as http:
        yield Client(app, http)


def asked(model: OpenAIServer) -> list[Any]:
    return [request.body for request in model.requests]


async def test_history_belongs_to_its_user_and_survives_a_restart(tmp_path: Path, model: OpenAIServer) -> None:
    async with running(tmp_path, model) as client:
        assert (await client.post("/chat", ALICE))[:2] == (200, {"response": "answer to: Who are you?"})
        await client.post("/chat", {"message": "And I?", "user": "bob"})
    async with running(tmp_path, model) as client:
        await client.post("/chat", {"message": "Go on", "user": "alice"})
    said = [[message["content"] for message in body["messages"][1:]] for body in asked(model)]
    assert said[1] == ["And I?"]
    assert said[2] == ["Who are you?", "answer to: Who are you?", "Go on"]


async def test_a_repeated_request_is_answered_from_the_store_after_a_restart(
    tmp_path: Path, model: OpenAIServer
) -> None:
    async with running(tmp_path, model) as client:
        first = await client.post("/chat", ALICE, key="k1")
    async with running(tmp_path, model) as client:
        again = await client.post("/chat", ALICE, key="k1")
        other = await client.post("/chat", {**ALICE, "message": "Other"}, key="k1")
    assert again[:2] == first[:2] == (200, {"response": "answer to: Who are you?"})
    assert again[2]["Idempotent-Replayed"] == "true"
    assert (other[0], other[1]["error"]["code"]) == (422, "idempotency_key_reused")
    assert len(asked(model)) == 1


async def test_a_failed_question_is_asked_again_with_the_same_key(tmp_path: Path, model: OpenAIServer) -> None:
    model.settings.script = [Fault(kind="status", status=500)]
    async with running(tmp_path, model) as client:
        status, body, _ = await client.post("/chat", ALICE, key="k1")
        assert (status, body["error"]["code"]) == (503, "model_unavailable")
        assert (await client.post("/chat", ALICE, key="k1"))[:2] == (200, {"response": "answer to: Who are you?"})


async def test_reset_clears_the_session_of_that_user(tmp_path: Path, model: OpenAIServer) -> None:
    async with running(tmp_path, model) as client:
        await client.post("/chat", ALICE)
        assert (await client.post("/chat", {"message": "reset", "user": "alice"}))[:2] == (200, {"response": "done"})
        await client.post("/chat", {"message": "Again", "user": "alice"})
    assert [message["content"] for message in asked(model)[-1]["messages"][1:]] == ["Again"]


async def test_messages_that_were_answered_together_all_get_the_answer(tmp_path: Path, model: OpenAIServer) -> None:
    model.pause()
    async with running(tmp_path, model, "sessions: {busy: merge}\n") as client:
        posts = [asyncio.create_task(client.post("/chat", {"message": "One", "user": "alice"}))]
        await until(lambda: len(asked(model)) == 1)
        posts += [asyncio.create_task(client.post("/chat", {"message": text, "user": "alice"})) for text in "AB"]
        await until(lambda: client.app.inbox.seen[AccountId("api")].accepted == 3)
        model.resume()
        answers = [(await post)[:2] for post in posts]
    assert [status for status, _ in answers] == [200, 200, 200]
    assert answers[1] == answers[2]
    assert len(asked(model)) == 2


async def test_limits_are_told_with_the_time_to_wait(tmp_path: Path, model: OpenAIServer) -> None:
    async with running(tmp_path, model, "limits: {messages_per_minute: 2, max_input_chars: 100}\n") as client:
        status, body, _ = await client.post("/chat", {**ALICE, "message": "x" * 101})
        assert (status, body["error"]["code"]) == (413, "too_long")
        for _ in range(2):
            assert (await client.post("/chat", ALICE))[0] == 200
        status, body, headers = await client.post("/chat", ALICE)
    assert (status, body["error"]["code"]) == (429, "rate_limited")
    assert 1 <= int(headers["Retry-After"]) <= 30
    assert len(asked(model)) == 2


async def test_a_stream_shows_the_model_s_text_and_is_stored(tmp_path: Path, model: OpenAIServer) -> None:
    async with running(tmp_path, model) as client:
        headers = {"Idempotency-Key": "k1"}
        async with client.http.post(f"{client.app.url}/chat-stream", json=ALICE, headers=headers) as response:
            lines = [json.loads(line) async for line in response.content]
        again = await client.post("/chat", ALICE, key="k1")
    assert lines[-2:] == [{"response": "answer to: Who are you?"}, {"response": "[DONE]"}]
    assert again[1] == lines[-2]


async def test_a_completion_of_a_session_tells_what_it_cost(tmp_path: Path, model: OpenAIServer) -> None:
    ask = {"messages": [{"role": "user", "content": "Hi"}], "user": "alice"}
    async with running(tmp_path, model) as client:
        _, body, _ = await client.post("/v1/chat/completions", ask)
    assert body["choices"][0]["message"]["content"] == "answer to: Hi"
    assert body["model"] == "test-model"
    assert body["usage"]["total_tokens"] > 0
