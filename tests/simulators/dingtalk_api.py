"""How a simulated DingTalk serves its APIs: tokens, scopes, limits, refusals, and faults on demand.

Refusals of the new API are an HTTP status with `code`, `message` and `requestid`:
https://open.dingtalk.com/document/development/server-api-error-codes-1; those of the old one are HTTP 200 with
`errcode` and `errmsg`. https://open.dingtalk.com/document/development/call-frequency-limit has the limits of calls.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.simulators import faults
from tests.simulators.dingtalk_world import DingTalkApp, DingTalkWorld
from tests.simulators.faults import Lost, befalls

TOKEN = "POST /v1.0/oauth2/accessToken"
WEBHOOK = "POST /robot/sendBySession"
ONE_TO_ONE = "POST /v1.0/robot/oToMessages/batchSend"
GROUP = "POST /v1.0/robot/groupMessages/send"
CREATE = "POST /v1.0/card/instances"
DELIVER = "POST /v1.0/card/instances/deliver"
CREATE_AND_DELIVER = "POST /v1.0/card/instances/createAndDeliver"
UPDATE = "PUT /v1.0/card/instances"
STREAMING = "PUT /v1.0/card/streaming"
NEW = (WEBHOOK, ONE_TO_ONE, GROUP, DELIVER, CREATE_AND_DELIVER)
"""Calls that show a new message."""
SHOWING = (*NEW, CREATE, UPDATE, STREAMING)
"""Calls that show or change one."""

QPS = 20
"""Calls a second that an app of a company without a contract may make of one call:
https://open.dingtalk.com/document/development/how-to-process-api-throttling-on-the-dingtalk-server; others report 40."""

_TOO_OFTEN = "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"
_ON_THE_WAY = 0.1
"""Seconds in which a call that was sent before a refusal may still arrive."""

_NOBODY = DingTalkApp("nobody", 0)
"""Who calls what needs no token."""

Arguments = dict[str, Any]
Handler = Callable[[DingTalkApp, Arguments], Awaitable[dict[str, Any]]]


class Refused(Exception):
    """The new API's refusal."""

    def __init__(self, status: int, code: str, message: str = "", **more: Any) -> None:
        super().__init__(code)
        self.status = status
        self.body = {"code": code, "requestid": secrets.token_hex(16).upper(), "message": message or code, **more}


class RefusedByOld(Exception):
    """The old API's refusal: HTTP 200 all the same."""

    def __init__(self, errcode: int, errmsg: str) -> None:
        super().__init__(errmsg)
        self.body = {"errcode": errcode, "errmsg": errmsg}


@dataclass
class Fault(faults.Fault):
    """Other kinds: `punished` (the address of the caller is shut out), `bare` (an answer without a body; below 300 it
    took effect), a number of the old API's, or else a code of the new API's."""

    status: int = 400
    """Of a bare answer, or of one with such a code."""


