"""Fifty people, any interleaving, every scope, two accounts: nobody reads what another told the bot.

CHATGPT_MS_EXAMPLES sets how many messages are exchanged in all (default 600).
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from core.account import AccountConfig
from core.adapter import Receipt
from core.chat import ChatMessage
from core.journal import Quota
from core.messages import ConversationKey, InboundMessage, Scope
from tests.clock import HeldClock
from tests.core.gateway import Gateway
from tests.core.scripted_chat import Step
from tests.simulators.pager import Edits, Forms, Pager, PagerReply, Streams

EXCHANGES = int(os.environ.get("CHATGPT_MS_EXAMPLES", "600"))
PEOPLE = [f"person{number}" for number in range(50)]
CANARY = re.compile(r"canary-[a-z0-9]+-work(?:-eu)?-\w+-end")


def circle(person: str, scope: Scope) -> str:
    """Whoever may share a conversation, by the scope: five people in one channel, two in one thread of it."""
    number = int(person.removeprefix("person"))
    match scope:
        case Scope.USER | Scope.USER_IN_CHANNEL:
            return person
        case Scope.THREAD:
            return f"thread{number // 2}"
        case Scope.CHANNEL:
            return f"channel{number // 10}"


def canary(person: str, account: str, scope: Scope) -> str:
    """A word that only those of one circle on one account may ever see."""
    return f"canary-{circle(person, scope)}-{account}-{scope}-end"


def spoken(gateway: Gateway, person: str, account: str, scope: Scope, text: str) -> InboundMessage:
    number = int(person.removeprefix("person"))
    message: InboundMessage = gateway.in_channel(
        text, user=person, channel=f"channel{number // 10}", thread=f"thread{number // 2}", account=account
    )
    home = gateway.message("", place=f"{account}/{circle(person, scope)}").reply_to
    return type(message)(**{**{name: getattr(message, name) for name in message.__slots__}, "reply_to": home})


def answer(prompt: Sequence[ChatMessage]) -> Sequence[Step]:
    """Tells everything that the model was told, in a few pieces."""
    told = " ".join(message.content for message in prompt if message.role == "user")
    words = sorted(set(CANARY.findall(told)))
    return ["I was told: ", *(f"{word} " for word in words)]


async def talk(path: Path, clock: HeldClock, scope: Scope, kind: type[PagerReply]) -> list[str]:
    """Everybody writes, in any order; what somebody got to see of another circle."""
    dice = random.Random(f"{scope}-{kind.__name__}")  # one seed each, so that a failure comes again
    accounts = {"work": AccountConfig(), "work-eu": AccountConfig()}
    rounds = max(25, EXCHANGES // 16)
    async with Gateway(path, clock, Pager(kind), scope=scope, accounts=accounts, quota=Quota(queued=1000)) as gateway:
        gateway.model.default = answer

        async def speak() -> None:
            person, account = dice.choice(PEOPLE), dice.choice(sorted(accounts))
            words = [f"remember {canary(person, account, scope)}", "what do you know?"]
            text = dice.choices([*words, "/retry", "/new", "/stop", "/forget yes"], [10, 8, 2, 1, 1, 1])[0]
            for _ in range(dice.randrange(4)):
                await asyncio.sleep(0)
            message = spoken(gateway, person, account, scope, text)
            assert await gateway.inbox.receive(message) is Receipt.ACCEPTED

        for _ in range(0, rounds, 25):
            await asyncio.gather(*(speak() for _ in range(25)))
            if dice.random() < 0.3:
                await gateway.idle()
        await gateway.idle()

        leaks, checked = [], 0
        for prompt, end_user in zip(gateway.model.prompts, gateway.model.people, strict=True):
            account, person = end_user.split("/")
            for word in CANARY.findall(" ".join(message.content for message in prompt)):
                checked += 1
                if word != canary(person, account, scope):
                    leaks.append(f"{word} in a prompt of {end_user}")
        for message in gateway.pager.messages.values():
            account, who = message.place.split("/")
            for word in CANARY.findall(" ".join(message.versions)):
                checked += 1
                if word != f"canary-{who}-{account}-{scope}-end":
                    leaks.append(f"{word} shown in {message.place}")
        assert checked > rounds
        return leaks


@pytest.mark.parametrize("kind", [PagerReply, Edits, Streams, Forms])
@pytest.mark.parametrize("scope", list(Scope))
async def test_nobody_s_canary_is_in_another_s_prompt_or_reply(
    path: Path, clock: HeldClock, scope: Scope, kind: type[PagerReply]
) -> None:
    assert await talk(path, clock, scope, kind) == []


@pytest.mark.parametrize("scope", list(Scope))
async def test_the_harness_notices_conversations_that_are_mixed_up(
    path: Path, clock: HeldClock, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(message: InboundMessage, _: Scope) -> ConversationKey:
        return ConversationKey(message.account)

    monkeypatch.setattr(ConversationKey, "of", of)
    assert await talk(path, clock, scope, PagerReply)
