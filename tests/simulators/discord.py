"""A simulated Discord: the HTTP API, the gateway and the files, on loopback; and what people do and see there.

As a process it is not needed: the gateway under test may be one, and talks to this over its ports all the same.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from aiohttp import web

from adapters.discord import SPEC, parse_interaction, parse_message
from adapters.discord.parse import Surroundings
from core.adapter import AnyAdapterSpec
from core.messages import AccountId, Attachment, InboundMessage
from tests.contract.platform import Delivery, Feature, File, SimulatedPlatform, Visible
from tests.simulators.discord_gateway import Gateway
from tests.simulators.discord_rest import Fault, Interaction, Rest
from tests.simulators.discord_world import (
    DM,
    GUILD,
    HELPERS,
    IS_GUEST,
    MESSAGE_CONTENT,
    PEOPLE,
    PUBLIC_THREAD,
    THINKING,
    Bot,
    Channel,
    Post,
    World,
    person,
)
from tests.simulators.loopback import serving

PAYLOADS = Path(__file__).parents[1] / "payloads" / "discord"

_ESCAPED = re.compile(r"\\([\\*`~|\[\]_#>@:.)(+-])")


class DiscordPlatform(SimulatedPlatform):
    """Every account is a bot of its own; all are on one server."""

    lacks: ClassVar[Mapping[Feature, str]] = {}
    alarming: ClassVar[Sequence[str]] = ("@everyone", "@here", f"<@{PEOPLE['ann']}>", f"<@&{HELPERS}>")

    def __init__(self, *, threads: bool = False, **options: Any) -> None:
        """`threads` and other keys of the accounts."""
        self.threads = threads
        self.options = options
        self.world = World()
        self.gateway = Gateway(self.world)
        self.rest = Rest(self.world, self.gateway)
        self._sent: dict[str, tuple[str, Channel, dict[str, Any], Bot]] = {}
        self._served = AsyncExitStack()
        self.url = ""

    async def __aenter__(self) -> Self:
        routes = [*self.rest.routes(), web.get("/gateway/{bot}", self.gateway.serve)]
        self.url = await self._served.enter_async_context(serving(routes))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.gateway.close()
        await self._served.aclose()

    # The account

    @property
    def spec(self) -> AnyAdapterSpec:
        return SPEC

    def account(self, name: str = "bot") -> dict[str, Any]:
        bot = self.world.bot(name)
        threads = {"threads": True} if self.threads else {}
        token = f"MTAw.{name}.a-token-that-was-reset" if not bot.valid else bot.token
        return {"token": token, "api_url": f"{self.url}/api/v10", **threads, **self.options}

    async def listening(self, name: str = "bot") -> None:
        while not self.gateway.ready(name):
            await asyncio.sleep(0.005)

    def links(self, name: str = "bot") -> int:
        return sum(link.open for link in self.gateway.links.get(name, []))

    # What people do

    async def person_writes(
        self,
        text: str,
        *,
        user: str = "ann",
        channel: str = "general",
        direct: bool = True,
        thread: str | None = None,
        mention: bool = True,
        account: str = "bot",
        files: Sequence[File] = (),
        age: timedelta = timedelta(0),
    ) -> Delivery:
        bot, author = self.world.bot(account), self.world.user(user)
        named = self.world.voice if channel.startswith("voice") else self.world.channel
        place = self.world.direct(author, bot) if direct else named(channel)
        room = place.id
        if thread is not None:
            place = self.world.channels[thread]
        content = text if direct or not mention else f"<@{bot.user}> {text}".strip()
        post = self.world.post(place, person(author, user), content, age=age)
        for file in files:
            self._attach(post, place, file)
        answered_in = place.id if place.type == PUBLIC_THREAD else post.id if self.threads and not direct else None
        told = dict(post.data) if direct else {**post.data, "member": self._member(author)}  # histories have no member
        self._sent[post.id] = ("MESSAGE_CREATE", place, told, bot)
        if not age:
            await self.gateway.dispatch_message("MESSAGE_CREATE", place, dict(told))
        return Delivery(event=post.id, message=post.id, room=room, thread=answered_in)

    def _member(self, user: str) -> dict[str, Any]:
        flags = IS_GUEST if user in self.world.guests else 0
        return {"roles": [], "joined_at": "2026-01-01T00:00:00+00:00", "permissions": "0", "flags": flags}

    def _attach(self, post: Post, channel: Channel, file: File) -> None:
        id = self.world.ids.new()
        self.world.files[id] = (file.content, file.media_type)
        post.data["attachments"].append(
            {
                "id": id,
                "filename": file.name,
                "content_type": file.media_type,
                "size": len(file.content),
                "url": f"{self.url}/attachments/{channel.id}/{id}/{file.name}?ex=1&is=0&hm=00",
                "proxy_url": f"{self.url}/attachments/{channel.id}/{id}/{file.name}",
            }
        )

    async def redeliver(self, delivery: Delivery, *, times: int = 1) -> None:
        event, channel, data, bot = self._sent[delivery.event]
        for _ in range(times):
            if event == "MESSAGE_CREATE":
                await self.gateway.dispatch_message(event, channel, data, to=bot)
            else:
                await self.gateway.dispatch(bot, event, data)

    async def bot_writes(self, text: str, *, own: bool, account: str = "bot", direct: bool = True) -> None:
        bot = self.world.bot(account)
        author = bot.as_user() if own else person("900000000000000001", "another bot", bot=True)
        place = self.world.direct(PEOPLE["ann"], bot) if direct and own else self.world.channel("general")
        post = self.world.post(place, author, f"<@{bot.user}> {text}")
        await self.gateway.dispatch_message("MESSAGE_CREATE", place, dict(post.data))

    async def person_edits(self, delivery: Delivery, text: str) -> None:
        _, channel, data, _ = self._sent[delivery.event]
        post = channel.posts[delivery.message]
        post.data["content"] = text
        await self.gateway.dispatch_message(
            "MESSAGE_UPDATE", channel, data | {"content": text, "edited_timestamp": data["timestamp"]}
        )

    async def person_commands(
        self,
        name: str,
        argument: str | None = None,
        *,
        user: str = "ann",
        channel: str = "general",
        direct: bool = False,
        account: str = "bot",
        locale: str = "en-US",
    ) -> Interaction:
        """Somebody gives a slash command."""
        bot, author = self.world.bot(account), self.world.user(user)
        place = self.world.direct(author, bot) if direct else self.world.channel(channel)
        interaction = Interaction(
            id=self.world.ids.new(),
            token=f"aW50.{self.world.ids.new()}",
            bot=bot,
            channel=place,
            user=author,
            name=name,
        )
        self.rest.interactions[interaction.id] = interaction
        options = {
            "chat": ["text"],
            "model": ["name"],
            "persona": ["name"],
            "link": ["code"],
            "forget": ["confirm"],
            "approve": ["code"],
            "allow": ["person"],
            "block": ["person"],
            "budget": ["person", "limits"],
        }.get(name, [])
        given = zip(options, (argument or "").split(" ", len(options) - 1) if argument else (), strict=False)
        who: dict[str, Any] = {"user": person(author, user)}
        if not direct:
            who = {"member": {**who, **self._member(author)}}
        data: dict[str, Any] = {
            "id": interaction.id,
            "application_id": bot.application,
            "type": 2,
            "token": interaction.token,
            "version": 1,
            "channel_id": place.id,
            "channel": {"id": place.id, "type": place.type},
            "context": 1 if direct else 0,
            "locale": locale,
            "entitlements": [],
            "authorizing_integration_owners": {},
            "attachment_size_limit": 10_485_760,
            "data": {
                "id": "1",
                "name": name,
                "type": 1,
                "options": [{"name": option, "type": 3, "value": value} for option, value in given],
            },
            **who,
            **({} if direct else {"guild_id": GUILD}),
        }
        self._sent[interaction.id] = ("INTERACTION_CREATE", place, data, bot)
        await self.gateway.dispatch(bot, "INTERACTION_CREATE", data)
        return interaction

    def delivery(self, interaction: Interaction) -> Delivery:
        """A slash command, as the suite refers to it."""
        return Delivery(event=interaction.id, message=interaction.id, room=interaction.channel.id, thread=None)

    # What is seen

    def acknowledged(self, delivery: Delivery) -> int:
        return self.gateway.acknowledged(delivery.message)

    def visible(self, room: str) -> Sequence[Visible]:
        bots = {bot.user: bot.name for bot in self.world.bots.values()}
        found = [
            Visible(
                id=post.id,
                account=bots[post.author],
                text=_read(post.data["content"]),
                thread=channel.id if channel.type == PUBLIC_THREAD else None,
                growing=bool(post.data["flags"] & THINKING),
                versions=[_read(version) for version in post.versions],
            )
            for channel in self.world.below(room)
            for post in channel.living()
            if post.author in bots and not post.data["flags"] & THINKING
        ]
        return sorted(found, key=lambda each: int(each.id))

    def complaints(self) -> Sequence[str]:
        return self.world.complaints

    def pings(self) -> Sequence[str]:
        posts = [post for channel in self.world.channels.values() for post in channel.posts.values()]
        bots = {bot.user for bot in self.world.bots.values()}
        return [post.data["content"] for post in posts if post.pinged and post.author in bots]

    # What goes wrong

    def limit_rate(self, seconds: float, *, times: int = 1) -> None:
        self.rest.limited, self.rest.pause = times, seconds

    def break_send(self, *, after: bool, times: int = 1) -> None:
        self.rest.faults["create"].extend(Fault(after=after) for _ in range(times))

    def remove(self, room: str) -> None:
        for channel in self.world.below(room):
            channel.gone = True

    def refuse_credentials(self, name: str = "bot") -> None:
        self.world.bot(name).valid = False

    async def drop(self, name: str = "bot") -> None:
        self.gateway.drop(name)

    def refuse_links(self, times: int, name: str = "bot") -> None:
        self.gateway.refusals[name] = times

    def go_silent(self, name: str = "bot") -> None:
        for link in self.gateway.links.get(name, []):
            link.silent = True

    # Files and payloads

    def elsewhere(self, attachment: Attachment, url: str) -> Attachment:
        return replace(attachment, source=json.dumps({**json.loads(attachment.source), "url": url}))

    def payloads(self) -> Sequence[Any]:
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(PAYLOADS.glob("*.json"))]

    def parse(self, payload: Any) -> InboundMessage | None:
        around = surroundings()
        if isinstance(payload, Mapping) and payload.get("t") == "INTERACTION_CREATE":
            return parse_interaction(payload.get("d"), around)
        return parse_message(payload.get("d") if isinstance(payload, Mapping) else payload, around)


def surroundings(**changes: Any) -> Surroundings:
    """What the payload files are about: the bot 100000000000000001, a thread, a role of the bot's own."""
    threads = {"600000000000000002": "600000000000000001"}
    known: dict[str, Any] = {
        "account": AccountId("bot"),
        "me": "100000000000000001",
        "parent": threads.get,
        "own_role": lambda role: role == "120000000000000001",
        "role_name": {HELPERS: "helpers"}.get,
        "channel_name": {"600000000000000001": "general"}.get,
    }
    return Surroundings(**{**known, **changes})


def _read(content: str) -> str:
    """A text as a person sees it: escapes undone, but for those in code."""
    pieces = re.split(r"(```.*?```|``.*?``|`[^`\n]*`)", content, flags=re.DOTALL)
    return "".join(piece if number % 2 else _ESCAPED.sub(r"\1", piece) for number, piece in enumerate(pieces))


__all__ = ["DM", "MESSAGE_CONTENT", "DiscordPlatform", "surroundings"]
