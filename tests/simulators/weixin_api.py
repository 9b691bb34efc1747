"""The API of a simulated iLink: HTTP with JSON, failures told as `ret` in an answer with status 200.

The wire: https://github.com/Tencent/openclaw-weixin (README.md, src/api/api.ts). Each bot has a path of its own here,
so that it is known whose code somebody scans; the platform itself is told by the phone.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.simulators.faults import Lost
from tests.simulators.weixin_cdn import Upload, WeixinCdn
from tests.simulators.weixin_login import WeixinLogin
from tests.simulators.weixin_send import Refused, WeixinOutbox
from tests.simulators.weixin_state import WeixinBot, WeixinState

_STALE = -14
_STALE_CALLS = 10
"""With a stale token, until a new one is given; the vendor's client stops for an hour after the first."""
_BOT_AGENT = re.compile(
    r"[\w.-]{1,32}/[\w.+-]{1,32}( \([\x20-\x27\x2a-\x7e]{1,64}\))?"
    r"( [\w.-]{1,32}/[\w.+-]{1,32}( \([\x20-\x27\x2a-\x7e]{1,64}\))?)*",
    re.ASCII,
)
_HEX32 = re.compile(r"[0-9a-f]{32}")
_CONNECTING = ("get_bot_qrcode", "get_qrcode_status", "getupdates", "msg/notifystart")
"""What an account asks before it receives anything; see `WeixinApi.refuse`."""


@dataclass
class WeixinPoll:
    """A `getupdates` that is held."""

    request: web.Request
    silent: bool = False
    """It will never be answered."""

    @property
    def open(self) -> bool:
        transport = self.request.transport
        return transport is not None and not transport.is_closing()

    def abort(self) -> None:
        if self.request.transport is not None:
            self.request.transport.abort()


Handler = Callable[[WeixinBot, web.Request, dict[str, Any]], Awaitable[dict[str, Any]]]


