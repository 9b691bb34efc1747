"""Who works on what: one worker per busy conversation, gone when nothing waits.

The journal is the queue; this holds only who is busy. So a conversation's order is the order of acceptance, two
conversations never wait for each other, and a restart finds everything again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

import structlog

from core.adapter import CanFail, Failure, FailureCode, IdempotencyKey, Kept, ReplyChannel
from core.budgets import UNBOUNDED, BudgetInUse, Budgets
from core.clock import Clock
from core.commands import Commands, without_code
from core.delivery import Delivery, failure_json, mistake, parted, parts_of, tell, until_stored
from core.errors import DeliveryError
from core.headroom import Headroom
from core.journal import InboxId, InboxRow, Journal, OutboxPart, Outcome, Recovery, Turn, TurnState
from core.messages import AccountId, ConversationKey, ReplyAddress
from core.responder import Responder
from core.stopper import Stop, Stopped, Stopper
from core.texts import language_of, say
from core.worker import Claim, Worker

log = structlog.get_logger(__name__)

Busy = Literal["queue", "merge", "interrupt"]
"""What happens to messages that arrive during a turn: one reply each, one reply together, or the turn makes way."""

_MERGED = 20
"""Messages that are answered together at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchSettings:
    """How conversations are worked on."""

    busy: Busy = "queue"
    idle_after: timedelta | None = timedelta(hours=24)


