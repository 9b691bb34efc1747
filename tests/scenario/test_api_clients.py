"""The HTTP API as others use it: OpenAI's own Python package, and a fuzzer that reads the OpenAPI document."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from core.errors import ChatUnavailable
from core.keys import KeyRing
from tests.scenario.api_gateway import ApiGateway, api_gateway

KEY = "secret-of-red"
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello there"}]


@pytest.fixture
async def gateway() -> AsyncIterator[ApiGateway]:
    async with api_gateway(keys=KeyRing([(KEY, "red")], required=True)) as served:
        yield served


@pytest.fixture
async def client(gateway: ApiGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{gateway.url}/v1", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("user", ["alice", openai.omit])
async def test_the_openai_package_gets_whole_answers(client: openai.AsyncOpenAI, user: Any) -> None:
    answer = await client.chat.completions.create(model="model-a", messages=HELLO, user=user)
    assert answer.choices[0].message.content == ("red/alice says: Hello there" if user == "alice" else "Hello")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens > 0


@pytest.mark.parametrize("user", ["alice", openai.omit])
async def test_the_openai_package_gets_streams(client: openai.AsyncOpenAI, user: Any) -> None:
    stream = await client.chat.completions.create(
        model="default", messages=HELLO, user=user, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == ("red/alice says: Hello there" if user == "alice" else "Hello")
    assert chunks[-1].usage is not None


async def test_the_openai_package_without_asyncio_works_too(gateway: ApiGateway) -> None:
    def ask() -> tuple[str | None, str, list[str]]:
        with openai.OpenAI(api_key=KEY, base_url=f"{gateway.url}/v1", max_retries=0) as client:
            whole = client.chat.completions.create(model="model-a", messages=HELLO, user="alice")
            stream = client.chat.completions.create(model="model-a", messages=HELLO, stream=True)
            pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
            return whole.choices[0].message.content, "".join(pieces), [model.id for model in client.models.list()]

    assert await asyncio.to_thread(ask) == (
        "red/alice says: Hello there",
        "Hello",
        ["model-a", "vendor/model-b"],
    )


async def test_errors_are_the_openai_package_s_own(gateway: ApiGateway, client: openai.AsyncOpenAI) -> None:
    ask = client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as missing:
        await ask(model="gpt-9", messages=HELLO)
    assert missing.value.code == "model_not_found"
    assert missing.value.request_id
    with pytest.raises(openai.BadRequestError) as unsupported:
        await ask(model="model-a", messages=HELLO, n=2)
    assert (unsupported.value.code, unsupported.value.param) == ("unsupported_parameter", "n")
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").models.list()
    gateway.chat.refusal = ChatUnavailable("x")
    with pytest.raises(openai.InternalServerError):
        await ask(model="model-a", messages=HELLO)
    gateway.chat.refusal = None
    gateway.chat.pieces = ("Half", ChatUnavailable("x"))
    stream = await ask(model="model-a", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError, match="does not answer"):
        async for _ in stream:
            pass


CHECKS = """
[checks.positive_data_acceptance]
# 422: an Idempotency-Key that was used for another message; no schema can tell.
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "429", "5xx"]
"""


@pytest.mark.slow
async def test_a_fuzzer_that_reads_the_document_finds_nothing(gateway: ApiGateway, tmp_path: Path) -> None:
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(CHECKS)
    examples = int(os.environ.get("CHATGPT_MS_EXAMPLES", "20"))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", settings, "run", f"{gateway.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {KEY}", "--checks", "all", "--max-examples", str(examples)),
        *("--phases", "coverage,fuzzing,stateful", "--continue-on-failure", "--no-color"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert "5 selected" in output.decode()
    assert "API Links:    2 covered" in output.decode()  # ours, and from the list of models to one of them
    assert gateway.desk.rows
    assert gateway.chat.calls
