"""When the model's server fails: what is tried again, what is tried elsewhere, what is said, and what never is."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from core.chat import ChatMessage
from core.chatgpt import CallRecord, ChatGPTClient, ChatSettings
from core.errors import (
    ChatError,
    ChatMisconfigured,
    ChatRateLimited,
    ChatRefused,
    ChatUnavailable,
    ContextTooLong,
)
from tests.clock import HeldClock
from tests.simulators.openai_server import Fault, OpenAIServer

KEY = "0f1e2d3c4b5a-canary"  # of no usual shape: it must be found by its value


class HastyClock(HeldClock):
    """Time that passes by itself as soon as somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.advance(seconds)


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@pytest.fixture
def hasty() -> HastyClock:
    return HastyClock()


@pytest.fixture
def records() -> list[CallRecord]:
    return []


@pytest.fixture
async def client(server: OpenAIServer, hasty: HastyClock, records: list[CallRecord]) -> AsyncIterator[ChatGPTClient]:
    settings = ChatSettings(base_url=server.url, api_key=KEY, model="first", first_byte_timeout=5, idle_timeout=5)
    async with ChatGPTClient(settings, clock=hasty, observe=records.append) as client:
        yield client


async def ask(client: ChatGPTClient, **named: Any) -> str:
    async with client.stream([ChatMessage("user", "hello there")], end_user="alice", **named) as answer:
        return "".join([piece async for piece in answer])


def models(server: OpenAIServer) -> list[str]:
    return [request.body["model"] for request in server.requests]


RETRIED = [
    Fault(kind="status", status=408),
    Fault(kind="status", status=409),
    Fault(kind="status", status=429),
    Fault(kind="status", status=500),
    Fault(kind="status", status=503, body="<html>busy</html>"),
    Fault(kind="status", status=529),
    Fault(kind="cut"),
    Fault(kind="cut", after=0),
    Fault(kind="garbage", after=0),
    Fault(kind="truncated_json", after=0),
    Fault(kind="error_event", after=0),
    Fault(kind="end_without_done", after=0),
    Fault(kind="content_type"),
    Fault(kind="status", status=200, body={"error": {"message": "overloaded", "type": "server_error"}}),
    Fault(kind="status", status=200, body={"nothing": "useful"}),
]


@pytest.mark.parametrize("fault", RETRIED, ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.after}")
async def test_what_may_pass_is_tried_again(
    client: ChatGPTClient, server: OpenAIServer, hasty: HastyClock, fault: Fault, records: list[CallRecord]
) -> None:
    server.configure(script=[fault, fault])
    assert await ask(client) == "answer to: hello there"
    assert len(server.requests) == 3
    assert len(hasty.slept) == 2
    assert all(0 <= wait <= 1 for wait in hasty.slept)
    assert (records[0].outcome, records[0].retries) == ("answered", 2)


@pytest.mark.parametrize("fault", RETRIED, ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.after}")
async def test_it_is_tried_no_more_than_twice_again(
    client: ChatGPTClient, server: OpenAIServer, fault: Fault, records: list[CallRecord]
) -> None:
    server.configure(script=[fault] * 3)
    with pytest.raises((ChatUnavailable, ChatRateLimited)) as caught:
        await ask(client)
    assert len(server.requests) == 3
    assert isinstance(caught.value, ChatRateLimited) == (fault.status == 429)
    assert records[0].outcome == ("rate_limited" if fault.status == 429 else "unavailable")
    assert "'first'" in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind="invalid_key"), ChatMisconfigured),
        (Fault(kind="status", status=403), ChatMisconfigured),
        (Fault(kind="model_not_found"), ChatMisconfigured),
        (Fault(kind="status", status=404, body="<html>nginx</html>"), ChatMisconfigured),
        (Fault(kind="status", status=302, body="elsewhere"), ChatMisconfigured),
        (Fault(kind="context_length"), ContextTooLong),
        (Fault(kind="llama_context"), ContextTooLong),
        (Fault(kind="status", status=413), ContextTooLong),
        (Fault(kind="status", status=400, body={"object": "error", "message": "maximum context length is 9"}), ContextTooLong),
        (
            Fault(kind="status", status=200, body={"error": {"code": 400, "type": "exceed_context_size_error"}}),
            ContextTooLong,
        ),
        (Fault(kind="insufficient_quota"), ChatMisconfigured),
        (Fault(kind="status", status=402, body={"error": {"message": "Insufficient Balance"}}), ChatMisconfigured),
        (Fault(kind="status", status=400), ChatRefused),
        (Fault(kind="status", status=422), ChatRefused),
        (Fault(kind="status", status=400, body={"error": {"code": "content_filter", "message": "no"}}), ChatRefused),
    ],
    ids=lambda value: f"{value.kind}-{value.status}" if isinstance(value, Fault) else value.__name__,
)  # fmt: skip
async def test_what_will_not_pass_is_told_by_its_remedy_and_not_tried_again(
    client: ChatGPTClient, server: OpenAIServer, hasty: HastyClock, fault: Fault, error: type[ChatError]
) -> None:
    server.configure(script=[fault])
    with pytest.raises(ChatError) as caught:
        await ask(client)
    assert type(caught.value) is error
    assert len(server.requests) == 1
    assert hasty.slept == []


