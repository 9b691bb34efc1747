"""What a newcomer does in the first minutes: the command, a curl request, a stream, a restart."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from typing import Any

import aiohttp
import openai
import pytest

from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import GatewayProcess, assert_discreet
from tests.simulators.openai_server import OpenAIServer

pytestmark = pytest.mark.process


def asked(model: OpenAIServer) -> list[list[tuple[str, str]]]:
    """The prompts that the model's server saw, without the system prompt."""
    return [
        [(message["role"], message["content"]) for message in request.messages if message["role"] != "system"]
        for request in model.requests
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_request_of_the_original_server_is_answered(gateway: GatewayProcess) -> None:
    curl = await asyncio.create_subprocess_exec(
        "curl",
        "-sS",
        "-d",
        '{"message":"Who are you?", "user": "alice"}',
        "-H",
        "Content-Type: application/json",
        "-X",
        "POST",
        f"{gateway.url}/chat",
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await curl.communicate()

    assert json.loads(out) == {"response": "answer 1 to: Who are you?"}
    assert await gateway.stop() == 0
    assert_discreet(gateway)


async def test_each_user_has_a_history_that_survives_a_kill(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    assert (await gateway.chat(http, "My name is Alice.")).json == {"response": "answer 1 to: My name is Alice."}
    assert (await gateway.chat(http, "Hello?", "bob")).json == {"response": "answer 1 to: Hello?"}
    assert (await gateway.chat(http, "Who am I?")).json == {"response": "answer 2 to: Who am I?"}
    await gateway.kill()
    await gateway.start()
    assert (await gateway.chat(http, "And now?")).json == {"response": "answer 3 to: And now?"}

    first, bob, second, third = asked(model)
    assert first == [("user", "My name is Alice.")]
    assert bob == [("user", "Hello?")]
    assert second == [*first, ("assistant", "answer 1 to: My name is Alice."), ("user", "Who am I?")]
    assert third == [*second, ("assistant", "answer 2 to: Who am I?"), ("user", "And now?")]
    assert gateway.codes == [-9]


async def test_a_stream_grows_and_ends_as_the_original_did(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    model.configure(token_delay=0.02)
    body = {"message": "one two three", "user": "alice"}
    async with http.post(f"{gateway.url}/chat-stream", json=body) as response:
        assert response.content_type == "application/x-ndjson"
        texts = [json.loads(line)["response"] async for line in response.content]

    *growing, end = texts
    assert end == "[DONE]"
    assert growing[-1] == "answer 1 to: one two three"
    assert len(growing) > 2
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(growing))


async def test_reset_starts_afresh(gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer) -> None:
    await gateway.chat(http, "My name is Alice.")
    assert (await gateway.chat(http, "reset")).json == {"response": "done"}
    assert (await gateway.chat(http, "Who am I?")).json == {"response": "answer 1 to: Who am I?"}
    assert asked(model)[-1] == [("user", "Who am I?")]


async def test_the_page_health_and_metrics_are_served(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    await gateway.chat(http, "hi")
    page = await gateway.get(http, "/")
    assert (page.status, page.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
    assert (await gateway.get(http, "/healthz")).json == {"status": "ok"}
    ready = await gateway.get(http, "/readyz")
    assert ready.status == 200
    assert ready.json["ready"] is True
    assert {name: one["state"] for name, one in ready.json["accounts"].items()} == {
        "api": "connected",
        "web": "connected",
    }
    metrics = (await gateway.get(http, "/metrics")).text
    assert 'chatgpt_ms_messages_total{account="api",receipt="accepted"} 1.0' in metrics
    assert 'chatgpt_ms_model_calls_total{model="test-model",outcome="answered"} 1.0' in metrics
    paths = (await gateway.get(http, "/openapi.json")).json["paths"]
    assert {"/chat", "/chat-stream", "/v1/chat/completions", "/v1/models"} <= paths.keys()


async def test_the_openai_package_can_talk_to_it(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    question: Any = [{"role": "user", "content": "Hello there"}]
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as client:
        assert [one.id async for one in client.models.list()] == ["test-model"]
        whole = await client.chat.completions.create(model="test-model", messages=question, user="alice")
        assert whole.choices[0].message.content == "answer 1 to: Hello there"
        stream = await client.chat.completions.create(
            model="default", messages=question, user="alice", stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "answer 2 to: Hello there"
        assert chunks[-1].usage is not None
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="no-such-model", messages=question)
    # the session is the same that /chat knows
    assert (await gateway.chat(http, "again")).json == {"response": "answer 3 to: again"}


async def test_a_first_start_without_any_file_needs_nothing(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    gateway.environ |= {
        "OPENAI_API_KEY": "sk-0123456789abcdef",
        "OPENAI_BASE_URL": gateway.sections["chat"]["base_url"],
    }
    gateway.file.unlink()
    check = await gateway.command("check", config=False)
    assert (check.code, check.err) == (0, "")
    assert list(gateway.folder.iterdir()) == []  # looking leaves nothing behind
