"""Dies at any place where a process can: before and after each transaction of the journal and each call to the platform.

A script is what people do. It is run once to learn which places it passes; then again for each of them, with a death there,
a new process, what the platform delivers again, and a look at what everybody has been told.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from core.adapter import CanEdit, CanStream, Kept, Receipt
from core.budgets import Allowance
from core.chat import ChatMessage
from core.journal import Recovery
from core.limits import LimitSettings
from core.messages import InboundMessage, Person
from core.storage.sqlite import SqliteStore
from tests.clock import HeldClock
from tests.core.gateway import Gateway, Journal
from tests.core.scripted_chat import ScriptedChat, Step
from tests.simulators.pager import Call, Pager, PagerReply, Shown

T = TypeVar("T")

_READS = frozenset(
    {
        "available",
        "history",
        "last_turn",
        "link_offers",
        "links",
        "memory",
        "pairings",
        "people",
        "reached",
        "state",
        "unsent",
        "used",
    }
)
"""What changes nothing: dying there is dying after what came before."""

STILL = 25
"""Steps of the event loop without anybody's progress after which all of them wait for something."""

MARK = "(may be repeated)"


class Point(NamedTuple):
    """A place where a process can die."""

    what: str
    """A method of the journal, or a call to the platform."""
    when: Literal["before", "after"]
    """Before it took effect, or after that."""
    nth: int
    """Which time in the life of the process."""

    def __str__(self) -> str:
        return f"{self.when} {self.what} {self.nth}"


def different(points: Sequence[Point]) -> list[Point]:
    """Those of them at which something else is stored or shown than at the one before: between the end of one call and the
    beginning of the next nothing is."""
    return [
        point
        for earlier, point in zip((None, *points), points, strict=False)
        if point.when == "after" or earlier is None or earlier.when == "before"
    ]


class Life:
    """One process: the places that it has passed, and where it dies. A dead one does nothing any more."""

    def __init__(self, dies_at: Point | None = None) -> None:
        self.dies_at = dies_at
        self.passed: list[Point] = []
        self.dead = asyncio.Event()
        self.steps = 0
        """Grows whenever something happens."""
        self.under_way = 0
        """Calls to the journal and to the platform."""
        self._counts: Counter[tuple[str, str]] = Counter()

    def come_to(self, what: str, when: Literal["before", "after"]) -> None:
        """Pass this place, or die there: whoever acts then ends as if it had never come back."""
        if self.dead.is_set():
            raise asyncio.CancelledError
        self._counts[what, when] += 1
        point = Point(what, when, self._counts[what, when])
        self.passed.append(point)
        if point == self.dies_at:
            self.dead.set()
            raise asyncio.CancelledError

    async def do(self, what: str, work: Callable[[], Awaitable[T]], *, changes: bool = True) -> T:
        """Do something that can be died at."""
        self.steps += 1
        self.under_way += 1
        try:
            if changes:
                self.come_to(what, "before")
            result = await work()
            if changes:
                self.come_to(what, "after")
            return result
        finally:
            self.under_way -= 1
            self.steps += 1

    async def rest(self, still: int = 2 * STILL) -> None:
        """Until nobody does anything but wait."""
        quiet = 0
        while quiet < still and not self.dead.is_set():
            before = self.steps
            await asyncio.sleep(0.0005 if self.under_way else 0)
            quiet = quiet + 1 if not self.under_way and self.steps == before else 0


class Watched(Journal):
    """The store, in which one can die."""

    def __init__(self, store: SqliteStore, life: Life, *, forgets: str = "") -> None:
        """`forgets`: a method that does nothing, by mistake."""
        super().__init__(store)
        self._life = life
        self._forgets = forgets

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            if name == self._forgets:
                return Recovery(conversations=(), commands=()) if name == "recover" else None
            return await self._life.do(name, lambda: method(*args, **kwargs), changes=name not in _READS)

        return call


class WatchedPager(Pager):
    """The platform, which outlives the processes; a dead one reaches it no more."""

    life: Life

    async def act(self, call: Call, effect: Callable[[], T]) -> T:
        act = super().act
        return await self.life.do(call, lambda: act(call, effect))


class _Breath(asyncio.Event):
    """The model goes on once all others wait: so it depends on nobody's speed what is shown meanwhile."""

    def __init__(self, life: Life) -> None:
        super().__init__()
        self._life = life

    async def wait(self) -> Literal[True]:
        await self._life.rest(STILL)
        self._life.steps += 1
        return True


