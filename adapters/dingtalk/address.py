"""The way back to where a message was written, as it is stored with the message."""

from __future__ import annotations

from dataclasses import dataclass

from core.address import StoredAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class Address(StoredAddress):
    """Where an answer goes."""

    conversation: str
    """DingTalk's `conversationId`, which its API calls `openConversationId`."""
    direct: bool
    staff: str = ""
    """Who asked, by the id in the company. Empty for people from outside, and while the app is not published:
    they can be written to by the webhook alone, or in their group."""
    message: str = ""
    """The question's `msgId`."""
    robot: str = ""
    """The code of the robot that was asked."""
    webhook: str = ""
    """The session webhook, which whoever knows it may post by."""
    until: int = 0
    """When the webhook ends, in milliseconds since 1970."""
    asked: int = 0
    """When the question was asked, in milliseconds since 1970."""
