"""Requests without a session pay like everybody: reserved while they run, charged when they end, whoever ends them."""

from __future__ import annotations

import asyncio

import pytest

from adapters.api.intake import user_id
from core.budgets import Allowance, Used
from core.chat import Usage
from core.errors import ChatUnavailable
from core.limits import LimitSettings
from core.messages import Person
from core.prices import Price, Prices
from tests.core.scripted_chat import ScriptedChat
from tests.scenario.api_gateway import API, ApiGateway, api_gateway, until

PROGRAM = Person(API, user_id("default", ""))
BODY = {"messages": [{"role": "user", "content": "hello"}]}
PRICED = LimitSettings(model="model-a", prices=Prices({"model-a": Price(1.0, 2.0)}))


async def used(gateway: ApiGateway) -> Used:
    """Of everybody, today."""
    *_, (today, _) = await gateway.store.used(PROGRAM)
    return today


@pytest.fixture
def chat() -> ScriptedChat:
    """The model."""
    return ScriptedChat()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_charged_as_the_model_s_server_counted(chat: ScriptedChat, stream: bool) -> None:
    async with api_gateway(chat=chat, limits=PRICED) as gateway:
        chat.usage = Usage(100, 50)
        async with gateway.http.post(gateway.url + "/v1/chat/completions", json={**BODY, "stream": stream}) as response:
            assert response.status == 200
            await response.read()
        assert await used(gateway) == Used(messages=1, tokens=150, money=200e-6)


async def test_an_answer_is_charged_whose_client_has_left(chat: ScriptedChat) -> None:
    async with api_gateway(chat=chat) as gateway:
        chat.will("z" * 4000, hold := asyncio.Event(), *["more"] * 50)
        chat.usage = None
        async with gateway.http.post(gateway.url + "/v1/chat/completions", json={**BODY, "stream": True}) as response:
            await response.content.readline()
        hold.set()
        async with asyncio.timeout(20):
            while (await used(gateway)).tokens < 1000:
                await asyncio.sleep(0.01)


async def test_a_question_is_charged_whose_client_left_before_the_first_word(chat: ScriptedChat) -> None:
    async with api_gateway(chat=chat) as gateway:
        chat.will(hold := asyncio.Event(), "at last")
        asking = asyncio.create_task(
            gateway.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 4000}]})
        )
        await until(lambda: bool(chat.running))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        hold.set()
        async with asyncio.timeout(20):
            while (await used(gateway)).tokens < 1000:
                await asyncio.sleep(0.01)


async def test_what_the_model_s_server_did_not_take_is_free(chat: ScriptedChat) -> None:
    async with api_gateway(chat=chat) as gateway:
        chat.will(ChatUnavailable("down"))
        assert (await gateway.post("/v1/chat/completions", BODY))[0] == 503
        assert await used(gateway) == Used(messages=1)


async def test_nothing_left_is_told_with_the_time_of_the_reset(chat: ScriptedChat) -> None:
    limits = LimitSettings(person=Allowance(tokens_per_day=15))
    async with api_gateway(chat=chat, limits=limits) as gateway:
        assert (await gateway.post("/v1/chat/completions", BODY))[0] == 200
        status, document, headers = await gateway.post("/v1/chat/completions", BODY)
        assert (status, document["error"]["code"]) == (429, "rate_limited")
        assert "00:00 UTC" in document["error"]["message"]
        assert int(headers["Retry-After"]) > 0
        assert len(chat.prompts) == 1


async def test_requests_wait_for_one_another_where_little_is_left(chat: ScriptedChat) -> None:
    limits = LimitSettings(person=Allowance(tokens_per_day=1000))
    async with api_gateway(chat=chat, limits=limits) as gateway:
        chat.will(hold := asyncio.Event(), "one")
        first = asyncio.create_task(gateway.post("/v1/chat/completions", BODY))
        await until(lambda: bool(chat.running))
        headroom = gateway.host.paid._headroom
        others = [asyncio.create_task(gateway.post("/v1/chat/completions", BODY)) for _ in range(3)]
        await until(lambda: headroom.waiting == 3)
        hold.set()
        assert [(await task)[0] for task in (first, *others)] == [200] * 4
        assert chat.most_at_once == 1
        assert (await used(gateway)).messages == 4