class Dispatcher:
    """Owns the workers. Enter it before anything is accepted; leaving cancels what `drain` did not finish."""

    def __init__(
        self,
        journal: Journal,
        responder: Responder,
        commands: Commands,
        delivery: Delivery,
        clock: Clock,
        settings: DispatchSettings,
        *,
        budgets: Budgets,
        headroom: Headroom,
        reply: Callable[[AccountId, ReplyAddress], ReplyChannel],
    ) -> None:
        self.settings = settings
        """May be replaced while running."""
        self._journal = journal
        self._responder = responder
        self._commands = commands
        self._delivery = delivery
        delivery.come_back = self._come_back
        self._clock = clock
        self._budgets = budgets
        self._headroom = headroom
        self._reply = reply
        self._workers: dict[ConversationKey, Worker] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self._aside: set[tuple[ConversationKey, AccountId]] = set()
        self._commanded: dict[ConversationKey, set[asyncio.Event]] = {}
        # commands that are not carried out yet: no turn begins before them, or /new would end what was asked after it
        self._draining = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draining = True
        tasks = [worker.task for worker in self._workers.values() if worker.task] + list(self._errands)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def resume(self, recovery: Recovery) -> None:
        """Take up what an earlier process left."""
        for inbox, conversation in recovery.commands:
            self.wake_command(inbox, conversation)
        for conversation in recovery.conversations:
            self.take_up(conversation)

    def wake(self, conversation: ConversationKey) -> None:
        """A message of this conversation was accepted."""
        if self._draining:
            return
        worker = self._workers.get(conversation)
        if worker is None:
            worker = self._workers[conversation] = Worker(waiting=1)
            worker.task = asyncio.create_task(self._work(conversation, worker))
            return
        worker.waiting += 1
        if self.settings.busy == "interrupt":
            worker.stopper.stop(Stop.INTERRUPT)

    def claim(self, conversation: ConversationKey) -> Claim | None:
        """Nothing of this conversation is worked on: a message of it that is about to be accepted may be begun in the
        same step. None: it has to wait for its turn. Settle the claim whatever becomes of the message."""
        if self._draining or conversation in self._workers or conversation in self._commanded:
            return None
        if self._delivery.holds(conversation):
            return None  # what is held back goes first
        worker = self._workers[conversation] = Worker()
        settle = partial(self._settle, conversation, worker)
        return Claim(settle, ahead=self._headroom.ticket().ahead, idle_after=self.settings.idle_after)

    def _settle(self, conversation: ConversationKey, worker: Worker, turn: Turn | None, waits: bool) -> None:
        worker.waiting += waits
        if turn is None and not worker.waiting:
            del self._workers[conversation]
        elif self._draining:
            del self._workers[conversation]
            if turn is not None:
                self._errand(until_stored(partial(self._journal.release, turn), self._clock))
        else:
            worker.task = asyncio.create_task(self._work(conversation, worker, turn))

    def take_up(self, conversation: ConversationKey) -> None:
        """There is work in the journal that was left or reopened: messages to answer, parts of replies to send."""
        self.wake(conversation)
        if conversation in self._workers:
            self._workers[conversation].left = True

    def wake_command(self, inbox: InboxId, conversation: ConversationKey) -> None:
        """A chat command was accepted: it is carried out now, beside whatever runs."""
        if not self._draining:
            done = asyncio.Event()
            self._commanded.setdefault(conversation, set()).add(done)
            self._errand(self._carry_out(inbox, conversation, done))

    def stop(self, conversation: ConversationKey) -> bool:
        """End the running turn with what it has shown, or the one that waits for a budget; False if there is none."""
        worker = self._workers.get(conversation)
        return worker is not None and (worker.answering or worker.held_up) and worker.stopper.stop(Stop.PERSON)

    def supersede(self, conversation: ConversationKey, waiting: Sequence[InboxRow]) -> None:
        """End the running turn without history; tell those who wait for an answer to `waiting` that none will come."""
        worker = self._workers.get(conversation)
        if worker is not None:
            worker.stopper.stop(Stop.SUPERSEDED)
        for row in waiting:
            self._errand(self._dismiss(row))

    async def _dismiss(self, row: InboxRow) -> None:
        """Only channels where somebody waits for this very answer are told; in a chat the command's reply tells."""
        message = row.message
        try:
            reply = self._reply(message.account, message.reply_to)
        except DeliveryError as error:
            log.info("nobody could be told of a dropped message", error=str(error))
            return
        if isinstance(reply, CanFail):
            id = secrets.token_hex(4)
            failure = Failure(code=FailureCode.SUPERSEDED, text=say("superseded", language_of(message)), id=id)
            await tell(reply, failure, key=IdempotencyKey(f"dismissed-{id}"))

    def busy(self, conversation: ConversationKey) -> bool:
        """Whether a turn of this conversation runs."""
        worker = self._workers.get(conversation)
        return worker is not None and worker.answering

    def held_up(self, conversation: ConversationKey) -> bool:
        """Whether its next question waits for a budget."""
        worker = self._workers.get(conversation)
        return worker is not None and worker.held_up

    @property
    def workers(self) -> int:
        """Busy conversations."""
        return len(self._workers)

    async def drain(self, *, turns: float, outbox: float) -> bool:
        """Begin nothing new; give running turns and then all delivery so many seconds. True when all ended well."""
        self._draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(turns):
                answering = [worker for worker in self._workers.values() if worker.answering]
                await asyncio.gather(*(worker.stopper.over.wait() for worker in answering))
        for worker in self._workers.values():
            worker.stopper.stop(Stop.SHUTDOWN)
        return await self._all_gone(outbox)

    async def _all_gone(self, seconds: float) -> bool:
        tasks = [worker.task for worker in self._workers.values() if worker.task] + list(self._errands)
        if not tasks:
            return True
        _, pending = await asyncio.wait(tasks, timeout=seconds)
        return not pending

    async def _work(self, conversation: ConversationKey, worker: Worker, begun: Turn | None = None) -> None:
        """The life of a worker: what an earlier process left unsent, then turn after turn; `begun` comes first."""
        structlog.contextvars.bind_contextvars(conversation=str(conversation))
        try:
            if begun is not None:
                await self._run(begun, worker)
            while True:
                await self._commands_done(conversation)
                left, worker.left = worker.left, False
                if left or (worker.waiting and self._delivery.holds(conversation)):
                    await self._send_unsent(conversation)
                if self._draining or not (worker.waiting or left):
                    return
                before, worker.stopper = worker.waiting, Stopper()
                try:
                    turn = await self._begin(conversation, worker)
                except Stopped:  # while it waited for a budget: what there is to begin may be another one now
                    worker.left = worker.left or left
                    continue
                if turn is None:
                    worker.waiting -= before  # those have expired; later ones may have come meanwhile
                    continue
                worker.waiting = max(0, worker.waiting - len(turn.rows))
                worker.left = worker.left or left  # until the journal says that nothing waits
                await self._run(turn, worker)
        except Exception:
            log.exception("a worker ended")
        finally:
            del self._workers[conversation]

    async def _send_unsent(self, conversation: ConversationKey) -> None:
        """What an earlier process left, or was held back until now. Later parts never overtake earlier ones; what one
        account still holds back does not hold up another's."""
        self._delivery.release(conversation)
        parts = await until_stored(partial(self._journal.unsent, conversation), self._clock)
        for turn in dict.fromkeys(part.turn for part in parts):
            reply_parts = [part for part in parts if part.turn == turn]
            try:
                reply = self._reply(reply_parts[0].account, reply_parts[0].reply_to)
            except Exception as error:
                log.error("a reply has no way back", turn=turn, exc_info=not isinstance(error, DeliveryError))
                await until_stored(partial(self._journal.bury, reply_parts[0], str(error)), self._clock)
            else:
                await self._delivery.deliver(reply, reply_parts)

    async def _begin(self, conversation: ConversationKey, worker: Worker) -> Turn | None:
        """The next turn, as soon as every budget has room for it. Raises Stopped while it waits for that. One that its
        person stops meanwhile is begun all the same: it asks nothing, and ends as every answer that was stopped."""
        ticket, budgets = self._headroom.ticket(), self._budgets
        try:
            while True:
                settings = self.settings
                begin = partial(
                    self._journal.begin,
                    conversation,
                    most=1 if settings.busy == "queue" else _MERGED,
                    idle_after=settings.idle_after,
                    budgets=budgets,
                    ahead=ticket.ahead,
                )
                ticket.attempt()
                try:
                    return await until_stored(begin, self._clock)
                except BudgetInUse as in_use:
                    log.debug("an answer waits for its budget", subject=in_use.subject)
                    worker.held_up = True
                    try:
                        await worker.stopper.before(partial(ticket.wait, in_use.subject))
                    except Stopped as stopped:
                        if stopped.why is not Stop.PERSON:
                            raise
                        budgets = UNBOUNDED
                if self._draining:
                    raise Stopped(Stop.SHUTDOWN)
        finally:
            worker.held_up = False
            ticket.close()

    async def _run(self, turn: Turn, worker: Worker) -> None:
        worker.answering = True
        reply: ReplyChannel | None = None
        try:
            reply = self._reply(turn.last.account, turn.last.reply_to)
            await self._responder.answer(turn, reply, worker.stopper)
        except Stopped as stopped:
            if stopped.why in (Stop.INTERRUPT, Stop.SHUTDOWN):
                worker.waiting += len(turn.rows)
        except Exception as error:
            log.error("a turn failed", turn=turn.id, exc_info=not isinstance(error, DeliveryError), error=repr(error))
            await self._fail(turn, reply, error)
            await self._send_unsent(turn.conversation)  # what was committed before the mistake, or the notice
        finally:
            worker.answering = False
            worker.stopper.over.set()
            self._headroom.ended(turn.payers.subjects)

    async def _fail(self, turn: Turn, reply: ReplyChannel | None, error: Exception) -> Sequence[OutboxPart]:
        """A mistake must not take the conversation along: the person is told, or, without a way back, it is listed."""
        id = secrets.token_hex(4)
        log.info("its person is told that something went wrong", turn=turn.id, id=id)
        failure = Failure(code=FailureCode.INTERNAL, text=say("internal", language_of(turn.last), id=id), id=id)
        outcome = Outcome(
            state=TurnState.FAILED,
            parts=() if reply is None else parts_of(reply, failure.text),
            spent=self._responder.unpaid.pop(turn.id, None),
            error=f"{id} {mistake(error)}",
            failure=failure_json(failure),
            kept=isinstance(reply, Kept),
            dead=reply is None,
            kept_text=without_code(turn.last.text),
        )
        return await until_stored(partial(self._journal.finish, turn, outcome), self._clock)

    async def _commands_done(self, conversation: ConversationKey) -> None:
        while commands := self._commanded.get(conversation):
            await next(iter(commands)).wait()

    async def _carry_out(self, inbox: InboxId, conversation: ConversationKey, done: asyncio.Event) -> None:
        structlog.contextvars.bind_contextvars(conversation=str(conversation))
        try:
            reply, parts = await self._commanded_reply(inbox)
        finally:
            done.set()
            self._commanded[conversation].discard(done)
            if not self._commanded[conversation]:
                del self._commanded[conversation]
        if reply is not None and not await self._delivery.deliver(reply, parts):
            # what was held back comes first, then this; or its account came back while this was written down as held
            self._send_held(conversation)

    def send_held(self, account: AccountId) -> None:
        """The account is connected again, perhaps after a scan: what was held back is tried."""
        for conversation in self._delivery.held(account):
            self._send_held(conversation)

    def _come_back(self, conversation: ConversationKey, account: AccountId, seconds: float) -> None:
        """Parts to one account were put aside for so long; what another account is told goes on meanwhile."""
        if (conversation, account) not in self._aside and not self._draining:
            self._aside.add((conversation, account))
            self._errand(self._take_up_after(conversation, account, seconds))

    async def _take_up_after(self, conversation: ConversationKey, account: AccountId, seconds: float) -> None:
        try:
            await self._clock.sleep(seconds)
        finally:
            self._aside.discard((conversation, account))
        self._send_held(conversation)

    def _send_held(self, conversation: ConversationKey) -> None:
        worker = self._workers.get(conversation)
        if worker is None:
            self.take_up(conversation)
        else:
            worker.left = True

    async def _commanded_reply(self, inbox: InboxId) -> tuple[ReplyChannel | None, Sequence[OutboxPart]]:
        """Carry a command out and commit that; what is to be shown of it, and where."""
        turn = await until_stored(partial(self._journal.begin_command, inbox), self._clock)
        if turn is None:
            return None, ()
        reply: ReplyChannel | None = None
        try:
            reply = self._reply(turn.last.account, turn.last.reply_to)
            outcome = await self._commands.run(turn, reply, self)
            parts = await parted(reply, "\n\n".join(outcome.parts))
        except Exception as error:
            log.error(
                "a command failed", turn=turn.id, exc_info=not isinstance(error, DeliveryError), error=repr(error)
            )
            return reply, await self._fail(turn, reply, error)
        kept_text = without_code(turn.last.text)
        done = Outcome(state=outcome.state, parts=parts, kept=isinstance(reply, Kept), kept_text=kept_text)
        finish = partial(self._journal.finish, turn, done)
        return reply, await until_stored(finish, self._clock)

    def _errand(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)
