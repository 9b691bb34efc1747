"""Nothing is waited for without a bound, and a call that nobody wants any more is hung up on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from core.chat import ChatMessage
from core.chatgpt import CallRecord, ChatGPTClient, ChatSettings
from core.errors import ChatUnavailable
from tests.clock import HeldClock
from tests.simulators.openai_server import Fault, OpenAIServer

PROMPT = [ChatMessage("user", "hello there")]


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@pytest.fixture
def records() -> list[CallRecord]:
    return []


@pytest.fixture
async def client(server: OpenAIServer, clock: HeldClock, records: list[CallRecord]) -> AsyncIterator[ChatGPTClient]:
    settings = ChatSettings(base_url=server.url, model="first", retries=0)
    async with ChatGPTClient(settings, clock=clock, observe=records.append) as client:
        yield client


async def ask(client: ChatGPTClient) -> str:
    async with client.stream(PROMPT, end_user="alice") as answer:
        return "".join([piece async for piece in answer])


@pytest.mark.parametrize("after", [None, -1])
async def test_silence_before_the_first_byte_is_bounded(
    client: ChatGPTClient, server: OpenAIServer, after: int | None
) -> None:
    client.settings = replace(client.settings, first_byte_timeout=0.05)
    server.configure(
        first_token_delay=0 if after is None else 60, script=[Fault(kind="stall")] if after is None else []
    )
    with pytest.raises(ChatUnavailable):
        await ask(client)
    await server.until(lambda server: server.requests[0].hung_up)


async def test_silence_between_two_pieces_is_bounded(client: ChatGPTClient, server: OpenAIServer) -> None:
    client.settings = replace(client.settings, idle_timeout=0.05)
    server.configure(script=[Fault(kind="stall", after=1)])
    pieces = []
    with pytest.raises(ChatUnavailable, match=r"nothing for 0\.05 s"):  # noqa: PT012 - what was shown before matters
        async with client.stream(PROMPT, end_user="alice") as answer:
            async for piece in answer:
                pieces.append(piece)  # noqa: PERF401 - the error comes in between
    assert pieces == ["answer"]
    await server.until(lambda server: server.requests[0].hung_up)


async def test_a_slow_answer_that_never_pauses_is_bounded_by_the_whole_time(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    client.settings = replace(client.settings, timeout=0.15)
    server.configure(token_delay=0.01, reply="=" + "word " * 1000)
    with pytest.raises(ChatUnavailable, match=r"chat\.timeout"):
        await ask(client)
    await server.until(lambda server: server.requests[0].hung_up)


async def test_an_answer_slower_than_the_idle_time_in_all_but_not_between_pieces_arrives(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    client.settings = replace(client.settings, idle_timeout=1.0, first_byte_timeout=1.0)
    server.configure(token_delay=0.05, reply="=" + "word " * 25)
    assert await ask(client) == "word " * 25


async def test_a_connection_that_is_never_made_is_bounded(clock: HeldClock) -> None:
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client goes away; TLS never begins
        writer.close()
        await writer.wait_closed()
        gone.set()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    settings = ChatSettings(base_url=f"https://127.0.0.1:{port}/v1", connect_timeout=0.05, retries=0)
    async with listener, ChatGPTClient(settings, clock=clock) as client:
        with pytest.raises(ChatUnavailable, match=r"no connection to https://127\.0\.0\.1:\d+ within 0\.05 s"):
            await ask(client)
        await gone.wait()


async def test_after_a_time_out_another_model_is_asked_before_the_same_again(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    client.settings = replace(client.settings, retries=2, first_byte_timeout=0.05, fallback_models=("second",))
    server.configure(faults=[{"kind": "stall", "model": "first"}])
    assert await ask(client) == "answer to: hello there"
    assert [request.body["model"] for request in server.requests] == ["first", "second"]


async def test_the_whole_time_bounds_the_attempts_too(client: ChatGPTClient, server: OpenAIServer) -> None:
    client.settings = replace(client.settings, retries=2, timeout=5.0)
    server.configure(script=[Fault(kind="status", status=503, retry_after="6")])
    with pytest.raises(ChatUnavailable) as caught:
        await ask(client)
    assert caught.value.retry_after == 6
    assert len(server.requests) == 1


async def test_waiting_for_a_place_is_not_part_of_the_whole_time_but_bounded_by_it(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    client.settings = replace(client.settings, concurrency=1, timeout=0.05, first_byte_timeout=5)
    async with client.stream(PROMPT, end_user="alice"):
        with pytest.raises(ChatUnavailable, match="no place"):
            await ask(client)
    assert len(server.requests) == 1
    assert client.waiting == 0


async def test_leaving_early_hangs_up(client: ChatGPTClient, server: OpenAIServer, records: list[CallRecord]) -> None:
    server.configure(token_delay=30)
    async with client.stream(PROMPT, end_user="alice") as answer:
        async for _ in answer:
            break
    await server.until(lambda server: server.requests[0].hung_up)
    assert records[0].outcome == "abandoned"
    assert client.running == 0


async def test_cancelling_while_reading_hangs_up(client: ChatGPTClient, server: OpenAIServer) -> None:
    server.configure(script=[Fault(kind="stall", after=1)])
    asking = asyncio.create_task(ask(client))
    await server.until(lambda server: server.running)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await server.until(lambda server: server.requests[0].hung_up)
    assert client.running == 0


async def test_cancelling_before_the_first_text_hangs_up(
    client: ChatGPTClient, server: OpenAIServer, records: list[CallRecord]
) -> None:
    server.pause()
    asking = asyncio.create_task(ask(client))
    await server.until(lambda server: server.running)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await server.until(lambda server: server.requests[0].hung_up)
    assert (records[0].outcome, records[0].seconds_to_first) == ("abandoned", None)


async def test_an_error_in_the_callers_own_code_hangs_up(client: ChatGPTClient, server: OpenAIServer) -> None:
    server.configure(token_delay=30)
    with pytest.raises(ZeroDivisionError):
        async with client.stream(PROMPT, end_user="alice"):
            raise ZeroDivisionError
    await server.until(lambda server: server.requests[0].hung_up)


@pytest.mark.parametrize("end_delay", [0, 0.01])
async def test_a_finished_answer_is_not_hung_up_on(
    client: ChatGPTClient, server: OpenAIServer, end_delay: float
) -> None:
    server.configure(pieces_apart=True, end_delay=end_delay)
    for _ in range(3):
        await ask(client)
    await server.until(lambda server: all(request.finished for request in server.requests))
    assert not any(request.hung_up for request in server.requests)
    assert len({request.peer for request in server.requests}) == 1


async def test_a_server_that_does_not_end_a_finished_answer_is_not_waited_for(
    client: ChatGPTClient, server: OpenAIServer
) -> None:
    server.configure(end_delay=3600)
    assert await ask(client) == "answer to: hello there"
    await server.until(lambda server: server.requests[0].hung_up)


async def test_cancelling_while_waiting_to_try_again_frees_the_place(
    client: ChatGPTClient, server: OpenAIServer, clock: HeldClock
) -> None:
    client.settings = replace(client.settings, retries=1)
    server.configure(script=[Fault(kind="status", status=503, retry_after="9")])
    asking = asyncio.create_task(ask(client))
    while not clock.sleeping:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert client.running == 0
    assert len(server.requests) == 1


async def test_times_are_told_from_getting_the_place(
    client: ChatGPTClient, server: OpenAIServer, clock: HeldClock, records: list[CallRecord]
) -> None:
    client.settings = replace(client.settings, concurrency=1)
    async with client.stream(PROMPT, end_user="alice") as answer:
        waiting = asyncio.create_task(ask(client))
        while not client.waiting:
            await asyncio.sleep(0)
        await clock.advance(3)
        assert [piece async for piece in answer]
    await waiting
    first, second = records
    assert (first.waited, first.seconds_to_first, first.seconds) == (0, 0, 3)
    assert (second.waited, second.seconds_to_first, second.seconds) == (3, 0, 0)


async def test_leaving_the_client_hangs_up_on_everybody(server: OpenAIServer, clock: HeldClock) -> None:
    server.configure(script=[Fault(kind="stall", after=1)])
    async with ChatGPTClient(ChatSettings(base_url=server.url), clock=clock) as client:
        context = client.stream(PROMPT, end_user="alice")
        answer = await context.__aenter__()
        assert await anext(aiter(answer))
    with pytest.raises(ChatUnavailable):
        await anext(aiter(answer))
    await context.__aexit__(None, None, None)
    await server.until(lambda server: server.requests[0].hung_up)
