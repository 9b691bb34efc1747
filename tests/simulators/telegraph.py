"""An imaginary chat platform, complete and small: the reference that the contract suite itself is judged with.

Wire, all under the server's `url`, with `Authorization: Bearer <token of the bot>`:

GET   /link          WebSocket. The server says hello, sends events and a beat every `BEAT`; the bot acknowledges an
                     event with {"ack": <event>}. What was not acknowledged comes again on the next connection; what
                     was written while there was none does not. One connection per bot.
GET   /me            who the bot is
POST  /messages      {room, thread, text, key} → {id}; at most `LENGTH` characters. `@word` in a text notifies people,
                     a backslash makes the next character an ordinary one.
PATCH /messages/<id> {text}
GET   /messages      ?key= → the bot's message that was sent with it
GET   /history       ?room=&since=&from= → pages of `PAGE` messages, oldest first
POST  /typing        {room}
GET   /files/<name>  the content; without the token a login page with status 200
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from tests.simulators.loopback import serving

LENGTH = 1000
PAGE = 3
BEAT = 0.2
"""Seconds."""


def unescape(text: str) -> str:
    """What a person reads."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


@dataclass
class Post:
    """A message, as the platform keeps it."""

    id: str
    room: str
    thread: str | None
    author: str
    bot: bool
    text: str
    at: datetime
    key: str = ""
    mentions: list[str] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)

    def wire(self) -> dict[str, Any]:
        """As events and the history have it."""
        return {
            "id": self.id,
            "room": self.room,
            "direct": self.room.startswith("dm-"),
            "thread": self.thread,
            "author": {"id": self.author, "name": self.author.title(), "bot": self.bot},
            "text": self.text,
            "mentions": list(self.mentions),
            "files": list(self.files),
            "at": self.at.isoformat(),
        }


@dataclass
class Bot:
    """An account there."""

    name: str
    token: str
    refused: bool = False
    refuse_links: int = 0
    link: web.WebSocketResponse | None = None
    """The one that events go to."""
    transports: set[asyncio.Transport] = field(default_factory=set)
    """Of every connection that is open, silent ones too."""
    unacknowledged: dict[str, dict[str, Any]] = field(default_factory=dict)


