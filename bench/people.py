"""The people of one road, in the process of their simulated platform: `python -m bench.people ROAD`.

Commands and answers are JSON objects, one a line. They write, wait for what the bot shows them, and compare it in the end
with what they should have been shown: the model repeats each question.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.roads import ROADS, Road
from bench.views import VIEWS, place_of
from tests.simulators.slack import SimulatedSlack

TIMEOUT = 120.0
"""Seconds after which an answer is lost."""
LOOK = 0.5
"""Seconds between two looks at everything."""
_MARK = re.compile(r"\bq\d+x\b")


@dataclass(slots=True)
class Person:
    """Who writes, and where."""

    name: str
    account: str
    room: str
    asked: list[str] = field(default_factory=list)
    """The questions of this run, in order."""
    seen_before: int = 0
    """Messages of the bot that are older than this run."""


@dataclass(slots=True)
class Waiting:
    """A question without its whole answer."""

    mark: str
    asked: float
    seen_before: int
    whole: asyncio.Future[float]
    first: float | None = None


class People:
    """All of them."""

    def __init__(self, road: Road) -> None:
        self.road = road
        self.view = VIEWS[road.platform](self.seen, **road.simulator)
        self.platform = self.view.platform
        self._numbers = iter(range(10**9))
        self._turns: Counter[tuple[str, int]] = Counter()
        """Questions so far, of the people of each account that begin at each number."""
        self.waiting: dict[str, Waiting] = {}

    def seen(self, room: str) -> None:
        """Something new can be seen there."""
        waiting = self.waiting.get(room)
        if waiting is None:
            return
        now = time.monotonic()
        if waiting.first is None and self.view.shown(room) > waiting.seen_before:
            waiting.first = now
        if any(waiting.mark in text for text in self.view.newest(room)) and not waiting.whole.done():
            waiting.whole.set_result(now)

    # Commands

    async def do(self, command: dict[str, Any]) -> Any:
        """One command, by name."""
        return await getattr(self, command.pop("do"))(**command)

    async def account(self, name: str) -> dict[str, Any]:
        """The block of config.yaml."""
        return {"platform": self.road.platform, **self.platform.account(name)}

    async def listens(self, url: str, bare: Mapping[str, str] | None = None) -> None:
        """Where webhooks go: the gateway's, and the bare scripts' by their accounts."""
        self.platform.gateway_listens(url)
        for account, where in (bare or {}).items():
            assert isinstance(self.platform, SimulatedSlack)
            self.platform.state.app(account).url = f"{where}/slack/events"

    async def listening(self, names: Sequence[str]) -> None:
        """Wait until these would receive what is written now."""
        await asyncio.gather(*(self.platform.listening(name) for name in names))

    async def ask(
        self, *, users: int, requests: int, people: int, offset: int = 0, words: int = 1, bare: str = ""
    ) -> dict[str, Any]:
        """`requests` questions of so many words: `users` wait at any time, of `people` who take turns, from one call to the
        next: a platform may let a bot answer once a second in one place. `bare`: the account of a bare script, which is
        asked instead."""
        done = self._turns[bare, offset]
        self._turns[bare, offset] += requests
        group = [self._person(offset + (done + number) % people, bare=bare) for number in range(people)]
        turns = deque(group)
        began = time.monotonic()
        left = iter(range(requests))
        results: list[tuple[str, float, float | None, float | None]] = []

        async def user(number: int) -> None:
            if words > 1:  # those of a crowd do not begin in the same moment
                await asyncio.sleep(number / users)
            for _ in left:
                person = turns.popleft()
                results.append(await self._ask(person, words))
                turns.append(person)

        await asyncio.gather(*(user(number) for number in range(users)))
        return {"seconds": time.monotonic() - began, "answers": results, **self._compared(group)}

    async def ask_at_once(self, *, people: int, each: int, offset: int = 0, words: int = 1) -> dict[str, Any]:
        """Everybody writes several questions without waiting; the answers have to come one by one, in that order."""
        group = [self._person(offset + number) for number in range(people)]
        random.shuffle(group)
        for _ in range(each):
            for person in group:
                await self._write(person, self._question(words))
        until = time.monotonic() + TIMEOUT
        while (found := self._compared(group))["lost"] and time.monotonic() < until:
            await asyncio.sleep(LOOK)
        return found

    async def complaints(self) -> list[str]:
        """What the platform found wrong, each kind once."""
        return [f"{count} × {text}" for text, count in Counter(self.platform.complaints()).most_common(5)]

    # Within

    def _person(self, number: int, *, bare: str = "") -> Person:
        bots = [bare] if bare else self.road.bots
        name, account = f"person{number}", bots[number % len(bots)]
        room = self.view.room(name, account, direct=self.road.direct)
        return Person(name, account, room, seen_before=self.view.shown(room))

    def _question(self, words: int) -> str:
        return " ".join([*(f"word{number}" for number in range(words - 1)), f"q{next(self._numbers)}x"])

    async def _write(self, person: Person, question: str) -> None:
        person.asked.append(question)
        await self.platform.person_writes(
            question,
            user=person.name,
            channel=place_of(person.name),
            direct=self.road.direct,
            account=person.account,
        )

    async def _ask(self, person: Person, words: int) -> tuple[str, float, float | None, float | None]:
        """The question's mark, and when it was asked, first and wholly answered."""
        question = self._question(words)
        mark = question.rpartition(" ")[2]
        whole: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        waiting = Waiting(mark, time.monotonic(), self.view.shown(person.room), whole)
        self.waiting[person.room] = waiting
        await self._write(person, question)
        at: float | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT):
                at = await whole
        del self.waiting[person.room]
        return mark, waiting.asked, waiting.first, at

    def _compared(self, group: Sequence[Person]) -> dict[str, int]:
        """What was shown beside what should have been, in words."""
        lost = doubled = misordered = damaged = 0
        for person in group:
            if not person.asked:
                continue
            shown = "\n".join(each.text for each in self.platform.visible(person.room)[person.seen_before :])
            asked = [question.rpartition(" ")[2] for question in person.asked]
            marks = _MARK.findall(shown)
            counts = Counter(marks)
            lost += sum(mark not in counts for mark in asked)
            doubled += sum(count - 1 for count in counts.values())
            misordered += sum(one != other for one, other in zip(marks, asked, strict=False)) if counts else 0
            wanted = " ".join(f"answer to {question}" for question in person.asked).split()
            damaged += re.findall(r"\w+", shown) != wanted
        return {"lost": lost, "doubled": doubled, "misordered": misordered, "damaged": damaged}


async def main(road: str) -> None:
    """Answer commands until the input ends."""
    people = People(ROADS[road])
    async with people.platform:
        print("{}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await people.do(json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
