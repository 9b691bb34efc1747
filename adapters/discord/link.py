"""One attempt to be connected: a client of the SDK that signs in, listens, and is thrown away.

The SDK keeps the wire (compression, heartbeats, RESUME, rate limits of the HTTP API). Connecting again is decided here
and by the gateway's supervisor: the SDK's own loop waits up to 1,024 s between attempts, and dies of an AttributeError
when the very first one fails (https://github.com/Rapptz/discord.py/issues/10520).
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import aiohttp
import discord
import structlog
from discord.gateway import DiscordWebSocket, KeepAliveHandler, ReconnectWebSocket
from discord.http import HTTPClient, Route
from yarl import URL

from core.backoff import full_jitter
from core.clock import Clock
from core.errors import AuthenticationError, ConnectionLost

log = structlog.get_logger(__name__)

_HOOK = re.compile(r"(/(?:webhooks|interactions)/[0-9]+/)[^/\s]+")


def _discreet(record: logging.LogRecord) -> bool:
    """Without the tokens that answer slash commands; they stand in addresses that the SDK logs."""
    record.msg, record.args = _HOOK.sub(r"\1…", record.getMessage()), ()
    return True


logging.getLogger("discord.http").addFilter(_discreet)
logging.getLogger("discord.client").addFilter(lambda record: "voice will NOT" not in record.getMessage())

Take = Callable[[str, Mapping[str, Any]], Awaitable[None]]
"""Gets each event of interest (its name, its data) and returns when it is committed."""

_WANTED = ("MESSAGE_CREATE", "INTERACTION_CREATE")

_HANDSHAKE = 30.0
"""Seconds until a connection says hello and takes our credentials."""

_CLOSING = 1.0
"""Seconds for a farewell that nobody may hear."""

_RESUMES = 5
"""Attempts in a row to take a session up again, before the whole client is begun anew."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 4.0

_SESSION_OVER = (4003, 4007, 4009)
"""Close codes after which a session cannot be taken up again."""

IDENTIFY_EVERY = 5.0
"""Seconds between two requests for a new session; Discord refuses faster ones."""

_UNREAD_EVERY = 60.0
"""Seconds between two lines in the log about frames that cannot be read: there may be many."""

_FINAL = {
    4004: "Discord does not accept the token: reset it in the developer portal (Bot) and configure the new one",
    4010: "Discord refuses the connection (4010, invalid shard); please report this",
    4011: "the bot is in so many servers that Discord demands sharding, which is not supported",
    4012: "Discord no longer speaks this version of its gateway; upgrade discord.py",
    4013: "Discord refuses the intents (4013); please report this",
    4014: "the developer portal does not allow the Message Content Intent: switch it on (Bot, Privileged Gateway "
    "Intents), or set message_content: false and access.channels: mention",
}
"""Close codes that no further attempt can help: https://docs.discord.com/developers/topics/opcodes-and-status-codes"""


@dataclass(frozen=True, slots=True)
class Session:
    """What a later connection needs to be told everything since: kept by Discord for some minutes."""

    id: str
    sequence: int
    """Of the last event that is committed."""
    gateway: str


@dataclass(slots=True)
class Kept:
    """What outlives a link. The next one gets it."""

    session: Session | None = None
    """What may be taken up, as far as everything before is committed."""
    identified_at: float | None = None
    """When the last new session was asked for, by the clock's monotonic time."""


class _Api(HTTPClient):
    """The SDK's client of the HTTP API, for an address of the account's own; the SDK has one for the whole process."""

    base = ""

    async def request(self, route: Route, **options: Any) -> Any:
        route.url = self.base + route.url.removeprefix(Route.BASE)
        return await super().request(route, **options)


