"""Sums up what long conversations' prompts have no room for. Beside the answers: none of them ever waits for it."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from core.budgets import BudgetInUse, Payers, Subject
from core.chat import ChatClient, ChatStream, Usage
from core.clock import Clock
from core.errors import ChatError, ContextTooLong, StorageUnavailable
from core.journal import Exchange, Turn
from core.latest import Latest
from core.limits import Limits
from core.memory import Memories, Summary
from core.messages import ConversationKey, Person
from core.paid import NothingLeft, PaidCalls
from core.sessions import SessionManager, Window, weigh_exchange
from core.summaries import Task, cut, task
from core.tokens import weigh

log = structlog.get_logger(__name__)

AT_ONCE = 2
"""Conversations that are summed up at the same time; fewer where that would take more than half of the places at the
model, but always one."""

WAITING = 100
"""Conversations that wait at the most. Others are taken up after their next turn."""

SECONDS = 120.0
"""For one summary, the wait for a place at the model included."""

_REACH = 4
"""Windows of a conversation that are looked back on. What is older, where nothing was summed up for long, is left out."""

_MOST_CALLS = 8
"""Calls of the model for one conversation in a row; more than one only where much was left."""

_LEAST_PROMPT = 1024
"""Tokens that the prompt for a summary may have in any case."""

_FIRST_REST = 60.0
_LONGEST_REST = 3600.0
"""Seconds after failures in one conversation; the rest doubles from the first to the longest."""

_RESTS_REMEMBERED = 1_000


class _Failed(Exception):
    """No summary came of a call."""


class _GaveWay(Exception):
    """Somebody's answer needs what the call had set aside of a budget."""


@dataclass(frozen=True, slots=True)
class _Due:
    """A conversation whose prompts have become too long, as its last turn left it."""

    conversation: ConversationKey
    generation: int
    person: Person
    """Whoever asked last: it counts as theirs."""
    window: Window


