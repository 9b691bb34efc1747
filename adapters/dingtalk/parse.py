"""What DingTalk pushes to a robot, as messages. Nothing here asks anybody anything.

https://open.dingtalk.com/document/development/robot-message-type. In a group only messages that mention the robot are
pushed, with its own mention taken out. Quotes are not documented: their shape is that of captures
(https://github.com/soimy/openclaw-channel-dingtalk, src/types.ts).
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.dingtalk.address import Address
from adapters.dingtalk.forwarded import forwarded
from core.clock import SystemClock
from core.commands import with_person
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
    UserId,
)
from core.untrusted import items_in, json_of, part_in, text_in

Payload = Mapping[str, Any]

_DIRECT, _GROUP = "1", "2"
"""Kinds of conversation. There may be others one day: they are refused, not taken for direct."""
_FORWARDED = "chatRecord"
_OVER_QUOTA = 20001
_MOST_FILES = 20
_MOST_MILLISECONDS = 10**14
_ENCRYPTED = "$:"
"""What DingTalk's encrypted ids begin with. Ids in a company begin with a letter or a digit."""


def parse_message(payload: Any, *, account: AccountId) -> InboundMessage | None:
    """The message in the data of a push to the robot; None for what nobody wrote, or what holds nothing to read.

    Never raises. The same message that is pushed again has another `messageId` in the frame's headers and the same
    `msgId` here: that one identifies it.
    """
    if not isinstance(payload, Mapping):
        return None
    id, conversation = text_in(payload, "msgId"), text_in(payload, "conversationId")
    kind, sender, robot = (
        text_in(payload, "conversationType"),
        text_in(payload, "senderId"),
        text_in(payload, "chatbotUserId"),
    )
    staff = text_in(payload, "senderStaffId")
    if not id or not conversation or kind not in (_DIRECT, _GROUP) or not (staff or sender):
        return None
    if (robot and sender == robot) or over_quota(payload):
        return None
    text, attachments = _read(payload)
    if not text.strip() and not attachments:
        return None
    sent_at = _time(payload.get("createAt")) or SystemClock().now()  # an example of a document's misspells it
    address = Address(
        conversation=conversation,
        direct=kind == _DIRECT,
        staff=staff,
        message=id,
        robot=text_in(payload, "robotCode"),
        webhook=text_in(payload, "sessionWebhook"),
        until=_milliseconds(payload.get("sessionWebhookExpiredTime")) or 0,
        asked=int(sent_at.timestamp() * 1000),
    )
    return InboundMessage(
        id=MessageId(id),
        event=EventId(id),
        account=account,
        sender=Sender(
            id=_user_id(staff, sender), display_name=text_in(payload, "senderNick"), belongs=_belongs(payload, staff)
        ),
        channel=ChannelId(conversation),
        is_direct=kind == _DIRECT,
        mentions_bot=_mentioned(payload, robot),
        text=with_person(text.strip(), _others(payload, robot)),
        quoted=forwarded(part_in(payload, "content")) if _is_forwarded(payload) else _quoted(payload, sender, robot),
        attachments=attachments,
        sent_at=sent_at,
        reply_to=address.dump(),
    )


def over_quota(payload: Any) -> bool:
    """Whether DingTalk has withheld a message's content, since the company has used its pushes up."""
    return isinstance(payload, Mapping) and payload.get("errorCode") in (_OVER_QUOTA, str(_OVER_QUOTA))


def _is_forwarded(payload: Payload) -> bool:
    return text_in(payload, "msgtype") == _FORWARDED


def _read(payload: Payload) -> tuple[str, tuple[Attachment, ...]]:
    """Text and files; cards and kinds that are not known have neither. What was forwarded is quoted."""
    content = part_in(payload, "content")
    code = text_in(payload, "robotCode")
    match text_in(payload, "msgtype"):
        case "text":
            return text_in(part_in(payload, "text"), "content"), ()
        case "markdown":
            return text_in(content, "text"), ()
        case kind if kind == _FORWARDED:
            title = text_in(content, "title").strip()
            return f"[Forwarded messages: {title}]" if title else "[Forwarded messages]", ()
        case "richText":
            return _rich_text(content, text_in(payload, "chatbotUserId")), _pictures(content, code)
        case "picture":
            return "", _files(_file(content, "picture.jpg", code))
        case "audio":
            return text_in(content, "recognition"), _files(_file(content, "voice.amr", code))
        case "video":
            return "", _files(_file(content, f"video.{text_in(content, 'videoType') or 'mp4'}", code))
        case "file":
            return "", _files(_file(content, text_in(content, "fileName") or "file", code))
    return "", ()