class Link(discord.Client):
    """Sign in with `login`, then `listen`; `end` it in any case."""

    def __init__(self, api_url: str, *, intents: discord.Intents, proxy: str | None, clock: Clock, kept: Kept) -> None:
        self._api_url = api_url
        self._clock = clock
        self._kept = kept
        self._arrived: deque[tuple[str, Mapping[str, Any]]] = deque()
        self.last_heard: datetime | None = None
        """When the last frame came over the gateway."""
        self.gaps = 0
        """How often listening began without a replay."""
        self._failures = 0
        self._unread = 0
        """Frames that could not be read and of which nothing was said yet."""
        self._unread_at: float | None = None
        self._socket: DiscordWebSocket | None = None
        super().__init__(
            intents=intents,
            proxy=proxy,
            allowed_mentions=discord.AllowedMentions.none(),
            max_messages=None,
            chunk_guilds_at_startup=False,
            member_cache_flags=discord.MemberCacheFlags.none(),
            guild_ready_timeout=0.0,
            max_ratelimit_timeout=30.0,
            enable_debug_events=True,  # tells of every frame, heartbeats included
        )

    def _get_state(self, **options: Any) -> Any:
        """Called by the SDK when it builds itself; `http` is there and nothing refers to it yet."""
        plain = self.http
        api = _Api(plain.loop, proxy=plain.proxy, max_ratelimit_timeout=plain.max_ratelimit_timeout)
        api.base = self._api_url
        self.http = api
        state = super()._get_state(**options)
        # Without its models, which cost more than all that we do with an event, and any fault of which would lose one.
        state.parsers |= {event: partial(self._arrive, event) for event in _WANTED}
        return state

    def _arrive(self, event: str, data: Any) -> None:
        self._arrived.append((event, data if isinstance(data, dict) else {}))

    def dispatch(self, event: str, /, *args: Any, **_: Any) -> None:
        """What the SDK tells its listeners."""
        if event == "socket_raw_receive":
            self.last_heard = self._clock.now()
        elif event == "socket_event_type":
            if args[0] == "READY":
                self.gaps += 1
                self._failures = 0
            elif args[0] == "RESUMED":
                self._failures = 0

    async def listen(self, gateway: str, take: Take) -> None:
        """Take the kept session up, or begin a new one at `gateway`; then hand over what comes, in order, until
        cancelled.

        Discord hears from us (in heartbeats, and when a session is taken up) of events that are committed, and of no
        others. Raises ConnectionLost or AuthenticationError.
        """
        kept = self._kept
        while True:
            try:
                await self._listen(gateway, take)
            except ReconnectWebSocket as lost:
                code = self._socket.socket.close_code if self._socket is not None else None
                reason = f"the connection was closed ({code})" if code else "the connection broke"
                if not lost.resume or code in _SESSION_OVER:
                    kept.session, reason = None, "Discord has ended the session"
            except discord.ConnectionClosed as closed:
                if closed.code in _FINAL:
                    raise AuthenticationError(_FINAL[closed.code]) from None
                reason = f"the connection was closed ({closed.code})"
            except (OSError, TimeoutError, aiohttp.ClientError, zlib.error) as error:
                reason = f"the gateway cannot be reached: {type(error).__name__}"
            self._failures += 1
            await self._hang_up()
            if kept.session is None:
                raise ConnectionLost(reason)
            if self._failures > _RESUMES:
                kept.session = None
                raise ConnectionLost(f"{reason}; given up after {_RESUMES} attempts")
            log.info("the session is taken up again", reason=reason)
            await self._clock.sleep(full_jitter(self._failures - 1, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE))

    async def _listen(self, gateway: str, take: Take) -> None:
        known = self._kept.session
        if known is None:
            await self._wait_for_our_turn()
        async with asyncio.timeout(_HANDSHAKE):
            self.ws = self._socket = await DiscordWebSocket.from_client(
                self,
                initial=True,
                gateway=URL(known.gateway if known else gateway),
                session=known.id if known else None,
                sequence=known.sequence if known else None,
                resume=known is not None,
            )
        while True:
            await self._next(take)

    async def _wait_for_our_turn(self) -> None:
        kept, clock = self._kept, self._clock
        if kept.identified_at is not None:
            await clock.sleep(kept.identified_at + IDENTIFY_EVERY - clock.monotonic())
        kept.identified_at = clock.monotonic()

    async def _next(self, take: Take) -> None:
        """One frame, and the commit of what it brought."""
        socket, committed = self.ws, self.ws.sequence
        try:
            await socket.poll_event()
        except (ReconnectWebSocket, discord.ConnectionClosed, OSError, aiohttp.ClientError, zlib.error):
            raise
        except Exception as error:  # noqa: BLE001 - of the SDK; one frame is not worth the connection
            self._not_understood(error)
        if self._arrived:
            received, socket.sequence = socket.sequence, committed
            while self._arrived:
                await take(*self._arrived.popleft())
            socket.sequence = received
        if socket.session_id and socket.sequence is not None:
            self._kept.session = Session(socket.session_id, socket.sequence, str(socket.gateway))

    def _not_understood(self, error: Exception) -> None:
        self._unread += 1
        now = self._clock.monotonic()
        if self._unread_at is None or now - self._unread_at >= _UNREAD_EVERY:
            log.warning("the SDK does not understand an event", error=type(error).__name__, times=self._unread)
            self._unread, self._unread_at = 0, now

    async def _hang_up(self) -> None:
        """A connection over which nonsense came is open still, and Discord would tell it everything too."""
        with suppress(Exception):  # the farewell is a courtesy
            async with asyncio.timeout(_CLOSING):
                if self._socket is not None and self._socket.open:
                    await self._socket.close(code=4000)  # 1000 would end the session

    async def end(self) -> None:
        """Close everything, within 2 s; the session stays valid for the next link."""
        self._stop_heartbeats()
        await self._hang_up()
        if not self.is_closed():
            await self.close()

    def _stop_heartbeats(self) -> None:
        """The SDK forgets the thread of a connection that broke off during its handshake."""
        for thread in threading.enumerate():
            if isinstance(thread, KeepAliveHandler) and thread.ws.loop is self.loop and self._is_ours(thread.ws):
                thread.stop()

    def _is_ours(self, socket: DiscordWebSocket) -> bool:
        return getattr(socket, "_connection", None) is self._connection
