"""The client asks as OpenAI documents it, and reads whatever a proper answer may look like."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from core.chat import ChatMessage, Usage
from core.chatgpt import CallRecord, ChatGPTClient, ChatSettings
from core.errors import ChatRefused, ConfigError
from tests.clock import HeldClock
from tests.simulators.openai_server import Fault, OpenAIServer

KEY = "sk-canary-0123456789"
WHOLE = (
    b'{"choices": [{"message": {"content": "not streamed"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}'
)
PROMPT = [ChatMessage("system", "Be brief."), ChatMessage("user", "hello there")]


@asynccontextmanager
async def scripted(
    body: bytes, content_type: str = "text/event-stream"
) -> AsyncIterator[tuple[str, list[web.BaseRequest]]]:
    """A server that sends these bytes to everybody: its address, and what it was asked."""
    seen: list[web.BaseRequest] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request)
        return web.Response(body=body, content_type=content_type)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    finally:
        await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@pytest.fixture
def records() -> list[CallRecord]:
    return []


@pytest.fixture
async def client(server: OpenAIServer, clock: HeldClock, records: list[CallRecord]) -> AsyncIterator[ChatGPTClient]:
    settings = ChatSettings(base_url=server.url, api_key=KEY, salt=b"salt")
    async with ChatGPTClient(settings, clock=clock, observe=records.append) as client:
        yield client


async def ask(client: ChatGPTClient, text: str = "hello there", **options: Any) -> str:
    messages = [ChatMessage("user", text)]
    async with client.stream(messages, end_user="alice", options=options or None) as answer:
        return "".join([piece async for piece in answer])


async def test_the_request_is_the_documented_one(client: ChatGPTClient, server: OpenAIServer) -> None:
    async with client.stream(PROMPT, end_user="alice", options={"temperature": 0.5, "max_tokens": 9}) as answer:
        assert "".join([piece async for piece in answer]) == "answer to: hello there"
    (request,) = server.requests
    assert request.body == {
        "model": "gpt-5-mini",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello there"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": request.body["user"],
        "temperature": 0.5,
        "max_tokens": 9,
    }
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Content-Type"] == "application/json"
    assert "api-key" not in request.headers


async def test_the_answer_tells_model_usage_and_reason(client: ChatGPTClient, server: OpenAIServer) -> None:
    async with client.stream(PROMPT, end_user="alice", model="gpt-5-nano") as answer:
        pieces = [piece async for piece in answer]
    assert all(pieces)
    assert answer.model == "gpt-5-nano"
    assert answer.finish_reason == "stop"
    assert answer.usage == Usage(input_tokens=4, output_tokens=4)


async def test_a_person_is_known_to_the_server_by_a_pseudonym(client: ChatGPTClient, server: OpenAIServer) -> None:
    for person in ("alice", "bob", "alice"):
        async with client.stream(PROMPT, end_user=person):
            pass
    first, second, third = (request.body["user"] for request in server.requests)
    assert first == third != second
    assert len(first) == 32
    assert "alice" not in json.dumps([request.to_json() for request in server.requests])
    client.settings = replace(client.settings, salt=b"another")
    await ask(client)
    assert server.requests[-1].body["user"] != first


async def test_the_callers_options_cannot_replace_what_is_the_clients(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    await ask(client, stream=False, user="raw-id", model="other", messages=[], max_completion_tokens=5)
    body = server.requests[0].body
    assert (body["stream"], body["model"], body["max_completion_tokens"]) == (True, "gpt-5-mini", 5)
    assert body["messages"]
    assert body["user"] != "raw-id"


async def test_entering_returns_with_the_first_text(client: ChatGPTClient, server: OpenAIServer) -> None:
    server.configure(script=[{"kind": "stall", "after": 1}])
    async with client.stream(PROMPT, end_user="alice") as answer:
        assert await anext(aiter(answer)) == "answer"
        assert server.running == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"write_bytes": 1},
        {"write_bytes": 7, "crlf": True, "comments": True},
        {"pieces_apart": True, "piece": 1},
        {"reasoning": True},
        {"token_delay": 0.001},
    ],
)
async def test_however_the_stream_is_cut_the_text_is_whole(
    client: ChatGPTClient, server: OpenAIServer, changes: dict[str, Any]
) -> None:
    server.configure(**changes)
    assert await ask(client, "grüße 你好 🎉👩‍👩‍👧 end") == "answer to: grüße 你好 🎉👩‍👩‍👧 end"


async def test_an_answer_without_usage_has_none(client: ChatGPTClient, server: OpenAIServer) -> None:
    server.configure(usage=False)
    async with client.stream(PROMPT, end_user="alice") as answer:
        assert [piece async for piece in answer]
    assert answer.usage is None


@pytest.mark.parametrize(
    ("fault", "text", "reason"),
    [
        (Fault(kind="empty"), "", "stop"),
        (Fault(kind="content_filter"), "answer to: hello there", "content_filter"),
        (Fault(kind="length"), "answer to: hello there", "length"),
        (Fault(kind="length", after=0), "", "length"),
        (Fault(kind="refusal"), "I can't help with that.", "stop"),
    ],
)
async def test_answers_that_are_no_plain_text_are_shown_for_what_they_are(
    client: ChatGPTClient, server: OpenAIServer, fault: Fault, text: str, reason: str
) -> None:
    server.configure(script=[fault])
    async with client.stream(PROMPT, end_user="alice") as answer:
        assert "".join([piece async for piece in answer]) == text
    assert answer.finish_reason == reason


@pytest.mark.parametrize("wording", ["stream_options", "user"])
async def test_a_field_that_the_server_does_not_know_is_left_out_and_remembered(
    client: ChatGPTClient, server: OpenAIServer, wording: str, records: list[CallRecord]
) -> None:
    server.configure(rejects=[wording])
    assert await ask(client) == "answer to: hello there"
    assert await ask(client) == "answer to: hello there"
    assert [wording in request.body for request in server.requests] == [True, False, False]
    assert [record.outcome for record in records] == ["answered", "answered"]


async def test_max_tokens_goes_by_its_new_name_where_the_old_one_is_refused(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    server.configure(strict_options=True)
    for _ in range(2):
        async with client.stream(PROMPT, end_user="alice", options={"max_tokens": 9}) as answer:
            assert "".join([piece async for piece in answer]) == "answer to: hello there"
    asked = [(request.body.get("max_tokens"), request.body.get("max_completion_tokens")) for request in server.requests]
    assert asked == [(9, None), (None, 9), (None, 9)]


async def test_an_option_that_the_model_does_not_take_is_named(client: ChatGPTClient, server: OpenAIServer) -> None:
    server.configure(strict_options=True)
    with pytest.raises(ChatRefused) as caught:
        async with client.stream(PROMPT, end_user="alice", options={"temperature": 0.5}):
            pass
    assert caught.value.field == "temperature"
    assert len(server.requests) == 1


async def test_the_wording_of_pydantic_based_servers_is_understood_too(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    detail = [{"type": "extra_forbidden", "loc": ["body", "stream_options", "include_usage"], "msg": "not permitted"}]
    server.configure(script=[Fault(kind="status", status=422, body={"detail": detail})])
    assert await ask(client) == "answer to: hello there"
    assert "stream_options" not in server.requests[-1].body


async def test_one_connection_serves_one_call_after_another(client: ChatGPTClient, server: OpenAIServer) -> None:
    for _ in range(5):
        await ask(client)
    server.configure(pieces_apart=True)
    for _ in range(5):
        await ask(client)
    assert len({request.peer for request in server.requests}) == 1


async def test_calls_are_told_to_the_observer(
    client: ChatGPTClient, server: OpenAIServer, records: list[CallRecord]
) -> None:
    await ask(client)
    (record,) = records
    assert (record.model, record.outcome, record.retries) == ("gpt-5-mini", "answered", 0)
    assert record.usage is not None
    assert record.seconds_to_first is not None
    async with client.stream(PROMPT, end_user="alice"):
        pass
    assert records[-1].outcome == "abandoned"


async def test_settings_are_replaced_without_dropping_a_running_answer(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    server.configure(token_delay=0.002)
    async with OpenAIServer() as other, client.stream(PROMPT, end_user="alice") as answer:
        client.settings = replace(client.settings, base_url=other.url, model="gpt-5-nano", concurrency=2)
        assert await ask(client) == "answer to: hello there"
        assert "".join([piece async for piece in answer]) == "answer to: hello there"
        assert other.requests[0].body["model"] == "gpt-5-nano"
    assert len(server.requests) == 1


async def test_an_azure_style_address_keeps_its_query_and_gets_the_key_both_ways(clock: HeldClock) -> None:
    async with scripted(WHOLE, "application/json") as (url, seen):
        settings = ChatSettings(base_url=f"{url}/openai/deployments/my%20one?api-version=2024-10-21", api_key=KEY)
        async with ChatGPTClient(settings, clock=clock) as client:
            assert await ask(client) == "not streamed"
    assert seen[0].raw_path == "/openai/deployments/my%20one/chat/completions?api-version=2024-10-21"
    assert seen[0].headers["api-key"] == KEY
    assert seen[0].headers["Authorization"] == f"Bearer {KEY}"


def test_azures_own_hosts_get_the_key_as_the_vendors_client_sends_it(clock: HeldClock) -> None:
    settings = ChatSettings(base_url="https://x.openai.azure.com/openai/deployments/d?api-version=1", api_key=KEY)
    head = ChatGPTClient(settings, clock=clock)._endpoint.chat.head.decode()
    assert f"api-key: {KEY}\r\n" in head
    assert "Authorization" not in head


def test_openai_itself_also_gets_the_safety_identifier(clock: HeldClock) -> None:
    assert ChatGPTClient(ChatSettings(api_key=KEY), clock=clock)._endpoint.takes_safety_identifier
    other = ChatSettings(base_url="https://api.openai.com.example.org/v1", api_key=KEY)
    assert not ChatGPTClient(other, clock=clock)._endpoint.takes_safety_identifier


async def test_organization_and_further_headers_are_sent(server: OpenAIServer, clock: HeldClock) -> None:
    settings = ChatSettings(
        base_url=server.url + "/", api_key="", organization="org-1", headers={"X-Title": "t", "User-Agent": "mine"}
    )
    async with ChatGPTClient(settings, clock=clock) as client:
        await ask(client)
    headers = server.requests[0].headers
    assert (headers["OpenAI-Organization"], headers["X-Title"], headers["User-Agent"]) == ("org-1", "t", "mine")
    assert "Authorization" not in headers


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"base_url": "api.openai.com/v1"}, "chat.base_url"),
        ({"base_url": "ftp://x"}, "chat.base_url"),
        ({"base_url": "http://[::1"}, "chat.base_url"),
        ({"base_url": "https://api.openai.com/v1/chat/completions"}, "chat.base_url"),
        ({"base_url": "https://me:pass@example.com/v1"}, "chat.base_url"),
        ({"api_key": "sk-1\nsk-2"}, "chat.api_key"),
        ({"api_key": "“sk-1”"}, "chat.api_key"),
        ({"model": ""}, "chat.model"),
    ],
)
def test_settings_that_cannot_work_are_named(settings: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{named}: ") as caught:
        ChatSettings(**settings)  # type: ignore[arg-type] # one of the text fields
    assert "sk-1" not in str(caught.value)
    assert "pass@" not in str(caught.value)


async def test_a_proxy_is_used_and_told_its_password(clock: HeldClock) -> None:
    async with scripted(WHOLE, "application/json") as (url, seen):
        proxy = url.replace("http://", "http://me:pa55word@")
        settings = ChatSettings(base_url="http://model.example/v1", api_key=KEY, proxy=proxy)
        async with ChatGPTClient(settings, clock=clock) as client:
            assert await ask(client) == "not streamed"
    assert seen[0].raw_path == "http://model.example/v1/chat/completions"
    assert seen[0].headers["Proxy-Authorization"] == "Basic " + b64encode(b"me:pa55word").decode()
    assert "pa55word" not in repr(settings)


async def test_surrogate_halves_are_joined_or_replaced(clock: HeldClock) -> None:
    pieces = ["\\ud83c", "\\udf89 ok ", "\\udf89", " \\ud83c"]
    events = [f'data: {{"choices":[{{"delta":{{"content":"{piece}"}}}}]}}\n\n' for piece in pieces]
    body = "".join(events) + 'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    async with (
        scripted(body.encode()) as (url, _),
        ChatGPTClient(ChatSettings(base_url=url), clock=clock) as client,
    ):
        assert await ask(client) == "🎉 ok \ufffd "


@pytest.mark.parametrize(
    "body",
    [
        b'data: {"choices":[{"index":0,"delta":{"content":"hi"}},{"index":1,"delta":{"content":"no"}}]}\n\ndata: [DONE]',
        b'data: {"choices":[{"delta":{"content":[{"type":"thinking"},{"type":"text","text":"hi"}]}}]}\n\ndata: [DONE]\n\n',
        b'data:{"choices":[{"delta":{"content":"hi","tool_calls":[{}]},"finish_reason":"stop"}],"usage":null}\n\n',
        b'data: {"choices":[{"delta":{"content":"<think>\\nwell</think>hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
        b'data: {"choices":null}\n\ndata: {"choices":[{"delta":{"content":"hi"},"finish_reason":"length"}]}',
    ],
)
async def test_what_compatible_servers_send_is_understood(clock: HeldClock, body: bytes) -> None:
    async with scripted(body) as (url, _), ChatGPTClient(ChatSettings(base_url=url), clock=clock) as client:
        assert await ask(client) == "hi"


async def test_a_byte_that_is_no_utf8_costs_one_character(clock: HeldClock) -> None:
    body = b'data: {"choices":[{"delta":{"content":"h\xffi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    async with scripted(body) as (url, _), ChatGPTClient(ChatSettings(base_url=url), clock=clock) as client:
        assert await ask(client) == "h\ufffdi"


async def test_a_beginning_that_only_looks_like_a_tag_is_shown(client: ChatGPTClient, server: OpenAIServer) -> None:
    server.reply = lambda _: ["<th"]
    assert await ask(client) == "<th"


async def test_places_are_shared_fairly_between_people(server: OpenAIServer, clock: HeldClock) -> None:
    settings = ChatSettings(base_url=server.url, concurrency=1)
    server.pause()

    async with ChatGPTClient(settings, clock=clock) as client:

        async def one(person: str, text: str) -> None:
            async with client.stream([ChatMessage("user", text)], end_user=person) as answer:
                assert [piece async for piece in answer]

        tasks = [asyncio.create_task(one("alice", f"a{number}")) for number in range(20)]
        await server.until(lambda server: server.running)
        tasks.append(asyncio.create_task(one("bob", "b0")))
        while client.waiting < 20:
            await asyncio.sleep(0)
        assert client.running == 1
        server.resume()
        await asyncio.gather(*tasks)
    assert [request.last for request in server.requests].index("b0") <= 2
    assert client.running == client.waiting == 0


async def test_a_probe_passes_when_key_and_model_are_good(client: ChatGPTClient, server: OpenAIServer) -> None:
    await client.probe()
    assert (server.model_lists, len(server.requests)) == (1, 0)
    client.settings = replace(client.settings, fallback_models=("unlisted",))
    await client.probe()
    assert [request.body["model"] for request in server.requests] == ["unlisted"]
