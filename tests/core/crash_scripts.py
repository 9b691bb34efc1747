"""What people do while processes die: a script for each way in which a message, its turn or its reply can go."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from core.account import AccountConfig, Ambiguous
from core.budgets import Allowance
from core.chat import ChatMessage
from core.errors import ChatUnavailable, DeliveryUnavailable, DeliveryUncertain, HeldBack, RateLimited, TargetGone
from core.limits import LimitSettings
from core.messages import MessageId
from tests.core.crash_points import KeptReply, Point, Run, Script
from tests.core.gateway import SESSION, WORK
from tests.core.scripted_chat import Step
from tests.simulators.pager import (
    Edits,
    EditsAndFinds,
    EditsAndTypes,
    EditsKeyed,
    Finds,
    Forms,
    KeyedReply,
    Streams,
    StreamsAndEdits,
    StreamsAndForms,
    StreamsAnnounced,
)

REASON = "no, thank you"


class StreamsFound(StreamsAnnounced):
    """As the contract wants it: what was announced is found, whether or not its process lived to learn its id."""

    def _change(self, message: MessageId, text: str) -> None:
        first, *_ = message.split(";")
        super()._change(MessageId(first), text)
        key = self.pager.messages[MessageId(first)].key
        for shown in [shown for shown in self.pager.messages.values() if shown.key.startswith(f"{key}-more")]:
            del self.pager.messages[shown.id]


Check = Callable[[Run], Awaitable[Sequence[str]]]


def account(ambiguous: Ambiguous) -> dict[str, Any]:
    """The gateway's options for a policy."""
    return {"accounts": {"work": AccountConfig(ambiguous=ambiguous)}}


def told(question: str, *words: str) -> Check:
    """The answer to this question is to be read, or one of these words instead."""

    async def check(run: Run) -> Sequence[str]:
        if not any(said.accepted and said.question == question for said in run.said):
            return []
        texts = [shown.text for shown in run.shown()] + [failure.text for _, failure in run.pager.failures]
        dead = [letter.reason for letter in await run.gateway.store.dead_letters()]
        found = any(word in text for word in (question, *words) for text in (*texts, *dead))
        return [] if found else [f"nobody was told {words}: {texts} {dead}"]

    return check


def at_most_once(word: str) -> Check:
    """The reply of a command is not seen twice."""

    async def check(run: Run) -> Sequence[str]:
        texts = [shown.text for shown in run.shown() if word in shown.text]
        commanded = any(said.accepted and said.message.text.startswith("/") for said in run.said)
        return [] if len(texts) == commanded else [f"{word!r} is to be read {len(texts)} times"]

    return check


async def one(run: Run) -> None:
    await run.ask("q1")


async def two_at_once(run: Run) -> None:
    await run.say("q1")
    await run.say("q2")
    await run.say("q3", user="bob", place="desk")


async def long(run: Run) -> None:
    await run.ask("long q1")


async def command(run: Run) -> None:
    await run.ask("/status")
    await run.ask("q1")


def failing(*errors: Exception | None, after: bool = False) -> Callable[[Run], Awaitable[None]]:
    """The first sends go wrong."""

    async def steps(run: Run) -> None:
        run.pager.fail("send", *errors, after=after)
        await run.ask("q1")
        await run.ask("q2")

    return steps


async def account_away(run: Run) -> None:
    run.gateway.away.add(WORK)
    run.pager.fail("send", DeliveryUnavailable(REASON))
    await run.ask("q1")
    run.gateway.away.clear()
    run.gateway.dispatcher.send_held(WORK)
    await run.settle()


async def model_down(run: Run) -> None:
    run.model.will(ChatUnavailable("the model's server is down"))
    await run.ask("q1")
    await run.ask("/retry")


async def new_meanwhile(run: Run) -> None:
    run.model.will(asyncio.Event())
    await run.say("q1")
    await run.rest()
    await run.say("q2")
    await run.say("/new")
    await run.say("q3")


