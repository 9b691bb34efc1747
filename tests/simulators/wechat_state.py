"""What a simulated WeChat knows: accounts that are bots, their contacts, rooms and messages."""

from __future__ import annotations

import itertools
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

from tests.simulators.wechat_wire import OFFICIAL, PERSONAL, TEXT

TEXT_LIMIT = 2_000
"""Characters that WeChat takes in one message."""
_NOBODY = ("weixin", "filehelper", "fmessage", "newsapp")
"""Accounts of WeChat itself."""


@dataclass
class WechatContact:
    id: str
    name: str
    type: int = PERSONAL


@dataclass
class WechatRoom:
    id: str
    topic: str
    members: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    """Names that members go by in this room."""


@dataclass
class WechatMessage:
    id: str
    type: int
    text: str
    talker: str
    listener: str
    room: str
    at: float
    mentions: list[str] = field(default_factory=list)
    filename: str = ""
    content: bytes = b""
    box: dict[str, Any] | None = None
    """The FileBox that is given for it, where the usual one is not."""


@dataclass
class WechatBot:
    """A WeChat account that a server is logged in to."""

    name: str
    number: int
    contacts: dict[str, WechatContact] = field(default_factory=dict)
    rooms: dict[str, WechatRoom] = field(default_factory=dict)
    messages: dict[str, WechatMessage] = field(default_factory=dict)
    """All that it got and sent, in order."""
    sent: list[WechatMessage] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    """Conversations that are closed to it."""
    pings: list[str] = field(default_factory=list)
    """Texts that named people who are notified of it."""

    def __post_init__(self) -> None:
        self.contacts[self.id] = WechatContact(self.id, self.shown_name)

    @property
    def id(self) -> str:
        return f"wxid_robot{self.number:08d}"

    @property
    def shown_name(self) -> str:
        return f"Robot{self.number}"

    @property
    def token(self) -> str:
        return f"insecure_{self.number:08x}-0000-4000-8000-of-the-simulator"

    def contact(self, name: str, *, type: int = PERSONAL) -> WechatContact:
        id = f"gh_{name}" if type == OFFICIAL else f"wxid_{name}{self.number:08d}"
        return self.contacts.setdefault(id, WechatContact(id, name.title(), type))

    def room(self, name: str) -> WechatRoom:
        id = f"{self.number}{zlib.crc32(name.encode()):010d}@chatroom"
        return self.rooms.setdefault(id, WechatRoom(id, name.title(), [self.id]))

    def place(self, message: WechatMessage) -> str:
        """The conversation that a message is in: the room, or the other person."""
        if message.room:
            return message.room
        return message.listener if message.talker == self.id else message.talker

    def wrong_place(self, id: str) -> str:
        """Why nothing is to be sent there; empty when all is well."""
        if id in self.rooms:
            return ""
        contact = self.contacts.get(id)
        if id in _NOBODY or id == self.id:
            return f"{id} is nobody to write to"
        if contact is None:
            return f"{id} is none of this account's conversations"
        return f"{id} is an official account" if contact.type == OFFICIAL else ""


class WechatState:
    """Everything. `clock` is in seconds of the epoch."""

    def __init__(self) -> None:
        self.bots: dict[str, WechatBot] = {}
        self.complaints: list[str] = []
        self.numbers = itertools.count(1)
        self.clock = time.time

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def bot(self, name: str) -> WechatBot:
        if name not in self.bots:
            self.bots[name] = WechatBot(name, len(self.bots) + 1)
        return self.bots[name]

    def message(
        self,
        bot: WechatBot,
        talker: str,
        text: str,
        *,
        listener: str = "",
        room: str = "",
        type: int = TEXT,
        age: float = 0.0,
        mentions: list[str] | None = None,
        filename: str = "",
        content: bytes = b"",
    ) -> WechatMessage:
        """Write it into the account. Nobody is told yet."""
        made = WechatMessage(
            id=str(4_611_686_018_427_000_000 + next(self.numbers)),
            type=type,
            text=text,
            talker=talker,
            listener=listener,
            room=room,
            at=self.clock() - age,
            mentions=list(mentions or ()),
            filename=filename,
            content=content,
        )
        bot.messages[made.id] = made
        return made
