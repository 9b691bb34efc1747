"""Ten times the budget from fifty connections at once: what the model's server counted is the budget and at most one
answer more, every refusal tells when it starts afresh, and nobody waits for ever.

What was spent is what the model's server wrote, never what the gateway counted.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import GatewayProcess, assert_discreet
from tests.simulators.openai_server import OpenAIServer, _split, _usage

pytestmark = [pytest.mark.process, pytest.mark.slow]

CONNECTIONS = 50
TIMES = 10
"""So often the budget is asked for."""
QUESTION = "word " * 40
ANSWER = "=" + "word " * 20
INPUT, OUTPUT = 2.0, 8.0
"""Prices per million tokens."""
ONE = 150
"""No turn of these costs more tokens: 100 of prompt at the most, the question's own 50 among them, and 20 of answer."""
CAP = 1000
MONEY = CAP * 5 / 1_000_000
ONE_OF_MONEY = ONE * OUTPUT / 1_000_000
RESET = {"tokens": re.compile(r"\d{4}-\d\d-\d\d 00:00 UTC"), "money": re.compile(r"\d{4}-\d\d-01 00:00 UTC")}

CONFIG: dict[str, dict[str, Any]] = {
    "chat": {"prices": {"test-model": {"input": INPUT, "output": OUTPUT}}, "concurrency": 64},
    "sessions": {"max_tokens": 100},
    "limits": {"tokens_per_answer": 30, "queued": 1000},
}


@dataclass
class Outcome:
    """What the clients got."""

    answered: int = 0
    refused: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


async def ask(gateway: GatewayProcess, http: aiohttp.ClientSession, user: str | None, outcome: Outcome) -> None:
    """One question: of a session, or without one."""
    path: str
    body: dict[str, Any]
    if user is None:
        path, body = "/v1/chat/completions", {"messages": [{"role": "user", "content": QUESTION}]}
    else:
        path, body = "/chat", {"message": QUESTION, "user": user}
    answer = await gateway.post(http, path, body)
    if answer.status == 200:
        outcome.answered += 1
    elif answer.status == 429:
        assert int(answer.headers["Retry-After"]) > 0
        outcome.refused.append(json.dumps(answer.json))
    else:
        outcome.others[f"{answer.status} {answer.text[:200]}"] += 1


async def race(gateway: GatewayProcess, users: int | None) -> Outcome:
    """Everybody asks as fast as answers come, over connections of their own. None: one program without sessions."""
    outcome = Outcome()
    asked = iter(range(TIMES * CAP // 70))

    async def connection(number: int) -> None:
        async with aiohttp.ClientSession() as http:
            for _ in asked:
                await ask(gateway, http, None if users is None else f"u{number % users}", outcome)

    async with asyncio.timeout(60):
        await asyncio.gather(*(connection(number) for number in range(CONNECTIONS)))
    assert not outcome.others
    return outcome


def counted(model: OpenAIServer) -> tuple[int, float]:
    """Tokens and money, as the model's server wrote answers."""
    tokens, money = 0, 0.0
    for request in model.requests:
        usage = _usage(request, _split(request.answer, 0))
        tokens += usage["total_tokens"]
        money += (usage["prompt_tokens"] * INPUT + usage["completion_tokens"] * OUTPUT) / 1_000_000
    return tokens, money


def limits(whose: str, measure: str) -> Mapping[str, Mapping[str, Any]]:
    """The configuration with this one budget."""
    budget = {"tokens_per_day": CAP} if measure == "tokens" else {"money_per_month": MONEY}
    changed = {section: dict(keys) for section, keys in CONFIG.items()}
    if whose == "person":
        changed["limits"] |= budget
    elif whose == "account":
        changed["accounts"] = {"api": {"budget": budget}}
    else:
        changed["limits"]["total"] = budget
    return changed


def exceeded(model: OpenAIServer, measure: str) -> bool:
    """By more than one turn."""
    tokens, money = counted(model)
    return tokens > CAP + ONE if measure == "tokens" else money > MONEY + ONE_OF_MONEY


@pytest.mark.parametrize(
    ("whose", "measure", "users"),
    [
        ("person", "tokens", None),
        ("person", "money", None),
        ("account", "tokens", 25),
        ("account", "money", 50),
        ("total", "tokens", 50),
        ("total", "money", 25),
    ],
)
async def test_a_budget_is_exceeded_by_one_answer_at_the_most(
    make_gateway: MakeGateway, model: OpenAIServer, whose: str, measure: str, users: int | None
) -> None:
    model.configure(reply=ANSWER, first_token_delay=0.01)
    gateway = await make_gateway(config=limits(whose, measure))
    await gateway.start()
    outcome = await race(gateway, users)
    assert not exceeded(model, measure), counted(model)
    tokens, money = counted(model)
    assert tokens >= CAP if measure == "tokens" else money >= MONEY, "something was left that nobody could use"
    assert outcome.refused
    assert all(RESET[measure].search(text) for text in outcome.refused)
    assert outcome.answered == sum(bool(request.answer) for request in model.requests)
    running = await gateway.command("usage", "--month", "--json")
    await gateway.stop()
    stopped = await gateway.command("usage", "--account", "api", "--json")
    for listed in (running, stopped):
        assert sum(row["tokens"] for row in listed.json) == tokens
        assert sum(row["money"] for row in listed.json) == pytest.approx(money)
    assert len(running.json) == (users or 1)
    assert_discreet(gateway, running.out)


@pytest.mark.parametrize(("fault", "whose", "users"), [("unreserved", "person", None), ("unheard", "account", 25)])
async def test_the_harness_notices_a_budget_that_is_not_kept(
    make_gateway: MakeGateway, model: OpenAIServer, fault: str, whose: str, users: int | None
) -> None:
    model.configure(reply=ANSWER, first_token_delay=0.05)
    gateway = await make_gateway(config=limits(whose, "tokens"), **broken("broken_budget", fault))
    await gateway.start()
    await race(gateway, users)
    assert exceeded(model, "tokens")


async def test_nothing_stays_reserved_over_a_crash(
    make_gateway: MakeGateway, model: OpenAIServer, http: aiohttp.ClientSession
) -> None:
    model.configure(reply=ANSWER)
    gateway = await make_gateway(config=limits("person", "tokens"))
    await gateway.start()
    model.pause()
    asking = [asyncio.create_task(ask(gateway, http, None, Outcome())) for _ in range(4)]
    await model.until(lambda server: server.running)
    await gateway.kill()
    await asyncio.gather(*asking, return_exceptions=True)
    model.resume()
    model.requests.clear()
    await gateway.start()
    outcome = await race(gateway, None)
    assert outcome.answered >= CAP // ONE
    assert not exceeded(model, "tokens")