class KeptReply(PagerReply, Kept):
    """What is stored is delivered."""


@dataclass(slots=True)
class Said:
    """A message of a person, and whether the platform was told that it arrived."""

    message: InboundMessage
    place: str
    receipt: Receipt | None = None

    @property
    def acknowledged(self) -> bool:
        return self.receipt not in (None, Receipt.OVERLOADED, Receipt.CLOSED)

    @property
    def accepted(self) -> bool:
        return self.receipt in (Receipt.ACCEPTED, Receipt.DUPLICATE)

    @property
    def question(self) -> str | None:
        """The word that its answer repeats; None: a command."""
        found = re.search(r"\bq\d+\b", self.message.text)
        return None if found is None else found[0]


Allowed = Literal["once", "mark", "resend", "drop", "kept"]
"""How often a reply may be seen: exactly once; again with the mark; again; once or, listed, not at all; in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What people do, and what they may see of it afterwards, wherever the process died."""

    name: str
    steps: Callable[[Run], Awaitable[None]]
    kind: type[PagerReply] = PagerReply
    allowed: Allowed = "once"
    remains: int | None = 0
    """Pieces of an answer that may stay beside it for each death: put up, and their ids lost with the process. None: an
    answer is made of pieces there."""
    counts: bool = True
    """Whether the messages that were accepted are those that the budgets have counted for their senders today."""
    unanswered: frozenset[str] = frozenset()
    """Questions that need no answer of the model: dead, refused or superseded, as the script wants it."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of the gateway."""
    deaths: tuple[Point, ...] = ()
    """Of earlier processes; the places are those of the process after them."""
    away: float = 0.0
    """Seconds until the next process starts."""
    next_day: bool = False
    """Everybody's last message comes a day later: budgets have started afresh."""
    check: Callable[[Run], Awaitable[Sequence[str]]] | None = None
    """What more is to be true at the end; says what is not."""


