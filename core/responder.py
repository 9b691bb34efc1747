"""What happens to one turn, top to bottom: prompt, answer, commit, delivery."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial

import structlog

from core.account import AccountConfig
from core.adapter import CanFail, Failure, FailureCode, IdempotencyKey, Kept, ReplyChannel
from core.budgets import Exhausted, Spent
from core.chat import ChatClient, ChatStream
from core.clock import Clock
from core.commands import parse_command
from core.delivery import Delivery, failure_json, parted, tell, until_stored
from core.errors import ChatCutShort, ChatError, ChatMisconfigured, ChatRefused, ContextTooLong
from core.journal import Exchange, Journal, OutboxPart, Outcome, Turn, TurnId, TurnState
from core.latest import Latest
from core.limits import Limits
from core.markdown.note import with_note
from core.messages import AccountId, ConversationKey
from core.preview import Preview, preview_for
from core.sessions import Prompt, SessionManager, Window, question_of
from core.stopper import Stop, Stopped, Stopper
from core.texts import Language, language_of, say

log = structlog.get_logger(__name__)

LONGEST_ANSWER = 400_000
"""Characters; a model that does not stop is stopped."""

MOST_ATTEMPTS = 3
"""A turn during which the process died this often is not begun again."""

_TOLD = 10_000
"""Conversations of which is remembered that an outage was told there; others may be told once more."""

_MARKS = {"length": "cut_short", "content_filter": "filtered"}
"""What a person is told of an answer that did not end by itself, by its finish_reason."""


@dataclass(frozen=True, slots=True)
class _Question:
    """What a turn asks."""

    text: str
    without: Exchange | None = None
    """The exchange that this one replaces (/retry)."""
    replaces: TurnId | None = None


@dataclass(slots=True)
class _Answer:
    """What has come back so far."""

    pieces: list[str] = field(default_factory=list)
    stream: ChatStream | None = None
    prompt: Prompt | None = None
    endless: bool = False
    """It grew beyond LONGEST_ANSWER and was left."""
    refused: bool = False
    """The model's server took no call: there is nothing to pay."""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a turn ends, and what its person gets to read."""

    outcome: Outcome
    text: str = ""