def _rich_text(content: Payload, robot: str) -> str:
    """Its pieces, without the mention of the robot."""
    parts = items_in(content, "richText")
    return "".join(_part(part) for part in parts if not robot or text_in(part, "atUserId") != robot)


def _part(part: Payload) -> str:
    """`text`, or `content` in quotes; a mention of somebody by name."""
    if text_in(part, "type") == "at" or text_in(part, "msgType") == "at":
        name = text_in(part, "atName") or text_in(part, "content")
        return f"@{name.removeprefix('@')} " if name else ""
    return text_in(part, "text") or (text_in(part, "content") if text_in(part, "msgType") in ("", "text") else "")


def _pictures(content: Payload, robot: str) -> tuple[Attachment, ...]:
    found = [_file(part, "picture.jpg", robot) for part in items_in(content, "richText")[:_MOST_FILES]]
    return _files(*found)


def _file(content: Payload, name: str, robot: str) -> Attachment | None:
    """A file, described; DingTalk tells neither its size nor the kind of a picture."""
    code = text_in(content, "downloadCode") or text_in(content, "pictureDownloadCode")
    if not code:
        return None
    kind = (mimetypes.guess_type(name)[0] or "application/octet-stream").lower()
    source = json.dumps({"code": code, "robot": robot}, ensure_ascii=False)
    return Attachment(name=name, media_type=kind, size=None, source=source)


def _files(*found: Attachment | None) -> tuple[Attachment, ...]:
    return tuple(file for file in found if file is not None)


def _quoted(payload: Payload, sender: str, robot: str) -> Quoted | None:
    """The message that is answered, as far as DingTalk shows it: not what is on a card."""
    holders = (part_in(payload, "text"), part_in(payload, "content"))
    other = next((part_in(holder, "repliedMsg") for holder in holders if holder.get("isReplyMsg") is True), {})
    content = other.get("content")
    if isinstance(content, str):
        content = _object(content)
    text = _quoted_text(content if isinstance(content, Mapping) else {}).strip()
    if not text:
        return None
    names = {sender: text_in(payload, "senderNick"), robot: "you"}
    return Quoted(author=names.get(text_in(other, "senderId")) or "somebody", text=text)


def _quoted_text(content: Payload) -> str:
    """Of a text, rich text, speech, forwarded conversation, or the name of a file."""
    if "richText" in content:
        return _rich_text(content, "")
    return next(filter(None, (text_in(content, name) for name in ("text", "recognition", "summary", "fileName"))), "")


def _mentioned(payload: Payload, robot: str) -> bool:
    """Both fields that tell it are optional. A group's message that has neither would not have been pushed otherwise."""
    if payload.get("isInAtList") is None and payload.get("atUsers") is None:
        return text_in(payload, "conversationType") == _GROUP
    among = bool(robot) and any(text_in(each, "dingtalkId") == robot for each in items_in(payload, "atUsers"))
    return payload.get("isInAtList") is True or among


def _others(payload: Payload, robot: str) -> list[UserId]:
    """Whom a message mentions beside the robot. Of their names the text may have nothing
    (https://github.com/QwenLM/qwen-code/issues/8638)."""
    ids = ((text_in(each, "staffId"), text_in(each, "dingtalkId")) for each in items_in(payload, "atUsers"))
    return [_user_id(staff, other) for staff, other in ids if robot and (staff or other) and other != robot]


def _belongs(payload: Payload, staff: str) -> Belongs:
    """External: somebody of another company than the robot's, or in a group somebody of none that is told.

    The id in the company alone tells nothing where it is missing: it is left out while the app is not published, too.
    """
    ours, theirs = text_in(payload, "chatbotCorpId"), text_in(payload, "senderCorpId")
    nobodys = not staff and not theirs and text_in(payload, "conversationType") == _GROUP
    return Belongs.EXTERNAL if ours and (nobodys or (theirs and theirs != ours)) else Belongs.MEMBER


def _user_id(staff: str, sender: str) -> UserId:
    """The id in the company; for people from outside the encrypted one, which no id in a company can equal."""
    if staff:
        return UserId(staff)
    return UserId(sender if sender.startswith(_ENCRYPTED) else _ENCRYPTED + sender)


def _time(value: Any) -> datetime | None:
    milliseconds = _milliseconds(value)
    return None if milliseconds is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def _milliseconds(value: Any) -> int | None:
    """A number in practice, a text by the document."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 15:
        value = int(value)
    return value if type(value) is int and 0 <= value < _MOST_MILLISECONDS else None


def _object(text: str) -> Any:
    try:
        return json_of(text)
    except ValueError:
        return None
