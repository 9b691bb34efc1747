"""What a message of `getupdates` says, in our words.

The shapes: https://github.com/Tencent/openclaw-weixin/blob/main/src/api/types.ts
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from adapters.weixin.address import Address
from adapters.weixin.media import source_of
from core.messages import AccountId, Attachment, ChannelId, EventId, InboundMessage, MessageId, Quoted, Sender, UserId
from core.untrusted import items_in, part_in, text_in

TEXT, IMAGE, VOICE, FILE, VIDEO = 1, 2, 3, 4, 5
"""Kinds of items."""

_BOT = 2
"""`message_type` of what bots wrote; people's is 1, and the protocol leaves out what has its default."""

_UNNAMED = {
    IMAGE: ("image.jpg", "image/jpeg"),
    VOICE: ("voice.silk", "audio/silk"),
    FILE: ("file", "application/octet-stream"),
    VIDEO: ("video.mp4", "video/mp4"),
}


def parse_message(payload: Any, *, account: AccountId, now: datetime | None = None) -> InboundMessage | None:
    """One element of `msgs`. None for what is no message of a person to the bot. Never raises.

    `now` is when it came, for one that does not say when it was written.
    """
    if not isinstance(payload, Mapping):
        return None
    user = text_in(payload, "from_user_id")
    at = _number(payload.get("create_time_ms")) or (int(now.timestamp() * 1000) if now is not None else 0)
    if not user or payload.get("message_type") not in (None, 0, 1):
        return None
    if payload.get("group_id") or _number(payload.get("delete_time_ms")):
        return None  # direct chats alone; what was recalled is not answered
    sent_at = _moment(at)
    id = _id(payload, user)
    if id is None or sent_at is None:
        return None
    items = items_in(payload, "item_list")
    quoted, quoted_files = _quoted(items)
    files = tuple(filter(None, map(_attachment, items)))
    context = text_in(payload, "context_token")
    return InboundMessage(
        id=MessageId(id),
        event=EventId(id),
        account=account,
        sender=Sender(id=UserId(user)),
        channel=ChannelId(user),
        is_direct=True,
        mentions_bot=True,
        text=_words(items),
        quoted=quoted,
        attachments=files or quoted_files,
        sent_at=sent_at,
        reply_to=Address(user=user, context=context, at=at).dump(),
    )


def _id(payload: Mapping[str, Any], user: str) -> str | None:
    """`message_id` is a whole 64-bit number, in JSON as a number or as text."""
    id = payload.get("message_id")
    if isinstance(id, str) and id.strip("0"):
        return id
    if isinstance(id, int) and not isinstance(id, bool) and 0 < id < 1 << 64:
        return str(id)
    client = text_in(payload, "client_id")
    return f"{user}/{client}" if client else None


def _words(items: list[Mapping[str, Any]]) -> str:
    """What was written, and what was said where WeChat wrote it down."""
    return "\n".join(filter(None, map(_said, items)))


def _said(item: Mapping[str, Any]) -> str:
    match item.get("type"):
        case 1:
            return text_in(part_in(item, "text_item"), "text")
        case 3:
            return text_in(part_in(item, "voice_item"), "text")
        case _:
            return ""


def _quoted(items: list[Mapping[str, Any]]) -> tuple[Quoted | None, tuple[Attachment, ...]]:
    """The message that this one answers. WeChat does not say who wrote it."""
    for item in items:
        reference = part_in(item, "ref_msg")
        if not reference:
            continue
        inner = part_in(reference, "message_item")
        file = _attachment(inner)
        # the title is a summary
        text = _said(inner) or text_in(reference, "title") or (f"[{file.name}]" if file is not None else "")
        return (Quoted(author="", text=text) if text else None), ((file,) if file is not None else ())
    return None, ()


def _attachment(item: Mapping[str, Any]) -> Attachment | None:
    """A file, unless there is no way to it. A voice message that was written down is text."""
    kind = item.get("type")
    if not isinstance(kind, int) or kind not in _UNNAMED or _said(item):
        return None
    part = part_in(item, {IMAGE: "image_item", VOICE: "voice_item", FILE: "file_item", VIDEO: "video_item"}[kind])
    source = source_of(part)
    if source is None:
        return None
    name, media_type = _UNNAMED[kind]
    if kind == FILE:
        name = text_in(part, "file_name") or name
        media_type = mimetypes.guess_type(name)[0] or media_type
    size = _number(part.get("len")) if kind == FILE else 0
    return Attachment(name=name, media_type=media_type, size=size or None, source=json.dumps(source))


def _number(found: Any) -> int:
    """A count, in JSON as a number or as text; 0 for anything else."""
    if isinstance(found, str) and found.isascii() and found.isdecimal() and len(found) < 20:
        return int(found)
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 1 << 63 else 0


def _moment(milliseconds: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