class Responder:
    """Answers turns. Knows neither queues nor platforms."""

    def __init__(
        self,
        journal: Journal,
        sessions: SessionManager,
        chat: ChatClient,
        delivery: Delivery,
        clock: Clock,
        *,
        account: Callable[[AccountId], AccountConfig],
        models: Callable[[], Sequence[str]],
        limits: Limits,
        stale_after: Callable[[], timedelta],
        outgrown: Callable[[Turn, Window], None],
    ) -> None:
        """`outgrown` is told of conversations of which the next prompt will not hold everything."""
        self._journal = journal
        self._sessions = sessions
        self._chat = chat
        self._delivery = delivery
        self._clock = clock
        self._account = account
        self._models = models
        self._limits = limits
        self._stale_after = stale_after
        self._outgrown = outgrown
        self.unpaid: dict[TurnId, Spent | None] = {}
        """What turns cost that a mistake ended; taken out by whoever ends them then."""
        self._told_of_outage: Latest[tuple[ConversationKey, AccountId], None] = Latest(_TOLD)
        # emptied by the next answer, whoever gets it: the outage is over then

    async def answer(self, turn: Turn, reply: ReplyChannel, stopper: Stopper) -> None:
        """Bring `turn` to its end. Raises Stopped for one that was put back instead, or is over for nobody to see."""
        language = language_of(turn.last)
        if turn.rows[0].attempts > MOST_ATTEMPTS:
            await self._end(turn, reply, self._given_up(turn, language))
        elif self._clock.now() - turn.rows[-1].received_at > self._stale_after():
            await self._expire(turn, reply, language)
        elif (question := await self._question(turn)) is None:
            await self._end(turn, reply, _Ending(Outcome(state=TurnState.COMMAND), say("retry_nothing", language)))
        elif not question.text:
            await self._end(turn, reply, _Ending(Outcome(state=TurnState.COMMAND), say("only_files", language)))
        elif turn.exhausted is not None:
            await self._end(turn, reply, self._unaffordable(question, turn.exhausted, language))
        else:
            await self._respond(turn, reply, question, stopper, language)

    async def _respond(
        self, turn: Turn, reply: ReplyChannel, question: _Question, stopper: Stopper, language: Language
    ) -> None:
        stream = self._account(turn.last.account).stream
        answer = _Answer()
        try:
            async with preview_for(reply, turn, self._journal, self._clock, stream=stream) as preview:
                try:
                    async with stopper.scope():
                        await self._ask(turn, question, answer, preview)
                except Stopped as stopped:
                    ending = self._stopped(turn, reply, question, answer, stopped, language)
                except ChatError as error:
                    answer.refused = answer.stream is None
                    ending = self._explained(turn, reply, question, answer, error, language)
                else:
                    ending = self._answered(turn, reply, question, answer, language)
                paid = replace(ending.outcome, spent=self._spent(turn, answer))
                await self._end(turn, reply, replace(ending, outcome=paid), preview)
        except Exception as error:
            if not isinstance(error, Stopped):
                self.unpaid[turn.id] = self._spent(turn, answer)
                raise
            await until_stored(partial(self._journal.release, turn, self._spent(turn, answer)), self._clock)
            raise

    async def _ask(self, turn: Turn, question: _Question, answer: _Answer, preview: Preview) -> None:
        """Get the answer, piece by piece. A prompt that is too long for the model is shortened once."""
        model = turn.model or self._models()[0]
        end_user = f"{turn.last.account}/{turn.last.sender.id}"
        for shorter in (False, True):
            answer.prompt = await self._sessions.prompt(
                turn, question.text, model=model, without=question.without, shorter=shorter
            )
            try:
                async with self._chat.stream(answer.prompt.messages, end_user=end_user, model=turn.model) as stream:
                    answer.stream = stream
                    length = 0
                    async for piece in stream:
                        answer.pieces.append(piece)
                        length += len(piece)
                        preview.add(piece)
                        if length > LONGEST_ANSWER:
                            log.warning("an endless answer was cut", characters=length)
                            answer.endless = True
                            break
                break
            except ContextTooLong:
                if shorter or not (answer.prompt.turns or answer.prompt.summed_up):
                    raise
                log.info("the history was shortened for the model", turns=answer.prompt.turns)

    def _spent(self, turn: Turn, answer: _Answer) -> Spent | None:
        """What the turn costs: as the server counted, else as estimated. A call that was refused costs nothing."""
        if answer.prompt is None:
            return None
        model = turn.model or self._models()[0]
        stream = answer.stream
        if stream is None:
            if answer.refused:
                return None
            return self._limits.spent(self._sessions.estimate(answer.prompt, "", model=model), model)
        usage = stream.usage or self._sessions.estimate(answer.prompt, answer.text, model=model)
        return self._limits.spent(usage, stream.model, model)

    async def _question(self, turn: Turn) -> _Question | None:
        asked = [row for row in turn.rows if parse_command(row.message.text) is None]  # what is left is /retry
        if asked:
            texts = any(row.message.has_words for row in asked)
            return _Question(question_of(turn.conversation, asked) if texts else "")
        last = await self._journal.last_turn(turn.conversation)
        if last is None or not last.question:
            return None
        history = await self._journal.history(turn.conversation, turn.generation, most=1)
        answered = last.state in (TurnState.COMPLETE, TurnState.STOPPED) and any(
            exchange.question == last.question for exchange in history
        )
        return _Question(last.question, history[-1] if answered else None, last.id)

    def _answered(
        self, turn: Turn, reply: ReplyChannel, question: _Question, answer: _Answer, language: Language
    ) -> _Ending:
        assert answer.stream is not None
        assert answer.prompt is not None
        text, stream = answer.text, answer.stream
        reason = "length" if answer.endless else stream.finish_reason
        if not text.strip():
            kind = ChatCutShort if reason == "length" else ChatRefused
            error = kind("the model returned no text", detail=f"finish_reason {reason!r}")
            return self._explained(turn, reply, question, answer, error, language)
        self._told_of_outage.clear()
        self._sessions.measured(answer.prompt, stream.usage, model=turn.model or self._models()[0])
        return _Ending(
            Outcome(
                state=TurnState.COMPLETE,
                exchange=Exchange(question=question.text, answer=text),
                model=stream.model,
                usage=stream.usage,
                replaces=question.replaces,
            ),
            with_note(text, say(_MARKS[reason], language)) if reason in _MARKS else text,
        )

    def _stopped(
        self,
        turn: Turn,
        reply: ReplyChannel,
        question: _Question,
        answer: _Answer,
        stopped: Stopped,
        language: Language,
    ) -> _Ending:
        """What was shown stays; nothing shown leaves nothing. Raises `stopped` where the turn is to run again."""
        text = answer.text
        if stopped.why is Stop.SHUTDOWN or (stopped.why is Stop.INTERRUPT and not text):
            raise stopped
        model = answer.stream.model if answer.stream else None
        if text:
            over = stopped.why is Stop.SUPERSEDED or not text.strip()
            kept = None if over else Exchange(question=question.text, answer=text)
            mark = "interrupted" if stopped.why is Stop.INTERRUPT else "stopped"
            shown = text if isinstance(reply, CanFail) else with_note(text, say(mark, language))
            outcome = Outcome(state=TurnState.STOPPED, exchange=kept, model=model, replaces=question.replaces)
            return _Ending(outcome, shown)
        if isinstance(reply, CanFail):
            notice = "superseded" if stopped.why is Stop.SUPERSEDED else "stop_done"
            failure = self._failure(FailureCode.SUPERSEDED, notice, language)
            return _Ending(Outcome(state=TurnState.STOPPED, failure=failure_json(failure)), failure.text)
        left_over = turn.preview is not None  # of an attempt that a crash broke off: it must not look unfinished
        return _Ending(Outcome(state=TurnState.STOPPED), say("stopped", language) if left_over else "")

    def _explained(
        self,
        turn: Turn,
        reply: ReplyChannel,
        question: _Question,
        answer: _Answer,
        error: ChatError,
        language: Language,
    ) -> _Ending:
        """The failure as its person sees it; the cause goes to the log and the trace."""
        code, notice = FailureCode.MODEL_UNAVAILABLE, "model_unavailable"
        match error:
            case ChatMisconfigured():
                code, notice = FailureCode.MODEL_MISCONFIGURED, "model_misconfigured"
            case ContextTooLong():
                code, notice = FailureCode.TOO_LONG, "context_too_long"
            case ChatCutShort():
                code, notice = FailureCode.MODEL_REFUSED, "model_cut_short"
            case ChatRefused():
                code, notice = FailureCode.MODEL_REFUSED, "model_refused"
        shown = answer.text
        notice = "broken_off" if shown.strip() else notice
        failure = self._failure(code, notice, language, retry_after=error.retry_after)
        cause = f"{failure.id} {type(error).__name__}: {error}" + (f" ({error.detail})" if error.detail else "")
        log.error("the model gave no answer", id=failure.id, error=str(error), detail=error.detail)
        outcome = Outcome(
            # a repeated question that fails leaves the first answer where it is
            state=TurnState.FAILED if question.without is None else TurnState.COMMAND,
            error=cause,
            failure=failure_json(failure),
            replaces=question.replaces if question.without is None else None,
        )
        if isinstance(reply, CanFail):
            return _Ending(outcome, failure.text)
        if shown:  # a stream may show blanks already: they stay the text's beginning
            told = with_note(shown, failure.text) if shown.strip() else f"{shown}{failure.text}"
            return _Ending(outcome, told)
        if code is FailureCode.MODEL_UNAVAILABLE:
            place = (turn.conversation, turn.last.account)
            if place in self._told_of_outage and turn.preview is None:
                return _Ending(replace(outcome, dead=True))
            self._told_of_outage[place] = None
        return _Ending(outcome, failure.text)

    def _unaffordable(self, question: _Question, exhausted: Exhausted, language: Language) -> _Ending:
        """Between the message and its turn a budget was used up. /retry asks again, once it starts afresh."""
        now = self._clock.now()
        wait = (exhausted.resets(now) - now).total_seconds()
        failure = self._failure(
            FailureCode.RATE_LIMITED, exhausted.notice, language, retry_after=wait, **exhausted.told(now)
        )
        log.info("a budget is used up", whose=exhausted.whose, measure=exhausted.measure, id=failure.id)
        outcome = Outcome(
            state=TurnState.FAILED if question.without is None else TurnState.COMMAND,
            error=f"{failure.id} {exhausted.measure} of {exhausted.whose} is used up",
            failure=failure_json(failure),
            replaces=question.replaces if question.without is None else None,
        )
        return _Ending(outcome, failure.text)

    def _given_up(self, turn: Turn, language: Language) -> _Ending:
        failure = self._failure(FailureCode.INTERNAL, "gave_up", language)
        log.error("a message is given up after repeated crashes", id=failure.id, turn=turn.id)
        cause = f"{failure.id} the process died in {turn.rows[0].attempts - 1} attempts"
        return _Ending(Outcome(state=TurnState.FAILED, error=cause, failure=failure_json(failure)), failure.text)

    async def _expire(self, turn: Turn, reply: ReplyChannel, language: Language) -> None:
        """One notice for all that grew too old while nobody answered."""
        late = await self._journal.expire(
            turn.conversation,
            received_before=self._clock.now() - self._stale_after(),
            account=turn.last.account,  # a linked person is told on each platform
        )
        count = len(turn.rows) + len(late)
        failure = self._failure(FailureCode.EXPIRED, "expired", language, count=count)
        log.warning("messages grew too old to be answered", count=count, id=failure.id)
        outcome = Outcome(state=TurnState.EXPIRED, error=failure.id, failure=failure_json(failure))
        await self._end(turn, reply, _Ending(outcome, failure.text))

    async def _end(self, turn: Turn, reply: ReplyChannel, ending: _Ending, preview: Preview | None = None) -> None:
        """Commit how the turn ended, then show it."""
        outcome = replace(ending.outcome, parts=await _parts(reply, ending.text), kept=isinstance(reply, Kept))
        if preview is not None:
            await preview.settle()
        parts: Sequence[OutboxPart] = await until_stored(partial(self._journal.finish, turn, outcome), self._clock)
        late = bool(outcome.parts) and not parts
        if outcome.exchange is not None and not late:
            window = self._sessions.grew(turn, outcome.exchange, replaced=outcome.replaces is not None)
            if window is not None:
                self._outgrown(turn, window)
        if preview is not None:
            parts = await preview.complete(ending.text, parts)
        if late and isinstance(reply, CanFail):
            failure = self._failure(FailureCode.SUPERSEDED, "superseded", language_of(turn.last))
            await tell(reply, failure, key=IdempotencyKey(f"late-{failure.id}"))
        await self._delivery.deliver(reply, parts)

    def _failure(
        self, code: FailureCode, notice: str, language: Language, *, retry_after: float | None = None, **values: object
    ) -> Failure:
        id = secrets.token_hex(4)
        return Failure(code=code, text=say(notice, language, id=id, **values), id=id, retry_after=retry_after)


async def _parts(reply: ReplyChannel, text: str) -> tuple[str, ...]:
    """`text` as messages; an answer of which a reader would see nothing (only a comment, say) is shown as it was written."""
    if not text.strip():
        return ()
    return await parted(reply, text) or await parted(reply, f"~~~~~\n{text}\n~~~~~")
