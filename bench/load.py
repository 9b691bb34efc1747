"""Requests as fast as they are answered, from a client light enough not to be what is measured."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of requests took."""

    seconds: float
    latencies: tuple[float, ...]
    """Seconds of each request."""

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """The latency that `share` of the requests stayed below, in seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def run(url: str, *, users: int, requests: int, sessions: int | None = None, offset: int = 0) -> Load:
    """`requests` messages to `url`/chat from `users` connections, spread over `sessions` people (default: `users`)."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    left = iter(range(requests))
    people = sessions or users
    latencies: list[float] = []

    async def user() -> None:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            for number in left:
                body = json.dumps(
                    {"message": f"question {number}", "user": f"user-{offset + number % people}"}
                ).encode()
                head = (
                    f"POST /chat HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n"
                )
                began = time.perf_counter()
                writer.write(head.encode() + body)
                await _response(reader)
                latencies.append(time.perf_counter() - began)
        finally:
            writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(user() for _ in range(users)))
    return Load(time.perf_counter() - began, tuple(latencies))


async def _response(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    status = head[9:12]
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line[15:])
    body = await reader.readexactly(length)
    if status != b"200":
        raise RuntimeError(f"HTTP {status.decode()}: {body[:200]!r}")
