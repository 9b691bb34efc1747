"""A Discord bot: what people write to it reaches the inbox, in order, and Discord is told when it is committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import aiohttp
import discord
import structlog
from yarl import URL

from adapters.discord import slash
from adapters.discord.address import Address
from adapters.discord.config import Config
from adapters.discord.diagnosis import diagnose, lacks_message_content
from adapters.discord.files import HOSTS, fetch
from adapters.discord.interaction import ANSWER, CALLBACK, DEFER, EPHEMERAL, Deferrals, InteractionReply
from adapters.discord.link import Kept, Link
from adapters.discord.parse import (
    THREADS,
    Surroundings,
    parse_interaction,
    parse_message,
    snowflake_at,
)
from adapters.discord.reply import NOBODY, PAGE, DiscordReply, Threads, history
from adapters.discord.rest import Rest
from core.adapter import (
    Adapter,
    AdapterSpec,
    CatchesUp,
    Diagnoses,
    FetchesFiles,
    Heard,
    Inbox,
    Place,
    Receipt,
    ReplyChannel,
)
from core.clock import Clock, SystemClock
from core.errors import (
    AuthenticationError,
    ConnectionLost,
    DeliveryError,
    DeliveryUnavailable,
    FileUnavailable,
    RateLimited,
    StorageUnavailable,
    TargetGone,
)
from core.fetching import Files
from core.latest import Latest
from core.messages import AccountId, Attachment, InboundMessage, ReplyAddress
from core.proxy import proxy_for
from core.texts import language_of, say
from core.untrusted import part_in, text_in

log = structlog.get_logger(__name__)

_SIGN_IN = 45.0
"""Seconds for the three calls that open an account."""

_RESERVE = 20
"""Sign-ins that are left alone of the 1,000 a day: Discord resets the token of a bot that uses them up."""

_HOLD = 1.0
"""Seconds before a message that could not be stored is handed over again; nothing else is read meanwhile."""

_PLACE = 2.0
"""Seconds to ask what kind of place a message comes from, where the cache does not know."""
_REMEMBERED = 1_000

_GUILDS = 5.0
"""Seconds to wait for Discord to tell which channels there are, before missed messages are looked for."""


class DiscordAdapter(Adapter, Heard, CatchesUp, FetchesFiles, Diagnoses):
    """One bot. Its session with Discord outlives the attempts to connect: the next one takes it up where it was left."""

    def __init__(self, account: AccountId, config: Config, clock: Clock | None = None) -> None:
        self.deaf_after = timedelta(seconds=105)  # Discord's heartbeats come every 41.25 s
        self._account = account
        self._config = config
        self._clock = clock or SystemClock()
        self._link: Link | None = None
        self._files: Files | None = None
        self._gateway = ""
        self._kept = Kept()
        self._threads = Threads()
        self._deferrals = Deferrals()
        self._parents: Latest[str, str | None] = Latest(_REMEMBERED)
        self._tasks: set[asyncio.Task[None]] = set()
        self._registered = False

    async def __aenter__(self) -> Self:
        proxy = proxy_for(URL(self._config.api_url), self._config.proxy, setting=f"accounts.{self._account}.proxy")
        intents = discord.Intents(
            guilds=True,
            guild_messages=True,
            dm_messages=True,
            message_content=self._config.reads_everything,
        )
        link = Link(
            self._config.api_url,
            intents=intents,
            proxy=str(proxy) if proxy else None,
            clock=self._clock,
            kept=self._kept,
        )
        try:
            async with asyncio.timeout(_SIGN_IN):
                await self._sign_in(link)
        except BaseException as error:
            await link.end()
            if isinstance(error, TimeoutError | aiohttp.ClientError | OSError):
                raise ConnectionLost(f"Discord cannot be reached: {type(error).__name__}") from error
            raise
        files = Files(hosts=HOSTS, api_url=self._config.api_url, proxy=str(proxy) if proxy else None)
        self._link, self._files = link, await files.__aenter__()
        return self

    async def _sign_in(self, link: Link) -> None:
        """Check the token, the intents, and that one more sign-in is allowed today."""
        try:
            await link.login(self._config.token.get_secret_value())
            _, self._gateway, budget = await link.http.get_bot_gateway()
        except discord.LoginFailure:
            raise AuthenticationError(
                f"accounts.{self._account}.token: Discord does not accept it; "
                "reset it in the developer portal (Bot, Reset Token)"
            ) from None
        except discord.RateLimited as error:
            raise RateLimited("Discord asks to wait before signing in", retry_after=error.retry_after) from error
        except (discord.HTTPException, discord.GatewayNotFound) as error:
            raise ConnectionLost(f"Discord fails to sign us in: {type(error).__name__}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise ConnectionLost(
                f"accounts.{self._account}.api_url: {self._config.api_url!r} does not answer as Discord does"
            ) from error
        if self._config.reads_everything and lacks_message_content(link):
            raise AuthenticationError(
                f"accounts.{self._account}: the developer portal does not allow the Message Content Intent; switch it "
                "on (Bot, Privileged Gateway Intents), or set message_content: false and access.channels: mention"
            )
        if budget["remaining"] <= _RESERVE and self._kept.session is None:
            raise ConnectionLost(
                f"only {budget['remaining']} of {budget['total']} sign-ins are left; Discord allows more in "
                f"{budget['reset_after'] / 60_000:.0f} min"
            )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        link, files, self._link, self._files = self._link, self._files, None, None
        if link is not None:
            await link.end()
        if files is not None:
            await files.__aexit__(None, None, None)

    async def run(self, inbox: Inbox) -> None:
        link = self._connected()
        if not self._registered and self._config.commands:
            self._begin(self._register())

        async def take(event: str, data: Mapping[str, Any]) -> None:
            if event == "INTERACTION_CREATE":
                await self._take_command(link, inbox, data)
            else:
                await self._take_message(link, inbox, data)

        try:
            await link.listen(self._gateway, take)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._deferrals.end_all()

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        here = Address.load(address)
        if here.interaction:
            return InteractionReply(
                self._rest, self._clock, here, deferred=lambda: self._deferrals.wait(here.interaction)
            )
        return DiscordReply(self._rest, self._threads, here)

    def last_heard(self) -> datetime | None:
        return self._link.last_heard if self._link else None

    def gaps(self) -> int:
        return self._link.gaps if self._link else 0

    async def fetch(self, attachment: Attachment, *, most_bytes: int) -> bytes:
        if self._files is None or self._link is None:
            raise FileUnavailable("files cannot be fetched while the account is not connected")
        return await fetch(attachment, self._files, Rest(self._link), most_bytes=most_bytes)

    async def diagnose(self) -> Sequence[str]:
        return await diagnose(self._connected(), self._rest(), self._config)

    # What comes in

    async def _take_message(self, link: Link, inbox: Inbox, data: Mapping[str, Any]) -> None:
        message = parse_message(data, self._surroundings(link))
        if message is not None and await self._learn_place(link, message):
            message = parse_message(data, self._surroundings(link))
        if message is None:
            return
        while (receipt := await _offer(inbox, message)) in (None, Receipt.OVERLOADED):
            log.warning("a message is held until it can be stored", account=self._account, message=message.id)
            await self._clock.sleep(_HOLD)
        if receipt is Receipt.CLOSED:
            await asyncio.Event().wait()  # the gateway is stopping: read nothing more, but let it answer what it has

    async def _take_command(self, link: Link, inbox: Inbox, data: Mapping[str, Any]) -> None:
        message = parse_interaction(data, self._surroundings(link))
        if message is None:
            return
        here = Address.load(message.reply_to)
        first = self._deferrals.begin(here.interaction)
        receipt = await _offer(inbox, message)
        if receipt is Receipt.DUPLICATE:
            if first:
                self._deferrals.end(here.interaction)
            return
        if receipt is Receipt.REFUSED:
            self._deferrals.end(here.interaction)  # the inbox answers it at once, or nobody shall
            return
        body: dict[str, Any] = {"type": DEFER, **({"data": {"flags": EPHEMERAL}} if here.private else {})}
        if receipt is not Receipt.ACCEPTED:  # nobody will answer: say so, to this person alone
            notice = say("internal", language_of(message), id=here.interaction)
            if receipt is not None:
                notice = say("overloaded", language_of(message))
            body = {"type": ANSWER, "data": {"content": notice, "flags": EPHEMERAL, "allowed_mentions": NOBODY}}
        self._begin(self._answer_command(here, body))

    async def _answer_command(self, here: Address, body: Mapping[str, Any]) -> None:
        """Within 3 s, or Discord tells the person that nothing came; the answer is shown all the same."""
        try:
            await self._rest().call("POST", CALLBACK, body=body, interaction=here.interaction, webhook_token=here.token)
        except DeliveryError as error:
            log.warning("a slash command could not be deferred", account=self._account, error=str(error))
        finally:
            self._deferrals.end(here.interaction)

    async def _learn_place(self, link: Link, message: InboundMessage) -> bool:
        """Ask whether a channel is a thread, once, where the cache does not know and the bot is meant. True if it is."""
        channel = Address.load(message.reply_to).opens_in or str(message.channel)
        known = channel in self._parents or link.get_channel(int(channel)) is not None
        if known or message.is_direct or not message.mentions_bot:
            return False
        try:
            async with asyncio.timeout(_PLACE):
                found = await self._rest().object("GET", "/channels/{channel_id}", channel_id=channel)
        except (DeliveryError, TimeoutError) as error:
            log.info("it is not known what kind of place a channel is", channel=channel, error=str(error))
            return False
        self._parents[channel] = str(found["parent_id"]) if found.get("type") in THREADS else None
        return self._parents[channel] is not None

    def _surroundings(self, link: Link) -> Surroundings:
        def parent(channel: str) -> str | None:
            place = link.get_channel(int(channel))
            if isinstance(place, discord.Thread):
                return str(place.parent_id)
            return self._parents.get(channel) if place is None else None

        def followed(channel: str) -> bool:
            place = link.get_channel(int(channel)) if self._config.message_content else None
            return isinstance(place, discord.Thread) and link.user is not None and place.owner_id == link.user.id

        def own_role(role: str) -> bool:
            return any(guild.self_role is not None and str(guild.self_role.id) == role for guild in link.guilds)

        def role_name(role: str) -> str | None:
            names = (found.name for guild in link.guilds if (found := guild.get_role(int(role))))
            return next(names, None)

        def channel_name(channel: str) -> str | None:
            return getattr(link.get_channel(int(channel)), "name", None)

        return Surroundings(
            account=self._account,
            me=str(link.user.id) if link.user else "",
            parent=parent,
            own_role=own_role,
            followed=followed,
            role_name=role_name,
            channel_name=channel_name,
            opens_threads=self._config.threads,
        )

    # What was missed

    async def missed(self, since: datetime, places: Sequence[Place]) -> AsyncGenerator[InboundMessage, None]:
        link, after = self._connected(), str(snowflake_at(since))
        waited = 0.0
        while waited < _GUILDS and any(guild.unavailable for guild in link.guilds):
            await self._clock.sleep(0.2)
            waited += 0.2
        channels: dict[str, str] = {}
        for here in (Address.load(place.reply_to) for place in places):
            channels |= {channel: here.guild for channel in (here.channel, here.opens_in) if channel}
        for guild in link.guilds:
            there: list[discord.TextChannel | discord.VoiceChannel | discord.Thread]
            there = [*guild.text_channels, *guild.voice_channels, *guild.threads]
            for place in there:
                if place.last_message_id is not None and place.last_message_id > int(after):
                    channels.setdefault(str(place.id), str(guild.id))
        members: dict[str, Mapping[str, Any]] = {}
        for channel, guild_id in channels.items():
            async for message in self._missed_in(channel, guild_id, after, members):
                yield message

    async def _missed_in(
        self, channel: str, guild: str, after: str, members: dict[str, Mapping[str, Any]]
    ) -> AsyncGenerator[InboundMessage, None]:
        """The messages of one channel; its history says nothing of the server it belongs to, nor of members: who is a
        guest is asked where guests may be."""
        link, rest = self._connected(), self._rest()
        has_guests = isinstance(link.get_channel(int(channel)), discord.VoiceChannel)
        while True:
            try:
                page = await history(rest, channel, after=after)
            except TargetGone as error:
                log.info("a channel is not read back", account=self._account, channel=channel, error=str(error))
                return
            for data in page:
                if has_guests:
                    data["member"] = await _member(rest, guild, text_in(part_in(data, "author"), "id"), members)
                message = parse_message(data | {"guild_id": guild} if guild else data, self._surroundings(link))
                if message is not None:
                    yield message
            if len(page) < PAGE:
                return
            after = str(page[-1]["id"])

    # Parts

    def _connected(self) -> Link:
        if self._link is None:
            raise ConnectionLost("the account is not signed in")
        return self._link

    def _rest(self) -> Rest:
        if self._link is None:
            raise DeliveryUnavailable("the account is not connected")
        return Rest(self._link)

    async def _register(self) -> None:
        try:
            count = await slash.register(self._rest())
        except RateLimited as error:
            log.warning("slash commands wait for the next start", account=self._account, error=str(error))
        except DeliveryError as error:
            log.warning("slash commands could not be registered", account=self._account, error=str(error))
        else:
            self._registered = True
            log.info("slash commands", account=self._account, changed=count)

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _member(rest: Rest, guild: str, user: str, known: dict[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """A member of a server, looked up once; empty where Discord does not tell."""
    if user not in known:
        try:
            known[user] = await rest.call("GET", "/guilds/{guild_id}/members/{user_id}", guild_id=guild, user_id=user)
        except RateLimited:
            raise
        except DeliveryError as error:
            log.info("a member could not be looked up", user=user, error=str(error))
            known[user] = {}
    return known[user]


async def _offer(inbox: Inbox, message: InboundMessage) -> Receipt | None:
    """Hand a message over; None if the store fails."""
    try:
        return await inbox(message)
    except StorageUnavailable as error:
        log.warning("a message could not be stored", message=message.id, error=str(error))
        return None


SPEC = AdapterSpec("discord", Config, DiscordAdapter, reply=DiscordReply)
