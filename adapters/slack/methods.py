"""Methods of Slack's Web API over HTTP: each takes its arguments in its own encoding, and answers with JSON.

https://docs.slack.dev/apis/web-api. It is what the SDK's web client does, on connections of core/http_client.py;
docs/adr/0010-own-http-client.md says what that saves.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import closing
from types import TracebackType
from typing import Any, NamedTuple, Self

from yarl import URL

from core.http_client import HttpClient, NoHttp, Response, StaleConnection, Target
from core.untrusted import json_of

_READING = frozenset(
    (
        "conversations_history",
        "conversations_info",
        "conversations_replies",
        "files_info",
        "users_conversations",
        "users_info",
    )
)
"""Methods that change nothing: a GET, with the arguments in the address."""
_IN_ADDRESS = frozenset(("apps_connections_open", "assistant_threads_setTitle", "auth_test", "chat_delete"))
"""A POST with the arguments in the address. All others take JSON."""

_AT_ONCE = 64
"""Connections, and thereby calls; more wait."""
_KEEP = 15.0
"""Seconds that an idle connection may serve again: less than servers keep one."""
_CONNECT = 5.0
"""Seconds for name, connection and TLS."""
_LONGEST = 32 * 1024 * 1024
"""Bytes of an answer; a page of a hundred messages has at most as many."""


class Answer(NamedTuple):
    """What Slack said, whether it did what was asked or not."""

    status: int
    headers: Mapping[str, str]
    data: Any
    """The JSON; None where there was none."""


class Methods:
    """Calls methods by the SDK's names for them (`chat_postMessage`). Enter it; leaving hangs up."""

    def __init__(self, token: str, *, url: URL, proxy: URL | None) -> None:
        self._token = token
        self._url = url
        self._proxy = proxy
        self._http = HttpClient(keep=_KEEP)
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._targets: dict[tuple[str, str], Target] = {}

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def call(self, method: str, arguments: Mapping[str, Any], *, token: str = "") -> Answer:
        """Call once; arguments that are None are left out, and another `token` than the bot's may be used.

        Raises as HttpClient.send does: NotConnected where Slack surely got nothing, else OSError; and ValueError for a
        token that cannot stand in a header. There is no time limit.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        async with self._places:
            if method in _READING:
                target = self._target("GET", self._address(method).with_query(_plain(given)), token)
                try:
                    return await self._send(target)
                except StaleConnection:  # nothing is done twice by asking twice
                    return await self._send(target)
            if method in _IN_ADDRESS:
                return await self._send(self._target("POST", self._address(method).with_query(_plain(given)), token))
            known = self._targets.get((method, token))
            if known is None:
                known = self._target("POST", self._address(method), token, json=True)
                self._targets[(method, token)] = known
            return await self._send(known, json.dumps(given).encode())

    async def _send(self, target: Target, body: bytes = b"") -> Answer:
        with closing(await self._http.send(target, body, connect_timeout=_CONNECT)) as response:
            is_json = response.content_type == "application/json"
            return Answer(response.status, response.headers, await _json_in(response) if is_json else None)

    def _address(self, method: str) -> URL:
        return self._url / method.replace("_", ".")

    def _target(self, verb: str, url: URL, token: str, *, json: bool = False) -> Target:
        headers = {"Authorization": f"Bearer {token or self._token}", "User-Agent": "chatgpt-ms"}
        if json:
            headers["Content-Type"] = "application/json;charset=utf-8"
        return Target.of(verb, url, headers, self._proxy)


def _plain(arguments: Mapping[str, Any]) -> dict[str, str]:
    """As they stand in an address: true and false are 1 and 0 there, and half a character has no place."""
    texts = {name: str(int(value) if isinstance(value, bool) else value) for name, value in arguments.items()}
    return {name: text.encode("utf-8", "replace").decode() for name, text in texts.items()}


async def _json_in(response: Response) -> Any:
    body = bytearray()
    while piece := await response.read():
        body += piece
        if len(body) > _LONGEST:
            raise NoHttp(f"the answer is longer than {_LONGEST} bytes")
    try:
        return json_of(body)
    except ValueError:
        return None
