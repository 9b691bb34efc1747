"""Fifty people, any interleaving, every scope, two accounts: nobody reads what another told the bot.

With links in play, the two identities of a linked person know together what either was told, where conversations belong
to persons; nobody else does, and each answer is read where its question was asked.

CHATGPT_MS_EXAMPLES sets how many messages are exchanged in all (default 600).
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from core.account import AccountConfig
from core.adapter import Receipt
from core.chat import ChatMessage
from core.journal import Quota
from core.links import Links
from core.messages import AccountId, ConversationKey, InboundMessage, Person, Scope, UserId
from core.sessions import SessionSettings
from core.storage import summaries
from tests.clock import HeldClock
from tests.core.gateway import SESSION, Gateway
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


def identity(person: int, account: str) -> Person:
    return Person(AccountId(account), UserId(f"person{person}"))


NOBODY: Mapping[Person, Person] = {}
LINKED: Mapping[Person, Person] = {
    identity(number, "work-eu"): identity((number + 7) % 50, "work") for number in range(0, 50, 2)
}
"""Half of the people, each with another name on the other account."""


def known(person: str, account: str, scope: Scope, links: Mapping[Person, Person]) -> set[str]:
    """Every word that somebody may see."""
    own = Person(AccountId(account), UserId(person))
    if scope is not Scope.USER:
        return {canary(person, account, scope)}
    root = links.get(own, own)
    group = [root, *(one for one, to in links.items() if to == root)]
    return {canary(user, account, scope) for account, user in group}


async def link_all(gateway: Gateway, links: Mapping[Person, Person]) -> None:
    for other, root in links.items():
        code = await gateway.links.offer(root, "")
        await gateway.links.enter(other, "", str(code))
        assert gateway.links.answered(root)
        await gateway.links.confirm(root)
    assert len(gateway.links.all()) == len(links)


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


UNGUARDED = {"same_text_per_minute": None, "channel_messages_per_minute": None}
"""They say the same over and over."""


async def talk(
    path: Path,
    clock: HeldClock,
    scope: Scope,
    kind: type[PagerReply],
    links: Mapping[Person, Person] = NOBODY,
    *,
    people: Sequence[str] = PEOPLE,
    session: SessionSettings = SESSION,
) -> list[str]:
    """Everybody writes, in any order; what somebody got to see of another circle."""
    dice = random.Random(f"{scope}-{kind.__name__}")  # one seed each, so that a failure comes again
    accounts = {"work": AccountConfig(), "work-eu": AccountConfig()}
    rounds = max(25, EXCHANGES // 16) * (4 if session.summarize else 1)
    async with Gateway(
        path,
        clock,
        Pager(kind),
        scope=scope,
        accounts=accounts,
        quota=Quota(queued=1000),
        inbox=UNGUARDED,
        session=session,
    ) as gateway:
        gateway.model.default = answer
        await link_all(gateway, links)

        async def speak() -> None:
            person, account = dice.choice(people), dice.choice(sorted(accounts))
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

        leaks, checked, shared = [], 0, 0
        for prompt, end_user in zip(gateway.model.prompts, gateway.model.people, strict=True):
            account, person = end_user.split("/")
            for word in CANARY.findall(" ".join(message.content for message in prompt)):
                checked += 1
                shared += word != canary(person, account, scope)
                if word not in known(person, account, scope, links):
                    leaks.append(f"{word} in a prompt of {end_user}")
        for message in gateway.pager.messages.values():
            account, who = message.place.split("/")
            for word in CANARY.findall(" ".join(message.versions)):
                checked += 1
                own = {f"canary-{who}-{account}-{scope}-end"}
                if word not in (known(who, account, scope, links) if scope is Scope.USER else own):
                    leaks.append(f"{word} shown in {message.place}")
        assert leaks or checked > rounds
        with_summary = sum("summed up by a program" in str(prompt) for prompt in gateway.model.prompts)
        assert (with_summary > rounds // 10) is session.summarize
        assert leaks or (shared > 0) is (bool(links) and scope is Scope.USER)
        return leaks


@pytest.mark.parametrize("kind", [PagerReply, Edits, Streams, Forms])
@pytest.mark.parametrize("scope", list(Scope))
async def test_nobody_s_canary_is_in_another_s_prompt_or_reply(
    path: Path, clock: HeldClock, scope: Scope, kind: type[PagerReply]
) -> None:
    assert await talk(path, clock, scope, kind) == []


@pytest.mark.parametrize("kind", [PagerReply, Streams])
@pytest.mark.parametrize("scope", list(Scope))
async def test_a_link_joins_two_identities_of_one_person_and_nobody_else(
    path: Path, clock: HeldClock, scope: Scope, kind: type[PagerReply]
) -> None:
    assert await talk(path, clock, scope, kind, LINKED) == []


SUMMED_UP = replace(SESSION, max_turns=1, summarize=True)


@pytest.mark.parametrize("scope", list(Scope))
async def test_nobody_s_canary_is_in_another_s_summary(path: Path, clock: HeldClock, scope: Scope) -> None:
    assert await talk(path, clock, scope, PagerReply, people=PEOPLE[:14:4], session=SUMMED_UP) == []


async def test_the_harness_notices_summaries_that_are_mixed_up(
    path: Path, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_anybody = summaries._SUMMARY.replace("WHERE conversation = ? AND", "WHERE ? > 0 AND")
    monkeypatch.setattr(summaries, "_SUMMARY", of_anybody)
    assert await talk(path, clock, Scope.USER, PagerReply, people=PEOPLE[:14:4], session=SUMMED_UP)


async def test_the_harness_notices_a_link_that_leads_to_another(
    path: Path, clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Links.person

    def astray(self: Links, account: AccountId, user: UserId) -> Person:
        person = right(self, account, user)
        return person if person == (account, user) else identity(1, "work")

    monkeypatch.setattr(Links, "person", astray)
    assert await talk(path, clock, Scope.USER, PagerReply, LINKED)


@pytest.mark.parametrize("scope", list(Scope))
async def test_the_harness_notices_conversations_that_are_mixed_up(
    path: Path, clock: HeldClock, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(message: InboundMessage, _: Scope) -> ConversationKey:
        return ConversationKey(message.account)

    monkeypatch.setattr(ConversationKey, "of", of)
    assert await talk(path, clock, scope, PagerReply)