class Telegraph:
    """The platform. Enter it to listen."""

    def __init__(self) -> None:
        self.url = ""
        self.bots: dict[str, Bot] = {}
        self.posts: list[Post] = []
        self.contents: dict[str, tuple[str, bytes]] = {}
        self.gone: set[str] = set()
        self.complaints: list[str] = []
        self.acknowledged: dict[str, int] = {}
        self.broken: list[bool] = []
        """The next posts break off: True after they took effect."""
        self.limits: list[float] = []
        """The next calls are refused with the request to wait so many seconds."""
        self._limited_until = 0.0
        self._ids = itertools.count(1)
        self._served = AsyncExitStack()

    async def __aenter__(self) -> Self:
        routes = [
            web.get("/link", self._link),
            web.get("/me", self._me),
            web.post("/messages", self._post),
            web.patch("/messages/{id}", self._change),
            web.get("/messages", self._find),
            web.get("/history", self._history),
            web.post("/typing", self._typing),
            web.get("/files/{name}", self._file),
        ]
        self.url = await self._served.enter_async_context(serving(routes))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._served.aclose()

    # What tests use

    def bot(self, name: str) -> Bot:
        """The bot of that name; made when first named."""
        return self.bots.setdefault(name, Bot(name, f"token-of-{name}-{len(self.bots)}"))

    def write(
        self,
        text: str,
        *,
        room: str,
        author: str,
        bot: bool = False,
        thread: str | None = None,
        mentions: list[str] | None = None,
        files: list[dict[str, Any]] | None = None,
        age: timedelta = timedelta(0),
    ) -> Post:
        """A message is there; nobody is told yet."""
        post = Post(
            f"m{next(self._ids)}", room, thread, author, bot, text, datetime.now(UTC) - age,
            mentions=mentions or [], files=files or [], versions=[text],
        )  # fmt: skip
        self.posts.append(post)
        return post

    async def tell(self, name: str, event: dict[str, Any], *, times: int = 1) -> None:
        """Deliver an event to a bot, if it is connected."""
        bot = self.bot(name)
        if bot.link is None:
            return
        bot.unacknowledged[event["event"]] = event
        for _ in range(times):
            with contextlib.suppress(ConnectionError):
                await bot.link.send_json(event)

    def silence(self, name: str) -> None:
        """The bot's connection goes on existing, and nothing more comes through it."""
        self.bot(name).link = None

    def drop(self, name: str) -> None:
        """Break the bot's connections."""
        bot = self.bot(name)
        bot.link = None
        for transport in bot.transports:
            transport.abort()

    # What bots see

    def _who(self, request: web.Request) -> Bot:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        for bot in self.bots.values():
            if bot.token == token and not bot.refused:
                return bot
        raise web.HTTPUnauthorized(text=f"no bot has the token {token}")

    async def _me(self, request: web.Request) -> web.Response:
        return web.json_response({"id": self._who(request).name})

    async def _link(self, request: web.Request) -> web.StreamResponse:
        bot = self._who(request)
        if bot.refuse_links:
            bot.refuse_links -= 1
            raise web.HTTPServiceUnavailable
        if bot.link is not None:
            self.complaints.append(f"{bot.name}: a second connection")
        link = web.WebSocketResponse()
        await link.prepare(request)
        transport = request.transport
        assert transport is not None
        bot.transports.add(transport)
        bot.link = link
        beats = asyncio.create_task(self._beat(bot, link))
        try:
            await link.send_json({"type": "hello"})
            for event in list(bot.unacknowledged.values()):
                await link.send_json(event)
            async for frame in link:
                acknowledged = frame.json().get("ack")
                if bot.link is link:  # a half-open connection takes everything and passes nothing on
                    self.acknowledged[acknowledged] = self.acknowledged.get(acknowledged, 0) + 1
                    bot.unacknowledged.pop(acknowledged, None)
        except ConnectionError:
            pass
        finally:
            beats.cancel()
            await asyncio.wait({beats})
            bot.transports.discard(transport)
            if bot.link is link:
                bot.link = None
        return link

    async def _beat(self, bot: Bot, link: web.WebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):
            while bot.link is link:
                await link.send_json({"type": "beat"})
                await asyncio.sleep(BEAT)

    def _admit(self, bot: Bot) -> None:
        """Raises what a call that shows something gets instead of its effect."""
        now = asyncio.get_running_loop().time()
        if now < self._limited_until - 0.01:
            self.complaints.append(f"{bot.name}: called {self._limited_until - now:.3f} s too early")
        if self.limits:
            seconds = self.limits.pop(0)
            self._limited_until = now + seconds
            raise web.HTTPTooManyRequests(headers={"Retry-After": str(seconds)})

    def _judge(self, bot: Bot, text: Any) -> str:
        if not isinstance(text, str) or not text.strip() or len(text) > LENGTH:
            self.complaints.append(f"{bot.name}: a text of {len(str(text))} characters")
            raise web.HTTPBadRequest
        return text

    async def _post(self, request: web.Request) -> web.Response:
        bot, body = self._who(request), await request.json()
        if body["room"] in self.gone:
            raise web.HTTPNotFound
        self._admit(bot)
        text = self._judge(bot, body["text"])
        breaks = self.broken.pop(0) if self.broken else None
        if breaks is not False:
            post = self.write(text, room=body["room"], thread=body["thread"], author=bot.name, bot=True)
            post.key = body["key"]
            event = {"type": "message", "event": f"e-{post.id}", "message": post.wire()}
            await self.tell(bot.name, event)  # the bot's own messages come back
        if breaks is not None:
            assert request.transport is not None
            request.transport.abort()
            raise asyncio.CancelledError
        return web.json_response({"id": post.id})

    async def _change(self, request: web.Request) -> web.Response:
        bot, body = self._who(request), await request.json()
        found = [post for post in self.posts if post.id == request.match_info["id"] and post.author == bot.name]
        if not found or found[0].room in self.gone:
            raise web.HTTPNotFound
        self._admit(bot)
        found[0].text = self._judge(bot, body["text"])
        found[0].versions.append(found[0].text)
        return web.json_response({"id": found[0].id})

    async def _find(self, request: web.Request) -> web.Response:
        bot = self._who(request)
        found = [post.id for post in self.posts if post.author == bot.name and post.key == request.query["key"]]
        return web.json_response({"id": found[0] if found else None})

    async def _history(self, request: web.Request) -> web.Response:
        self._who(request)
        room, since, start = request.query["room"], request.query["since"], int(request.query["from"])
        if room in self.gone:
            raise web.HTTPNotFound
        posts = [p for p in self.posts if p.room == room and p.at >= datetime.fromisoformat(since)]
        posts.sort(key=lambda post: post.at)
        page = [post.wire() for post in posts[start : start + PAGE]]
        return web.json_response({"messages": page, "more": start + PAGE < len(posts)})

    async def _typing(self, request: web.Request) -> web.Response:
        self._who(request)
        return web.json_response({})

    async def _file(self, request: web.Request) -> web.Response:
        try:
            self._who(request)
        except web.HTTPUnauthorized:
            return web.Response(text="<html>Sign in</html>", content_type="text/html")
        media_type, content = self.contents[request.match_info["name"]]
        return web.Response(body=content, content_type=media_type)
