"""The core path with the real model client, against an OpenAI-compatible server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core.chatgpt import ChatGPTClient, ChatSettings
from tests.clock import HeldClock
from tests.core.gateway import Gateway, until
from tests.simulators.openai_server import Fault, OpenAIServer
from tests.simulators.pager import Edits, Pager, PagerReply, Streams


@asynccontextmanager
async def started(
    path: Path, clock: HeldClock, server: OpenAIServer, kind: type[PagerReply] = PagerReply
) -> AsyncIterator[Gateway]:
    settings = ChatSettings(base_url=server.url, api_key="sk-canary", model="test-model", retries=0)
    async with (
        ChatGPTClient(settings, clock=clock) as chat,
        Gateway(path, clock, Pager(kind), chat) as gateway,
    ):
        yield gateway


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer() as server:
        yield server


@pytest.mark.parametrize("kind", [PagerReply, Edits, Streams])
async def test_history_reaches_the_server_and_the_answer_the_person(
    path: Path, clock: HeldClock, server: OpenAIServer, kind: type[PagerReply]
) -> None:
    server.settings.reply = "count"
    async with started(path, clock, server, kind) as gateway:
        await gateway.ask("hello")
        assert await gateway.ask("again") == ["answer 1 to: hello", "answer 2 to: again"]
        assert [message["content"] for message in server.requests[-1].body["messages"]] == [
            "Be brief.",
            "hello",
            "answer 1 to: hello",
            "again",
        ]


async def test_stop_closes_the_connection_to_the_server(path: Path, clock: HeldClock, server: OpenAIServer) -> None:
    server.settings.script.append(Fault(kind="stall", after=2))
    server.settings.reply = "=one two three four"
    async with started(path, clock, server, Streams) as gateway:
        await gateway.hear("hello")
        await until(lambda: gateway.pager.texts() and gateway.pager.texts()[0])
        await gateway.ask("/stop")
        await server.until(lambda server: server.requests[0].hung_up)
        assert gateway.pager.texts()[0].endswith("(stopped)")
        assert gateway.pager.texts()[1:] == ["Stopped."]
        assert await gateway.ask("hello") == [*gateway.pager.texts()[:2], "one two three four"]


@pytest.mark.parametrize(
    ("fault", "notice"),
    [
        (Fault(kind="status", status=500), "can't reach the model"),
        (Fault(kind="invalid_key"), "not set up correctly"),
        (Fault(kind="model_not_found"), "not set up correctly"),
        (Fault(kind="context_length"), "more text than the model"),
        (Fault(kind="insufficient_quota"), "not set up correctly"),
        (Fault(kind="status", status=402), "not set up correctly"),
        (Fault(kind="cut", after=1), "broke off here"),
        (Fault(kind="empty"), "would not answer"),
        (Fault(kind="length", after=0), "before it had said anything"),
    ],
)
async def test_a_failing_server_is_told_in_plain_words_and_leaves_no_history(
    path: Path, clock: HeldClock, server: OpenAIServer, fault: Fault, notice: str
) -> None:
    server.settings.script.append(fault)
    async with started(path, clock, server) as gateway:
        (text,) = await gateway.ask("first")
        assert notice in text
        assert "canary" not in text
        assert (await gateway.ask("second"))[-1] == "answer to: second"
        assert len(server.requests[-1].body["messages"]) == 2


@pytest.mark.parametrize("kind", [PagerReply, Edits, Streams])
@pytest.mark.parametrize(
    ("fault", "mark"),
    [
        (Fault(kind="length"), "(This is as long as one answer can be. Ask me to go on for the rest.)"),
        (Fault(kind="content_filter"), "(The model's content filter ended the answer here.)"),
    ],
)
async def test_an_answer_that_was_cut_says_so_and_the_model_does_not_read_it(
    path: Path, clock: HeldClock, server: OpenAIServer, kind: type[PagerReply], fault: Fault, mark: str
) -> None:
    server.settings.script.append(fault)
    server.settings.reply = "=```\ncode"
    async with started(path, clock, server, kind) as gateway:
        (text,) = await gateway.ask("first")
        assert text == f"```\ncode\n```\n\n{mark}"
        await gateway.ask("go on")
        assert [message["content"] for message in server.requests[-1].messages] == [
            "Be brief.",
            "first",
            "```\ncode",
            "go on",
        ]


async def test_fifty_people_at_once_are_all_answered(path: Path, clock: HeldClock, server: OpenAIServer) -> None:
    async with started(path, clock, server) as gateway:
        await asyncio.gather(
            *(gateway.hear(f"I am {n}", user=f"user{n}", place=f"place{n}") for n in range(50)),
        )
        await gateway.idle()
        assert [gateway.pager.texts(f"place{n}") for n in range(50)] == [[f"answer to: I am {n}"] for n in range(50)]
