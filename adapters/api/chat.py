"""`POST /chat` and `POST /chat-stream`: the gateway's own, simple interface."""

from __future__ import annotations

from aiohttp import web

from adapters.api.answers import Answer
from adapters.api.bodies import ChatBody
from adapters.api.faults import Refusal, Shape, encode, json_response
from adapters.api.headers import idempotency_key, locale
from adapters.api.intake import Asked, Intake, Question
from adapters.api.reading import read
from adapters.api.streams import Growing
from core.keys import Caller

LINE_INTERVAL = 0.05
"""Seconds between two lines of a stream once its text is long."""
LONG_TEXT = 2_000
"""Characters. Every line holds the whole text, so long texts are not sent with each new word."""
MOST_PER_SECOND = 200_000
"""Characters per second that the lines of one stream may come to; longer texts are sent more rarely."""


def is_reset(text: str) -> bool:
    """Whether a message is the command whose answer is the one word `done`."""
    return text.strip().lower() == "reset"  # as core.commands reads it


def question_of(request: web.Request, body: ChatBody, caller: Caller) -> Question:
    """What `body` asks."""
    return Question(caller.namespace, body.user, body.message, idempotency_key(request), locale(request))


def headers_of(asked: Asked) -> dict[str, str]:
    """Tells a repeated answer from a new one."""
    return {"Idempotent-Replayed": "true"} if asked.replayed else {}


async def chat(request: web.Request, caller: Caller, intake: Intake) -> web.StreamResponse:
    """The whole answer at once."""
    question = question_of(request, await read(request, ChatBody), caller)
    async with intake.ask(question) as asked:
        text = await asked.answer.whole()
    return json_response({"response": "done" if is_reset(question.text) else text}, headers=headers_of(asked))


async def chat_stream(request: web.Request, caller: Caller, intake: Intake) -> web.StreamResponse:
    """One JSON object a line, each with the whole text so far; `[DONE]` after the last."""
    question = question_of(request, await read(request, ChatBody), caller)
    out = Growing(request, "application/x-ndjson", _fault)
    try:
        async with intake.ask(question, growing=True) as asked:
            out.headers.update(headers_of(asked))
            await _show(out, asked.answer, reset=is_reset(question.text))
    except Refusal as refusal:
        return await out.fail(refusal)
    await out.write(_line("[DONE]"))
    return await out.end()


async def _show(out: Growing, answer: Answer, *, reset: bool) -> None:
    shown = None
    while True:
        text = answer.text()
        if answer.outcome is not None:
            break
        if text and text != shown and not reset:
            await out.write(_line(text))
            shown = text
            if len(text) > LONG_TEXT:
                await answer.settled_within(max(LINE_INTERVAL, len(text) / MOST_PER_SECOND))
        else:
            await answer.changed()
    if reset:
        text = "done"
    if text != shown:
        await out.write(_line(text))


def _line(text: str) -> bytes:
    return encode({"response": text}) + b"\n"


def _fault(refusal: Refusal) -> bytes:
    return encode(refusal.document(Shape.OURS)) + b"\n"
