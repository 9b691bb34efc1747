"""The door of Feishu's HTTP API: tokens, scopes, frequency limits, scripted faults, and how answers look.

https://open.feishu.cn/document/server-docs/api-call-guide/generic-error-code,
https://open.feishu.cn/document/server-docs/api-call-guide/frequency-control.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.simulators import faults
from tests.simulators.faults import Lost, befalls
from tests.simulators.feishu_content import Refused
from tests.simulators.feishu_state import FeishuApp, FeishuState

TOKEN_LASTS = 7200.0
TOKEN_RENEWED = 1800.0
"""Seconds that must remain, or a request for a token gets a new one."""
PER_SECOND, PER_MINUTE = 50, 1000
"""Calls of one API by one app."""
SCOPES_WANTED = {
    "send": ("im:message", "im:message:send_as_bot", "im:message:send"),
    "update": ("im:message", "im:message:send_as_bot", "im:message:update"),
    "recall": ("im:message", "im:message:recall", "im:message:send_as_bot"),
    "read": ("im:message", "im:message:readonly", "im:message.history:readonly"),
    "reactions": ("im:message:readonly", "im:message.reactions:read"),
    "react": ("im:message", "im:message.reactions:write_only"),
    "card": ("cardkit:card:write",),
    "chats": ("im:chat", "im:chat:readonly", "im:chat:read"),
    "upload": ("im:resource", "im:resource:upload"),
    "itself": ("application:application:self_manage",),
    "nothing": (),
}


@dataclass
class Call:
    """What a handler is given."""

    app: FeishuApp
    path: dict[str, str]
    query: dict[str, str]
    body: dict[str, Any]
    size: int
    form: dict[str, Any]


Handler = Callable[[Call], Awaitable["dict[str, Any] | web.Response"]]


@dataclass(frozen=True)
class Api:
    """One API; `name` as the SDKs call it."""

    name: str
    method: str
    path: str
    needs: str
    """A key of SCOPES_WANTED."""
    handler: Handler


@dataclass
class Fault(faults.Fault):
    code: int = 0
    """Of the answer to a call, where the kind is `code`."""


class FeishuApi:
    """Add its routes to a server."""

    def __init__(self, state: FeishuState) -> None:
        self.state = state
        self.faults: list[Fault] = []
        self.apis: list[Api] = []
        self.per_minute = PER_MINUTE
        self.limits: Counter[str] = Counter()
        """Calls that were more than an app may make, by API."""
        self._calls: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._paused: dict[tuple[str, str], float] = {}

    def routes(self) -> list[web.RouteDef]:
        served = [web.route(api.method, f"/open-apis{api.path}", self._serving(api)) for api in self.apis]
        return [
            web.post("/open-apis/auth/v3/tenant_access_token/internal", self._token),
            *served,
            web.route("*", "/open-apis/{path:.*}", self._unknown),
        ]

    # Credentials

    async def _token(self, request: web.Request) -> web.Response:
        """Refusals have status 200 (https://github.com/excitedjs/dreamux/issues/417)."""
        body = await _json(request)
        app = next((app for app in self.state.apps.values() if app.id == body.get("app_id")), None)
        if not isinstance(body.get("app_id"), str) or not str(body["app_id"]).startswith("cli_"):
            return web.json_response({"code": 10003, "data": {}, "msg": "invalid param"})
        if app is None:
            return web.json_response({"code": 10014, "msg": "app id not exists"})
        if body.get("app_secret") != app.secret or not app.valid:
            return web.json_response({"code": 10014, "msg": "app secret invalid"})
        now = time.monotonic()
        token = next((each for each, until in app.tokens.items() if until - now >= self._later(TOKEN_RENEWED)), None)
        if token is None:
            token = f"t-{secrets.token_hex(20)}"
            app.tokens[token] = now + self._later(TOKEN_LASTS)
        left = math.floor((app.tokens[token] - now) * self.state.speed)
        return web.json_response({"code": 0, "msg": "ok", "tenant_access_token": token, "expire": left})

    def _later(self, seconds: float) -> float:
        return self.state.later(seconds)

    def _authenticate(self, request: web.Request) -> FeishuApp:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not token:
            raise Refused(99991661, "Missing access token for authorization.", mistake=True)
        if not token.startswith(("t-", "u-")):
            raise Refused(99991671, "Invalid access token: must start with t-/u-", mistake=True)
        for app in self.state.apps.values():
            if app.valid and app.tokens.get(token, 0.0) > time.monotonic():
                return app
        raise Refused(99991663, "Invalid access token for authorization. Please make a request with token attached.")

    # One call

    def _serving(self, api: Api) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def serve(request: web.Request) -> web.Response:
            try:
                return _answer(await self._call(api, request))
            except Refused as refused:
                if refused.mistake:
                    self.state.complain(f"{api.name}: {refused.code} {refused.msg}")
                body = {"code": refused.code, "msg": refused.msg, "error": {"log_id": _log_id(), **refused.more}}
                return web.json_response(body, status=refused.status, headers=refused.headers)
            except Lost:
                assert request.transport is not None
                request.transport.abort()
                return web.Response(status=500)  # nobody gets it

        return serve

    async def _call(self, api: Api, request: web.Request) -> dict[str, Any] | web.Response:
        app = self._authenticate(request)
        wanted = SCOPES_WANTED[api.needs]
        if wanted and not app.scopes & set(wanted):
            text = f"Access denied. One of the following scopes is required: [{', '.join(wanted)}]"
            violations = [{"type": "action_scope_required", "subject": scope} for scope in wanted]
            raise Refused(99991672, text, permission_violations=violations)
        call = await self._read(api, request, app)
        self.state.calls.append((api.name, {**call.path, **call.query, **call.body}))
        self._limit(api, app)
        fault = befalls(self.faults, api.name)
        if fault is None:
            return await api.handler(call)
        match fault.kind:
            case "limit":
                raise self.limited(app, api, fault.seconds)
            case "lost":
                await api.handler(call)
                raise Lost
            case "broken":
                raise Lost
            case "html":
                page = "<html><head><title>502 Bad Gateway</title></head></html>"
                return web.Response(status=502, text=page, content_type="text/html")
            case _:
                raise Refused(fault.code, "scripted")

    async def _read(self, api: Api, request: web.Request, app: FeishuApp) -> Call:
        body: dict[str, Any] = {}
        form: dict[str, Any] = {}
        raw = b""
        if request.content_type == "multipart/form-data":
            form = dict(await request.post())
        elif request.method in ("POST", "PUT", "PATCH"):
            raw = await request.read()
            if request.content_type != "application/json":
                self.state.complain(f"{api.name}: the body is {request.content_type}, not JSON")
            body = await _json(request)
        return Call(app, dict(request.match_info), dict(request.query), body, len(raw), form)

    def forget_pauses(self) -> None:
        """A process that begins anew does not know what another one was asked to wait for."""
        self._paused.clear()

    def limited(self, app: FeishuApp, api: Api, seconds: float) -> Refused:
        """The app shall not call this API for so long."""
        self._paused[app.name, api.name] = time.monotonic() + seconds
        headers = {"x-ogw-ratelimit-limit": str(PER_SECOND), "x-ogw-ratelimit-reset": str(max(1, math.ceil(seconds)))}
        return Refused(99991400, "request trigger frequency limit", status=429, headers=headers)

    def _limit(self, api: Api, app: FeishuApp) -> None:
        now = time.monotonic()
        if now < self._paused.get((app.name, api.name), 0.0) - 0.02:
            self.state.complain(f"{api.name}: called during the pause that was asked for")
        calls = self._calls[app.name, api.name]
        while calls and calls[0] < now - 60:
            calls.popleft()
        too_many_a_minute = len(calls) >= self.per_minute
        if too_many_a_minute or sum(at > now - 1 for at in calls) >= PER_SECOND:
            self.limits[api.name] += 1
            raise self.limited(app, api, calls[0] + 60 - now if too_many_a_minute else 1.0)
        calls.append(now)

    async def _unknown(self, request: web.Request) -> web.Response:
        self.state.complain(f"{request.method} {request.path} is no API that is known here")
        return web.Response(status=404, text="404 page not found")


async def _json(request: web.Request) -> dict[str, Any]:
    try:
        value = json.loads(await request.read() or b"{}")
    except ValueError:
        raise Refused(9499, "Bad Request", mistake=True) from None
    if not isinstance(value, dict):
        raise Refused(9499, "Bad Request", mistake=True)
    return value


def _answer(data: dict[str, Any] | web.Response) -> web.Response:
    if isinstance(data, web.Response):
        return data
    return web.json_response({"code": 0, "msg": "success", "data": data}, headers={"X-Tt-Logid": _log_id()})


def _log_id() -> str:
    return secrets.token_hex(16)


def text_of(call: Call, name: str, *, code: int, most: int = 0) -> str:
    """A required string of the body."""
    value = call.body.get(name)
    if not isinstance(value, str) or not value or (most and len(value) > most):
        raise Refused(code, f"invalid request parameter, ext={name}", mistake=True)
    return value


def number_of(call: Call, name: str, *, default: int, least: int, most: int, code: int) -> int:
    """A number of the query, within its bounds."""
    text = call.query.get(name, str(default))
    if not text.isdecimal() or not least <= int(text) <= most:
        raise Refused(code, f"invalid request parameter, ext={name} is {text}", mistake=True)
    return int(text)


def page_of(items: Sequence[Any], call: Call, size: int) -> tuple[Sequence[Any], dict[str, Any]]:
    """One page, and how to get the next."""
    token = call.query.get("page_token", "")
    if token and not token.startswith("page-"):
        raise Refused(230001, "invalid request parameter, ext=page_token", mistake=True)
    start = int(token.removeprefix("page-") or 0)
    more = len(items) > start + size
    return items[start : start + size], {"has_more": more, **({"page_token": f"page-{start + size}"} if more else {})}
