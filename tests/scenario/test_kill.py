"""kill -9 at random points: nothing that was accepted is lost, answered twice or answered out of order.

Accepted is what the gateway says it accepted, in its log at `debug`, right after the commit and before anything else
happens to the message. What became of it is read from copies of the database and from what the clients got.
The number of kills is CHATGPT_MS_KILLS (20).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import shutil
import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import COMMAND, GatewayProcess, assert_discreet, until
from tests.simulators.openai_server import OpenAIServer

pytestmark = [pytest.mark.process, pytest.mark.slow]

KILLS = int(os.environ.get("CHATGPT_MS_KILLS", "20"))
ACCEPTED_A_KILL = 20
USERS = 8
BURST = 3
"""Messages that a user sends without waiting for the answers."""
REPEATED = 0.2
IN_STARTUP = 0.2
"""Of the starts are killed before they are ready, in addition."""


@dataclass(eq=False)
class Sent:
    """One message of a user and what the user got for it."""

    user: str
    text: str
    after: str | None
    """A message of the same user that was answered before this one was sent."""
    replies: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        return self.text.replace(" ", "-")


@dataclass
class Verdict:
    """What the judge found."""

    kills: int = 0
    hits: int = 0
    """Kills that left work unfinished."""
    in_startup: int = 0
    accepted: int = 0
    lost: int = 0
    doubled: int = 0
    misordered: int = 0
    unanswered: int = 0

    def __str__(self) -> str:
        return (
            f"R1: {self.kills} kills, {self.hits} of them hit running work, and {self.in_startup} in start-up; "
            f"{self.accepted} accepted, {self.lost} lost, {self.doubled} doubled, {self.misordered} out of order, "
            f"{self.unanswered} unanswered"
        )


class Store:
    """A copy of the database as a kill left it."""

    def __init__(self, database: Path, copy: Path) -> None:
        for suffix in ("", "-wal"):
            if (source := database.with_name(database.name + suffix)).exists():
                shutil.copyfile(source, copy.with_name(copy.name + suffix))
        with closing(sqlite3.connect(copy)) as db:
            (self.unfinished,) = db.execute(
                "SELECT (SELECT count(*) FROM inbox WHERE state IN ('new', 'running', 'answered'))"
                " + (SELECT count(*) FROM outbox WHERE state IN ('pending', 'sending', 'unknown'))"
            ).fetchone()
            self.accepted: dict[str, tuple[int, str]] = {
                json.loads(body)["text"]: (id, state)
                for id, body, state in db.execute("SELECT id, body, state FROM inbox ORDER BY id DESC")
            }
            """The first row of each text."""
            self.rows = Counter(json.loads(body)["text"] for (body,) in db.execute("SELECT body FROM inbox"))
            self.exchanges: list[tuple[int, str]] = db.execute(
                "SELECT conversation, question FROM exchange ORDER BY turn"
            ).fetchall()


class Harness:
    """Users that talk to a gateway which is killed under them."""

    def __init__(self, gateway: GatewayProcess, http: aiohttp.ClientSession, copies: Path, seed: int) -> None:
        self.gateway = gateway
        self.http = http
        self.copies = copies
        self.random = random.Random(seed)
        self.sent: list[Sent] = []
        self.verdict = Verdict()
        self.unexpected: list[str] = []
        """Answers other than 200."""
        self._answered: dict[str, str] = {}
        """The last answered message of each user."""
        self._numbers = itertools.count()
        self._said: set[str] = set()
        """What the gateway said it accepted."""
        self._read = 0
        self._lost: set[str] = set()

    async def run(self, kills: int) -> Verdict:
        verdict = self.verdict
        while verdict.kills < kills:
            if self.random.random() < IN_STARTUP:
                await self._kill_in_startup()
            await self.gateway.start()
            load = [asyncio.create_task(self._user(f"user-{number}")) for number in range(USERS)]
            load += [asyncio.create_task(self._ask(message)) for message in self._outstanding()]
            await self._enough(len(self._accepted()) + ACCEPTED_A_KILL, self._outstanding())
            await asyncio.sleep(self.random.uniform(0, 0.3))  # the random point
            await self.gateway.kill()
            verdict.kills += 1
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)
            self._judge_what_is_left()
        await self._finish()
        return verdict

    async def _enough(self, accepted: int, before: list[Sent]) -> None:
        """Wait until so many are accepted, and most of what earlier kills left is answered."""
        await until(lambda: len(self._accepted()) >= accepted and sum(not one.replies for one in before) <= USERS)

    async def _kill_in_startup(self) -> None:
        await self.gateway.spawn()
        try:
            async with asyncio.timeout(self.random.uniform(0.3, 1.5)):
                await self.gateway.logged("ready")
        except TimeoutError:
            self.verdict.in_startup += 1
        await self.gateway.kill()

    async def _user(self, user: str) -> None:
        while True:
            burst = [Sent(user, f"{user} says {next(self._numbers)}", self._answered.get(user)) for _ in range(BURST)]
            self.sent += burst
            async with asyncio.TaskGroup() as together:
                for message in burst:
                    together.create_task(self._ask(message))
                    if self.random.random() < REPEATED:
                        together.create_task(self._ask(message))

    async def _ask(self, message: Sent) -> None:
        """Raises ClientError when the gateway is killed meanwhile."""
        path, body = ("/chat", "/chat-stream")[len(message.text) % 2], {"message": message.text, "user": message.user}
        async with self.http.post(
            self.gateway.url + path, json=body, headers={"Idempotency-Key": message.key}
        ) as response:
            text = await response.text()
        if response.status != 200:
            self.unexpected.append(text)
            return
        *_, last = [json.loads(line)["response"] for line in text.splitlines() if "[DONE]" not in line]
        if path == "/chat" or text.endswith('"[DONE]"}\n'):  # else the stream was cut
            message.replies.append(last)
            self._answered[message.user] = message.text

    def _outstanding(self) -> list[Sent]:
        return [message for message in self.sent if not message.replies]

    def _accepted(self) -> set[str]:
        lines, self._read = self.gateway.lines[self._read :], len(self.gateway.lines)
        for line in lines:
            if '"event": "accepted"' in line:
                self._said.add(json.loads(line)["text"])
        return self._said

    def _judge_what_is_left(self) -> None:
        store = Store(self.gateway.database, self.copies / f"after-{self.verdict.kills}.db")
        self.verdict.hits += store.unfinished > 0
        # once answered is accepted, too
        known = self._accepted() | {message.text for message in self.sent if message.replies}
        self.verdict.lost += len(known - store.accepted.keys() - self._lost)
        self._lost |= known - store.accepted.keys()

    async def _finish(self) -> None:
        await self.gateway.start()
        await asyncio.gather(*(self._ask(message) for message in self._outstanding()))
        assert await self.gateway.stop() == 0
        store, verdict = Store(self.gateway.database, self.copies / "end.db"), self.verdict
        known = self._accepted()
        verdict.accepted = len(known)
        verdict.lost += len(known - store.accepted.keys() - self._lost)
        asked = Counter(question for _, question in store.exchanges)
        verdict.unanswered = sum(not asked[text] for text in known)
        verdict.doubled = sum(count > 1 for count in store.rows.values()) + sum(
            len(set(message.replies)) > 1 or asked[message.text] > 1 for message in self.sent
        )
        verdict.misordered = self._misordered(store)

    def _misordered(self, store: Store) -> int:
        """Answers that came before the answer to an earlier message of the same conversation."""
        by_conversation: dict[int, list[int]] = defaultdict(list)
        for conversation, question in store.exchanges:
            by_conversation[conversation].append(store.accepted[question][0])
        wrong = sum(later < earlier for ids in by_conversation.values() for earlier, later in itertools.pairwise(ids))
        place: dict[str | None, int] = {question: number for number, (_, question) in enumerate(store.exchanges)}
        for message in self.sent:
            if message.after in place and message.text in place:
                wrong += place[message.after] > place[message.text]
        return wrong


def numbered(model: OpenAIServer) -> None:
    """Let the model give another answer each time: who is answered twice sees it."""
    number = itertools.count()
    model.reply = lambda body: f"answer {next(number)} to what {body['messages'][-1]['content']}"
    model.configure(first_token_delay=0.01, token_delay=0.01)


async def judge(
    make_gateway: MakeGateway,
    http: aiohttp.ClientSession,
    model: OpenAIServer,
    tmp_path: Path,
    kills: int,
    **options: Any,
) -> tuple[Verdict, GatewayProcess]:
    """Kill a gateway so many times."""
    numbered(model)
    gateway = await make_gateway(config={"log": {"level": "debug"}, "limits": {"queued": 1000}}, **options)
    (copies := tmp_path / "copies").mkdir()
    harness = Harness(gateway, http, copies, seed=kills)
    verdict = await harness.run(kills)
    assert harness.unexpected == []
    return verdict, gateway


async def test_nothing_is_lost_doubled_or_misordered(
    make_gateway: MakeGateway,
    http: aiohttp.ClientSession,
    model: OpenAIServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    verdict, gateway = await judge(make_gateway, http, model, tmp_path, KILLS, command=COMMAND)

    with capsys.disabled():
        print(f"\n{verdict}")
    assert verdict.kills == KILLS
    assert verdict.hits >= KILLS * 0.6
    assert verdict.accepted >= KILLS * ACCEPTED_A_KILL
    assert (verdict.lost, verdict.doubled, verdict.misordered, verdict.unanswered) == (0, 0, 0, 0)
    assert_discreet(gateway)


@pytest.mark.parametrize(("fault", "seen"), [("early", "lost"), ("forgetful", "doubled"), ("disordered", "misordered")])
async def test_the_harness_sees_a_broken_rule(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer, tmp_path: Path, fault: str, seen: str
) -> None:
    verdict, _ = await judge(make_gateway, http, model, tmp_path, kills=3, **broken("broken_gateway", fault))

    assert getattr(verdict, seen) > 0
