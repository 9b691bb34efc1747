"""The way back to where a message was written, as it is stored with the message."""

from __future__ import annotations

from dataclasses import dataclass

from core.address import StoredAddress
from core.messages import MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Address(StoredAddress):
    """Where an answer goes."""

    channel: str
    thread: str
    """`ts` of the root of the thread to answer in; empty: outside of threads."""
    after: str
    """`ts` of the question: every answer to it is younger. Empty for slash commands."""
    user: str
    """Who asked. Streams in channels are addressed to somebody."""
    team: str
    """The workspace of who asked."""
    direct: bool = False
    private: bool = False
    """A slash command whose answer is for its person alone."""
    person: str = ""
    """Who asked, as the gateway knows them; empty: as `user`."""
    belongs: str = ""
    """How they belong to the workspace; empty: as a member."""
    response_url: str = ""
    """Of a slash command, which may come from where the bot is no member."""


def message_id(channel: str, ts: str) -> MessageId:
    """The id of a message: `ts` is unique in its channel alone."""
    return MessageId(f"{channel}/{ts}")


def ts_of(message: MessageId) -> str:
    """The `ts` in an id that `message_id` made."""
    return message.rpartition("/")[2]