class WeixinApi:
    """Add its routes to a server."""

    def __init__(self, state: WeixinState, login: WeixinLogin, cdn: WeixinCdn, outbox: WeixinOutbox) -> None:
        self.state = state
        self.login = login
        self.cdn = cdn
        self.outbox = outbox
        self.polls: defaultdict[str, list[WeixinPoll]] = defaultdict(list)
        """By the bot's name, those that are held."""
        self.links: defaultdict[str, set[asyncio.BaseTransport]] = defaultdict(set)
        """By the bot's name, every connection that a poll came on."""
        self.hold = 0.5
        """Seconds for which a poll is held while nobody writes; the platform's are 35."""
        self.most = 50
        """Messages in one answer."""
        self.refuse: defaultdict[str, int] = defaultdict(int)
        """How many of the next questions of a bot that connects fail."""
        self.bare = False
        """Success is told by leaving `ret` out, as the vendor's types have it."""
        self.instead: dict[str, Callable[[], web.Response]] = {}
        """By the endpoint, what is answered to every call of it: an API of another version, or a proxy in between."""
        self.grace = 0.25
        """Seconds for which a poll that its client gave up may still seem to be there."""
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        """The bot's name, the endpoint and the body of every call but polls."""
        self._last_uin: dict[str, str] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.route("*", "/{bot}/ilink/bot/{endpoint:.+}", self._serve),
            web.route("*", "/ilink/bot/{endpoint:.+}", self._serve),
        ]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        endpoint = request.match_info["endpoint"]
        handler = self._handler(endpoint)
        bot = self._bot(request)
        if handler is None or bot is None:
            self.state.complain(f"{request.method} {request.path}: there is no such thing")
            return web.Response(status=404, text="not found")
        if endpoint in _CONNECTING and self.refuse[bot.name]:
            self.refuse[bot.name] -= 1
            if self.refuse[bot.name] % 2:
                return web.Response(status=524, text="<html>a timeout occurred</html>", content_type="text/html")
            self._abort(request)
        body = await self._body(request, endpoint)
        self._check_headers(request, endpoint)
        if endpoint != "getupdates":
            self.calls.append((bot.name, endpoint, body))
        if endpoint in self.instead:
            return self.instead[endpoint]()
        if endpoint not in ("get_bot_qrcode", "get_qrcode_status") and not self._authorized(request, bot):
            return web.json_response(self._stale())
        try:
            answer = await handler(bot, request, body)
        except Refused as refused:
            answer = {"ret": refused.ret, "errmsg": refused.reason}
        except Lost:
            self._abort(request)
        if self.bare and answer.get("ret") == 0:
            del answer["ret"]
        return web.json_response(answer)

    def _handler(self, endpoint: str) -> Handler | None:
        handlers: dict[str, Handler] = {
            "get_bot_qrcode": self._get_bot_qrcode,
            "get_qrcode_status": self._get_qrcode_status,
            "getupdates": self._getupdates,
            "sendmessage": self._sendmessage,
            "getuploadurl": self._getuploadurl,
            "getconfig": self._getconfig,
            "sendtyping": self._sendtyping,
            "msg/notifystart": self._notifystart,
            "msg/notifystop": self._notifystop,
        }
        return handlers.get(endpoint)

    def _bot(self, request: web.Request) -> WeixinBot | None:
        """Whose call it is: by the path, or, at a host that was named in between, by the code or token."""
        name = request.match_info.get("bot")
        if name is not None:
            return self.state.bots.get(name)
        code = next((code for code in self.login.codes if code.id == request.query.get("qrcode")), None)
        return code.bot if code is not None else self.state.owner(_token(request))

    @staticmethod
    def _abort(request: web.Request) -> None:
        assert request.transport is not None
        request.transport.abort()
        raise asyncio.CancelledError

    # What every call must have

    async def _body(self, request: web.Request, endpoint: str) -> dict[str, Any]:
        method = "GET" if endpoint == "get_qrcode_status" else "POST"
        if request.method != method:
            self.state.complain(f"{endpoint}: wants a {method}")
        if request.method != "POST":
            return {}
        if request.content_type != "application/json":
            self.state.complain(f"{endpoint}: its type is {request.content_type}")
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            self.state.complain(f"{endpoint}: its body is no JSON object")
            return {}
        if endpoint != "get_bot_qrcode":  # the vendor's client sends none there
            info = body.get("base_info")
            if not isinstance(info, dict) or not info.get("channel_version"):
                self.state.complain(f"{endpoint}: base_info.channel_version is missing")
            elif not _BOT_AGENT.fullmatch(str(info.get("bot_agent", ""))) or len(info["bot_agent"]) > 256:
                self.state.complain(f"{endpoint}: base_info.bot_agent is {info.get('bot_agent')!r}")
        return body

    def _check_headers(self, request: web.Request, endpoint: str) -> None:
        headers = request.headers
        if headers.get("iLink-App-Id") != "bot":
            self.state.complain(f"{endpoint}: iLink-App-Id is {headers.get('iLink-App-Id')!r}")
        version = headers.get("iLink-App-ClientVersion", "")
        if not version.isdecimal() or not 0 < int(version) < 1 << 24:
            self.state.complain(f"{endpoint}: iLink-App-ClientVersion is {version!r}")
        if request.method != "POST":
            return
        if headers.get("AuthorizationType") != "ilink_bot_token":
            self.state.complain(f"{endpoint}: AuthorizationType is {headers.get('AuthorizationType')!r}")
        uin = headers.get("X-WECHAT-UIN", "")
        try:
            number = base64.b64decode(uin, validate=True).decode()
        except (binascii.Error, ValueError):
            number = ""
        if not number.isdecimal() or int(number) >= 1 << 32:
            self.state.complain(f"{endpoint}: X-WECHAT-UIN is {uin!r}")
        name = request.match_info.get("bot", "")
        if self._last_uin.get(name) == uin:
            self.state.complain(f"{endpoint}: X-WECHAT-UIN is that of the call before, not random")
        self._last_uin[name] = uin

    def _authorized(self, request: web.Request, bot: WeixinBot) -> bool:
        token = _token(request)
        if not token:
            self.state.complain(f"{request.path}: without a token")
        elif self.state.owner(token) is not bot:
            self.state.complain(f"{request.path}: with a token that is not this bot's")
        if token == bot.token and bot.valid:
            return True
        bot.stale_calls += 1
        if bot.stale_calls > _STALE_CALLS:
            self.state.complain(f"{request.path}: asked on with a token that was told to be stale")
        return False

    @staticmethod
    def _stale() -> dict[str, Any]:
        return {"ret": _STALE, "errcode": _STALE, "errmsg": "session timeout"}

    # Signing in

    async def _get_bot_qrcode(self, bot: WeixinBot, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        return self.login.make(bot, request, body)

    async def _get_qrcode_status(self, bot: WeixinBot, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        return await self.login.status(request)

    # Receiving

    async def _getupdates(self, bot: WeixinBot, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        place = bot.place(body.get("get_updates_buf"))
        if place is None:
            self.state.complain("getupdates: get_updates_buf is not what was given")
            place = 0
        bot.arrived(place)
        await self._alone(bot)
        poll = WeixinPoll(request)
        self.polls[bot.name].append(poll)
        assert request.transport is not None
        self.links[bot.name].add(request.transport)
        try:
            return await self._updates(bot, poll, _token(request), place)
        finally:
            self.polls[bot.name].remove(poll)

    async def _updates(self, bot: WeixinBot, poll: WeixinPoll, token: str, place: int) -> dict[str, Any]:
        if bot.came:
            bot.came = False
            bot.waited += len(bot.log[place : place + self.most])
        try:
            async with asyncio.timeout(self.hold):
                while len(bot.log) <= place and bot.valid and token == bot.token:
                    await bot.changed.wait()
        except TimeoutError:
            pass
        while poll.silent:
            await asyncio.sleep(0.02)
        if not bot.valid or token != bot.token:
            return self._stale()
        entries = bot.log[place : place + self.most]
        return {
            "ret": 0,
            "msgs": [entry.message for entry in entries],
            "get_updates_buf": bot.cursor(place + len(entries)),
            "longpolling_timeout_ms": int(self.hold * 1000),
        }

    async def _alone(self, bot: WeixinBot) -> None:
        """One poll for each bot: a second takes messages away from the first."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.grace
        while others := [poll for poll in self.polls[bot.name] if poll.open and not poll.silent]:
            if loop.time() > end:
                self.state.complain(f"getupdates: {len(others) + 1} polls of {bot.name} at once")
                return
            await asyncio.sleep(0.01)

    # Sending

    async def _sendmessage(self, bot: WeixinBot, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        return await self.outbox.send(bot, body.get("msg"))

    async def _getuploadurl(self, bot: WeixinBot, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        wrong = [name for name in ("filekey", "aeskey", "rawfilemd5") if not _HEX32.fullmatch(str(body.get(name)))]
        raw, encrypted = body.get("rawsize"), body.get("filesize")
        if not isinstance(raw, int) or not isinstance(encrypted, int) or encrypted != (raw // 16 + 1) * 16:
            wrong.append("filesize")
        if body.get("media_type") not in (1, 2, 3, 4):
            wrong.append("media_type")
        if body.get("to_user_id") not in bot.people:
            wrong.append("to_user_id")
        if body.get("no_need_thumb") is not True:
            wrong.append("no_need_thumb")  # else a picture needs a second, small one
        if wrong:
            self.state.complain(f"getuploadurl: {', '.join(wrong)}")
            return {"ret": -1, "errmsg": "invalid arguments"}
        upload = Upload(
            filekey=body["filekey"],
            key=bytes.fromhex(body["aeskey"]),
            size=body["rawsize"],
            encrypted_size=body["filesize"],
            md5=body["rawfilemd5"],
            kind=body["media_type"],
            to=body["to_user_id"],
        )
        return {"ret": 0, **self.cdn.announce(upload)}

    # Signs

    async def _getconfig(self, bot: WeixinBot, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        person = bot.people.get(str(body.get("ilink_user_id")))
        if person is None:
            self.state.complain("getconfig: ilink_user_id is nobody who wrote to this bot")
            return {"ret": -1, "errmsg": "no such user"}
        person.ticket = base64.b64encode(f"ticket for {person.id}".encode()).decode()
        return {"ret": 0, "typing_ticket": person.ticket}

    async def _sendtyping(self, bot: WeixinBot, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        person = bot.people.get(str(body.get("ilink_user_id")))
        if person is None or not person.ticket or body.get("typing_ticket") != person.ticket:
            self.state.complain("sendtyping: typing_ticket is not that of this person")
            return {"ret": -1, "errmsg": "invalid ticket"}
        if body.get("status") not in (1, 2):
            self.state.complain(f"sendtyping: status is {body.get('status')!r}")
            return {"ret": -1, "errmsg": "invalid status"}
        bot.typing.append((person.name, body["status"]))
        return {"ret": 0}

    async def _notifystart(self, bot: WeixinBot, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        bot.online = bot.came = True
        return {"ret": 0}

    async def _notifystop(self, bot: WeixinBot, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        bot.online = False
        return {"ret": 0}


def _token(request: web.Request) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")
