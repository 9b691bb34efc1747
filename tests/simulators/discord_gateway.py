"""The simulated gateway: sessions, heartbeats, RESUME, compression, close codes.

https://docs.discord.com/developers/events/gateway
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from tests.simulators.discord_world import (
    DIRECT_MESSAGES,
    DM,
    GUILD,
    GUILD_MESSAGES,
    PRIVILEGED,
    Bot,
    Channel,
    World,
)

_GRACE = 0.5
"""Seconds that an old connection may need to be noticed as closed."""


@dataclass
class Session:
    """What Discord remembers of a client."""

    id: str
    bot: Bot
    intents: int
    events: list[dict[str, Any]] = field(default_factory=list)
    link: Link | None = None
    heard: int = 0
    """The newest event that the client has told of."""
    over: bool = False
    """It can no longer be taken up."""


class Link:
    """One WebSocket."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request, *, compress: bool) -> None:
        self.socket = socket
        self.request = request
        self.silent = False
        self.session: Session | None = None
        self._deflate = zlib.compressobj() if compress else None
        self._sending = asyncio.Lock()

    async def send(self, op: int, data: Any, *, event: str | None = None, number: int | None = None) -> None:
        """One payload; what the other side no longer takes is lost."""
        if self.silent:
            return
        text = json.dumps({"op": op, "d": data, "t": event, "s": number})
        async with self._sending:
            with contextlib.suppress(OSError, RuntimeError):
                if self._deflate is None:
                    await self.socket.send_str(text)
                else:
                    packed = self._deflate.compress(text.encode()) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
                    await self.socket.send_bytes(packed)

    def cut(self) -> None:
        """The connection breaks without a farewell."""
        if self.request.transport is not None:
            self.request.transport.abort()

    @property
    def open(self) -> bool:
        transport = self.request.transport
        return transport is not None and not transport.is_closing() and not self.socket.closed


