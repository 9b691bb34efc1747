"""How a simulated Feishu delivers: by one of an app's long connections, or by HTTP; again when nobody acknowledges.

https://open.feishu.cn/document/ukTMukTMukTM/uUTNz4SN1MjL1UzM: an answer within 3 seconds, else again after 15 s, 5 min,
1 h and 6 h. Callbacks (somebody clicked a card) come once. The long connection is published as code alone:
https://github.com/larksuite/oapi-sdk-python, lark_oapi/ws.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import itertools
import json
import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.simulators.feishu_frame import CONTROL, DATA, Frame
from tests.simulators.feishu_state import FeishuApp, FeishuState
from tests.simulators.feishu_webhook import request_of
from tests.simulators.links import Link, Links

RETRIES = (15.0, 300.0, 3600.0, 21_600.0)
ACKNOWLEDGE_WITHIN = 3.0
VERIFY_WITHIN = 1.0
MOST_SOCKETS = 50
MESSAGE = "im.message.receive_v1"
CALLBACK = "card.action.trigger"
_SERVICE = 33554678

Answer = dict[str, Any] | None


@dataclass(eq=False)
class _Socket(Link):
    waiting: dict[str, asyncio.Future[Frame]] = field(default_factory=dict)
    """By the `message_id` of the frame."""
    pings: int = 0


class FeishuDelivery(Links[_Socket]):
    """Long connections, and what is sent over them; webhooks too."""

    def __init__(self, state: FeishuState) -> None:
        """Acknowledged is what was answered with code 200 (HTTP: status 200); each refused attempt to connect is refused
        in another way."""
        super().__init__()
        self.state = state
        self.refused: Counter[str] = Counter()
        """Other answers, by the id that `deliver` was given."""
        self.attempts: Counter[str] = Counter()
        self.answers: dict[str, Answer] = {}
        """What an acknowledgement carried: the answer to a callback."""
        self.ping_every = 1
        """Seconds; in life it is 120."""
        self.pieces = 1
        """In how many frames an event comes, out of order."""
        self.base = ""
        self.session: aiohttp.ClientSession | None = None
        self._tickets: dict[str, FeishuApp] = {}
        self._owed: dict[int, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}
        """What will be delivered again."""
        self._numbers = itertools.count()

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/callback/ws/endpoint", self._endpoint), web.get("/ws/v2", self._link)]

    async def close(self) -> None:
        await super().close()
        if self.session is not None:
            await self.session.close()

    # Connecting

    async def _endpoint(self, request: web.Request) -> web.Response:
        body = await request.json()
        app = next((app for app in self.state.apps.values() if app.id == body.get("AppID")), None)
        if app is None or not app.valid or body.get("AppSecret") != app.secret:
            return web.json_response({"code": 1000040346, "msg": "app_id or app_secret is invalid"})
        if self.refuse[app.name] > 0 and self.refuse[app.name] % 3 != 1:
            self.refuse[app.name] -= 1
            if self.refuse[app.name] % 3 == 1:
                return web.json_response({"code": 1, "msg": "system busy"})
            return web.Response(status=502, text="<html>502 Bad Gateway</html>", content_type="text/html")
        ticket = secrets.token_hex(8)
        self._tickets[ticket] = app
        query = (
            f"device_id={self.state.number()}&service_id={_SERVICE}&access_key={secrets.token_hex(4)}&ticket={ticket}"
        )
        data = {"URL": f"ws{self.base.removeprefix('http')}/ws/v2?{query}", "ClientConfig": self._client_config()}
        return web.json_response({"code": 0, "msg": "", "data": data})

    def _client_config(self) -> dict[str, int]:
        return {"ReconnectCount": -1, "ReconnectInterval": 1, "ReconnectNonce": 1, "PingInterval": self.ping_every}

    async def _link(self, request: web.Request) -> web.StreamResponse:
        app = self._tickets.pop(request.query.get("ticket", ""), None)
        if app is None or not app.valid:
            return _refusal(514, "auth failed", 1000040344)
        if self.refuse[app.name] > 0:
            self.refuse[app.name] -= 1
            return _refusal(500, "internal error")
        if len(self.open(app.name)) >= MOST_SOCKETS:
            return _refusal(514, "exceed conn limit", 1000040350)
        response = web.WebSocketResponse(autoping=False, timeout=0.5)
        await response.prepare(request)
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        socket = _Socket(app, response, transport)
        await self.add(socket)
        try:
            async for message in response:
                await self._received(socket, message)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.remove(socket)
            for waiting in socket.waiting.values():
                waiting.cancel()
        return response

    async def _received(self, socket: _Socket, message: aiohttp.WSMessage) -> None:
        if socket.silent:
            return
        if message.type is aiohttp.WSMsgType.PING:
            await socket.response.pong(message.data)
        elif message.type is aiohttp.WSMsgType.BINARY:
            try:
                frame = Frame.decode(message.data)
            except (ValueError, KeyError) as error:
                self.state.complain(f"the long connection: {error}")
                return
            if frame.service != _SERVICE:
                self.state.complain(f"the long connection: a frame for the service {frame.service}")
            elif frame.method == CONTROL:
                await self._control(socket, frame)
            else:
                self._answered(socket, frame)
        elif message.type is not aiohttp.WSMsgType.PONG:
            self.state.complain(f"the long connection: {message.type.name} is not binary")

    async def _control(self, socket: _Socket, frame: Frame) -> None:
        if frame.headers.get("type") != "ping":
            self.state.complain(f"the long connection: control of type {frame.headers.get('type')}")
            return
        socket.pings += 1
        payload = json.dumps(self._client_config()).encode()
        await socket.response.send_bytes(Frame(_SERVICE, CONTROL, {"type": "pong"}, payload).encode())

    def _answered(self, socket: _Socket, frame: Frame) -> None:
        waiting = socket.waiting.pop(frame.headers.get("message_id", ""), None)
        if waiting is None:
            self.state.complain(f"the long connection: an answer to nothing: {frame.headers}")
        elif not waiting.done():
            waiting.set_result(frame)

    # Deliveries

    def deliver(self, app: FeishuApp, id: str, payload: dict[str, Any], *, retries: bool = True) -> None:
        """Deliver, and again if nobody acknowledges. `id` is what acknowledgements are counted by."""
        callback = payload["header"]["event_type"] == CALLBACK
        self._begin(app, id, payload, RETRIES if retries and not callback else ())

    def _begin(self, app: FeishuApp, id: str, payload: dict[str, Any], retries: tuple[float, ...]) -> None:
        if not self._closing:
            self.spawn(self._deliver(app, id, payload, retries))

    async def _deliver(self, app: FeishuApp, id: str, payload: dict[str, Any], retries: tuple[float, ...]) -> None:
        self.attempts[id] += 1
        if app.mode == "websocket":
            taken = await self._by_socket(app, id, payload)
        else:
            taken = await self.by_http(app, id, payload)
        if taken:
            self.acknowledged[id] += 1
        elif retries:
            again = functools.partial(self._begin, app, id, payload, retries[1:])
            number = next(self._numbers)
            timer = asyncio.get_running_loop().call_later(self.state.later(retries[0]), self._due, number)
            self._owed[number] = (timer, again)

    def _due(self, number: int) -> None:
        _, again = self._owed.pop(number)
        again()

    def bring_again(self) -> int:
        """What nobody acknowledged is delivered again now instead of later; how many deliveries those are."""
        owed, self._owed = self._owed, {}
        for timer, again in owed.values():
            timer.cancel()
            again()
        return len(owed)

    async def _by_socket(self, app: FeishuApp, id: str, payload: dict[str, Any]) -> bool:
        sockets = self.open(app.name)
        if not sockets:
            return False
        socket = random.choice(sockets)
        frames = self._frames(payload)
        waiting: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        socket.waiting[frames[0].headers["message_id"]] = waiting
        try:
            for frame in frames:
                if not socket.silent:
                    await socket.response.send_bytes(frame.encode())
            async with asyncio.timeout(ACKNOWLEDGE_WITHIN):
                return self._is_taken(id, payload, await waiting)
        except TimeoutError:
            if payload["header"]["event_type"] != MESSAGE and not socket.silent:
                self.state.complain(f"{payload['header']['event_type']} was not acknowledged")
            return False
        except ConnectionError:
            return False
        except asyncio.CancelledError:
            if self._closing:
                raise
            return False  # the socket went away

    def _frames(self, payload: dict[str, Any]) -> list[Frame]:
        body = json.dumps(payload, ensure_ascii=False).encode()
        size = -(-len(body) // self.pieces)
        parts = [body[start : start + size] for start in range(0, len(body), size)]
        common = {"type": "event", "message_id": secrets.token_hex(16), "trace_id": secrets.token_hex(16)}
        frames = [
            Frame(_SERVICE, DATA, {**common, "sum": str(len(parts)), "seq": str(seq)}, part)
            for seq, part in enumerate(parts)
        ]
        random.shuffle(frames)
        return frames

    def _is_taken(self, id: str, payload: dict[str, Any], frame: Frame) -> bool:
        kind = payload["header"]["event_type"]
        try:
            answer = json.loads(frame.payload)
            code = answer["code"]
            data = answer.get("data")
            self.answers[id] = json.loads(base64.b64decode(data)) if data else None
        except (ValueError, KeyError, TypeError, AttributeError):
            self.state.complain(f"{kind} was acknowledged with {frame.payload!r}")
            return False
        if code == 200:
            return True
        self.refused[id] += 1
        if kind != MESSAGE:
            self.state.complain(f"{kind} was answered with code {code}")
        return False

    # Webhooks

    async def by_http(self, app: FeishuApp, id: str, payload: dict[str, Any]) -> bool:
        status, self.answers[id] = await self.post(app, payload, within=ACKNOWLEDGE_WITHIN)
        self.refused[id] += status not in (0, 200)
        return status == 200

    async def verify(self, app: FeishuApp) -> bool:
        """What happens when somebody saves the request address in the console."""
        challenge = {"challenge": secrets.token_hex(8), "token": app.verification_token, "type": "url_verification"}
        status, answer = await self.post(app, challenge, within=VERIFY_WITHIN, signed=False)
        return status == 200 and answer == {"challenge": challenge["challenge"]}

    async def post(
        self, app: FeishuApp, payload: dict[str, Any], *, within: float, signed: bool = True
    ) -> tuple[int, Answer]:
        """Status and answer; 0 where there was none."""
        body, headers = request_of(app, payload, signed=signed)
        self.session = self.session or aiohttp.ClientSession()
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=within, connect=2.0)
            async with self.session.post(
                app.url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as response:
                text = await response.text()
                is_json = response.content_type == "application/json" and text
                return response.status, json.loads(text) if is_json else None
        return 0, None


def _refusal(status: int, message: str, code: int | None = None) -> web.Response:
    """A handshake that is refused says why in headers."""
    headers = {"Handshake-Status": str(status), "Handshake-Msg": message}
    if code is not None:
        headers["Handshake-Autherrcode"] = str(code)
    return web.Response(status=status if status < 506 else 403, headers=headers)
