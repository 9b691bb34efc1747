"""The simulator is true to OpenAI: the vendor's own client understands it. (`openai` is used in tests only.)"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import aiohttp
import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.simulators.openai_server import Fault, OpenAIServer, Settings


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@pytest.fixture
async def client(server: OpenAIServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key="sk-test", base_url=server.url, max_retries=0) as client:
        yield client


async def stream(client: openai.AsyncOpenAI, text: str = "hello there") -> list[ChatCompletionChunk]:
    chunks = await client.chat.completions.create(
        model="gpt-5-mini",
        messages=[{"role": "user", "content": text}],
        stream=True,
        stream_options={"include_usage": True},
    )
    return [chunk async for chunk in chunks]


async def test_the_vendors_client_reads_a_whole_answer(server: OpenAIServer, client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="gpt-5-mini", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content == "answer to: hello"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert server.requests[0].last == "hello"


@pytest.mark.parametrize("changes", [{}, {"write_bytes": 1}, {"pieces_apart": True, "crlf": True, "comments": True}])
async def test_the_vendors_client_reads_a_stream(
    server: OpenAIServer, client: openai.AsyncOpenAI, changes: dict[str, object]
) -> None:
    server.configure(**changes)
    chunks = await stream(client)
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "answer to: hello there"
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (Fault(kind="invalid_key"), openai.AuthenticationError, "invalid_api_key"),
        (Fault(kind="model_not_found"), openai.NotFoundError, "model_not_found"),
        (Fault(kind="context_length"), openai.BadRequestError, "context_length_exceeded"),
        (Fault(kind="insufficient_quota"), openai.RateLimitError, "insufficient_quota"),
        (Fault(kind="status", status=503), openai.InternalServerError, None),
        (Fault(kind="status", status=429, retry_after="3"), openai.RateLimitError, None),
    ],
)
async def test_the_vendors_client_knows_the_errors(
    server: OpenAIServer, client: openai.AsyncOpenAI, fault: Fault, error: type[openai.APIStatusError], code: str | None
) -> None:
    server.configure(script=[fault])
    with pytest.raises(error) as caught:
        await stream(client)
    assert caught.value.code == code
    assert caught.value.response.headers.get("Retry-After") == fault.retry_after


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("cut", openai.APIConnectionError),
        ("error_event", openai.APIError),
        ("truncated_json", json.JSONDecodeError),
    ],
)
async def test_a_stream_that_breaks_raises_in_the_vendors_client(
    server: OpenAIServer, client: openai.AsyncOpenAI, kind: str, error: type[Exception]
) -> None:
    server.configure(script=[{"kind": kind, "after": 1}])
    with pytest.raises(error):
        await stream(client)
    await server.until(lambda server: server.requests[0].finished)


async def test_a_hang_up_is_seen(server: OpenAIServer, client: openai.AsyncOpenAI) -> None:
    server.configure(script=[{"kind": "stall", "after": 1}])
    async with aiohttp.ClientSession() as session:
        body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "a b c"}]}
        async with session.post(server.url + "/chat/completions", json=body) as response:
            await response.content.readany()
            assert not server.requests[0].hung_up
            response.close()
        await server.until(lambda server: server.requests[0].hung_up)
    assert server.requests[0].finished is None


async def test_answers_wait_while_paused(server: OpenAIServer, client: openai.AsyncOpenAI) -> None:
    server.pause()
    asking = asyncio.create_task(stream(client))
    await server.until(lambda server: server.running == 1)
    assert not asking.done()
    server.resume()
    assert await asking


async def test_chances_follow_the_seed() -> None:
    async def outcomes(seed: int) -> list[str | None]:
        settings = Settings(seed=seed, faults=[Fault(kind="status", status=500, probability=0.5)])
        async with OpenAIServer(settings=settings) as server, aiohttp.ClientSession() as session:
            for _ in range(20):
                body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
                async with session.post(server.url + "/chat/completions", json=body):
                    pass
            return [request.fault for request in server.requests]

    first = await outcomes(1)
    assert first == await outcomes(1)
    assert first != await outcomes(2)
    assert {None, "status"} == set(first)


async def test_it_runs_as_a_process_and_is_changed_over_http() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.simulators.openai_server", "--settings", '{"reply": "count"}',
        "--faults", '[{"kind": "status", "status": 503, "model": "broken"}]',
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        root = url.removesuffix("/v1")
        async with aiohttp.ClientSession() as session:
            body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
            async with session.post(url + "/chat/completions", json=body) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == "answer 1 to: x"
            async with session.post(url + "/chat/completions", json=body | {"model": "broken"}) as response:
                assert response.status == 503
            async with session.get(root + "/_requests") as response:
                assert [request["fault"] for request in await response.json()] == [None, "status"]
            async with session.post(root + "/_settings", json={"reply": "=fixed", "faults": []}) as response:
                assert response.status == 204
            async with session.post(root + "/_settings", json={"no_such": 1}) as response:
                assert response.status == 400
            async with session.post(url + "/chat/completions", json=body | {"model": "broken"}) as response:
                assert (await response.json())["choices"][0]["message"]["content"] == "fixed"
            async with session.delete(root + "/_requests"), session.get(root + "/_requests") as response:
                assert await response.json() == []
    finally:
        process.terminate()
        await process.wait()