class Run:
    """A script in its processes."""

    def __init__(self, script: Script, path: Path, *, forgets: str = "") -> None:
        self.script = script
        self.clock = HeldClock()
        self.pager = WatchedPager(script.kind)
        self.path = path
        self.said: list[Said] = []
        self.trace: list[Point] = []
        """What the last process passed until all had ended."""
        self.hit = True
        """Whether each death was died."""
        self.faults: list[str] = []
        self.life: Life
        self.gateway: Gateway
        self.model: ScriptedChat
        self._forgets = forgets
        self._ids = itertools.count(1)

    def breath(self) -> asyncio.Event:
        """A step of the model: all others have done what they could."""
        return _Breath(self.life)

    async def say(self, text: str, *, user: str = "ann", place: str = "home", account: str = "work") -> None:
        """Somebody writes."""
        number = next(self._ids)
        fields: dict[str, Any] = {"id": f"in{number}", "event": f"e{number}"}
        message = self.gateway.message(text, user=user, place=place, account=account, **fields)
        said = Said(message, place)
        self.said.append(said)
        await self._deliver(said)

    async def ask(self, text: str, **who: str) -> None:
        """Somebody writes, and everything that follows has happened."""
        await self.say(text, **who)
        await self.settle()

    async def _deliver(self, said: Said) -> None:
        said.receipt = await self.gateway.inbox.receive(said.message)

    async def rest(self) -> None:
        """Until all wait, for time to pass or for the model."""
        await self.life.rest()
        if self.life.dead.is_set():
            await asyncio.Event().wait()  # nobody does anything more in this process

    async def settle(self) -> None:
        """Until everything that follows has happened; time passes where it is waited for."""
        stuck = 0
        for _ in range(1000):
            await self.rest()
            if self._idle():
                return
            if (step := self.clock.next_in) is not None:
                await self.clock.advance(step)
                continue
            stuck += 1
            if stuck > 20:
                self.faults.append("somebody waits for ever")
                return
        self.faults.append("it never ends")

    def _idle(self) -> bool:
        dispatcher, gateway = self.gateway.dispatcher, self.gateway
        work = dispatcher.workers or dispatcher._errands or gateway.compactor.running or gateway.inbox._notices
        return not work

    async def through(self, *deaths: Point) -> None:
        """Live, die at each of `deaths`, and come to an end in the process after the last one."""
        planned: list[Point | None] = [*deaths, None]
        for number, dies_at in enumerate(planned):
            if number:
                await self.clock.advance(self.script.away)
            last = number == len(planned) - 1
            died = await self._process(dies_at, self._first if number == 0 else self._later, last=last)
            if dies_at is not None and not died:
                self.hit = False
                return

    async def _process(self, dies_at: Point | None, work: Callable[[], Awaitable[None]], *, last: bool) -> bool:
        self.life = self.pager.life = Life(dies_at)
        self.model = ScriptedChat()
        self.model.default = self._answer
        self.gateway = self._gateway(self.life)
        if dies_at is None:
            async with self.gateway:
                await work()
                self.trace = self.life.passed[:]
                if last:
                    await self._look()
            await asyncio.to_thread(self._look_into_the_file)
            return False
        living = asyncio.create_task(self._live(work))
        dying = asyncio.create_task(self.life.dead.wait())
        await asyncio.wait((living, dying), return_when=asyncio.FIRST_COMPLETED)
        died = self.life.dead.is_set()
        self.life.dead.set()
        for task in (living, dying):
            task.cancel()
        await asyncio.gather(living, dying, return_exceptions=True)
        with suppress(asyncio.CancelledError):
            await self.gateway.crash()
        return died

    async def _live(self, work: Callable[[], Awaitable[None]]) -> None:
        await self.gateway.__aenter__()
        await work()

    def _gateway(self, life: Life) -> Gateway:
        options = {
            "limits": LimitSettings(person=Allowance(tokens_per_day=1_000_000)),
            **self.script.options,
        }
        forgets = self._forgets
        return Gateway(
            self.path,
            self.clock,
            self.pager,
            self.model,
            journal_of=lambda store: Watched(store, life, forgets=forgets),
            **options,
        )

    def _answer(self, prompt: Sequence[ChatMessage]) -> Sequence[Step]:
        question = prompt[-1].content
        if "long" in question:
            return [" ".join(f"word{number}" for number in range(120)), f" end of {question}"]
        return ["answer ", self.breath(), f"to {question}"]

    async def _first(self) -> None:
        await self.script.steps(self)
        await self.settle()

    async def _later(self) -> None:
        """The platform delivers again what was not acknowledged; nobody writes."""
        for said in self.said:
            if not said.acknowledged:
                await self._deliver(said)
        await self.settle()

    async def _look(self) -> None:
        """Everybody writes once more, and sees that the conversation lives; then what was promised is looked at."""
        if self.script.next_day:
            await self.clock.advance(86_400)
        for number, (user, place, account) in enumerate(
            dict.fromkeys((said.message.sender.id, said.place, said.message.account) for said in self.said)
        ):
            await self.ask(f"q{90 + number}", user=user, place=place, account=account)
        for said in self.said:
            self.faults += [] if said.acknowledged else [f"{said.message.text!r} was not acknowledged: {said.receipt}"]
            await self._look_at(said)
        self._look_at_the_order()
        await self._look_at_the_budgets()
        if self.script.check is not None:
            self.faults += await self.script.check(self)

    async def _look_at(self, said: Said) -> None:
        question = said.question
        if question is None or not said.accepted or question in self.script.unanswered:
            return
        if self.script.allowed == "kept":
            reached = await self.gateway.store.reached(said.message.account, said.message.event)
            if reached is None or not re.search(rf"\b{question}\b", reached.text):
                self.faults.append(f"{question} is not answered in the store: {reached}")
            return
        replies = self.replies(question, said.place)
        marked = [shown for shown in replies if MARK in shown.text]
        plain = len(replies) - len(marked)
        dead = len(await self.gateway.store.dead_letters())
        deaths = len(self.script.deaths) + 1
        fits = {
            "once": len(replies) == 1 and not marked,
            "mark": plain <= 1 and len(marked) <= deaths and bool(replies),
            "resend": 1 <= plain <= deaths + 1 and not marked,
            "drop": plain + min(dead, 1) >= 1 and plain <= 1 and not marked,
        }
        if not fits[self.script.allowed]:
            self.faults.append(f"{question} is answered {plain} times, and {len(marked)} times with the mark")

    def replies(self, question: str, place: str) -> list[Shown]:
        """The whole answers to a question. A message that grew until the process died, and shows that, is none."""
        kind = self.script.kind
        grows = issubclass(kind, CanStream) and not issubclass(kind, CanEdit)
        whole = [shown for shown in self.shown(place) if not (grows and shown.broken)]
        return [shown for shown in whole if re.search(rf"\b{question}\b", shown.text)]

    def shown(self, place: str = "home") -> list[Shown]:
        """What is to be read in a place."""
        return [shown for shown in self.pager.messages.values() if shown.place == place]

    def _look_at_the_order(self) -> None:
        for place in {said.place for said in self.said}:
            texts = [shown.text for shown in self.shown(place)]
            asked = [said.question for said in self.said if said.place == place and said.accepted and said.question]
            first = {
                question: min((at for at, text in enumerate(texts) if re.search(rf"\b{question}\b", text)), default=-1)
                for question in asked
            }
            seen = [at for at in first.values() if at >= 0]
            if seen != sorted(seen):
                self.faults.append(f"the order is lost: {first}")
            pieces = [text for text in texts if text.strip() in ("", "answer")]
            if self.script.remains is not None and len(pieces) > self.script.remains * (len(self.script.deaths) + 1):
                self.faults.append(f"pieces of answers are left: {pieces}")

    async def _look_at_the_budgets(self) -> None:
        def look(db: sqlite3.Connection) -> list[Any]:
            tables = ("SELECT * FROM reserved", "SELECT * FROM in_flight WHERE calls <> 0 OR tokens <> 0")
            return [db.execute(table).fetchall() for table in tables]

        for rows in await self.gateway.store._writer.run(look):
            if rows:
                self.faults.append(f"something stays set aside: {rows}")
        counted: Counter[Person] = Counter()
        for said in self.said:
            if said.accepted and (not said.message.text.startswith("/") or said.message.text == "/retry"):
                counted[self.gateway.links.person(said.message.account, said.message.sender.id)] += 1
        for person, messages in counted.items():
            today = (await self.gateway.store.used(person))[0][0]
            if self.script.counts and not self.script.next_day and today.messages != messages:
                self.faults.append(f"{messages} messages of {person} are counted as {today.messages}")

    def _look_into_the_file(self) -> None:
        """After the end: nothing is under way."""
        db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            for table, ends in (
                ("inbox", ("done", "dead", "expired")),
                ("outbox", ("sent", "dead")),
                ("turn", ("complete", "stopped", "failed", "command", "expired")),
            ):
                marks = ", ".join("?" * len(ends))
                rows = db.execute(f"SELECT id, state FROM {table} WHERE state NOT IN ({marks})", ends).fetchall()
                if rows:
                    self.faults.append(f"{table} has rows without an end: {rows}")
        finally:
            db.close()