class Compactor:
    """Owns the tasks that sum up. Enter it before turns run; what is under way when it is left is made again later."""

    def __init__(
        self,
        memories: Memories,
        sessions: SessionManager,
        chat: ChatClient,
        paid: PaidCalls,
        limits: Limits,
        clock: Clock,
        *,
        places: Callable[[], int],
    ) -> None:
        """`places`: calls that the model takes at the same time."""
        self._memories = memories
        self._sessions = sessions
        self._chat = chat
        self._paid = paid
        self._limits = limits
        self._clock = clock
        self._places = places
        self._waiting: OrderedDict[ConversationKey, _Due] = OrderedDict()
        self._busy: set[ConversationKey] = set()
        self._paying: dict[ConversationKey, tuple[Payers, asyncio.Timeout]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._workers = 0
        self._rests: Latest[ConversationKey, tuple[int, float]] = Latest(_RESTS_REMEMBERED)
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed = True
        self._waiting.clear()
        for running in self._tasks:
            running.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def running(self) -> int:
        """Tasks that sum up."""
        return self._workers

    def want(self, turn: Turn, window: Window) -> None:
        """The conversation has outgrown its window with this turn. Returns at once."""
        key = turn.conversation
        if self._closed or key in self._busy or self._clock.monotonic() < self._rests.get(key, (0, 0.0))[1]:
            return
        if key not in self._waiting and len(self._waiting) >= WAITING:
            return
        person = Person(turn.last.account, turn.last.sender.id)
        self._waiting[key] = _Due(key, turn.generation, person, window)
        if self._workers < max(1, min(AT_ONCE, self._places() // 2)):
            self._workers += 1
            running = asyncio.create_task(self._work())
            self._tasks.add(running)
            running.add_done_callback(self._tasks.discard)

    def give_way(self, subject: Subject) -> None:
        """An answer waits for a budget of which summaries may have set something aside: those are left for later."""
        for payers, limit in self._paying.values():
            if subject in payers.subjects and not limit.expired():
                limit.reschedule(0)

    async def _work(self) -> None:
        """One conversation after the other, until none waits."""
        try:
            while self._waiting:
                key, due = self._waiting.popitem(last=False)
                self._busy.add(key)
                try:
                    await self._shorten(due)
                except Exception:
                    log.exception("a conversation could not be summed up", conversation=str(key))
                    self._rest(key)
                finally:
                    self._busy.discard(key)
        finally:
            self._workers -= 1

    async def _shorten(self, due: _Due) -> None:
        """Sum up until about half a window is left as it was said."""
        try:
            for _ in range(_MOST_CALLS):
                if not await self._sum_up(due):
                    break
            self._rests.pop(due.conversation, None)
        except (NothingLeft, BudgetInUse):
            pass  # the oldest turns are left out meanwhile, which costs nothing
        except _GaveWay:
            log.info("a summary gave way to an answer that needs the budget", conversation=str(due.conversation))
            self._rest(due.conversation)
        except (_Failed, ChatError, StorageUnavailable) as error:
            detail = error.detail if isinstance(error, ChatError) else ""
            log.warning(
                "a conversation could not be summed up; its oldest turns are left out",
                conversation=str(due.conversation),
                error=str(error),
                detail=detail,
            )
            self._rest(due.conversation)

    def _rest(self, key: ConversationKey) -> None:
        failures = self._rests.pop(key, (0, 0.0))[0]
        seconds = min(_LONGEST_REST, _FIRST_REST * 2.0 ** min(failures, 30))
        self._rests[key] = (failures + 1, self._clock.monotonic() + seconds)

    async def _sum_up(self, due: _Due) -> bool:
        """One call of the model. False: there is nothing to sum up any more."""
        window = due.window
        memory = await self._memories.memory(due.conversation, due.generation, most=_REACH * window.turns)
        leaving = _leaving(memory.exchanges, window)
        if not leaving:
            return False
        text, of = await self._ask(due, memory.summary, leaving)
        turns = tuple(exchange.turn for exchange in of if exchange.turn is not None)
        earlier = memory.summary
        summary = Summary(
            text=text,
            first=turns[0] if earlier is None else earlier.first,
            upto=turns[-1],
            turns=len(turns) + (0 if earlier is None else earlier.turns),
        )
        kept = await self._memories.sum_up(due.conversation, due.generation, summary, instead_of=earlier, of=turns)
        self._sessions.drop(due.conversation)
        log.info("a conversation was summed up", conversation=str(due.conversation), turns=summary.turns, kept=kept)
        return kept

    async def _ask(
        self, due: _Due, summary: Summary | None, leaving: Sequence[Exchange]
    ) -> tuple[str, Sequence[Exchange]]:
        """A summary of the oldest of `leaving`, and of which. A model with less room than believed gets half of it."""
        window = due.window
        limit = max(_LEAST_PROMPT, window.prompt)
        asked = task(summary, leaving, tokens=window.summary, limit=limit)
        try:
            text = await self._answer(due, asked)
        except ContextTooLong:
            asked = task(summary, leaving, tokens=window.summary, limit=limit // 2)
            text = await self._answer(due, asked)
        text = cut(text, window.summary)
        if not text:
            raise _Failed("the model returned no text")
        return text, leaving[: asked.exchanges]

    async def _answer(self, due: _Due, asked: Task) -> str:
        model = self._sessions.settings.summary_model
        person = due.person
        async with self._paid.call(person, model=model, weight=0, message=False, patient=False) as bill:
            pieces: list[str] = []
            room = 16 * due.window.summary  # characters: in English four times what was asked for
            stream: ChatStream | None = None
            refused = False
            until = asyncio.get_running_loop().time() + SECONDS
            try:
                async with asyncio.timeout_at(until) as scope:
                    self._paying[due.conversation] = bill.payers, scope
                    async with self._chat.stream(
                        asked.prompt, end_user=f"{person.account}/{person.user}", model=model
                    ) as stream:
                        async for piece in stream:
                            pieces.append(piece)
                            room -= len(piece)
                            if room < 0:
                                break
            except TimeoutError:
                if scope.when() != until:
                    raise _GaveWay from None
                raise _Failed(f"it took more than {SECONDS:g} s") from None
            except ChatError:
                refused = stream is None
                raise
            finally:
                del self._paying[due.conversation]
                if not refused:
                    estimate = Usage(sum(weigh(message.content) for message in asked.prompt), weigh("".join(pieces)))
                    usage = (stream.usage if stream is not None else None) or estimate
                    bill.spent = self._limits.spent(usage, stream.model if stream is not None else model, model)
        return "".join(pieces)


def _leaving(exchanges: Sequence[Exchange], window: Window) -> Sequence[Exchange]:
    """The oldest exchanges: what is after them takes half a window. The newest one stays, for /retry may replace it."""
    kept = weight = 0
    for exchange in reversed(exchanges):
        weight += weigh_exchange(exchange)
        if kept and (kept >= window.turns // 2 or weight > window.tokens // 2):
            break
        kept += 1
    first = end = len(exchanges) - kept
    reach = _REACH * window.tokens
    while first and reach > 0:
        first -= 1
        reach -= min(window.tokens, weigh_exchange(exchanges[first]))
    return exchanges[first:end]
