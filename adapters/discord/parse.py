"""Discord's events as messages. Nothing here raises on a malformed payload: it is no message then.

Sources: https://docs.discord.com/developers/resources/message, …/events/gateway-events#message-create,
…/interactions/receiving-and-responding#interaction-object, …/reference#message-formatting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from adapters.discord.address import Address
from core.commands import PRIVATE, is_about_somebody
from core.messages import (
    AccountId,
    Attachment,
    Belongs,
    ChannelId,
    EventId,
    InboundMessage,
    MessageId,
    Quoted,
    Sender,
    ThreadId,
    UserId,
)
from core.untrusted import items_in, part_in, text_in

_EPOCH = datetime(2015, 1, 1, tzinfo=UTC)
"""Snowflakes count milliseconds from here, in all but their lowest 22 bits."""

_SNOWFLAKE = re.compile(r"[0-9]{1,19}")
_WRITTEN_BY_PEOPLE = (0, 19)
"""Message types: default and reply. All others are notices of Discord, or answers of bots."""
_DIRECT = 1
"""The type of a channel between the bot and one person."""
THREADS = (10, 11, 12)
"""The types of channels that are threads."""
_FORWARD = 1
_LONGEST_TITLE = 90
_MOST_ATTACHMENTS = 10

_TAG = re.compile(
    r"<(?:@(?P<user>!?[0-9]{1,19})|@&(?P<role>[0-9]{1,19})|#(?P<channel>[0-9]{1,19})"
    r"|a?:(?P<emoji>\w+):[0-9]+|(?P<command>/[^:<>]+):[0-9]+)>"
)

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "chat": ("text",),
    "model": ("name",),
    "persona": ("name",),
    "link": ("code",),
    "forget": ("confirm",),
    "approve": ("code",),
    "allow": ("person",),
    "block": ("person",),
    "budget": ("person", "limits"),
}
"""Slash commands with options, and their names in the order in which they are typed as text."""

_IS_GUEST = 1 << 4
"""The flag of a member who is a guest, invited to one voice channel and its chat:
https://docs.discord.com/developers/resources/guild#guild-member-object-guild-member-flags"""


def _nothing(_: str) -> str | None:
    return None


def _never(_: str) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What has to be known to understand a message, as far as the cache of the client knows it. Ids are snowflakes."""

    account: AccountId
    me: str
    """The bot's own user."""
    parent: Callable[[str], str | None] = _nothing
    """The channel of a thread; None for a channel that is none."""
    own_role: Callable[[str], bool] = _never
    """Whether a role is the one that Discord made for the bot; people pick it by mistake when they mention it."""
    followed: Callable[[str], bool] = _never
    """Whether a thread is the bot's own, so that everything in it is meant for the bot."""
    role_name: Callable[[str], str | None] = _nothing
    channel_name: Callable[[str], str | None] = _nothing
    opens_threads: bool = False
    """Whether a mention outside a thread is answered in a new one."""


def parse_message(payload: Any, around: Surroundings) -> InboundMessage | None:
    """A message object (of MESSAGE_CREATE, or of the history with its `guild_id` added) as a message to the bot.

    None for what no person wrote: the bot's own, those of webhooks, and Discord's notices.
    """
    if not isinstance(payload, Mapping) or payload.get("type") not in _WRITTEN_BY_PEOPLE or payload.get("webhook_id"):
        return None
    id, channel, author = _id(payload, "id"), _id(payload, "channel_id"), part_in(payload, "author")
    user = _id(author, "id")
    if not id or not channel or not user or user == around.me:
        return None
    guild = _id(payload, "guild_id")
    kind = payload.get("channel_type")
    if (payload.get("guild_id") is not None and not guild) or (not guild and kind not in (None, _DIRECT)):
        return None  # a kind of place that is not known is no direct chat
    parent = around.parent(channel) if guild else None
    opens = bool(around.opens_threads and guild and not parent)
    people = _people(payload)
    text = _readable(text_in(payload, "content"), people, around)
    thread = channel if parent else id if opens else ""
    address = Address(
        channel=thread or channel,
        guild=guild,
        message=id,
        opens_in=channel if opens else "",
        title=_title(text) if opens else "",
    )
    return InboundMessage(
        id=MessageId(id),
        event=EventId(id),
        account=around.account,
        sender=Sender(
            id=UserId(user),
            display_name=_display_name(author, part_in(payload, "member")),
            is_bot=author.get("bot") is True,
            belongs=_belongs(part_in(payload, "member")),
        ),
        channel=ChannelId(parent or channel),
        thread=ThreadId(thread) if thread else None,
        is_direct=not guild,
        mentions_bot=around.me in people or _role_mentioned(payload, around) or around.followed(channel),
        text=text,
        quoted=_quoted(payload, around),
        attachments=_attachments(payload, channel, id),
        sent_at=_sent_at(payload, id),
        reply_to=address.dump(),
    )