class Gateway:
    """Every bot has a path of its own, so that attempts to connect can be refused to one of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.heartbeat = 0.3
        """Seconds between heartbeats; really 41.25."""
        self.identify_interval = 0.1
        """Seconds between two new sessions of a bot; really 5."""
        self.sessions: dict[str, Session] = {}
        self.links: dict[str, list[Link]] = {}
        self.refusals: dict[str, int] = {}
        self.resumes = 0
        self.hasty = 0
        """New sessions that were refused because the one before was asked for just now."""
        self.compressed = 0
        self._identified: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Everything breaks."""
        for links in self.links.values():
            for link in links:
                link.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def alive(self, bot: str) -> list[Link]:
        """Connections of a bot that are open and not half-open."""
        return [link for link in self.links.get(bot, []) if link.open and not link.silent]

    def ready(self, bot: str) -> list[Session]:
        """Its sessions that are listened to."""
        return [
            session
            for session in self.sessions.values()
            if session.bot.name == bot and session.link is not None and session.link.open and not session.link.silent
        ]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["bot"]
        if self.refusals.get(name, 0) > 0:
            self.refusals[name] -= 1
            return web.Response(status=503, text="no healthy upstream")
        if request.query.get("v") != "10" or request.query.get("encoding") != "json":
            self.world.complaints.append(f"a connection asked for {dict(request.query)}")
        socket = web.WebSocketResponse(autoclose=False, compress=False)
        await socket.prepare(request)
        compress = request.query.get("compress") == "zlib-stream"
        self.compressed += compress
        link = Link(socket, request, compress=compress)
        before = self.alive(name)
        self.links.setdefault(name, []).append(link)
        if before:
            self._spawn(self._complain_of_two(name, [*before, link]))
        try:
            await link.send(10, {"heartbeat_interval": int(self.heartbeat * 1000), "_trace": []})
            await self._converse(link)
        finally:
            self.links[name].remove(link)
            if link.session is not None and link.session.link is link:
                link.session.link = None
        return socket

    async def _complain_of_two(self, name: str, links: list[Link]) -> None:
        await asyncio.sleep(_GRACE)
        if sum(link.open and not link.silent for link in links) > 1:
            self.world.complaints.append(f"{name} has two connections at once")

    async def _converse(self, link: Link) -> None:
        while True:
            message = await link.socket.receive()
            if message.type is not WSMsgType.TEXT:
                if link.silent:  # nobody answers the farewell either
                    while link.open:
                        await asyncio.sleep(0.02)
                elif message.type is WSMsgType.CLOSE:
                    await link.socket.close()
                return
            if link.silent:
                continue
            payload = json.loads(message.data)
            match payload["op"]:
                case 1:
                    if link.session is not None and payload["d"] is not None:
                        link.session.heard = max(link.session.heard, payload["d"])
                    await link.send(11, None)
                case 2:
                    await self._identify(link, payload["d"])
                case 6:
                    await self._resume(link, payload["d"])
                case other:
                    self.world.complaints.append(f"an unexpected opcode {other}")

    async def _identify(self, link: Link, data: dict[str, Any]) -> None:
        bot = self.world.by_token(data.get("token"))
        if bot is None:
            await link.socket.close(code=4004, message=b"Authentication failed.")
            return
        intents = data.get("intents", 0)
        if intents & PRIVILEGED & ~bot.allowed:
            await link.socket.close(code=4014, message=b"Disallowed intent(s).")
            return
        bot.identifies += 1
        bot.remaining -= 1
        last, now = self._identified.get(bot.name), time.monotonic()
        self._identified[bot.name] = now
        if last is not None and now - last < self.identify_interval:
            self.hasty += 1
            await link.send(9, False)
            return
        session = Session(self.world.ids.new(), bot, intents)
        self.sessions[session.id] = session
        link.session = session
        session.link = link
        host = link.request.host
        await self._tell(
            session,
            "READY",
            {
                "v": 10,
                "user": bot.as_user(),
                "guilds": [{"id": GUILD, "unavailable": True}] if bot.in_guild else [],
                "session_id": session.id,
                "resume_gateway_url": f"ws://{host}/gateway/{bot.name}",
                "application": {"id": bot.application, "flags": bot.flags},
                "session_type": "normal",
                "private_channels": [],
            },
        )
        if bot.in_guild:
            await self._tell(session, "GUILD_CREATE", self.world.guild(bot))

    async def _resume(self, link: Link, data: dict[str, Any]) -> None:
        bot = self.world.by_token(data.get("token"))
        if bot is None:
            await link.socket.close(code=4004, message=b"Authentication failed.")
            return
        session = self.sessions.get(str(data.get("session_id")))
        if session is None or session.over or session.bot is not bot:
            await link.send(9, False)
            return
        if not isinstance(data.get("seq"), int) or data["seq"] > len(session.events):
            await link.socket.close(code=4007, message=b"Invalid seq.")
            return
        self.resumes += 1
        session.heard = max(session.heard, data["seq"])
        link.session = session
        session.link = link
        for event in session.events[data["seq"] :]:
            await link.send(0, event["d"], event=event["t"], number=event["s"])
        await self._tell(session, "RESUMED", {"_trace": []})

    async def _tell(self, session: Session, event: str, data: Any) -> None:
        number = len(session.events) + 1
        session.events.append({"t": event, "s": number, "d": data})
        if session.link is not None:
            await session.link.send(0, data, event=event, number=number)

    async def dispatch(self, bot: Bot, event: str, data: Any) -> None:
        """Tell every session of a bot, also those that nobody listens to now."""
        for session in [session for session in self.sessions.values() if session.bot is bot and not session.over]:
            await self._tell(session, event, data)

    async def dispatch_message(
        self, event: str, channel: Channel, data: dict[str, Any], *, to: Bot | None = None
    ) -> None:
        """Tell the bots that can see a channel, or one of them."""
        extra = {"guild_id": channel.guild} if channel.guild else {"channel_type": DM}
        wanted = DIRECT_MESSAGES if channel.type == DM else GUILD_MESSAGES
        for session in list(self.sessions.values()):
            bot = session.bot
            reached = bot.name == channel.bot if channel.type == DM else bot.in_guild
            if reached and not session.over and session.intents & wanted and to in (None, bot):
                seen = self.world.seen_by(bot, channel, data, session.intents)
                await self._tell(session, event, {**seen, **extra})

    def acknowledged(self, message: str) -> int:
        """How often a client has told that it has the event of a message."""
        return sum(
            event["s"] <= session.heard
            for session in self.sessions.values()
            for event in session.events
            if event["t"] in ("MESSAGE_CREATE", "INTERACTION_CREATE") and event["d"]["id"] == message
        )

    def drop(self, bot: str, *, forget: bool = True) -> None:
        """Break the connections of a bot; `forget` its sessions, so that nothing can be resumed."""
        for link in list(self.links.get(bot, [])):
            link.cut()
        for session in self.sessions.values():
            session.over |= forget and session.bot.name == bot

    async def hang_up(self, bot: str, code: int = WSCloseCode.GOING_AWAY) -> None:
        """Close the connections of a bot properly."""
        for link in list(self.links.get(bot, [])):
            await link.socket.close(code=code)

    async def ask_to_reconnect(self, bot: str) -> None:
        """Opcode 7, as before every restart of Discord's servers."""
        for link in self.alive(bot):
            await link.send(7, None)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
