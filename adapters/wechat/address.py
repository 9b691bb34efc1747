"""The way back to where a message was written, as it is stored with the message."""

from __future__ import annotations

from dataclasses import dataclass

from core.address import StoredAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Address(StoredAddress):
    """A conversation, and who asked in it."""

    conversation: str
    """The room (`…@chatroom`) or the person (`wxid_…`). Web puppets give ids that change at each login (`@…`, `@@…`)."""
    name: str = ""
    """What the person goes by in the room; empty in a direct chat."""
