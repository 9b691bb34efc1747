"""Calls of Feishu's HTTP API with JSON in them, on connections of core/http_client.py.

docs/adr/0010-own-http-client.md says what that saves; files, addresses of long connections and these themselves go over
aiohttp.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from yarl import URL

from core.http_client import HttpClient, NoHttp, Response, StaleConnection, Target
from core.untrusted import json_of

_REPEATABLE = frozenset(("GET", "PUT", "DELETE"))
"""Said twice it is true, too (RFC 9110, section 9.2.2): sent again where a kept connection turns out to be closed."""

_AT_ONCE = 64
"""Connections, and thereby calls; more wait."""
_KEEP = 15.0
"""Seconds that an idle connection may serve again: less than servers keep one."""
_CONNECT = 5.0
"""Seconds for name, connection and TLS."""
_LONGEST = 32 * 1024 * 1024
"""Bytes of an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    data: Mapping[str, Any]
    """Empty where it was no JSON object."""

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], body: bytes | bytearray) -> Answer:
        """`body` may be anything."""
        try:
            data = json_of(body)
        except ValueError:
            data = None
        return cls(status, headers, data if isinstance(data, dict) else {})

    @property
    def code(self) -> int | None:
        """Feishu's own word on what became of the call."""
        code = self.data.get("code")
        return code if isinstance(code, int) and not isinstance(code, bool) else None


class Calls:
    """Enter it; leaving hangs up."""

    def __init__(self, proxy: URL | None) -> None:
        self._proxy = proxy
        self._http = HttpClient(keep=_KEEP)
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def call(self, method: str, url: URL, headers: Mapping[str, str], body: Mapping[str, Any] | None) -> Answer:
        """Raises as HttpClient.send does: NotConnected where Feishu surely got nothing, else OSError. There is no time
        limit."""
        data = b""
        if body is not None:
            # As it is, not in \u escapes: what Feishu counts is the length of the body.
            data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")
            headers = {**headers, "Content-Type": "application/json; charset=utf-8"}
        target = Target.of(method, url, {"User-Agent": "chatgpt-ms", **headers}, self._proxy)
        async with self._places:
            try:
                return await self._send(target, data)
            except StaleConnection:
                if method not in _REPEATABLE:
                    raise
                return await self._send(target, data)

    async def _send(self, target: Target, body: bytes) -> Answer:
        with closing(await self._http.send(target, body, connect_timeout=_CONNECT)) as response:
            return Answer.of(response.status, response.headers, await _whole(response))


async def _whole(response: Response) -> bytearray:
    body = bytearray()
    while piece := await response.read():
        body += piece
        if len(body) > _LONGEST:
            raise NoHttp(f"the answer is longer than {_LONGEST} bytes")
    return body
