"""What a message of WeChat says, in our words.

Its fields: https://github.com/wechaty/grpc/blob/main/proto/wechaty/puppet/message.proto. `type` is the number of the
TypeScript enumeration: https://github.com/wechaty/puppet/blob/main/src/schemas/message.ts.
"""

from __future__ import annotations

import json
import mimetypes
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from html import unescape
from typing import Any

from adapters.wechat.address import Address
from core.commands import with_person
from core.messages import AccountId, Attachment, ChannelId, EventId, InboundMessage, MessageId, Quoted, Sender, UserId
from core.untrusted import part_in, text_in

_TEXT = 7
_FILES = {
    1: ("file", "application/octet-stream"),
    2: ("voice.silk", "audio/silk"),
    6: ("image.jpg", "image/jpeg"),
    15: ("video.mp4", "video/mp4"),
}
"""Kinds of messages that are answered. Stickers, cards, places, links, red envelopes, transfers, what was recalled, and
notices of WeChat itself are not."""

_OFFICIAL = 2
"""`type` of a contact that is an official account."""
_NOBODY = frozenset(
    {"weixin", "filehelper", "fmessage", "newsapp", "medianote", "floatbottle", "notifymessage", "qmessage", "qqmail"}
)
"""Accounts of WeChat itself."""

_LATEST_IN_SECONDS = 2_145_888_000
"""The year 2038: larger times are in milliseconds. Puppets differ."""

_QUOTE = re.compile(r"「(?P<author>[^：\n]{1,100})：(?P<text>.*)」\n(?:- ?){5,}\n(?P<rest>.*)", re.DOTALL)
"""WeChat writes a quote into the text."""
_TITLE, _TITLE_END = "<title>", "</title>"

_LONGEST_NAME = 200
"""Characters of a name that is looked for in texts; WeChat's are shorter."""
_AFTER_NAME = "\u2005"
"""What WeChat's apps put behind a mention. Some puppets make a plain space of it."""


def parse_message(payload: Any, *, account: AccountId, now: datetime | None = None) -> InboundMessage | None:
    """A message with what was looked up beside it. None for what is no message of a person to the bot. Never raises.

    `message` has the fields of MessagePayloadResponse (`id`, `type`, `text`, `filename`, `timestamp`, `from_id`,
    `room_id`, `mention_ids`). `self` is the bot, with `id`, `name`, and `room_alias` where it goes by another name in
    the room; `contact` (`name`, `type`) and `member` (`room_alias`) are who wrote. All but the ids may be missing.
    `now` is when it came, for one that does not say when it was written.
    """
    message, me = part_in(payload, "message"), part_in(payload, "self")
    id, user, room = (text_in(message, name) for name in ("id", "from_id", "room_id"))
    if not id or not user or user == text_in(me, "id"):
        return None
    contact, member = part_in(payload, "contact"), part_in(payload, "member")
    if user in _NOBODY or user.startswith("gh_") or contact.get("type") == _OFFICIAL:
        return None
    kind = message.get("type")
    sent_at = _moment(message.get("timestamp"), now)
    if not isinstance(kind, int) or (kind != _TEXT and kind not in _FILES) or sent_at is None:
        return None
    quoted, text = _unquoted(text_in(message, "text")) if kind == _TEXT else (None, "")
    mentioned, text = _unaddressed(text, me, _mentions(message)) if room else (True, text)
    if room:
        text = with_person(text, [one for one in _mentions(message) if one != text_in(me, "id")])
    name = (text_in(member, "room_alias") if room else "") or text_in(contact, "name") or text_in(member, "name")
    return InboundMessage(
        id=MessageId(id),
        event=EventId(id),
        account=account,
        sender=Sender(id=UserId(user), display_name=name),
        channel=ChannelId(room or user),
        is_direct=not room,
        mentions_bot=mentioned,
        text=text,
        quoted=quoted,
        attachments=(_attachment(id, kind, text_in(message, "filename")),) if kind in _FILES else (),
        sent_at=sent_at,
        reply_to=Address(conversation=room or user, name=name if room else "").dump(),
    )


def _unquoted(text: str) -> tuple[Quoted | None, str]:
    """The quote, and what was written below it."""
    match = _QUOTE.fullmatch(text)
    if match is None:
        return None, text
    quoted = match["text"]
    if quoted.startswith(("<msg>", "<?xml")):  # a quote, a file or a link was quoted: WeChat's own description of it
        _, _, title = quoted.partition(_TITLE)  # no pattern: it would look for the end from each beginning anew
        title, end, _ = title.partition(_TITLE_END)
        quoted = unescape(title) if end else ""
    return (Quoted(author=match["author"], text=quoted) if quoted else None), match["rest"]


def _mentions(message: Mapping[str, Any]) -> list[str]:
    """Ids of those that the message mentions, as far as the puppet tells."""
    found = message.get("mention_ids")
    return [id for id in found if isinstance(id, str) and id] if isinstance(found, list) else []


def _unaddressed(text: str, me: Mapping[str, Any], mentions: list[str]) -> tuple[bool, str]:
    """Whether the bot is mentioned, by its id or by a name that it goes by, and the text without that."""
    names = sorted((text_in(me, "name"), text_in(me, "room_alias")), key=len, reverse=True)
    bare = text
    for name in (name for name in names if 0 < len(name) <= _LONGEST_NAME):
        bare = re.sub(rf"@{re.escape(name)}(?:[{_AFTER_NAME} ]|(?=\s|$))", "", bare)
    mentioned = bare != text or text_in(me, "id") in mentions
    if bare == text and len(mentions) == 1 and mentioned:  # by a name that nobody told us
        bare = re.sub(rf"@[^@{_AFTER_NAME}\n]+{_AFTER_NAME}", "", text, count=1)
    return mentioned, bare.strip() if mentioned else text


def _attachment(id: str, kind: int, filename: str) -> Attachment:
    """A file. Its content, and its size, are asked for when it is fetched."""
    name, media_type = _FILES[kind]
    guessed = mimetypes.guess_type(filename)[0] or media_type
    if kind == 1 or guessed.partition("/")[0] == media_type.partition("/")[0]:
        media_type = guessed
    return Attachment(name=filename or name, media_type=media_type, size=None, source=json.dumps({"message": id}))


def _moment(found: Any, now: datetime | None) -> datetime | None:
    if not isinstance(found, int) or isinstance(found, bool) or found <= 0:
        return now
    try:
        return datetime.fromtimestamp(found / 1000 if found > _LATEST_IN_SECONDS else found, UTC)
    except (ValueError, OverflowError, OSError):
        return None
