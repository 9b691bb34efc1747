"""The way back to where a message was written, as it is stored with the message."""

from __future__ import annotations

from dataclasses import dataclass

from core.address import StoredAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Address(StoredAddress):
    """Ids are snowflakes, as text."""

    channel: str
    """Where the reply is written: a channel, a thread, or a direct chat."""
    guild: str = ""
    """Empty in a direct chat."""
    message: str = ""
    """The message that is replied to."""
    opens_in: str = ""
    """The channel where the thread `channel` is to be opened on `message`; a thread on a message has that message's id."""
    title: str = ""
    """The name of a thread that is to be opened."""
    interaction: str = ""
    """The slash command that is answered instead of a message."""
    token: str = ""
    """Answers that interaction for 15 minutes."""
    private: bool = False
    """Its answer is for its person alone."""
