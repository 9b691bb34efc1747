"""What there is on a simulated Discord: bots, people, one server with channels and threads, messages.

Shapes follow https://docs.discord.com/developers/resources/{message,channel,guild,user,application}.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(2015, 1, 1, tzinfo=UTC)

GUILD_TEXT, DM, GUILD_VOICE, PUBLIC_THREAD = 0, 1, 2, 11
MESSAGE_CONTENT = 1 << 15
GUILD_MESSAGES, DIRECT_MESSAGES, GUILDS = 1 << 9, 1 << 12, 1
PRIVILEGED = MESSAGE_CONTENT | 1 << 1 | 1 << 8

THINKING, EPHEMERAL = 1 << 7, 1 << 6
IS_GUEST = 1 << 4
"""Of a member."""

PEOPLE = {"ann": "200000000000000001", "bob": "200000000000000002", "zoe": "200000000000000003"}
GUILD = "300000000000000001"
HELPERS = "300000000000000009"
"""A role that people have."""


class Snowflakes:
    """Ids that grow with time."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._last = 0

    def new(self, age: timedelta = timedelta(0)) -> str:
        """An id of now, or of some time ago."""
        at = int((datetime.now(UTC) - age - EPOCH) / timedelta(milliseconds=1))
        id = at << 22 | next(self._numbers) & 0x3FFFFF
        if not age:
            id = self._last = max(id, self._last + 1)
        return str(id)


@dataclass
class Bot:
    """An application with its bot user."""

    name: str
    token: str
    user: str
    application: str
    role: str
    """The role that the server made for it."""
    allowed: int = 0
    """Privileged intents that the portal allows."""
    valid: bool = True
    identifies: int = 0
    remaining: int = 1000
    permissions: int = 0x7FFFFFFFFFFFF
    interactions_endpoint_url: str | None = None
    commands: dict[str, dict[str, Any]] = field(default_factory=dict)
    command_changes: int = 0
    in_guild: bool = True

    def as_user(self) -> dict[str, Any]:
        return person(self.user, self.name, bot=True)

    @property
    def flags(self) -> int:
        """Of the application: GATEWAY_MESSAGE_CONTENT_LIMITED."""
        return 1 << 19 if self.allowed & MESSAGE_CONTENT else 0


@dataclass
class Post:
    """A message, with what nobody but a test sees."""

    data: dict[str, Any]
    versions: list[str]
    nonce: str | None = None
    at: float = 0.0
    removed: bool = False
    pinged: bool = False
    cause: str | None = None
    """The interaction that it answers."""

    @property
    def id(self) -> str:
        return str(self.data["id"])

    @property
    def author(self) -> str:
        return str(self.data["author"]["id"])


@dataclass
class Channel:
    """A text channel, a thread, or a direct chat of one person with one bot."""

    id: str
    type: int
    name: str
    parent: str | None = None
    owner: str = ""
    person: str | None = None
    bot: str | None = None
    gone: bool = False
    forbidden: bool = False
    locked: bool = False
    posts: dict[str, Post] = field(default_factory=dict)

    @property
    def guild(self) -> str | None:
        return None if self.type == DM else GUILD

    def living(self) -> list[Post]:
        """What everybody there sees."""
        shown = (post for post in self.posts.values() if not post.removed and not post.data["flags"] & EPHEMERAL)
        return sorted(shown, key=lambda post: int(post.id))

    def as_data(self) -> dict[str, Any]:
        last = max(self.posts, key=int, default=None)
        data: dict[str, Any] = {"id": self.id, "type": self.type, "last_message_id": last, "flags": 0}
        if self.type == DM:
            return data | {"recipients": [person(str(self.person), "someone")]}
        data |= {"guild_id": GUILD, "name": self.name, "parent_id": self.parent, "rate_limit_per_user": 0}
        if self.type == PUBLIC_THREAD:
            return data | {
                "owner_id": self.owner,
                "message_count": len(self.posts),
                "member_count": 1,
                "thread_metadata": {
                    "archived": False,
                    "auto_archive_duration": 1440,
                    "archive_timestamp": "2026-01-01T00:00:00+00:00",
                    "locked": self.locked,
                },
            }
        voice = {"bitrate": 64_000, "user_limit": 0, "rtc_region": None} if self.type == GUILD_VOICE else {}
        return data | {"position": 0, "permission_overwrites": [], "nsfw": False, "topic": None, **voice}


def person(id: str, name: str, *, bot: bool = False) -> dict[str, Any]:
    """A user object."""
    return {
        "id": id,
        "username": name,
        "discriminator": "0",
        "global_name": None if bot else name.title(),
        "avatar": None,
        "bot": bot,
        "public_flags": 0,
    }


