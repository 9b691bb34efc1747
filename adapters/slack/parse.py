"""Slack's events as messages. Nothing here asks anybody anything.

An event: https://docs.slack.dev/apis/events-api (the outer `event_callback`), the inner kinds `message` and
`app_mention`; a slash command: https://docs.slack.dev/interactivity/implementing-slash-commands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.slack.address import Address, message_id
from adapters.slack.belongs import Known, author_belongs, member_belongs
from adapters.slack.identity import Identity
from adapters.slack.text import Name, ids_in, readable, with_ids, without_mention
from core.commands import PRIVATE, is_about_somebody, parse_command
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

Payload = Mapping[str, Any]

_WRITTEN = frozenset(("", "file_share", "thread_broadcast"))
"""Subtypes of what people write; edits, deletions, joins and all others are not for us."""
_SLACKBOT = "USLACKBOT"
"""It posts reminders and the like as a person would: without `bot_id`, and `users.info` denies that it is a bot."""
_DIRECT = frozenset(("im", "app_home"))
_PLACES = _DIRECT | {"channel", "group", "mpim"}
_TS = re.compile(r"\d{1,11}\.\d{1,9}")
_MOST_FILES = 20


Person = Callable[[str], Known | None]


def _nobody(_: str) -> Known | None:
    return None


def parse_message(
    payload: Any,
    *,
    account: AccountId,
    identity: Identity,
    name: Name,
    now: datetime,
    person: Person = _nobody,
) -> InboundMessage | None:
    """The message in an event or slash command; None for whatever nobody wrote to the bot. Never raises.

    `name` resolves ids that Slack did not name; `now` dates slash commands, which carry no time; `person` tells what is
    known of somebody.
    """
    if not isinstance(payload, Mapping):
        return None
    if "command" in payload:
        return _command(payload, account, identity, now, person)
    event = payload.get("event")
    if not isinstance(event, Mapping) or event.get("type") not in ("message", "app_mention"):
        return None
    if not _is_ours(payload, identity):
        return None
    return _written(payload, event, account, identity, name, person)


def ids_of(payload: Any) -> list[str]:
    """The people and channels whose names `parse_message` would ask for."""
    event = part_in(payload, "event")
    user = text_in(event, "user") or text_in(payload, "user_id")
    return list(dict.fromkeys([*([user] if user else []), *ids_in(text_in(event, "text"))]))


def _written(
    payload: Payload, event: Payload, account: AccountId, identity: Identity, name: Name, person: Person
) -> InboundMessage | None:
    user, channel, ts = text_in(event, "user"), text_in(event, "channel"), text_in(event, "ts")
    sent_at = time_of(ts)
    if not user or not channel or sent_at is None:
        return None
    if text_in(event, "subtype") not in _WRITTEN or event.get("hidden") or event.get("bot_id"):
        return None
    if user in (identity.user, _SLACKBOT):
        return None
    kind = "channel" if event["type"] == "app_mention" else text_in(event, "channel_type")
    if kind not in _PLACES:
        return None  # an unknown kind of place is no direct chat
    direct = kind in _DIRECT
    raw = text_in(event, "text")
    root = text_in(event, "thread_ts")
    thread = root if _TS.fullmatch(root) else "" if direct else ts  # an answer in a channel opens a thread
    team = _team(payload, event)
    sender = Sender(
        id=_user_id(user, team, event, identity),
        display_name=name(user) or "",
        belongs=author_belongs(payload, event, identity, person(user)),
    )
    address = Address(
        channel=channel,
        thread=thread,
        after=ts,
        user=user,
        team=team,
        direct=direct,
        person="" if sender.id == user else sender.id,
        belongs="" if sender.belongs is Belongs.MEMBER else sender.belongs,
    )
    return InboundMessage(
        id=message_id(channel, ts),
        event=EventId(text_in(payload, "event_id") or f"history/{channel}/{ts}"),
        account=account,
        sender=sender,
        channel=ChannelId(channel),
        thread=ThreadId(thread) if thread else None,
        is_direct=direct,
        mentions_bot=event["type"] == "app_mention" or identity.user in ids_in(raw),
        text=_readable(
            without_mention(raw, identity.user), lambda one: name(one) or _own_name(one, identity), identity, person
        ),
        quoted=_quoted(event, name),
        attachments=_attachments(event),
        sent_at=sent_at,
        reply_to=address.dump(),
    )


def _readable(text: str, name: Name, identity: Identity, person: Person) -> str:
    """What was written, with names for ids; a command about somebody keeps the id that their messages carry."""

    def id(user: str) -> str:
        known = person(user) or Known()
        foreign = member_belongs(known.team, known.enterprise, identity, known) is Belongs.EXTERNAL
        return f"{known.team}/{user}" if known.team and foreign else user

    return readable(with_ids(text, id) if is_about_somebody(text) else text, name)


def _own_name(id: str, identity: Identity) -> str | None:
    return identity.name if id == identity.user else None


def _command(
    payload: Payload, account: AccountId, identity: Identity, now: datetime, person: Person
) -> InboundMessage | None:
    user, channel = text_in(payload, "user_id"), text_in(payload, "channel_id")
    trigger, team = text_in(payload, "trigger_id"), text_in(payload, "team_id")
    if not user or not channel or not trigger or user == identity.user:
        return None
    typed = text_in(payload, "text").strip()
    # Slack takes what begins with a slash for a command of its own, so `/new` is typed as `/chatgpt new`.
    text = f"/{typed}" if parse_command(f"/{typed}") else typed or "/help"
    command = parse_command(text)
    direct = channel.startswith("D")
    belongs = member_belongs(team, text_in(payload, "enterprise_id"), identity, person(user))
    id = UserId(f"{team}/{user}" if belongs is Belongs.EXTERNAL and not identity.is_home(team) else user)
    address = Address(
        channel=channel,
        thread="",
        after="",
        user=user,
        team=team,
        direct=direct,
        response_url=text_in(payload, "response_url"),
        private=not direct and command is not None and command.name in PRIVATE,
    )
    return InboundMessage(
        id=MessageId(f"{channel}/command/{trigger}"),
        event=EventId(f"command/{trigger}"),
        account=account,
        sender=Sender(id=id, display_name=text_in(payload, "user_name"), belongs=belongs),
        channel=ChannelId(channel),
        is_direct=direct,
        mentions_bot=True,
        text=_readable(text, lambda one: _own_name(one, identity), identity, person),
        sent_at=now,
        reply_to=address.dump(),
    )


def time_of(ts: str) -> datetime | None:
    """When a message was written: its `ts` is seconds since 1970 and a number that makes it unique."""
    if not _TS.fullmatch(ts):
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=float(ts))


def _is_ours(payload: Payload, identity: Identity) -> bool:
    """Whether the event was sent for this installation: an app may be installed in several workspaces."""
    authorizations = payload.get("authorizations")
    if not isinstance(authorizations, list) or not authorizations:
        return True
    return any(
        isinstance(one, Mapping)
        and (
            text_in(one, "user_id") == identity.user
            or identity.is_home(text_in(one, "team_id") or "-")
            or identity.is_home(text_in(one, "enterprise_id") or "-")
        )
        for one in authorizations
    )


def _team(payload: Payload, event: Payload) -> str:
    """The workspace of who wrote."""
    named = (text_in(event, key) for key in ("user_team", "team", "source_team"))
    return next(filter(None, named), "") or text_in(payload, "team_id")


def _user_id(user: str, team: str, event: Payload, identity: Identity) -> UserId:
    """Ids of people are unique in their workspace; who comes from another one (Slack Connect) carries its id."""
    foreign = bool(text_in(event, "user_team")) and not identity.is_home(team)
    return UserId(f"{team}/{user}" if foreign else user)


def _quoted(event: Payload, name: Name) -> Quoted | None:
    """A message that was shared into this one."""
    for shared in items_in(event, "attachments"):
        text = text_in(shared, "text")
        if text and (shared.get("is_share") or shared.get("is_msg_unfurl")):
            author = (
                text_in(shared, "author_name") or name(text_in(shared, "author_id")) or text_in(shared, "author_id")
            )
            return Quoted(author=author or "somebody", text=readable(text, name))
    return None


def _attachments(event: Payload) -> tuple[Attachment, ...]:
    """Files, described. One of another organisation is a stub that only `files.info` completes
    (https://docs.slack.dev/apis/slack-connect/using-slack-connect#files)."""
    found = []
    for file in items_in(event, "files")[:_MOST_FILES]:
        id, url = text_in(file, "id"), text_in(file, "url_private_download") or text_in(file, "url_private")
        if not id or text_in(file, "mode") in ("tombstone", "hidden_by_limit"):
            continue
        size = file.get("size")
        found.append(
            Attachment(
                name=text_in(file, "name") or text_in(file, "title") or id,
                media_type=text_in(file, "mimetype") or "application/octet-stream",
                size=size if type(size) is int and size >= 0 else None,
                source=json.dumps({"id": id, "url": url}),
            )
        )
    return tuple(found)