async def stopped(run: Run) -> None:
    run.model.will("answer ", run.breath(), "to q1", asyncio.Event())
    await run.say("q1")
    await run.rest()
    await run.ask("/stop")


async def merged(run: Run) -> None:
    run.model.will(first := asyncio.Event(), "answer ", run.breath(), "to q1")
    await run.say("q1")
    await run.rest()
    await run.say("q2")
    await run.say("q3")
    first.set()


async def interrupted_silent(run: Run) -> None:
    run.model.will(asyncio.Event())
    await run.say("q1")
    await run.rest()
    await run.ask("q2")


async def interrupted_shown(run: Run) -> None:
    run.model.will("answer ", asyncio.Event())
    await run.say("q1")
    await run.rest()
    await run.ask("q2")


async def refused(run: Run) -> None:
    await run.ask("q1")
    await run.ask("q2")


async def exhausted(run: Run) -> None:
    run.model.will(first := asyncio.Event(), "answer ", run.breath(), "to q1")
    await run.say("q1")
    await run.rest()
    await run.say("q2")
    first.set()


async def forgotten(run: Run) -> None:
    await run.ask("q1")
    await run.ask("/forget")
    await run.ask("/forget yes")
    await run.ask("q2")


async def linked(run: Run) -> None:
    anna = {"user": "anna", "place": "club", "account": "club"}
    await run.ask("/link")
    found = re.search(r"`/link ([A-HJ-NP-Z2-9]{8})`", run.shown()[-1].text)
    assert found is not None
    await run.ask(f"/link {found[1]}", **anna)
    await run.ask("/link")
    await run.ask("/link yes")
    await run.ask("q1", **anna)
    await run.ask("q2")


async def summed_up(run: Run) -> None:
    answer = run.model.default

    def answer_or_sum_up(prompt: Sequence[ChatMessage]) -> Sequence[Step]:
        return ["a summary"] if prompt[0].content.startswith("You keep the memory") else answer(prompt)

    run.model.default = answer_or_sum_up
    for number in range(1, 4):
        await run.ask(f"q{number}")


async def the_words_are_whole(run: Run) -> Sequence[str]:
    """The parts of a long answer are there, in order, none twice."""
    words = re.findall(r"word\d+", " ".join(shown.text for shown in run.shown()))
    accepted = any(said.accepted and "long" in said.message.text for said in run.said)
    return [] if not accepted or words == [f"word{number}" for number in range(120)] else [f"the words are {words}"]


async def one_text(run: Run) -> Sequence[str]:
    """What lies in several messages reads as one answer."""
    if not run.said:
        return []
    text = " ".join(" ".join(shown.text for shown in run.shown()).split())
    left = text.removeprefix("answer answer ")  # of a first message that went up and whose id was lost with the process
    return [] if left.removeprefix("answer ") == "to q1 answer to q90" else [f"to be read is {text!r}"]


_TWO = {"accounts": {"work": AccountConfig(), "club": AccountConfig()}}

ROADS = (
    Script(name="a message, marked where in doubt", steps=one, allowed="mark"),
    Script(name="resent", steps=one, allowed="resend", options=account(Ambiguous.RESEND)),
    Script(name="dropped", steps=one, allowed="drop", options=account(Ambiguous.DROP)),
    Script(name="keyed", steps=one, kind=KeyedReply),
    Script(name="found", steps=one, kind=Finds),
    Script(name="edited", steps=one, kind=Edits, remains=1),
    Script(name="edited, with a sign of typing", steps=one, kind=EditsAndTypes, remains=1),
    Script(name="edited and keyed", steps=one, kind=EditsKeyed),
    Script(name="edited and found", steps=one, kind=EditsAndFinds),
    Script(name="streamed", steps=one, kind=Streams, allowed="mark", remains=1),
    Script(name="streamed, with forms", steps=one, kind=StreamsAndForms, allowed="mark", remains=1),
    Script(name="streamed and edited", steps=one, kind=StreamsAndEdits, remains=1),
    Script(name="kept", steps=one, kind=KeptReply, allowed="kept"),
)
"""One question, answered in each way that a channel offers."""

