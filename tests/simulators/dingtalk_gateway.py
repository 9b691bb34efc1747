"""A simulated DingTalk's stream: a ticket, a WebSocket, pushes and their acknowledgements.

https://opensource.dingtalk.com/developerpedia/docs/learn/stream/protocol. That page calls the pushes of robot messages
fire-and-forget; since 2026 one that is not acknowledged comes again a minute later, with another `messageId` and the same
message: https://github.com/DingTalk-Real-AI/dingtalk-openclaw-connector/issues/26.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape

import aiohttp
from aiohttp import web

from tests.simulators.dingtalk_api import DingTalkApi, Refused
from tests.simulators.dingtalk_world import DingTalkApp, DingTalkWorld
from tests.simulators.links import Link, Links

MESSAGES = "/v1.0/im/bot/messages/get"
OPEN = "POST /v1.0/gateway/connections/open"
TICKET_LASTS = 90.0
AGAIN_AFTER = 60.0
"""Seconds without an acknowledgement after which a message is pushed again."""
FAREWELL = 10.0
"""Seconds between the announcement of an end and the end."""


@dataclass(eq=False)
class _Socket(Link):
    app: DingTalkApp
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    topics: set[tuple[str, str]] = field(default_factory=set)
    pushed: dict[str, str] = field(default_factory=dict)
    """The event of each `messageId` that is not acknowledged."""
    asked: dict[str, str] = field(default_factory=dict)
    """The opaque text of each SYSTEM ping that is not answered."""
    leaving: bool = False
    """Its end is announced: it gets nothing more."""

    @property
    def hears(self) -> bool:
        return not self.silent and not self.leaving


@dataclass
class _Push:
    app: DingTalkApp
    topic: str
    data: str


class DingTalkGateway(Links[_Socket]):
    """Add its routes to a server, before the API's."""

    def __init__(self, world: DingTalkWorld, api: DingTalkApi) -> None:
        super().__init__()
        self.world = world
        self.api = api
        self.base = ""
        self.failed: Counter[str] = Counter()
        """Acknowledgements that say that the handler failed, by event."""
        self.answers: deque[dict[str, Any]] = deque(maxlen=1_000)
        """To pushes, as they were."""
        self.opened: Counter[str] = Counter()
        """Tickets given, by app."""
        self.ping_every = 1.0
        """Seconds between SYSTEM pings. The real one's are not documented."""
        self.farewell = FAREWELL
        self._tickets: dict[str, tuple[DingTalkApp, set[tuple[str, str]], float]] = {}
        self._pending: dict[str, _Push] = {}
        self._timers: set[asyncio.TimerHandle] = set()

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/v1.0/gateway/connections/open", self._serve_open), web.get("/connect", self._connect)]

    async def close(self) -> None:
        for timer in self._timers:
            timer.cancel()
        await super().close()

    # Connecting

    async def _serve_open(self, request: web.Request) -> web.StreamResponse:
        return await self.api.guarded(request, lambda: self._open(request))

    async def _open(self, request: web.Request) -> web.StreamResponse:
        arguments = await self.api.body(request, OPEN)
        wanted = arguments.get("clientId"), arguments.get("clientSecret")
        app = next((a for a in self.world.apps.values() if a.valid and wanted == (a.client_id, a.client_secret)), None)
        if app is None:
            raise Refused(401, "authFailed", "鉴权失败")
        subscriptions = arguments.get("subscriptions")
        if not isinstance(subscriptions, list) or not subscriptions:
            self.world.complain(f"{OPEN}: no subscriptions")
            raise Refused(400, "param.error", "subscriptions is empty")
        topics = {(str(each.get("type")), str(each.get("topic"))) for each in subscriptions}

        async def ticket() -> dict[str, Any]:
            name = secrets.token_hex(16)
            self._tickets[name] = (app, topics, time.monotonic() + TICKET_LASTS)
            self.opened[app.name] += 1
            return {"endpoint": f"ws{self.base.removeprefix('http')}/connect", "ticket": name}

        if "json" not in request.headers.get("Accept", ""):  # XML is what it speaks by default
            fields = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in (await ticket()).items())
            return web.Response(text=f"<result>{fields}</result>", content_type="application/xml")
        return await self.api.carry_out(OPEN, app.name, app, ticket, {**arguments, "clientSecret": "…"})

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        app, topics, until = self._tickets.pop(request.query.get("ticket", ""), (None, set(), 0.0))
        if app is None or time.monotonic() > until:
            return web.Response(status=401)
        if self.refuse[app.name] > 0:
            self.refuse[app.name] -= 1
            return web.Response(status=503)
        response = web.WebSocketResponse(autoping=False, autoclose=False, timeout=0.5)
        await response.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        socket = _Socket(app, response, transport, topics=topics)
        await self.add(socket)
        self.spawn(self._keep_pinging(socket))
        try:
            async for frame in response:
                await self._frame(socket, frame)
            while socket.silent and not transport.is_closing():  # not even a farewell is answered
                await asyncio.sleep(0.02)
            await response.close()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.remove(socket)
        return response

    async def _keep_pinging(self, socket: _Socket) -> None:
        while socket in self.links:
            await asyncio.sleep(self.ping_every)
            if socket.hears:
                opaque = secrets.token_hex(16)
                id = await self._send(socket, "SYSTEM", "ping", json.dumps({"opaque": opaque}))
                socket.asked[id] = opaque

    async def _send(self, socket: _Socket, type: str, topic: str, data: str, event: str = "") -> str:
        """One frame; returns its `messageId`."""
        id = f"{secrets.token_hex(4)}_{secrets.randbelow(4096):x}_{secrets.token_hex(6)}_{secrets.token_hex(3)}"
        headers = {
            "appId": f"1305d5f5-{socket.app.number:04d}",
            "connectionId": socket.id,
            "contentType": "application/json",
            "messageId": id,
            "time": str(int(time.time() * 1000)),
            "topic": topic,
        }
        if event:
            socket.pushed[id] = event
        try:
            await socket.response.send_json({"specVersion": "1.0", "type": type, "headers": headers, "data": data})
        except (ConnectionError, RuntimeError):
            socket.pushed.pop(id, None)
        return id

    # What clients say

    async def _frame(self, socket: _Socket, frame: aiohttp.WSMessage) -> None:
        if socket.silent:
            return
        if frame.type is aiohttp.WSMsgType.PING:
            await socket.response.pong(frame.data)
        elif frame.type is aiohttp.WSMsgType.TEXT:
            wrong = self._answered(socket, frame.data)
            if wrong:
                self.world.complain(f"an answer on the stream: {wrong}: {frame.data!r:.300}")

    def _answered(self, socket: _Socket, text: str) -> str:
        """Take an answer; what is wrong with it."""
        try:
            answer = json.loads(text)
            code, headers, data = answer["code"], dict(answer["headers"]), dict(json.loads(answer["data"]))
        except (ValueError, KeyError, TypeError):
            return "malformed"
        id = headers.get("messageId")
        if not id:  # an answer to the announcement of an end, which needs none
            return "" if socket.leaving else "without a messageId"
        if headers.get("contentType") != "application/json":
            return "without its content type"
        if id in socket.asked:
            return "" if socket.asked.pop(id) == data.get("opaque") else "a ping's text is not given back"
        self.answers.append(answer)
        event = socket.pushed.pop(id, "")
        if not event:
            return "" if socket.leaving else "to nothing"
        if code == 200:
            self.acknowledged[event] += 1
            self._pending.pop(event, None)
        else:
            self.failed[event] += 1
        return ""

    # What a test does

    async def disconnect(self, name: str, reason: str = "connection is expired", *, pushes_on: bool = False) -> None:
        """Announce the end of every open connection, push nothing more there (or still, what was on its way), and close
        it after a while."""
        for socket in self.open(name):
            socket.leaving = not pushes_on
            await self._farewell(socket, reason)

    async def _farewell(self, socket: _Socket, reason: str) -> None:
        headers = {"topic": "disconnect", "contentType": "application/json"}
        data = json.dumps({"reason": reason})
        await socket.response.send_json({"specVersion": "1.0", "type": "SYSTEM", "headers": headers, "data": data})

        async def leave() -> None:
            await asyncio.sleep(self.farewell)
            if not socket.response.closed:
                await socket.response.close()

        self.spawn(leave())

    def push(self, app: DingTalkApp, event: str, data: dict[str, Any], *, topic: str = MESSAGES) -> None:
        """Push to one of the app's connections, and once more if nobody acknowledges within a minute."""
        self._pending[event] = _Push(app, topic, json.dumps(data, ensure_ascii=False))
        self.spawn(self._deliver(event, self._pending[event]))

        def again() -> None:
            if event in self._pending:
                self.spawn(self._deliver(event, self._pending[event]))

        self._timers.add(asyncio.get_running_loop().call_later(AGAIN_AFTER, again))

    def push_again(self, app: DingTalkApp, event: str, data: dict[str, Any]) -> None:
        """The same once more, whatever was acknowledged."""
        self.spawn(self._deliver(event, _Push(app, MESSAGES, json.dumps(data, ensure_ascii=False))))

    def unacknowledged(self) -> list[str]:
        """Events that are still owed."""
        return list(self._pending)

    def after_a_minute(self) -> int:
        """What nobody acknowledged is pushed again now instead of later; how many those are."""
        for event, push in self._pending.items():
            self.spawn(self._deliver(event, push))
        return len(self._pending)

    async def _deliver(self, event: str, push: _Push) -> None:
        wanted = ("CALLBACK", push.topic)
        sockets = [each for each in self.open(push.app.name) if not each.leaving and wanted in each.topics]
        # a connection that does not answer its pings is passed over as long as there is another
        sockets = [each for each in sockets if not each.silent] or sockets
        if sockets:
            socket = random.choice(sockets)
            if not socket.silent:
                await self._send(socket, "CALLBACK", push.topic, push.data, event)
