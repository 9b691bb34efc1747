"""An OpenAI-compatible server that answers from the request, and breaks on demand.

In a test: `async with OpenAIServer() as server:` and point the client at `server.url`.
As a process: `python -m tests.simulators.openai_server --port 0 [--settings JSON] [--faults JSON]`; its first line of
output is the URL. `GET /_requests` tells what it was asked, `DELETE /_requests` forgets it, `POST /_settings` changes
any field of `Settings`.

Shapes and wordings follow OpenAI's API reference (chat completions, streaming, error codes) and, for `llama_context`,
llama.cpp's server. An answer of several pieces is written at once while no delay is set, so that it can serve as
the other side of a benchmark.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Any, Literal, Self

from aiohttp import web

Reply = Callable[[dict[str, Any]], str | Sequence[str]]
"""Makes the answer from the request's JSON: a text, which is streamed word by word, or the pieces themselves."""

FaultKind = Literal[
    "status",  # `status`, `body`, `retry_after`
    "invalid_key",  # 401
    "model_not_found",  # 404
    "context_length",  # 400, OpenAI's wording
    "llama_context",  # 400, llama.cpp's wording
    "insufficient_quota",  # 429 that no waiting cures
    "stall",  # silence: before the headers, or after `after` pieces
    "cut",  # the connection breaks after `after` pieces, or before the headers
    "garbage",  # bytes that are no SSE, after `after` pieces
    "truncated_json",  # an event whose JSON stops in the middle
    "error_event",  # an error object inside the stream
    "end_without_done",  # the stream ends properly but without finish_reason and [DONE]
    "content_type",  # a proxy's HTML page with status 200
    "content_filter",  # the answer stops with finish_reason content_filter
    "length",  # the same with length; without any text if `after` is 0, as when thoughts took all of it
    "refusal",  # the answer comes as `refusal`
    "empty",  # an answer without any text
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail. From `Settings.script` it happens once, from `Settings.faults` by chance."""

    kind: FaultKind
    probability: float = 1.0
    model: str | None = None
    """Only requests for this model."""
    after: int | None = None
    """Pieces of text that come first; None: not even the headers."""
    status: int = 500
    body: Any = None
    """Text, or an object sent as JSON. None: OpenAI's error shape."""
    retry_after: str | None = None
    location: str | None = None
    """Where a redirect points."""


@dataclass(slots=True, kw_only=True)
class Settings:
    """What can be changed while the server runs."""

    reply: str = "echo"
    """`echo`: `answer to: <last user message>`. `count`: `answer <number of user messages> to: <last>`.
    `messages`: the request's messages as JSON. `=text`: this text. Only without a `reply` function."""
    first_token_delay: float = 0.0
    """Seconds before the first piece."""
    token_delay: float = 0.0
    """Seconds between pieces."""
    end_held: bool = False
    """Answers are sent but for their end, which waits until this is false again."""
    end_delay: float = 0.0
    """Seconds between [DONE] and the end of the body."""
    piece: int = 0
    """Characters of a piece; 0: a word."""
    write_bytes: int = 0
    """Bytes of one write to the socket; 0: as they come."""
    pieces_apart: bool = False
    """Each event is a write of its own."""
    paused: bool = False
    """Requests wait until this is false again."""
    api_key: str | None = None
    """The only key that is accepted; None: all."""
    models: list[str] | None = None
    """The only models that exist; None: all."""
    context_length: int | None = None
    """Tokens (about four characters each) that fit."""
    rejects: list[str] = field(default_factory=list)
    """Fields of the request that are answered with 400, as older compatible servers do."""
    strict_options: bool = False
    """Refuse `max_tokens` by its old name and any `temperature` but 1, as OpenAI's models that reason do."""
    reasoning: bool = False
    """Send `reasoning_content` before the answer, as some compatible servers do."""
    usage: bool = True
    """Report usage when asked for it."""
    crlf: bool = False
    comments: bool = False
    """Send SSE comments, as keepalives do."""
    record: int = 100_000
    """How many requests are remembered."""
    seed: int = 1
    """Of the faults' chances."""
    script: list[Fault | None] = field(default_factory=list)
    """The faults of the next requests, one each; None is a proper answer."""
    faults: list[Fault] = field(default_factory=list)
    """At most one of them befalls a request that has no script."""


@dataclass(slots=True, kw_only=True)
class Request:
    """One call of chat completions, as the server saw it."""

    number: int
    body: dict[str, Any]
    headers: dict[str, str]
    query: str
    peer: str
    """The other end of the connection."""
    started: float
    """Seconds of the server's monotonic clock."""
    finished: float | None = None
    """When the whole answer (or the fault) had been written."""
    hung_up: bool = False
    """The client closed the connection before the end."""
    fault: str | None = None
    answer: str = ""
    """The text of a proper answer, as far as it was written."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The prompt."""
        return list(self.body.get("messages") or ())

    @property
    def last(self) -> str:
        """The newest user message."""
        return _last_user(self.body)

    def to_json(self) -> dict[str, Any]:
        """As `GET /_requests` gives it."""
        return {name.name: getattr(self, name.name) for name in fields(self)}


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""


def _users(body: dict[str, Any]) -> list[str]:
    return [_text_of(message.get("content")) for message in body.get("messages", ()) if message.get("role") == "user"]


def _last_user(body: dict[str, Any]) -> str:
    users = _users(body)
    return users[-1] if users else ""


def _peer(request: web.Request) -> str:
    address = request.transport.get_extra_info("peername") if request.transport is not None else None
    return f"{address[0]}:{address[1]}" if address else ""


def _tokens(text: str) -> int:
    return max(1, len(text) // 4)


def _split(text: str, size: int) -> Sequence[str]:
    if size:
        return [text[start : start + size] for start in range(0, len(text), size)]
    return re.findall(r"\s*\S+\s*$|\s*\S+|\s+", text)


def _error(status: int, message: str, *, kind: str, code: str | None = None, param: str | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "type": kind, "param": param, "code": code}}, status=status)


