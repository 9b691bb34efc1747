"""`POST /v1/chat/completions` and `GET /v1/models`: OpenAI's shapes, so that any OpenAI client works.

With `user` the question goes the way of every message: through the inbox, into a session. Without it the request's own
messages go straight to the model and nothing is stored.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from adapters.api.answers import Answer
from adapters.api.bodies import CompletionBody, refuse_unsupported
from adapters.api.chat import headers_of, is_reset
from adapters.api.faults import Refusal, Shape, encode, json_response
from adapters.api.headers import idempotency_key, locale
from adapters.api.intake import Intake, Question, parse_message
from adapters.api.reading import read
from adapters.api.streams import ClientGone, Growing
from core.budgets import Exhausted
from core.chat import ChatMessage, ChatStream, Usage
from core.errors import ChatError, StorageUnavailable
from core.host import Host
from core.keys import Caller
from core.messages import AccountId, InboundMessage, Person
from core.paid import NothingLeft
from core.people import sender_of
from core.texts import say

log = structlog.get_logger(__name__)

_BYTES = 4
"""Of a token, where the model's server counted none."""

DEFAULT_MODEL = "default"
"""Always means the configured model."""


class Completions:
    """The handlers."""

    def __init__(
        self,
        account: AccountId,
        host: Host,
        intake: Intake,
        *,
        may: Callable[[InboundMessage], bool],
        timeout: float,
    ) -> None:
        """`may`: whether the inbox would let somebody in, for requests that do not pass it."""
        self._account = account
        self._host = host
        self._may = may
        self._intake = intake
        self._timeout = timeout

    def models(self) -> web.Response:
        """The models a request may name."""
        return json_response({"object": "list", "data": [_described(model) for model in self._host.models()]})

    def model(self, name: str) -> web.Response:
        """One of them. Raises Refusal (404)."""
        if name not in self._host.models():
            raise _no_model(name)
        return json_response(_described(name))

    async def complete(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """One answer, whole or as a stream."""
        body = await read(request, CompletionBody, refuse_unsupported)
        model = self._model(body)
        key = idempotency_key(request)
        if body.user is not None:
            question = Question(caller.namespace, body.user, body.question(), key, locale(request))
            if body.stream:
                return await self._session_stream(request, body, question, model)
            return await self._session_whole(question, model)
        person = self._admitted(caller)
        longest, limit = max(len(message.text) for message in body.messages), self._host.longest_input()
        if longest > limit:
            raise Refusal(413, "too_long", say("too_long", "en", length=longest, limit=limit), field="messages")
        if (wait := self._host.rates.take(person)) is not None:
            raise Refusal(429, "rate_limited", "Too many requests in a minute.", retry_after=wait.seconds)
        if body.stream:
            return await self._direct_stream(request, body, person, model)
        return await self._direct_whole(request, body, person, model)

    def _admitted(self, caller: Caller) -> Person:
        """Who asks where no session does: all of one namespace. Raises Refusal for those who may not talk here."""
        asking = Question(caller.namespace, "", "")  # no session's user is empty
        message = parse_message(asking, self._account, self._host.clock.now())
        if not self._may(message):
            raise Refusal(403, "not_allowed", say("not_allowed", "en", person=message.sender.id))
        return sender_of(message)

    def _model(self, body: CompletionBody) -> str:
        models = self._host.models()
        if body.model is None or body.model == DEFAULT_MODEL:
            return models[0]
        if body.model not in models:
            raise _no_model(body.model)
        return body.model

    async def _session_whole(self, question: Question, model: str) -> web.StreamResponse:
        async with self._intake.ask(question) as asked:
            text = await asked.answer.whole()
            answered_by, usage = await self._intake.spent(asked.event)
        text = "done" if is_reset(question.text) else text
        return json_response(
            Chunks(answered_by or model, self._created()).whole(text, "stop", usage), headers=headers_of(asked)
        )

    async def _session_stream(
        self, request: web.Request, body: CompletionBody, question: Question, model: str
    ) -> web.StreamResponse:
        chunks = Chunks(model, self._created())
        out = Growing(request, "text/event-stream", _fault)
        usage = None
        try:
            async with self._intake.ask(question, growing=True) as asked:
                out.headers.update(headers_of(asked))
                if is_reset(question.text):
                    await asked.answer.whole()
                    await out.write(chunks.first("done"))
                else:
                    await _show(out, asked.answer, chunks)
                if _wants_usage(body):
                    _, usage = await self._intake.spent(asked.event)
        except Refusal as refusal:
            return await out.fail(refusal)
        await out.write(chunks.last("stop", usage, tell_usage=_wants_usage(body)))
        return await out.end()

    async def _direct_whole(
        self, request: web.Request, body: CompletionBody, person: Person, model: str
    ) -> web.StreamResponse:
        pieces: list[str] = []
        async with self._ask_model(body, person, model) as stream:
            async for piece in stream:
                pieces.append(piece)
                if request.transport is None or request.transport.is_closing():
                    raise ClientGone  # nothing is kept of this answer, so nobody pays for the rest of it
        chunks = Chunks(stream.model, self._created())
        return json_response(chunks.whole("".join(pieces), stream.finish_reason, stream.usage))

    async def _direct_stream(
        self, request: web.Request, body: CompletionBody, person: Person, model: str
    ) -> web.StreamResponse:
        out = Growing(request, "text/event-stream", _fault)
        try:
            async with self._ask_model(body, person, model) as stream:
                chunks = Chunks(stream.model, self._created())
                begun = False
                async for piece in stream:
                    await out.write(chunks.more(piece) if begun else chunks.first(piece))
                    begun = True
                if not begun:
                    await out.write(chunks.first(""))
        except Refusal as refusal:
            return await out.fail(refusal)
        await out.write(chunks.last(stream.finish_reason, stream.usage, tell_usage=_wants_usage(body)))
        return await out.end()

    @asynccontextmanager
    async def _ask_model(self, body: CompletionBody, person: Person, model: str) -> AsyncIterator[Counted]:
        messages = [
            ChatMessage("system" if message.role == "developer" else message.role, message.text)
            for message in body.messages
        ]
        try:
            async with asyncio.timeout(self._timeout), self._charged(messages, person, model) as bill:
                end_user = f"{person.account}/{person.user}"
                async with self._host.chat.stream(
                    messages, end_user=end_user, model=model, options=body.options()
                ) as stream:
                    bill.stream = Counted(stream)
                    yield bill.stream
        except NothingLeft as nothing:
            raise self._nothing_left(nothing.exhausted) from None
        except StorageUnavailable:
            raise Refusal(503, "storage_unavailable", "Nothing can be stored right now.", retry_after=5) from None
        except ChatError as error:
            refusal = Refusal.of_chat(error, body.options())
            log.error("the model gave no answer", id=refusal.id, error=str(error), detail=error.detail)
            raise refusal from error
        except TimeoutError:
            raise Refusal(504, "timeout", "The model took too long.") from None

    @asynccontextmanager
    async def _charged(self, messages: Sequence[ChatMessage], person: Person, model: str) -> AsyncIterator[_Asking]:
        """What is asked inside is paid, whoever breaks it off: as the model's server counted, else as estimated."""
        asking, limits = _Asking(), self._host.limits
        weight = sum(len(message.content.encode("utf-8", "surrogatepass")) for message in messages)
        async with self._host.paid.call(person, model=model, weight=weight) as bill:
            refused = False
            try:
                yield asking
            except ChatError:
                refused = asking.stream is None
                raise
            finally:
                heard = asking.stream
                if heard is not None:
                    usage = heard.usage or Usage(weight // _BYTES, heard.bytes // _BYTES)
                    bill.spent = limits.spent(usage, heard.model, model)
                elif not refused:
                    bill.spent = limits.spent(Usage(weight // _BYTES, 0), model)

    def _nothing_left(self, exhausted: Exhausted) -> Refusal:
        now = self._host.clock.now()
        wait = (exhausted.resets(now) - now).total_seconds()
        text = say(exhausted.notice, "en", **exhausted.told(now))
        return Refusal(429, "rate_limited", text, retry_after=wait)

    def _created(self) -> int:
        return int(self._host.clock.now().timestamp())


@dataclass(slots=True)
class _Asking:
    """A call of the model, and its answer once that has begun."""

    stream: Counted | None = None


def _described(model: str) -> dict[str, Any]:
    return {"id": model, "object": "model", "created": 0, "owned_by": "chatgpt-ms"}


def _no_model(name: str) -> Refusal:
    text = f"There is no model {name[:100]!r} here; see GET /v1/models."
    return Refusal(404, "model_not_found", text, field="model")


class Counted:
    """A stream, and what was heard of it."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream
        self.bytes = 0

    @property
    def model(self) -> str:
        """See core.chat.ChatStream, also for the attributes below."""
        return self._stream.model

    @property
    def usage(self) -> Usage | None:
        return self._stream.usage

    @property
    def finish_reason(self) -> str | None:
        return self._stream.finish_reason

    async def __aiter__(self) -> AsyncIterator[str]:
        async for piece in self._stream:
            self.bytes += len(piece.encode("utf-8", "surrogatepass"))
            yield piece


_PLACE = "\x00"
"""Stands for the text where the JSON around it is made once."""


class Chunks:
    """The JSON of one completion."""

    def __init__(self, model: str, created: int) -> None:
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._model = model
        self._created = created
        self._before_text, _, self._after_text = self._chunk({"content": _PLACE}).rpartition(encode(_PLACE))

    def whole(self, text: str, finish_reason: str | None, usage: Usage | None) -> dict[str, Any]:
        """The answer of a request without `stream`."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason or "stop"}
        document = self._document("chat.completion", [choice])
        if usage is not None:
            document["usage"] = _usage(usage)
        return document

    def first(self, text: str) -> bytes:
        """The beginning of a stream."""
        return self._chunk({"role": "assistant", "content": ""}) + (self.more(text) if text else b"")

    def more(self, text: str) -> bytes:
        """The next piece of text."""
        return self._before_text + encode(text) + self._after_text

    def last(self, finish_reason: str | None, usage: Usage | None, *, tell_usage: bool) -> bytes:
        """The end of a stream."""
        data = self._chunk({}, finish_reason or "stop")
        if tell_usage and usage is not None:
            data += _event({**self._document("chat.completion.chunk", []), "usage": _usage(usage)})
        return data + b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event(self._document("chat.completion.chunk", [choice]))

    def _document(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model, "choices": choices}


async def _show(out: Growing, answer: Answer, chunks: Chunks) -> None:
    """Send what is there, then what is added, until the end."""
    source, position, sent = answer.pieces, 0, ""
    while answer.outcome is None:
        if not sent:
            source = answer.pieces  # it may be begun anew as long as nothing was shown
        if piece := "".join(source[position:]):
            position = len(source)
            await out.write(chunks.more(piece) if sent else chunks.first(piece))
            sent += piece
        else:
            await answer.changed()
    text = answer.text()
    rest = text.removeprefix(sent)
    if sent and rest == text:
        if text.strip() != sent.strip():
            # What a client has seen of a stream cannot be taken back.
            raise Refusal(409, "answer_changed", "The answer was written anew; ask for it again.")
        rest = ""
    if not sent:
        await out.write(chunks.first(rest))
    elif rest:
        await out.write(chunks.more(rest))


def _wants_usage(body: CompletionBody) -> bool:
    return bool(body.stream_options and body.stream_options.include_usage)


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + encode(document) + b"\n\n"


def _fault(refusal: Refusal) -> bytes:
    return _event(refusal.document(Shape.OPENAI))
