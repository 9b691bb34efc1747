"""Answers that are read while they are written: `POST /chat-stream`, over one connection for each user."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

_TIMEOUT = 120.0


@dataclass(slots=True)
class Streamed:
    """One question, by its last word, and when it was asked, first answered, and wholly answered."""

    mark: str
    asked: float
    first: float | None = None
    whole: float | None = None
    right: bool = False
    """The text is the one that the model gave."""


class _Reading(asyncio.Protocol):
    """Looks at no byte more than it must: thousands of pieces a second come here."""

    def __init__(self, streamed: Streamed, question: str, request: bytes) -> None:
        self._streamed = streamed
        self._question = question
        self._request = request
        self._tail = b""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)
        self._streamed.asked = self._loop.time()

    def data_received(self, data: bytes) -> None:
        if self._streamed.first is None and b'{"response"' in data:
            self._streamed.first = self._loop.time()
        self._tail = (self._tail + data)[-8192:]
        if b'"[DONE]"' in self._tail[-len(data) - 16 :]:
            self._streamed.whole = self._loop.time()
            self._streamed.right = self._is_right()
            self._transport.close()

    def _is_right(self) -> bool:
        lines = [line for line in self._tail.split(b"\n") if line.startswith(b'{"response":')]
        return bool(lines[:-1]) and json.loads(lines[-2])["response"] == f"answer to: {self._question}"

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if not self.ended.done():
            self.ended.set_result(None)


async def run(url: str, *, users: int, each: int, words: int, offset: int = 0, spread: float = 1.0) -> list[Streamed]:
    """Everybody asks `each` questions of `words` words, one after the other; they begin over `spread` seconds."""
    parts = urlsplit(url)
    results: list[Streamed] = []

    async def user(number: int) -> None:
        await asyncio.sleep(spread * number / users)
        for turn in range(each):
            mark = f"q{offset + number * each + turn}x"
            question = " ".join([*(f"word{index}" for index in range(words - 1)), mark])
            body = json.dumps({"message": question, "user": f"user-{offset + number}"}).encode()
            head = (
                f"POST /chat-stream HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
                f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            streamed = Streamed(mark, asyncio.get_running_loop().time())
            results.append(streamed)
            made = partial(_Reading, streamed, question, head.encode() + body)
            _, reading = await asyncio.get_running_loop().create_connection(
                made, parts.hostname or "", parts.port or 80
            )
            await asyncio.wait([reading.ended], timeout=_TIMEOUT)

    await asyncio.gather(*(user(number) for number in range(users)))
    return results