class _Broken(Exception):
    """The connection was broken off on purpose."""


class OpenAIServer:
    """See the module's text. Enter to listen, leave to close; requests under way are broken off."""

    def __init__(self, *, reply: Reply | None = None, settings: Settings | None = None, port: int = 0) -> None:
        self.reply = reply
        self.settings = settings or Settings()
        self.requests: deque[Request] = deque(maxlen=self.settings.record)
        self.model_lists = 0
        """Calls of GET /models."""
        self.url = ""
        """Ends in /v1; set on entering."""
        self._port = port
        self._numbers = itertools.count(1)
        self._random = random.Random(self.settings.seed)
        self._changed = asyncio.Condition()
        self._resumed = asyncio.Event()
        self._resumed.set()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self._closing = asyncio.Event()
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/_requests", self._get_requests)
        app.router.add_delete("/_requests", self._delete_requests)
        app.router.add_post("/_settings", self._post_settings)
        # A handler that is cancelled is how a hang-up is seen at once, also in a stall.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=1024)
        await site.start()
        self._port = self._runner.addresses[0][1]  # entered again it listens where it did
        self.url = f"http://127.0.0.1:{self._port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._resumed.set()
        await self._runner.cleanup()

    # What tests use

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def running(self) -> int:
        """Requests that have neither been answered nor broken off."""
        return sum(request.finished is None and not request.hung_up for request in self.requests)

    def pause(self) -> None:
        """Hold all answers until `resume`."""
        self.configure(paused=True)

    def resume(self) -> None:
        """Let held answers go."""
        self.configure(paused=False)

    def configure(self, **changes: Any) -> None:
        """Change fields of `settings`; faults may be dicts. Raises ValueError for a field that does not exist."""
        known = {field.name for field in fields(Settings)}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"settings have no field {name!r}; there are {', '.join(sorted(known))}")
            if name in ("script", "faults"):
                value = [Fault(**item) if isinstance(item, dict) else item for item in value]  # noqa: PLW2901
            setattr(self.settings, name, value)
        if "seed" in changes:
            self._random = random.Random(self.settings.seed)
        if "record" in changes:
            self.requests = deque(self.requests, maxlen=self.settings.record)
        (self._resumed.clear if self.settings.paused else self._resumed.set)()
        (self.may_end.clear if self.settings.end_held else self.may_end.set)()

    async def until(self, condition: Callable[[OpenAIServer], object]) -> None:
        """Wait until `condition` holds; it is looked at whenever a request begins, ends or is hung up on."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(condition(self)))

    # What clients see

    async def _get_requests(self, _: web.Request) -> web.Response:
        return web.json_response([request.to_json() for request in self.requests])

    async def _delete_requests(self, _: web.Request) -> web.Response:
        self.requests.clear()
        return web.Response(status=204)

    async def _post_settings(self, request: web.Request) -> web.Response:
        try:
            self.configure(**await request.json())
        except (ValueError, TypeError) as error:
            return web.Response(status=400, text=str(error))
        return web.Response(status=204)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        self.model_lists += 1
        if refused := self._check_key(request):
            return refused
        names = self.settings.models or ["gpt-5-mini", "gpt-5-nano", "test-model"]
        data = [{"id": name, "object": "model", "created": 1_754_000_000, "owned_by": "test"} for name in names]
        return web.json_response({"object": "list", "data": data})

    def _check_key(self, request: web.Request) -> web.Response | None:
        wanted = self.settings.api_key
        if wanted is None or request.headers.get("Authorization") == f"Bearer {wanted}":
            return None
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not given:
            message = "You didn't provide an API key. You need to provide your API key in an Authorization header."
            return _error(401, message, kind="invalid_request_error")
        # OpenAI repeats the key, shortened; some compatible servers repeat it whole, which is the harder case.
        message = f"Incorrect API key provided: {given}. You can find your API key at https://platform.openai.com."
        return _error(401, message, kind="invalid_request_error", code="invalid_api_key")

    async def _note(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
            if not isinstance(body, dict):
                raise TypeError
        except (ValueError, TypeError):
            return _error(400, "We could not parse the JSON body of your request.", kind="invalid_request_error")
        record = Request(
            number=next(self._numbers),
            body=body,
            headers=dict(request.headers),
            query=request.query_string,
            peer=_peer(request),
            started=asyncio.get_running_loop().time(),
        )
        self.requests.append(record)
        await self._note()
        try:
            response = await self._answer(request, record)
            record.finished = asyncio.get_running_loop().time()
            return response
        except _Broken:
            record.finished = asyncio.get_running_loop().time()
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError from None
        except (asyncio.CancelledError, ConnectionError):
            record.hung_up = record.finished is None and not self._closing.is_set()
            raise
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await self._note()

    def _fault(self, model: object) -> Fault | None:
        if self.settings.script:
            return self.settings.script.pop(0)
        for fault in self.settings.faults:
            if fault.model in (None, model) and self._random.random() < fault.probability:
                return fault
        return None

    def _reject(self, request: web.Request, body: dict[str, Any]) -> web.Response | None:
        """What a sound server refuses."""
        if refused := self._check_key(request):
            return refused
        model = body.get("model")
        if not isinstance(model, str) or not model:
            return _error(400, "you must provide a model parameter", kind="invalid_request_error")
        if self.settings.models is not None and model not in self.settings.models:
            return _model_not_found(model)
        for name in self.settings.rejects:
            if name in body:
                message = f"Unrecognized request argument supplied: {name}"
                return _error(400, message, kind="invalid_request_error", param=name)
        if self.settings.strict_options and (refused := _refused_option(body)):
            return refused
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            message = "Missing required parameter: 'messages'."
            return _error(400, message, kind="invalid_request_error", param="messages")
        used = sum(_tokens(_text_of(message.get("content"))) for message in messages)
        if self.settings.context_length is not None and used > self.settings.context_length:
            return _context_length(self.settings.context_length, used)
        return None

    async def _answer(self, request: web.Request, record: Request) -> web.StreamResponse:
        body, settings = record.body, self.settings
        await self._resumed.wait()
        fault = self._fault(body.get("model"))
        if fault is not None:
            record.fault = fault.kind
            if (response := _failure(fault, body)) is not None:
                return response
            if fault.after is None and fault.kind == "stall":
                await self._closing.wait()
                raise _Broken
            if fault.after is None and fault.kind == "cut":
                raise _Broken
        elif refused := self._reject(request, body):
            return refused
        pieces = self._pieces(body)
        if fault is not None and (fault.kind in ("empty", "refusal") or (fault.kind == "length" and fault.after == 0)):
            pieces = []
        if settings.first_token_delay:
            await asyncio.sleep(settings.first_token_delay)
        if body.get("stream"):
            return await _Streaming(self, request, record, fault, self._closing).write(pieces)
        if settings.token_delay:
            await asyncio.sleep(settings.token_delay * len(pieces))
        return web.json_response(_whole(record, fault, pieces))

    def _pieces(self, body: dict[str, Any]) -> Sequence[str]:
        if self.reply is not None:
            answer = self.reply(body)
        else:
            match self.settings.reply:
                case "echo":
                    answer = f"answer to: {_last_user(body)}"
                case "count":
                    answer = f"answer {len(_users(body))} to: {_last_user(body)}"
                case "messages":
                    answer = json.dumps(
                        [[message["role"], _text_of(message["content"])] for message in body["messages"]]
                    )
                case text:
                    answer = text.removeprefix("=")
        return _split(answer, self.settings.piece) if isinstance(answer, str) else answer


def _refused_option(body: dict[str, Any]) -> web.Response | None:
    """The wordings are those of o3 and gpt-5-mini."""
    if "max_tokens" in body:
        message = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        code, name = "unsupported_parameter", "max_tokens"
    elif body.get("temperature", 1) != 1:
        message = (
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this model. "
            "Only the default (1) value is supported."
        )
        code, name = "unsupported_value", "temperature"
    else:
        return None
    return _error(400, message, kind="invalid_request_error", code=code, param=name)


def _model_not_found(model: object) -> web.Response:
    message = f"The model `{model}` does not exist or you do not have access to it."
    return _error(404, message, kind="invalid_request_error", code="model_not_found")


def _context_length(limit: int, used: int) -> web.Response:
    message = (
        f"This model's maximum context length is {limit} tokens. However, your messages resulted in {used} tokens. "
        "Please reduce the length of the messages."
    )
    return _error(400, message, kind="invalid_request_error", code="context_length_exceeded", param="messages")


def _failure(fault: Fault, body: dict[str, Any]) -> web.Response | None:
    """The faults that are an answer of their own."""
    match fault.kind:
        case "status":
            headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
            if fault.location is not None:
                headers["Location"] = fault.location
            if isinstance(fault.body, str):
                return web.Response(status=fault.status, text=fault.body, headers=headers)
            if fault.body is not None:
                return web.json_response(fault.body, status=fault.status, headers=headers)
            response = _error(fault.status, "The server had an error", kind="server_error")
            response.headers.update(headers)
            return response
        case "invalid_key":
            return _error(
                401, "Incorrect API key provided: sk-***.", kind="invalid_request_error", code="invalid_api_key"
            )
        case "model_not_found":
            return _model_not_found(body.get("model"))
        case "context_length":
            return _context_length(8192, 9000)
        case "llama_context":
            error = {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": 8192,
            }
            return web.json_response({"error": error}, status=400)
        case "insufficient_quota":
            message = "You exceeded your current quota, please check your plan and billing details."
            return _error(429, message, kind="insufficient_quota", code="insufficient_quota")
        case "content_type":
            return web.Response(text="<html><body>Sign in to the network</body></html>", content_type="text/html")
    return None


def _usage(record: Request, pieces: Sequence[str]) -> dict[str, int]:
    prompt = sum(_tokens(_text_of(message.get("content"))) for message in record.messages)
    completion = len(pieces)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _whole(record: Request, fault: Fault | None, pieces: Sequence[str]) -> dict[str, Any]:
    record.answer = "".join(pieces)
    refused = fault is not None and fault.kind == "refusal"
    message = {
        "role": "assistant",
        "content": None if refused else record.answer,
        "refusal": "I can't help with that." if refused else None,
    }
    finish = fault.kind if fault is not None and fault.kind in ("content_filter", "length") else "stop"
    return {
        "id": f"chatcmpl-{record.number:08d}",
        "object": "chat.completion",
        "created": 1_754_000_000,
        "model": record.body.get("model"),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": _usage(record, pieces),
    }


class _Streaming:
    """One answer as server-sent events."""

    def __init__(
        self,
        server: OpenAIServer,
        request: web.Request,
        record: Request,
        fault: Fault | None,
        closing: asyncio.Event,
    ) -> None:
        self._settings = server.settings
        self._may_end = server.may_end
        self._request = request
        self._record = record
        self._fault = fault
        self._closing = closing
        self._newline = "\r\n" if server.settings.crlf else "\n"
        self._wants_usage = bool((record.body.get("stream_options") or {}).get("include_usage"))
        # The parts of a chunk that do not change are written once: this server is also a benchmark's other side.
        head = {
            "id": f"chatcmpl-{record.number:08d}",
            "object": "chat.completion.chunk",
            "created": 1_754_000_000,
            "model": record.body.get("model"),
            "service_tier": "default",
            "system_fingerprint": "fp_test",
        }
        self._head = "data: " + json.dumps(head, separators=(",", ":"))[:-1] + ","
        self._tail = (',"usage":null}' if self._wants_usage else "}") + self._newline * 2

    def _chunk(self, delta: str, finish: str = "null") -> str:
        return f'{self._head}"choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]{self._tail}'

    def _text(self, text: str) -> str:
        return self._chunk('{"content":' + json.dumps(text, ensure_ascii=False) + "}")

    def _ending(self, pieces: Sequence[str]) -> str:
        kind = self._fault.kind if self._fault is not None else None
        end = ""
        if kind == "refusal":
            end += self._chunk('{"refusal":"I can\'t help with that."}')
        end += self._chunk("{}", f'"{kind}"' if kind in ("content_filter", "length") else '"stop"')
        if self._wants_usage and self._settings.usage:
            end += f'{self._head}"choices":[],"usage":{json.dumps(_usage(self._record, pieces))}}}{self._newline * 2}'
        return end + "data: [DONE]" + self._newline * 2

    async def write(self, pieces: Sequence[str]) -> web.StreamResponse:
        settings, fault = self._settings, self._fault
        self._response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await self._response.prepare(self._request)
        start = self._chunk('{"role":"assistant","content":"","refusal":null}')
        if settings.comments:
            start = ": keepalive" + self._newline * 2 + start
        if settings.reasoning:
            start += self._chunk('{"reasoning_content":"Let me think."}')
        stop_at = fault.after if fault is not None and fault.after is not None else None
        shown = pieces if stop_at is None else pieces[:stop_at]
        breaks = fault is not None and fault.kind in (
            "stall", "cut", "garbage", "truncated_json", "error_event", "end_without_done",
        )  # fmt: skip
        together = not (settings.token_delay or settings.pieces_apart or settings.end_held)
        if together:
            self._record.answer = "".join(shown)
            text = start + "".join(map(self._text, shown))
            await self._send(text if breaks else text + self._ending(pieces))
        else:
            await self._send(start)
            for number, piece in enumerate(shown):
                if number and settings.token_delay:
                    await asyncio.sleep(settings.token_delay)
                self._record.answer += piece
                await self._send(self._text(piece))
        if breaks and fault is not None:
            await self._break(fault)
        elif not together:
            await self._may_end.wait()
            await self._send(self._ending(pieces))
        if settings.end_delay:
            await asyncio.sleep(settings.end_delay)
        await self._response.write_eof()
        return self._response

    async def _break(self, fault: Fault) -> None:
        match fault.kind:
            case "stall":
                await self._closing.wait()
                raise _Broken
            case "cut":
                await asyncio.sleep(0)
                raise _Broken
            case "garbage":
                await self._response.write(b"\x00\xff\xfe\x80 not an event \xc3\x28\n\ndata: {]}\n\n")
            case "truncated_json":
                await self._send(self._text("half")[:-30] + self._newline * 2)
            case "error_event":
                error = {"message": "The server had an error", "type": "server_error", "param": None, "code": None}
                await self._send("data: " + json.dumps({"error": error}) + self._newline * 2)

    async def _send(self, text: str) -> None:
        data, size = text.encode(), self._settings.write_bytes
        if not size:
            await self._response.write(data)
            return
        for start in range(0, len(data), size):
            await self._response.write(data[start : start + size])
            await asyncio.sleep(0)  # so that they arrive apart


async def _serve(port: int, changes: dict[str, Any]) -> None:
    async with OpenAIServer(port=port) as server:
        server.configure(**changes)
        print(server.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Run as a process until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: chosen by the system")
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON object, fields of Settings")
    parser.add_argument("--faults", type=json.loads, default=[], help="JSON list, fields of Fault")
    options = parser.parse_args()
    changes = dict(options.settings)
    if options.faults:
        changes["faults"] = options.faults
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options.port, changes))


if __name__ == "__main__":
    main()