class DingTalkApi:
    """Add its routes to a server. What the calls do is registered by those who do it."""

    def __init__(self, world: DingTalkWorld) -> None:
        self.world = world
        self.faults: list[Fault] = []
        self.qps = QPS
        self._handlers: dict[str, tuple[str, Handler]] = {}
        self._paused: dict[tuple[str, str], tuple[float, float]] = {}
        self._lately: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)
        self.serve(TOKEN, "", self._token)

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", "/v1.0/{path:.*}", self._serve)]

    def serve(self, call: str, scope: str, handler: Handler) -> None:
        """`call` is a method and a path; `scope` is what the app must have been given."""
        self._handlers[call] = (scope, handler)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        call = f"{request.method} {request.path}"
        return await self.guarded(request, lambda: self._call(request, call))

    async def guarded(
        self, request: web.Request, answer: Callable[[], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The answer, or the refusal in the shape of its API."""
        try:
            return await answer()
        except Refused as refused:
            return web.json_response(refused.body, status=refused.status)
        except RefusedByOld as refused:
            return web.json_response(refused.body)
        except Lost:
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError from None

    async def _call(self, request: web.Request, call: str) -> web.StreamResponse:
        if call not in self._handlers:
            self.world.complain(f"{call}: there is no such call")
            raise Refused(404, "InvalidAction.NotFound", "Specified api is not found")
        arguments = await self.body(request, call)
        scope, handler = self._handlers[call]
        if not scope:
            return await self.carry_out(call, "", _NOBODY, lambda: handler(_NOBODY, arguments), arguments)
        app = self.by_token(request.headers.get("x-acs-dingtalk-access-token", ""), call)
        if scope not in app.scopes:
            raise Refused(
                403,
                "Forbidden.AccessDenied.AccessTokenPermissionDenied",
                f"没有调用该接口的权限，接口权限申请参考：https://open.dingtalk.com/document/orgapp-server/add-api-permission {scope}",
                accessdenieddetail={"requiredScopes": [scope]},
            )
        return await self.carry_out(call, app.name, app, lambda: handler(app, arguments), arguments)

    async def body(self, request: web.Request, call: str) -> Arguments:
        """The arguments: a JSON object."""
        try:
            found = json.loads(await request.read())
        except ValueError:
            found = None
        if request.content_type != "application/json" or not isinstance(found, dict):
            self.world.complain(f"{call}: wants a JSON object as application/json")
            raise Refused(400, "invalidParameter.msgBody.invalid", "body必须是JSON")
        return found

    def by_token(self, token: str, call: str) -> DingTalkApp:
        """Whose access token it is."""
        if not token:
            self.world.complain(f"{call}: without an access token")
        for app in self.world.apps.values():
            if app.tokens.get(token, 0.0) > time.monotonic():
                return app
        raise Refused(400, "InvalidAuthentication", "不合法的access_token")

    async def _token(self, _: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        """While a token is good, asking again gives the same one and makes it last longer."""
        wanted = arguments.get("appKey"), arguments.get("appSecret")
        for app in self.world.apps.values():
            if wanted == (app.client_id, app.client_secret) and app.valid:
                now = time.monotonic()
                token = next((each for each, end in app.tokens.items() if end > now), secrets.token_hex(16))
                app.tokens[token] = now + self.world.token_lasts
                end = self.world.token_end
                return {"accessToken": token, **({"expireIn": self.world.token_lasts} if end is None else end)}
        raise Refused(400, "invalidClientIdOrSecret", "无效的clientId或者clientSecret")

    # Limits and faults

    async def carry_out(
        self,
        call: str,
        place: str,
        app: DingTalkApp,
        run: Callable[[], Awaitable[dict[str, Any]]],
        arguments: Arguments,
    ) -> web.StreamResponse:
        """Run one call of `app`, unless a limit or a fault comes first. Limits are kept for each `place`."""
        self.world.calls.append((call, arguments))
        began, end = self._paused.get((call, place), (0.0, 0.0))
        now = time.monotonic()
        if began + _ON_THE_WAY < now < end - 0.02:
            self.world.complain(f"{call}: called {end - now:.2f} s before the end of a pause")
        fault = self._raise_fault(call, place)
        if fault is not None and fault.kind == "bare":
            if fault.status < 300:
                await run()
            asks = {"Retry-After": f"{fault.seconds:g}"} if fault.seconds else {}
            return web.Response(status=fault.status, headers=asks)
        kind = "" if fault is None else fault.kind
        if kind == "html":
            return web.Response(status=502, text="<html><body>Bad Gateway</body></html>", content_type="text/html")
        if kind == "punished":
            return web.json_response({"status": 1111, "wait": 5, "source": "x5", "punish": "deny", "uuid": "x"})
        if app is not _NOBODY and call != WEBHOOK:
            self._count(call, app)
        answer = await run()
        if kind == "lost":
            raise Lost
        return web.json_response(answer)

    def _raise_fault(self, call: str, place: str) -> Fault | None:
        """Take the next fault that is meant for this call: raised, or returned if it is not a refusal."""
        fault = befalls(self.faults, call)
        if fault is None:
            return None
        match fault.kind:
            case "limit":
                now = time.monotonic()
                self._paused[call, place] = (now, now + fault.seconds)
                if call == WEBHOOK:
                    raise RefusedByOld(410100, "发送速度太快而限流")
                raise Refused(403, _TOO_OFTEN, "您的企业应用调用钉钉开放平台当前接口的所有请求都被暂时禁用了")
            case "broken":
                raise Lost
            case "lost" | "html" | "punished" | "bare":
                return fault
            case number if number.isdigit():
                raise RefusedByOld(int(number), "simulated")
            case code:
                raise Refused(fault.status, code)

    def _count(self, call: str, app: DingTalkApp) -> None:
        lately, now = self._lately[call, app.name], time.monotonic()
        while lately and lately[0] < now - 1:
            lately.popleft()
        if len(lately) >= self.qps:
            raise Refused(403, _TOO_OFTEN, "您的企业应用调用钉钉开放平台当前接口的所有请求都被暂时禁用了")
        lately.append(now)