async def test_a_server_that_is_not_there_is_tried_again_and_named(hasty: HastyClock) -> None:
    async with OpenAIServer() as server:
        pass  # nobody listens at its address now
    async with ChatGPTClient(ChatSettings(base_url=server.url), clock=hasty) as client:
        with pytest.raises(ChatUnavailable, match=rf"127\.0\.0\.1:{server.port}"):
            await ask(client)
    assert len(hasty.slept) == 2


async def test_a_connection_that_the_server_closed_meanwhile_costs_one_more_attempt(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    await ask(client)
    await server.__aexit__(None, None, None)
    async with OpenAIServer(port=server.port) as again:
        assert await ask(client) == "answer to: hello there"
        assert len(again.requests) == 1


async def test_a_server_that_closes_kept_connections_unsaid_costs_nothing(hasty: HastyClock) -> None:
    body = b'{"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}'
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await read_request(reader)
        writer.write(head + body)
        with contextlib.suppress(asyncio.IncompleteReadError):
            await read_request(reader)  # the second one on this connection is read and not answered
        writer.close()
        await writer.wait_closed()
        closed.release()

    async def read_request(reader: asyncio.StreamReader) -> None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        (length,) = (int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        await reader.readexactly(length)

    closed = asyncio.Semaphore(0)
    records: list[CallRecord] = []
    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    settings = ChatSettings(base_url=f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1")
    async with listener:
        async with ChatGPTClient(settings, clock=hasty, observe=records.append) as client:
            assert [await ask(client) for _ in range(10)] == ["hi"] * 10
            assert client.shut_off == []
        for _ in range(connections):
            await closed.acquire()
    assert connections == 10
    assert hasty.slept == []
    assert [record.retries for record in records] == [0] * 10


@pytest.mark.parametrize("asked", ["7", "Mon, 02 Nov 2026 09:00:07 GMT"])
async def test_retry_after_is_waited_for(
    client: ChatGPTClient, server: OpenAIServer, hasty: HastyClock, asked: str
) -> None:
    server.configure(script=[Fault(kind="status", status=429, retry_after=asked)])
    assert await ask(client) == "answer to: hello there"
    assert 7 <= hasty.slept[0] <= 7.5


@pytest.mark.parametrize("status", [429, 503])
async def test_a_long_retry_after_is_not_waited_for_but_told(
    client: ChatGPTClient, server: OpenAIServer, hasty: HastyClock, status: int
) -> None:
    server.configure(script=[Fault(kind="status", status=status, retry_after="31")])
    with pytest.raises(ChatError) as caught:
        await ask(client)
    assert caught.value.retry_after == 31
    assert (len(server.requests), hasty.slept) == (1, [])


@pytest.mark.parametrize("kind", ["cut", "garbage", "truncated_json", "error_event", "end_without_done"])
async def test_after_the_first_text_nothing_is_tried_again(
    client: ChatGPTClient, server: OpenAIServer, kind: str, records: list[CallRecord]
) -> None:
    client.settings = replace(client.settings, fallback_models=("second",))
    server.configure(pieces_apart=True, script=[{"kind": kind, "after": 2}])
    shown = ""
    with pytest.raises(ChatUnavailable):  # noqa: PT012 - what was shown before matters
        async with client.stream([ChatMessage("user", "hello there")], end_user="alice") as answer:
            async for piece in answer:
                shown += piece
    assert shown == "answer to:"
    assert len(server.requests) == 1
    assert records[0].outcome == "unavailable"
    assert records[0].seconds_to_first is not None


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=500, model="first"),
        Fault(kind="status", status=429, model="first"),
        Fault(kind="insufficient_quota", model="first"),
        Fault(kind="status", status=402, model="first"),
        Fault(kind="model_not_found", model="first"),
        Fault(kind="cut", after=0, model="first"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
async def test_another_model_answers_in_its_place(
    client: ChatGPTClient, server: OpenAIServer, fault: Fault, records: list[CallRecord]
) -> None:
    client.settings = replace(client.settings, fallback_models=("first", "second", "third"))
    server.configure(faults=[fault])
    async with client.stream([ChatMessage("user", "hello there")], end_user="alice") as answer:
        assert "".join([piece async for piece in answer]) == "answer to: hello there"
    assert answer.model == records[0].model == "second"
    assert set(models(server)) == {"first", "second"}
    assert models(server)[-1] == "second"


@pytest.mark.parametrize("kind", ["invalid_key", "context_length"])
async def test_what_another_model_cannot_mend_is_told_at_once(
    client: ChatGPTClient, server: OpenAIServer, kind: str
) -> None:
    client.settings = replace(client.settings, fallback_models=("second",))
    server.configure(faults=[{"kind": kind}])
    with pytest.raises((ChatMisconfigured, ContextTooLong)):
        await ask(client)
    assert models(server) == ["first"]


async def test_when_all_models_fail_the_error_is_that_of_the_one_asked_for(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    client.settings = replace(client.settings, fallback_models=("second", "third"))
    server.configure(
        faults=[
            {"kind": "status", "status": 429, "retry_after": "60", "model": "first"},
            {"kind": "status", "status": 400, "model": "second"},
            {"kind": "model_not_found", "model": "third"},
        ]
    )
    with pytest.raises(ChatRateLimited, match="'first'") as caught:
        await ask(client)
    assert caught.value.retry_after == 60
    assert "third" in caught.value.detail
    assert models(server) == ["first", "second", "third"]


async def test_with_another_model_at_hand_no_long_wait_is_taken(
    client: ChatGPTClient, server: OpenAIServer, hasty: HastyClock
) -> None:
    client.settings = replace(client.settings, fallback_models=("second",))
    server.configure(faults=[{"kind": "status", "status": 429, "retry_after": "6", "model": "first"}])
    assert await ask(client)
    assert (models(server), hasty.slept) == (["first", "second"], [])


async def test_a_model_that_keeps_failing_is_left_alone_and_tried_by_one(
    client: ChatGPTClient, server: OpenAIServer, hasty: HastyClock
) -> None:
    client.settings = replace(client.settings, retries=0, fallback_models=("second",))
    server.configure(faults=[{"kind": "status", "status": 500, "model": "first"}])
    for _ in range(8):
        assert await ask(client) == "answer to: hello there"
    assert models(server).count("first") == 5
    assert client.shut_off == ["first"]

    await hasty.advance(10)
    server.requests.clear()
    server.pause()  # the probe is under way; meanwhile nobody else tries
    calls = [asyncio.create_task(ask(client)) for _ in range(10)]
    await server.until(lambda server: len(server.requests) == 10)
    assert models(server).count("first") == 1
    server.configure(faults=[], paused=False)
    await asyncio.gather(*calls)
    assert client.shut_off == []
    server.requests.clear()
    await ask(client)
    assert models(server) == ["first"]


async def test_without_another_model_a_shut_off_one_is_told_with_its_time(
    client: ChatGPTClient, server: OpenAIServer, hasty: HastyClock
) -> None:
    server.configure(faults=[{"kind": "status", "status": 500}])
    for _ in range(2):
        with pytest.raises(ChatUnavailable):
            await ask(client)
    assert len(server.requests) == 5  # the second call stops trying when the breaker opens
    with pytest.raises(ChatUnavailable, match="left alone") as caught:
        await ask(client)
    assert caught.value.retry_after is not None
    assert 0 < caught.value.retry_after <= 10
    assert len(server.requests) == 5


async def test_refusals_do_not_shut_a_model_off(client: ChatGPTClient, server: OpenAIServer) -> None:
    server.configure(faults=[{"kind": "status", "status": 400}])
    for _ in range(10):
        with pytest.raises(ChatRefused):
            await ask(client)
    assert client.shut_off == []


async def test_answers_that_break_off_shut_a_model_off_too(client: ChatGPTClient, server: OpenAIServer) -> None:
    server.configure(pieces_apart=True, faults=[{"kind": "cut", "after": 1}])
    for _ in range(5):
        with pytest.raises(ChatUnavailable):
            await ask(client)
    assert client.shut_off == ["first"]


async def test_a_redirect_is_not_followed_as_it_would_carry_the_prompt_and_the_key(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    async with OpenAIServer() as elsewhere:
        server.configure(script=[Fault(kind="status", status=307, location=elsewhere.url + "/chat/completions")])
        with pytest.raises(ChatMisconfigured, match=r"chat\.base_url"):
            await ask(client)
        assert not elsewhere.requests


async def test_a_probe_that_is_cancelled_leaves_room_for_the_next(
    client: ChatGPTClient, server: OpenAIServer, hasty: HastyClock
) -> None:
    client.settings = replace(client.settings, retries=0)
    server.configure(script=[Fault(kind="status", status=500)] * 5)
    for _ in range(5):
        with pytest.raises(ChatUnavailable):
            await ask(client)
    await hasty.advance(10)
    server.pause()
    probe = asyncio.create_task(ask(client))
    await server.until(lambda server: server.running)
    probe.cancel()
    await asyncio.wait([probe])
    server.resume()
    assert await ask(client) == "answer to: hello there"


async def test_another_server_starts_with_a_clean_record(client: ChatGPTClient, server: OpenAIServer) -> None:
    server.configure(script=[Fault(kind="status", status=500)] * 5)
    for _ in range(2):
        with pytest.raises(ChatUnavailable):
            await ask(client)
    assert client.shut_off == ["first"]
    client.settings = replace(client.settings, retries=1)
    assert client.shut_off == ["first"]
    client.settings = replace(client.settings, api_key="sk-another-account")
    assert client.shut_off == []


async def test_neither_key_nor_the_servers_words_reach_an_error(
    client: ChatGPTClient, server: OpenAIServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    words = f"canary-of-the-server {KEY}, Bearer {KEY} and sk-proj-another-secret"
    body = {"error": {"message": words, "type": words, "code": None}}
    everything: list[Fault] = [
        *(Fault(kind="status", status=status, body=body) for status in (302, 400, 401, 403, 404, 409, 413, 429, 500)),
        *(Fault(kind="status", status=status, body=words) for status in (400, 401, 500)),
        Fault(kind="status", status=200, body=body),
        Fault(kind="status", status=200, body=words),
        Fault(kind="cut"),
        Fault(kind="garbage", after=0),
        Fault(kind="error_event", after=1),
    ]
    client.settings = replace(client.settings, retries=0, fallback_models=())
    seen = 0
    for number, fault in enumerate(everything):
        server.configure(script=[fault] * 4)  # a kept connection that is cut is tried anew
        with pytest.raises(ChatError) as caught:
            await ask(client, model=f"model-{number}")
        error = caught.value
        shown = f"{error} {error!r} {error.args!r} {''.join(traceback.format_exception(error))}"
        assert "canary-of-the-server" not in str(error)
        for text in (shown, error.detail, caplog.text):
            assert KEY not in text
            assert "another-secret" not in text
        seen += "canary-of-the-server" in error.detail
    assert seen >= 12  # the paired check: the words are there, in the detail alone
    assert KEY not in repr(client.settings)


async def test_a_key_that_the_server_repeats_is_taken_out(client: ChatGPTClient, server: OpenAIServer) -> None:
    server.configure(api_key="sk-right-one-987654")
    with pytest.raises(ChatMisconfigured) as caught:
        await ask(client)
    assert "Incorrect API key provided: [redacted]" in caught.value.detail
    with pytest.raises(ChatMisconfigured) as caught:
        await client.probe()
    assert "[redacted]" in caught.value.detail


async def test_a_placeholder_for_a_key_is_no_secret(server: OpenAIServer, hasty: HastyClock) -> None:
    settings = ChatSettings(base_url=server.url, api_key="x", model="first")
    server.configure(script=[Fault(kind="status", status=400, body="an example is expected")])
    async with ChatGPTClient(settings, clock=hasty) as client:
        with pytest.raises(ChatRefused) as caught:
            await ask(client)
    assert caught.value.detail == "HTTP 400: an example is expected"


async def test_a_proxy_that_refuses_us_learns_and_tells_nothing(hasty: HastyClock) -> None:
    connects: list[str] = []

    async def refuse(request: web.BaseRequest) -> web.Response:
        connects.append(request.headers.get("Proxy-Authorization", ""))
        assert "Authorization" not in request.headers
        return web.Response(status=407, text="who are you?")

    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    settings = ChatSettings(
        base_url="https://model.example/v1",
        api_key=KEY,
        proxy=f"http://me:pa55word@127.0.0.1:{runner.addresses[0][1]}",
        retries=0,
    )
    async with ChatGPTClient(settings, clock=hasty) as client:
        with pytest.raises(ChatUnavailable, match="the proxy does not connect") as caught:
            await ask(client)
    await runner.cleanup()
    assert len(connects) == 1
    assert connects[0].startswith("Basic ")
    for text in (str(caught.value), repr(caught.value), caught.value.detail):
        for secret in (KEY, "pa55word", connects[0].removeprefix("Basic ")):
            assert secret not in text


async def test_a_probe_finds_a_model_that_does_not_exist(client: ChatGPTClient, server: OpenAIServer) -> None:
    server.configure(models=["gpt-5-mini"])
    with pytest.raises(ChatMisconfigured, match=r"'first'.*chat\.model"):
        await client.probe()
    client.settings = replace(client.settings, model="gpt-5-mini", fallback_models=("gone",))
    with pytest.raises(ChatMisconfigured, match="'gone'"):
        await client.probe()


async def test_a_probe_finds_a_server_that_is_not_there(hasty: HastyClock) -> None:
    async with OpenAIServer() as server:
        pass
    async with ChatGPTClient(ChatSettings(base_url=server.url), clock=hasty) as client:
        with pytest.raises(ChatUnavailable):
            await client.probe()


async def test_under_every_fault_at_once_every_call_ends_and_nearly_all_are_answered(
    client: ChatGPTClient, server: OpenAIServer, records: list[CallRecord]
) -> None:
    client.settings = replace(client.settings, fallback_models=("second",), first_byte_timeout=2, idle_timeout=2)
    server.configure(
        seed=7,
        faults=[
            {"kind": "status", "status": 503, "probability": 0.3, "model": "first"},
            {"kind": "stall", "probability": 0.1, "model": "first"},
            {"kind": "cut", "after": 0, "probability": 0.1, "model": "first"},
            {"kind": "status", "status": 429, "probability": 0.05, "model": "first"},
        ],
    )
    results = await asyncio.gather(*(ask(client) for _ in range(300)), return_exceptions=True)
    answered = results.count("answer to: hello there")
    assert all(isinstance(result, str | ChatError) for result in results)
    assert answered >= 291
    assert {request.fault for request in server.requests} >= {None, "status", "stall", "cut"}  # the faults did hit
    assert len(records) == 300
    assert client.running == client.waiting == 0
