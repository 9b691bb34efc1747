"""How a simulated Slack delivers: Socket Mode and signed HTTP requests, again when nobody acknowledges.

https://docs.slack.dev/apis/events-api/using-socket-mode, https://docs.slack.dev/apis/events-api#retries: an answer
within 3 seconds, else the event comes again at once, after a minute and after five.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import hmac
import json
import random
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import aiohttp
from aiohttp import web

from tests.simulators.links import Link, Links
from tests.simulators.slack_state import SlackApp, SlackState

RETRIES = (0.0, 60.0, 300.0)
ACKNOWLEDGE_WITHIN = 3.0
MOST_SOCKETS = 10
TICKET_LASTS = 30.0


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    return "v0=" + hmac.new(secret.encode(), b"v0:" + timestamp.encode() + b":" + body, hashlib.sha256).hexdigest()


@dataclass(eq=False)
class _Socket(Link):
    waiting: dict[str, asyncio.Future[dict[str, Any] | None]] = field(default_factory=dict)


class SlackDelivery(Links[_Socket]):
    """Sockets, and what is sent over them."""

    def __init__(self, state: SlackState) -> None:
        super().__init__()
        self.state = state
        self.attempts: Counter[str] = Counter()
        self.bodies: dict[str, dict[str, Any] | None] = {}
        """What an acknowledgement carried."""
        self.base = ""
        self._tickets: dict[str, tuple[SlackApp, float]] = {}
        self.session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        await super().close()
        if self.session is not None:
            await self.session.close()

    # Sockets

    def ticket(self, app: SlackApp) -> str:
        """The URL that `apps.connections.open` gives: good for one connection, soon."""
        ticket = secrets.token_hex(8)
        self._tickets[ticket] = (app, time.monotonic() + TICKET_LASTS)
        return f"ws{self.base.removeprefix('http')}/link?ticket={ticket}&app_id={app.id}"

    async def link(self, request: web.Request) -> web.StreamResponse:
        app, until = self._tickets.pop(request.query.get("ticket", ""), (None, 0.0))
        if app is None or time.monotonic() > until:
            return web.Response(status=403)
        if self.refuse[app.name] > 0:
            self.refuse[app.name] -= 1
            return web.Response(status=503)
        response = web.WebSocketResponse(autoping=False, timeout=0.5)
        await response.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        socket = _Socket(app, response, transport)
        if len(self.open(app.name)) >= MOST_SOCKETS:
            await response.send_json(
                {"type": "disconnect", "reason": "too_many_websockets", "debug_info": {"host": "s"}}
            )
            await response.close()
            return response
        hello = {
            "type": "hello",
            "num_connections": len(self.open(app.name)) + 1,
            "connection_info": {"app_id": app.id},
            "debug_info": {"host": "applink-1", "build_number": 1, "approximate_connection_time": 18060},
        }
        await response.send_json(hello)
        await self.add(socket)
        try:
            async for frame in response:
                await self._frame(socket, frame)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.remove(socket)
            for waiting in socket.waiting.values():
                if not waiting.done():
                    waiting.cancel()
        return response

    async def _frame(self, socket: _Socket, frame: aiohttp.WSMessage) -> None:
        if socket.silent:
            return
        if frame.type is aiohttp.WSMsgType.PING:
            await socket.response.pong(frame.data)
        elif frame.type is aiohttp.WSMsgType.TEXT:
            message = json.loads(frame.data)
            waiting = socket.waiting.pop(message.get("envelope_id", ""), None)
            if waiting is None:
                self.state.complain(f"an acknowledgement of nothing: {frame.data!r}")
            elif not waiting.done():
                waiting.set_result(message.get("payload"))

    async def disconnect(self, name: str, reason: str) -> None:
        """Announce the end of every open connection: `warning`, `refresh_requested`, `link_disabled`."""
        for socket in self.open(name):
            await socket.response.send_json(
                {"type": "disconnect", "reason": reason, "debug_info": {"host": "applink-1"}}
            )

    # Deliveries

    def deliver(
        self, app: SlackApp, id: str, payload: dict[str, Any], *, kind: str = "events_api", retries: bool = True
    ) -> None:
        """Deliver, and again if nobody acknowledges. `id` is what acknowledgements are counted by."""
        self._begin(app, id, payload, kind, 0, RETRIES if retries else ())

    def _begin(
        self, app: SlackApp, id: str, payload: dict[str, Any], kind: str, attempt: int, retries: tuple[float, ...]
    ) -> None:
        if not self._closing:
            self.spawn(self._deliver(app, id, payload, kind, attempt, retries))

    async def _deliver(
        self, app: SlackApp, id: str, payload: dict[str, Any], kind: str, attempt: int, retries: tuple[float, ...]
    ) -> None:
        self.attempts[id] += 1
        if app.mode == "socket":
            taken = await self._by_socket(app, id, payload, kind, attempt, "timeout" if attempt else "")
        else:
            taken = await self.by_http(app, id, payload, kind, attempt)
        if taken:
            self.acknowledged[id] += 1
        elif retries:
            again = functools.partial(self._begin, app, id, payload, kind, attempt + 1, retries[1:])
            asyncio.get_running_loop().call_later(retries[0], again)

    async def _by_socket(
        self, app: SlackApp, id: str, payload: dict[str, Any], kind: str, attempt: int, reason: str
    ) -> bool:
        sockets = self.open(app.name)
        if not sockets:
            return False
        socket = random.choice(sockets)
        envelope_id = secrets.token_hex(12)
        waiting: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        socket.waiting[envelope_id] = waiting
        envelope = {
            "envelope_id": envelope_id,
            "payload": payload,
            "type": kind,
            "accepts_response_payload": kind == "slash_commands",
            "retry_attempt": attempt,
            "retry_reason": reason,
        }
        try:
            if not socket.silent:
                await socket.response.send_json(envelope)
            async with asyncio.timeout(ACKNOWLEDGE_WITHIN):
                self.bodies[id] = await waiting
        except (TimeoutError, ConnectionError):
            return False
        except asyncio.CancelledError:
            if self._closing:
                raise
            return False  # the socket went away
        return True

    async def by_http(self, app: SlackApp, id: str, payload: dict[str, Any], kind: str, attempt: int) -> bool:
        form = kind == "slash_commands"
        body = urlencode(payload).encode() if form else json.dumps(payload).encode()
        # Deliveries of one event are seconds apart, so that no two requests are the same to the byte.
        timestamp = str(int(time.time()) - self.attempts[id] % 250)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded" if form else "application/json",
            "X-Slack-Request-Timestamp": timestamp,
            "X-Slack-Signature": sign(app.signing_secret, timestamp, body),
        }
        if attempt:
            headers |= {"X-Slack-Retry-Num": str(attempt), "X-Slack-Retry-Reason": "http_timeout"}
        self.session = self.session or aiohttp.ClientSession()
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=ACKNOWLEDGE_WITHIN)
            async with self.session.post(app.url, data=body, headers=headers, timeout=timeout) as response:
                text = await response.text()
                self.bodies[id] = json.loads(text) if response.content_type == "application/json" else None
                return 200 <= response.status < 300
        return False