class World:
    """All of it, in memory."""

    def __init__(self) -> None:
        self.ids = Snowflakes()
        self.bots: dict[str, Bot] = {}
        self.channels: dict[str, Channel] = {}
        self._named: dict[tuple[int, str, str], Channel] = {}
        """Text channels by their names, direct chats by who is in them."""
        self.people = dict(PEOPLE)
        self.guests: set[str] = set()
        """Ids of those who are guests of the server."""
        self.files: dict[str, tuple[bytes, str]] = {}
        self.complaints: list[str] = []
        self.channel("general")

    def bot(self, name: str) -> Bot:
        """The bot of that name, made when it is first asked for."""
        if name not in self.bots:
            number = len(self.bots) + 1
            self.bots[name] = Bot(
                name=name,
                token=f"MTAw.{name}.token-of-the-bot-{number}",
                user=f"10000000000000000{number}",
                application=f"11000000000000000{number}",
                role=f"12000000000000000{number}",
            )
        return self.bots[name]

    def by_token(self, token: str | None) -> Bot | None:
        """Who signs in so; None for tokens that are wrong or withdrawn."""
        return next((bot for bot in self.bots.values() if bot.valid and bot.token == token), None)

    def user(self, name: str) -> str:
        """A person's id."""
        return self.people.setdefault(name, str(200000000000000001 + len(self.people)))

    def channel(self, name: str) -> Channel:
        """A text channel of the server."""
        place = (GUILD_TEXT, name, "")
        if place not in self._named:
            self._named[place] = self._add(Channel(id=self.ids.new(), type=GUILD_TEXT, name=name))
        return self._named[place]

    def voice(self, name: str) -> Channel:
        """A voice channel of the server, with its chat."""
        place = (GUILD_VOICE, name, "")
        if place not in self._named:
            self._named[place] = self._add(Channel(id=self.ids.new(), type=GUILD_VOICE, name=name))
        return self._named[place]

    def direct(self, user: str, bot: Bot) -> Channel:
        """The chat of a person with a bot."""
        place = (DM, user, bot.name)
        if place not in self._named:
            self._named[place] = self._add(Channel(id=self.ids.new(), type=DM, name="", person=user, bot=bot.name))
        return self._named[place]

    def thread(self, parent: Channel, message: str, name: str, owner: str) -> Channel:
        """A thread on a message, which has the message's id."""
        return self._add(Channel(id=message, type=PUBLIC_THREAD, name=name, parent=parent.id, owner=owner))

    def _add(self, channel: Channel) -> Channel:
        self.channels[channel.id] = channel
        return channel

    def below(self, room: str) -> Iterator[Channel]:
        """A channel and its threads."""
        for channel in self.channels.values():
            if room in (channel.id, channel.parent):
                yield channel

    def post(self, channel: Channel, author: dict[str, Any], content: str, *, age: timedelta = timedelta(0)) -> Post:
        """A new message, not told to anybody yet."""
        id = self.ids.new(age)
        data = {
            "id": id,
            "type": 0,
            "channel_id": channel.id,
            "author": author,
            "content": content,
            "timestamp": (datetime.now(UTC) - age).isoformat(),
            "edited_timestamp": None,
            "tts": False,
            "mention_everyone": False,
            "mentions": [self._mentioned(id) for id in dict.fromkeys(re.findall(r"<@!?(\d+)>", content))],
            "mention_roles": re.findall(r"<@&(\d+)>", content),
            "attachments": [],
            "embeds": [],
            "pinned": False,
            "flags": 0,
        }
        channel.posts[id] = Post(data, [content], at=time.monotonic())
        return channel.posts[id]

    def _mentioned(self, id: str) -> dict[str, Any]:
        for bot in self.bots.values():
            if bot.user == id:
                return bot.as_user()
        return person(id, next((name for name, user in self.people.items() if user == id), "stranger"))

    def guild(self, bot: Bot) -> dict[str, Any]:
        """GUILD_CREATE for a bot."""
        living = [channel for channel in self.channels.values() if not channel.gone]
        roles: list[tuple[str, str, dict[str, str]]] = [(GUILD, "@everyone", {}), (HELPERS, "helpers", {})]
        roles += [(each.role, each.name, {"bot_id": each.user}) for each in self.bots.values()]
        return {
            "id": GUILD,
            "name": "The Server",
            "owner_id": PEOPLE["ann"],
            "unavailable": False,
            "large": False,
            "member_count": 3,
            "joined_at": "2026-01-01T00:00:00+00:00",
            "roles": [
                {
                    "id": id,
                    "name": name,
                    "permissions": str(bot.permissions),
                    "position": number,
                    "color": 0,
                    "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
                    "hoist": False,
                    "managed": bool(tags),
                    "mentionable": True,
                    "flags": 0,
                    **({"tags": tags} if tags else {}),
                }
                for number, (id, name, tags) in enumerate(roles)
            ],
            "channels": [channel.as_data() for channel in living if channel.type in (GUILD_TEXT, GUILD_VOICE)],
            "threads": [channel.as_data() for channel in living if channel.type == PUBLIC_THREAD],
            "members": [
                {
                    "user": bot.as_user(),
                    "roles": [bot.role],
                    "joined_at": None,
                    "deaf": False,
                    "mute": False,
                    "flags": 0,
                }
            ],
            "emojis": [],
            "stickers": [],
            "features": [],
            "voice_states": [],
            "presences": [],
            "stage_instances": [],
            "guild_scheduled_events": [],
            "soundboard_sounds": [],
            "verification_level": 0,
            "default_message_notifications": 0,
            "explicit_content_filter": 0,
            "mfa_level": 0,
            "nsfw_level": 0,
            "premium_tier": 0,
            "premium_progress_bar_enabled": False,
            "system_channel_flags": 0,
            "preferred_locale": "en-US",
            "afk_timeout": 300,
        }

    def seen_by(self, bot: Bot, channel: Channel, data: dict[str, Any], intents: int) -> dict[str, Any]:
        """A message as this bot gets it: without the Message Content Intent, texts of others that do not mention it
        are empty (https://docs.discord.com/developers/events/gateway#message-content-intent)."""
        mentioned = any(each["id"] == bot.user for each in data["mentions"])
        if intents & MESSAGE_CONTENT or channel.type == DM or mentioned or data["author"]["id"] == bot.user:
            return data
        return data | {"content": "", "attachments": [], "embeds": []}