class Laboratory:
    """Runs scripts, each in a fresh copy of an empty database: making one anew costs most of a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._empty = folder / "empty" / "test.db"
        self._count = itertools.count(1)

    async def prepare(self) -> None:
        """Make the empty database."""
        async with SqliteStore(self._empty, clock=HeldClock()):
            pass

    def run(self, script: Script, *, forgets: str = "") -> Run:
        """A run that has not begun."""
        folder = self._folder / str(next(self._count))
        folder.mkdir(mode=0o700)
        shutil.copy(self._empty, folder / "test.db")
        return Run(script, folder / "test.db", forgets=forgets)

    async def points(self, script: Script) -> list[Point]:
        """The places that the script passes, in order. Raises AssertionError where it fails without a death."""
        run = self.run(script)
        await run.through(*script.deaths)
        assert run.hit, f"{script.name}: not died at {script.deaths}"
        assert not run.faults, f"{script.name}: {run.faults}"
        return run.trace

    async def faults(self, script: Script, *, forgets: str = "") -> tuple[int, list[str]]:
        """Die at each place of the script that differs, in turn: at how many, and what was wrong after which."""
        points = different(await self.points(script))
        faults: list[str] = []
        died = 0
        for point in points:
            run = self.run(script, forgets=forgets)
            await run.through(*script.deaths, point)
            died += run.hit
            faults += [f"{script.name}, died {point}: {fault}" for fault in run.faults]
            faults += [] if run.hit else [f"{script.name}: nobody died {point}"]
            shutil.rmtree(run.path.parent)
        return died, faults
