"""The other side of a measurement: an OpenAI-compatible server that costs next to nothing. `python -m bench.model PORT`.

It answers each streamed request with `answer to: <last user message>`, a word a piece, at once or at the pace of a real
model. `POST /_settings {"first": 0.3, "every": 0.02}` sets the pace, in seconds; `GET /_times` tells, and forgets, when
the first and the last piece of each answer left, by the last word of its question, on the clock that all processes of a
machine share. `tests/simulators/openai_server.py` checks what it is asked and can fail; here only speed counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import sys
from dataclasses import dataclass, field
from typing import Any

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
    b"Connection: keep-alive\r\n\r\n"
)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Pace:
    """Seconds before the first piece, and between two."""

    first: float = 0.0
    every: float = 0.0
    times: dict[str, tuple[float, float]] = field(default_factory=dict)


class Answering(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._read = b""
        self._transport: asyncio.Transport
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, blank, body = self._read.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        if not blank or len(body) < length:
            return
        self._read = body[length:]
        if head.startswith(b"POST /v1/chat/completions"):
            self._answer(json.loads(body[:length]))
        elif head.startswith(b"POST /_settings"):
            changes = json.loads(body[:length])
            self._pace.first, self._pace.every = changes["first"], changes["every"]
            self._whole({})
        elif head.startswith(b"GET /_times"):
            self._whole(self._pace.times)
            self._pace.times.clear()
        else:
            self._whole({"object": "list", "data": []})

    def _whole(self, value: Any) -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)

    def _answer(self, request: dict[str, Any]) -> None:
        question = next(one["content"] for one in reversed(request["messages"]) if one["role"] == "user")
        words = f"answer to: {question}".split(" ")
        pieces = [_event({"content": word if number == 0 else f" {word}"}) for number, word in enumerate(words)]
        end = _event({}, "stop")
        if (request.get("stream_options") or {}).get("include_usage"):
            end += _usage(len(words))
        end = _chunk(end + b"data: [DONE]\n\n") + b"0\r\n\r\n"
        start = _HEAD + _chunk(_event({"role": "assistant", "content": ""}))
        mark = words[-1]
        if not self._pace.first:
            now = asyncio.get_running_loop().time()
            self._pace.times[mark] = now, now
            self._transport.write(start + _chunk(b"".join(pieces)) + end)
            return
        self._transport.write(start)
        first = asyncio.get_running_loop().time() + self._pace.first
        self._later(first, 0, pieces, end, mark)

    def _later(self, began: float, number: int, pieces: list[bytes], end: bytes, mark: str) -> None:
        """Pieces leave when they are due, however late the one before was."""
        loop = asyncio.get_running_loop()

        def write() -> None:
            self._next = None
            last = number == len(pieces) - 1
            self._transport.write(_chunk(pieces[number]) + (end if last else b""))
            if number == 0 or last:
                now = loop.time()
                self._pace.times[mark] = (now if number == 0 else self._pace.times[mark][0], now)
            if not last:
                self._later(began, number + 1, pieces, end, mark)

        self._next = loop.call_at(began + number * self._pace.every, write)


_BEGINNING = (
    b'data: {"id":"chatcmpl-00000001","object":"chat.completion.chunk","created":1754000000,"model":"gpt-test",'
    b'"service_tier":"default","system_fingerprint":"fp_test","choices":['
)


def _event(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _BEGINNING + json.dumps(choice, separators=(",", ":")).encode() + b'],"usage":null}\n\n'


def _usage(pieces: int) -> bytes:
    usage = {"prompt_tokens": 20, "completion_tokens": pieces, "total_tokens": 20 + pieces}
    return _BEGINNING + b'],"usage":' + json.dumps(usage, separators=(",", ":")).encode() + b"}\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(port: int) -> None:
    """Until the process ends."""
    gc.disable()  # there is nothing to collect, and a full collection would be measured
    pace = Pace()
    server = await asyncio.get_running_loop().create_server(lambda: Answering(pace), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1])))