def parse_interaction(payload: Any, around: Surroundings) -> InboundMessage | None:
    """A slash command (INTERACTION_CREATE) as a message: `/chat text` is its text, the others are typed commands."""
    if not isinstance(payload, Mapping) or payload.get("type") != 2:
        return None
    id, token = _id(payload, "id"), text_in(payload, "token")
    place, data, member = part_in(payload, "channel"), part_in(payload, "data"), part_in(payload, "member")
    channel, guild = _id(payload, "channel_id") or _id(place, "id"), _id(payload, "guild_id")
    person = part_in(member, "user") or part_in(payload, "user")
    user, name = _id(person, "id"), text_in(data, "name")
    if not id or not token or not channel or not user or not name or data.get("type", 1) != 1:
        return None
    if not guild and payload.get("context", 1) != 1:
        return None  # in a chat of others, where the bot is not
    argument = " ".join(filter(None, (_option(data, option) for option in OPTIONS.get(name, ()))))
    parent = _id(place, "parent_id") if guild and place.get("type") in THREADS else ""
    private = bool(guild) and name in PRIVATE
    address = Address(channel=channel, guild=guild, interaction=id, token=token, private=private)
    return InboundMessage(
        id=MessageId(id),
        event=EventId(id),
        account=around.account,
        sender=Sender(
            id=UserId(user),
            display_name=_display_name(person, member),
            is_bot=person.get("bot") is True,
            belongs=_belongs(member),
            locale=text_in(payload, "locale") or None,
        ),
        channel=ChannelId(parent or channel),
        thread=ThreadId(channel) if parent else None,
        is_direct=not guild,
        mentions_bot=True,
        text=_readable(argument, {}, around) if name == "chat" else f"/{name} {argument}".strip(),
        sent_at=snowflake_time(id),
        reply_to=address.dump(),
    )


def snowflake_time(id: str) -> datetime:
    """When the thing with this id was made, to the millisecond."""
    return _EPOCH + timedelta(milliseconds=int(id) >> 22)


def snowflake_at(time: datetime) -> int:
    """An id that is smaller than all that were made at `time` or later."""
    return max(0, int((time - _EPOCH) / timedelta(milliseconds=1))) << 22


def _id(holder: Mapping[str, Any], name: str) -> str:
    value = holder.get(name)
    return value if isinstance(value, str) and _SNOWFLAKE.fullmatch(value) else ""


def _display_name(person: Mapping[str, Any], member: Mapping[str, Any]) -> str:
    return text_in(member, "nick") or text_in(person, "global_name") or text_in(person, "username")


def _belongs(member: Mapping[str, Any]) -> Belongs:
    """Of a server's member; Discord knows no difference in a direct chat."""
    flags = member.get("flags")
    return Belongs.GUEST if isinstance(flags, int) and flags & _IS_GUEST else Belongs.MEMBER


def _people(payload: Mapping[str, Any]) -> dict[str, str]:
    """Who is mentioned, by id, with the name to show."""
    mentioned = items_in(payload, "mentions")
    return {_id(person, "id"): _display_name(person, part_in(person, "member")) for person in mentioned}


def _role_mentioned(payload: Mapping[str, Any], around: Surroundings) -> bool:
    roles = payload.get("mention_roles")
    return isinstance(roles, list) and any(isinstance(role, str) and around.own_role(role) for role in roles)


def _readable(content: str, people: Mapping[str, str], around: Surroundings) -> str:
    """`content` with names for ids, and without the bot's own mention. A command about somebody keeps their id."""

    def name(tag: re.Match[str], *, ids: bool = False) -> str:
        if tag["user"]:
            user = tag["user"].lstrip("!")
            if user == around.me:
                return ""
            return user if ids else f"@{people.get(user) or user}"
        if tag["role"]:
            return "" if around.own_role(tag["role"]) else f"@{around.role_name(tag['role']) or tag['role']}"
        if tag["channel"]:
            return f"#{around.channel_name(tag['channel']) or tag['channel']}"
        return f":{tag['emoji']}:" if tag["emoji"] else str(tag["command"])

    text = _TAG.sub(name, content).strip()
    return _TAG.sub(partial(name, ids=True), content).strip() if is_about_somebody(text) else text


def _title(text: str) -> str:
    line = re.sub(r"\s+", " ", text).strip()
    return line[:_LONGEST_TITLE].rstrip() or "…"


def _quoted(payload: Mapping[str, Any], around: Surroundings) -> Quoted | None:
    """What is answered or forwarded. Its text is there if Discord shows it to the bot."""
    if part_in(payload, "message_reference").get("type") == _FORWARD:
        copies = [part_in(copy, "message") for copy in items_in(payload, "message_snapshots")]
        text = "\n\n".join(
            filter(None, (_readable(text_in(copy, "content"), _people(copy), around) for copy in copies))
        )
        return Quoted(author="", text=text) if text else None
    other = part_in(payload, "referenced_message")
    text = _readable(text_in(other, "content"), _people(other), around)
    return Quoted(author=_display_name(part_in(other, "author"), {}), text=text) if text else None


def _attachments(payload: Mapping[str, Any], channel: str, message: str) -> tuple[Attachment, ...]:
    found = []
    for item in items_in(payload, "attachments")[:_MOST_ATTACHMENTS]:
        id, url, size = _id(item, "id"), text_in(item, "url"), item.get("size")
        if id and url:
            found.append(
                Attachment(
                    name=text_in(item, "filename") or "file",
                    media_type=text_in(item, "content_type") or "application/octet-stream",
                    size=size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None,
                    source=json.dumps({"url": url, "channel": channel, "message": message, "id": id}),
                )
            )
    return tuple(found)


def _sent_at(payload: Mapping[str, Any], id: str) -> datetime:
    try:
        time = datetime.fromisoformat(text_in(payload, "timestamp"))
    except ValueError:
        return snowflake_time(id)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _option(data: Mapping[str, Any], name: str) -> str:
    return next((text_in(option, "value") for option in items_in(data, "options") if option.get("name") == name), "")
