"""What a person wrote, and to whom it belongs.

Ids are minted by adapters. The core compares them and stores them; it never parses or shortens them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NewType
from urllib.parse import quote, unquote

AccountId = NewType("AccountId", str)
ChannelId = NewType("ChannelId", str)
ThreadId = NewType("ThreadId", str)
UserId = NewType("UserId", str)
MessageId = NewType("MessageId", str)
EventId = NewType("EventId", str)
ReplyAddress = NewType("ReplyAddress", str)
"""JSON of the adapter's own making; a reply channel is rebuilt from it after a restart or on another node."""


class Person(NamedTuple):
    """A person as one account knows them: who may talk, who pays, and whom a conversation belongs to."""

    account: AccountId
    user: UserId


class Belongs(StrEnum):
    """How somebody belongs to the organisation that the bot was set up for, as far as the platform tells."""

    MEMBER = "member"
    """One of its own people; also where the platform knows no difference."""
    GUEST = "guest"
    """Invited into a part of it."""
    EXTERNAL = "external"
    """Of another organisation, in a channel that both share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who wrote a message."""

    id: UserId
    display_name: str = ""
    is_bot: bool = False
    belongs: Belongs = Belongs.MEMBER
    locale: str | None = None
    """BCP 47 tag such as `zh-CN`, where the platform tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quoted:
    """The message that was replied to. It reaches the model as data with its author, never as an instruction."""

    author: str
    """Empty where the platform does not name them."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file that came with a message, described but not fetched."""

    name: str
    media_type: str
    size: int | None
    """Bytes, where the platform tells it."""
    source: str
    """How the adapter that made it fetches it: JSON or a URL of the adapter's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundMessage:
    """One message that a person sent to the bot, the same shape on every platform."""

    id: MessageId
    """The message. Two events about one message share it."""
    event: EventId
    """The delivery. A redelivery carries the same one."""
    account: AccountId
    """The configured bot, not the platform: `work`, `work-eu`."""
    sender: Sender
    channel: ChannelId
    thread: ThreadId | None = None
    is_direct: bool
    mentions_bot: bool
    text: str
    """CommonMark or plain text, the bot's own mention removed."""
    quoted: Quoted | None = None
    attachments: tuple[Attachment, ...] = ()
    sent_at: datetime
    """The platform's time, aware."""
    reply_to: ReplyAddress

    @property
    def has_words(self) -> bool:
        """Whether there is something to read: its own text, or what it quotes or forwards without a word more."""
        return bool(self.text.strip() or (self.quoted is not None and self.quoted.text.strip()))


class Scope(StrEnum):
    """Which parts of a message's origin make its conversation."""

    USER = "user"
    """One conversation per person and account, wherever they write. The default."""
    USER_IN_CHANNEL = "user_in_channel"
    """One conversation per person in each channel."""
    THREAD = "thread"
    """One conversation per thread, shared by all who write in it; outside a thread, per channel."""
    CHANNEL = "channel"
    """One conversation per channel, shared by all who write in it."""


@dataclass(frozen=True, slots=True)
class ConversationKey:
    """The full identity of a conversation: the account and the parts its scope picks.

    `str()` gives a form that `parse` reads back; every part is percent-encoded, so no id can imitate another.
    """

    account: AccountId
    user: UserId | None = None
    channel: ChannelId | None = None
    thread: ThreadId | None = None
    _text: str = field(init=False, repr=False, compare=False, default="")

    def __post_init__(self) -> None:
        parts = (("u", self.user), ("c", self.channel), ("t", self.thread))
        text = _quote(self.account) + "".join(f"/{tag}:{_quote(part)}" for tag, part in parts if part is not None)
        object.__setattr__(self, "_text", text)

    def __str__(self) -> str:
        return self._text

    @classmethod
    def of(cls, message: InboundMessage, scope: Scope) -> ConversationKey:
        """The conversation that `message` belongs to under `scope`."""
        match scope:
            case Scope.USER:
                return cls(message.account, user=message.sender.id)
            case Scope.USER_IN_CHANNEL:
                return cls(message.account, user=message.sender.id, channel=message.channel)
            case Scope.THREAD:
                return cls(message.account, channel=message.channel, thread=message.thread)
            case Scope.CHANNEL:
                return cls(message.account, channel=message.channel)

    @classmethod
    def parse(cls, text: str) -> ConversationKey:
        """Read back what `str()` wrote. Raises ValueError on anything else."""
        account, *rest = text.split("/")
        parts: dict[str, str] = {}
        for item in rest:
            tag, separator, value = item.partition(":")
            if not separator or tag not in ("u", "c", "t") or tag in parts:
                raise ValueError(f"not a conversation key: {text!r}")
            parts[tag] = _unquote(value)
        key = cls(
            AccountId(_unquote(account)),
            user=UserId(parts["u"]) if "u" in parts else None,
            channel=ChannelId(parts["c"]) if "c" in parts else None,
            thread=ThreadId(parts["t"]) if "t" in parts else None,
        )
        if not account or str(key) != text:
            raise ValueError(f"not a conversation key: {text!r}")
        return key


def _quote(part: str) -> str:
    return quote(part, safe="", errors="surrogatepass")  # JSON may bring half a surrogate pair; it is an id like others


def _unquote(text: str) -> str:
    return unquote(text, errors="surrogatepass")
