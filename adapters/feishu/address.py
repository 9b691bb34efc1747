"""The way back to where a message was written, and the ids of answers, as they are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from core.address import StoredAddress
from core.messages import MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Address(StoredAddress):
    """Where an answer goes."""

    message_id: str
    """The question; empty where there is none to reply to."""
    chat_id: str
    thread_id: str = ""
    """The topic that the question was written in; empty outside of topics."""
    direct: bool = False
    """A chat of one person with the bot."""
    user: str = ""
    """Who asked: their open_id."""
    sent_at_ms: int = 0
    """When they asked, by Feishu's clock; milliseconds since 1970."""


@dataclass(slots=True)
class Shown:
    """One message of an answer."""

    message: str = ""
    """Its id; empty until it is known."""
    card: str = ""
    """The card entity that it shows, if it shows one."""
    created: int = 0
    """When the entity was created; milliseconds since 1970 by the program's clock."""
    uuid: str = ""
    """What it is sent with, as long as nobody knows whether it was."""
    kind: str = ""
    """`post` or `text` where it is no card."""


def dump_shown(answer: Sequence[Shown]) -> MessageId:
    """The messages of one answer as one id."""
    return MessageId(";".join("|".join(str(each or "") for each in astuple(shown)).rstrip("|") for shown in answer))


def load_shown(message: MessageId) -> list[Shown]:
    """Read back `dump_shown`; at least one message, whatever the id is."""
    return [_shown(entry.split("|")) for entry in message.split(";")]


def _shown(fields: list[str]) -> Shown:
    message, card, created, uuid, kind = (*fields, "", "", "", "", "")[:5]
    return Shown(message, card, int(created) if created.isdecimal() else 0, uuid, kind)