EVENTS = (
    Script(name="three at once", steps=two_at_once, kind=KeyedReply),
    Script(name="a long answer, keyed", steps=long, kind=KeyedReply, check=the_words_are_whole),
    Script(name="a long answer, found", steps=long, kind=Finds, check=the_words_are_whole),
    Script(name="a command", steps=command, kind=KeyedReply, check=at_most_once("Model")),
    Script(
        name="postponed", steps=failing(DeliveryUnavailable(REASON), RateLimited(REASON, retry_after=2)), kind=Finds
    ),
    Script(name="uncertain, keyed", steps=failing(DeliveryUncertain(REASON), after=True), kind=KeyedReply),
    Script(name="uncertain, found", steps=failing(DeliveryUncertain(REASON), after=True), kind=Finds),
    Script(name="uncertain, and it had not arrived", steps=failing(DeliveryUncertain(REASON)), kind=Finds),
    Script(name="kept while the account is away", steps=account_away, kind=KeyedReply),
    Script(name="held back", steps=failing(HeldBack(REASON)), kind=KeyedReply),
    Script(
        name="buried",
        steps=failing(TargetGone(REASON)),
        kind=KeyedReply,
        unanswered=frozenset({"q1"}),
        check=told("q1", REASON),
    ),
    Script(
        name="the model is down, and asked again",
        steps=model_down,
        kind=KeyedReply,
        unanswered=frozenset({"q1"}),
        check=told("q1", "reach the model"),
    ),
    Script(
        name="the model is down, told in a form",
        steps=model_down,
        kind=Forms,
        allowed="mark",
        unanswered=frozenset({"q1"}),
        check=told("q1", "reach the model"),
    ),
    Script(name="begun anew", steps=new_meanwhile, kind=KeyedReply, unanswered=frozenset({"q1", "q2"})),
    Script(
        name="stopped",
        steps=stopped,
        kind=EditsKeyed,
        unanswered=frozenset({"q1"}),
        check=told("q1", "(stopped)", "Stopped."),
    ),
    Script(name="merged", steps=merged, kind=KeyedReply, options={"busy": "merge"}),
    Script(
        name="interrupted before it showed", steps=interrupted_silent, kind=KeyedReply, options={"busy": "interrupt"}
    ),
    Script(
        name="interrupted",
        steps=interrupted_shown,
        kind=EditsKeyed,
        options={"busy": "interrupt"},
        unanswered=frozenset({"q1"}),
        check=told("q1", "interrupted"),
    ),
    Script(
        name="refused for want of budget",
        steps=refused,
        kind=KeyedReply,
        options={"limits": LimitSettings(person=Allowance(messages_per_day=1))},
        next_day=True,
    ),
    Script(
        name="the budget ends before the turn",
        steps=exhausted,
        kind=KeyedReply,
        options={"limits": LimitSettings(person=Allowance(tokens_per_day=15))},
        next_day=True,
        unanswered=frozenset({"q2"}),
        check=told("q2", "tokens"),
    ),
    Script(name="forgotten", steps=forgotten, kind=KeyedReply),
    Script(name="linked", steps=linked, kind=KeyedReply, options=_TWO, counts=False),
    Script(
        name="summed up",
        steps=summed_up,
        kind=KeyedReply,
        options={"session": replace(SESSION, max_turns=2, summarize=True)},
        counts=False,
    ),
    Script(
        name="too late",
        steps=one,
        kind=KeyedReply,
        deaths=(Point("accept", "after", 1),),
        away=1000.0,
        unanswered=frozenset({"q1"}),
        check=told("q1", "away"),
    ),
    Script(name="streamed over several messages", steps=one, kind=StreamsFound, remains=None, check=one_text),
)
"""What else can happen to a message, a turn or a reply."""
