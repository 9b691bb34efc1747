"""Feishu's events as messages. Nothing here asks anybody anything.

`im.message.receive_v1`: https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/reference/im-v1/message/events/receive
The header's `tenant_key` is the organisation that the event is for, which is that of the app, and that of the bot's own
mention too; the sender's is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.feishu.address import Address
from adapters.feishu.identity import Identity
from adapters.feishu.text import Mention, content_of, mentions_in, readable
from core.messages import (
    AccountId,
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

RECEIVED = "im.message.receive_v1"
FORWARDED = "merge_forward"
"""The kind of a message that holds others."""

DIRECT = "p2p"
"""The kind of a chat of one person with the bot."""
TOPICS = "topic_group"
"""The kind of a group in which every message is in a topic. The document does not name it
(https://github.com/openclaw/openclaw/pull/78310)."""

_PLACES = (DIRECT, "group", TOPICS)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_QUOTE = 4_000
"""Characters."""


def parse_message(payload: Any, *, account: AccountId, identity: Identity) -> InboundMessage | None:
    """The message in an event; None for whatever nobody wrote to the bot. Never raises.

    Both ids are the message's own: Feishu says to recognise repetitions by it, since one message may come with several
    ids of events.
    """
    event = part_in(payload, "event")
    message = part_in(event, "message")
    if kind_of(payload) != RECEIVED:
        return None
    user = text_in(part_in(part_in(event, "sender"), "sender_id"), "open_id")
    if text_in(part_in(event, "sender"), "sender_type") not in ("user", "") or not user or user == identity.open_id:
        return None  # `bot`: an app, perhaps this one
    id, chat, place = (text_in(message, key) for key in ("message_id", "chat_id", "chat_type"))
    sent_at = _time(message.get("create_time")) or _time(part_in(payload, "header").get("create_time"))
    if not id or not chat or sent_at is None or place not in _PLACES:
        return None  # an unknown kind of place is no direct chat
    content = content_of(text_in(message, "message_type"), message.get("content"), id)
    if content is None:
        return None
    mentions = mentions_in(message)
    own = _own(mentions, identity)
    tenant = _tenant_in(message, own) or tenant_of(payload) or identity.tenant
    thread = text_in(message, "thread_id")
    address = Address(
        message_id=id,
        chat_id=chat,
        thread_id=thread,
        direct=place == DIRECT,
        user=user,
        sent_at_ms=round((sent_at - _EPOCH) / timedelta(milliseconds=1)),
    )
    return InboundMessage(
        id=MessageId(id),
        event=EventId(id),
        account=account,
        sender=Sender(id=UserId(user), belongs=_belongs(part_in(event, "sender"), tenant)),
        channel=ChannelId(chat),
        thread=ThreadId(thread) if thread else None,
        is_direct=place == DIRECT,
        mentions_bot=bool(own),
        text=readable(content.text, mentions, own),
        attachments=tuple(content.attachments),
        sent_at=sent_at,
        reply_to=address.dump(),
    )


def kind_of(payload: Any) -> str:
    """What happened: events of version 2.0 have it in their header."""
    return text_in(part_in(payload, "header"), "event_type")


def tenant_of(payload: Any) -> str:
    """The organisation that an event is for; empty in what was read from a history."""
    return text_in(part_in(payload, "header"), "tenant_key")


def _tenant_in(message: Mapping[str, Any], own: frozenset[str]) -> str:
    """The organisation of the bot, from its own mention."""
    named = (
        text_in(mention, "tenant_key") for mention in items_in(message, "mentions") if text_in(mention, "key") in own
    )
    return next(filter(None, named), "")


def _belongs(sender: Mapping[str, Any], ours: str) -> Belongs:
    """External only where both organisations are known."""
    theirs = text_in(sender, "tenant_key")
    return Belongs.EXTERNAL if theirs and ours and theirs != ours else Belongs.MEMBER


def quoted_by(payload: Any) -> str:
    """The id of the message that is replied to, or of the forwarded ones themselves; empty where there is none."""
    message = part_in(part_in(payload, "event"), "message")
    forwarded = text_in(message, "message_type") == FORWARDED
    return text_in(message, "message_id" if forwarded else "parent_id")


def event_of(item: Mapping[str, Any], chat_type: str) -> dict[str, Any]:
    """A message of a history as the event that told of it:
    https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/reference/im-v1/message/list"""
    sender = part_in(item, "sender")
    message = {**item, "message_type": item.get("msg_type"), "chat_type": chat_type}
    return {
        "schema": "2.0",
        "header": {"event_type": RECEIVED},
        "event": {
            "sender": {
                "sender_id": {"open_id": sender.get("id")},
                "sender_type": sender.get("sender_type"),
                "tenant_key": sender.get("tenant_key"),
            },
            "message": {**message, "content": part_in(item, "body").get("content")},
        },
    }


@dataclass(frozen=True, slots=True)
class Original:
    """A message that is replied to."""

    author: str
    """Its id."""
    asks: bool
    """It mentions the bot."""
    quoted: Quoted


def original_of(items: list[Mapping[str, Any]], identity: Identity) -> Original | None:
    """A message of a history as data with its author, and with those in it if it holds others."""
    root, *children = items or [{}]
    author, text = _author(root, identity), _said(root, identity)
    if text_in(root, "msg_type") == FORWARDED:
        author = "several people, forwarded"
        text = "\n".join(f"{_author(child, identity)}: {_said(child, identity)}" for child in children)
    if not text.strip():
        return None
    quoted = Quoted(author=author, text=text[:_LONGEST_QUOTE])
    id = text_in(part_in(root, "sender"), "id")
    return Original(id, bool(_own(mentions_in(root), identity)), quoted)


def _said(item: Mapping[str, Any], identity: Identity) -> str:
    if item.get("deleted") is True:
        return ""
    content = content_of(text_in(item, "msg_type"), part_in(item, "body").get("content"), text_in(item, "message_id"))
    if content is None:
        return ""
    mentions = mentions_in(item)
    files = " ".join(f"[{file.name}]" for file in content.attachments)
    return f"{readable(content.text, mentions, _own(mentions, identity))} {files}".strip()


def _author(item: Mapping[str, Any], identity: Identity) -> str:
    """Histories have ids alone; names of people need a permission that little else does."""
    id = text_in(part_in(item, "sender"), "id")
    if id in (identity.app_id, identity.open_id) and id:
        return identity.name or id
    return id or "somebody"


def _own(mentions: Mapping[str, Mention], identity: Identity) -> frozenset[str]:
    """The placeholders of the bot itself. `@all` is nobody."""
    ids = {identity.open_id, identity.app_id} - {""}
    return frozenset(key for key, mention in mentions.items() if mention.id in ids)


def _time(value: Any) -> datetime | None:
    """Milliseconds since 1970, which Feishu writes as text."""
    digits = str(value) if isinstance(value, str | int) else ""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 14):
        return None
    return _EPOCH + timedelta(milliseconds=int(digits))
