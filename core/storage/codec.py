"""How messages, texts and times are written to the store and read back."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from core.messages import (
    AccountId,
    Attachment,
    Belongs,
    ChannelId,
    EventId,
    InboundMessage,
    MessageId,
    Quoted,
    ReplyAddress,
    Sender,
    ThreadId,
    UserId,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(time: datetime) -> int:
    """Microseconds since 1970."""
    return (time - _EPOCH) // _MICROSECOND


def moment(micros: int) -> datetime:
    """What `micros` was made of, in UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def when(micros: int | None) -> datetime | None:
    """`moment`, for a column that may be empty."""
    return None if micros is None else moment(micros)


def day(time: datetime) -> int:
    """Days since 1970 in UTC."""
    return (time - _EPOCH).days


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: surrogate pairs are joined, a lone surrogate becomes U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def name(id: str) -> str:
    """An id as UTF-8 can hold it; different ids stay different, so a lone surrogate is spelled out."""
    return id if id.isascii() else id.encode("utf-8", "backslashreplace").decode()


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode(message: InboundMessage) -> str:
    """JSON of a message; what has its default is left out. Any string survives, also NUL and lone surrogates."""
    sender: dict[str, Any] = {"id": message.sender.id}
    if message.sender.display_name:
        sender["name"] = message.sender.display_name
    if message.sender.is_bot:
        sender["bot"] = True
    if message.sender.locale is not None:
        sender["locale"] = message.sender.locale
    if message.sender.belongs is not Belongs.MEMBER:
        sender["belongs"] = message.sender.belongs.value
    body: dict[str, Any] = {
        "id": message.id,
        "event": message.event,
        "account": message.account,
        "sender": sender,
        "channel": message.channel,
        "text": message.text,
        "sent_at": message.sent_at.isoformat(),
        "reply_to": message.reply_to,
    }
    if message.thread is not None:
        body["thread"] = message.thread
    if message.is_direct:
        body["direct"] = True
    if message.mentions_bot:
        body["mentions"] = True
    if message.quoted is not None:
        body["quoted"] = {"author": message.quoted.author, "text": message.quoted.text}
    if message.attachments:
        body["attachments"] = [
            {"name": file.name, "type": file.media_type, "size": file.size, "source": file.source}
            for file in message.attachments
        ]
    text = _encode(body)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(body, separators=(",", ":"))  # a lone surrogate can only be escaped
    return text


def decode(text: str) -> InboundMessage:
    """Read back what `encode` wrote. Raises KeyError or ValueError on anything else."""
    body = json.loads(text)
    sender = body["sender"]
    quoted = body.get("quoted")
    return InboundMessage(
        id=MessageId(body["id"]),
        event=EventId(body["event"]),
        account=AccountId(body["account"]),
        sender=Sender(
            id=UserId(sender["id"]),
            display_name=sender.get("name", ""),
            is_bot=sender.get("bot", False),
            locale=sender.get("locale"),
            belongs=Belongs(sender.get("belongs", Belongs.MEMBER)),
        ),
        channel=ChannelId(body["channel"]),
        thread=ThreadId(body["thread"]) if "thread" in body else None,
        is_direct=body.get("direct", False),
        mentions_bot=body.get("mentions", False),
        text=body["text"],
        quoted=Quoted(author=quoted["author"], text=quoted["text"]) if quoted is not None else None,
        attachments=tuple(
            Attachment(name=file["name"], media_type=file["type"], size=file["size"], source=file["source"])
            for file in body.get("attachments", ())
        ),
        sent_at=datetime.fromisoformat(body["sent_at"]),
        reply_to=ReplyAddress(body["reply_to"]),
    )
