"""What a simulated iLink knows: bots, the people who write to them, what was written, and the limits.

The shapes are those of the vendor's client, https://github.com/Tencent/openclaw-weixin (src/api/types.ts); the limits
are what people measured in that repository's issues 81, 225 and 270.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import itertools
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

TEXT_LIMIT = 2_000
"""Characters of a text; the rest is not shown, and nobody is told."""
TEXT, IMAGE, VOICE, FILE, VIDEO = 1, 2, 3, 4, 5
"""Kinds of items."""
USER, BOT = 1, 2
"""Kinds of messages."""


@dataclass
class WeixinPerson:
    """Somebody as one bot knows them."""

    name: str
    id: str
    wrote_at: float = float("-inf")
    """When they last wrote, by the clock of `WeixinState`."""
    answers: int = 0
    """Messages that the bot sent since."""
    answered_at: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    contexts: set[str] = field(default_factory=set)
    """Every `context_token` that came with their messages."""
    ticket: str = ""
    """What `getconfig` gave for showing that the bot types."""


@dataclass
class WeixinEntry:
    """One delivery: a message at its place in the order of the cursor."""

    event: str
    message: dict[str, Any]
    acknowledged: bool = False
    """A later poll named a cursor behind it."""


@dataclass
class WeixinShown:
    """A message of a bot, as the person sees it."""

    id: str
    room: str
    text: str
    item: dict[str, Any]
    client_id: str
    at: float


@dataclass
class WeixinBot:
    """A bot that somebody owns; its credentials come by a scanned code."""

    name: str
    number: int
    tokens: list[str] = field(default_factory=list)
    """Every token that was given out, the newest last; that one alone may be valid."""
    valid: bool = True
    stale_calls: int = 0
    """Calls with a stale token since the last one was given."""
    online: bool = False
    """Between `notifystart` and `notifystop`."""
    came: bool = False
    """It has come online, and asked for nothing yet."""
    waited: int = 0
    """Messages that were there when it first asked after it had come online."""
    log: list[WeixinEntry] = field(default_factory=list)
    shown: list[WeixinShown] = field(default_factory=list)
    people: dict[str, WeixinPerson] = field(default_factory=dict)
    typing: list[tuple[str, int]] = field(default_factory=list)
    """Whom the bot showed that it types (1), or no longer (2)."""
    refusals: list[str] = field(default_factory=list)
    """Why sends were refused with `ret: -2`, in order."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        return f"b0f{self.number:09x}@im.bot"

    @property
    def token(self) -> str:
        return self.tokens[-1] if self.tokens else ""

    def new_token(self) -> str:
        """What a confirmed scan gives; an older token is stale from then on."""
        self.tokens.append(f"{self.id}:{self.number:06x}0000{len(self.tokens):04d}of-the-simulator")
        self.valid = True
        self.stale_calls = 0
        self.change()
        return self.token

    def person(self, name: str) -> WeixinPerson:
        id = f"o9cq8{self.number:02d}{name.encode().hex():0>12}@im.wechat"
        return self.people.setdefault(id, WeixinPerson(name, id))

    def room(self, person: WeixinPerson) -> str:
        return f"{self.name}/{person.name}"

    def change(self) -> None:
        """Wake whoever holds a poll."""
        self.changed.set()
        self.changed = asyncio.Event()

    def write(self, event: str, message: dict[str, Any]) -> None:
        self.log.append(WeixinEntry(event, message))
        self.change()

    # The cursor, opaque to clients: `get_updates_buf`

    def cursor(self, place: int) -> str:
        return base64.b64encode(f"{self.id}|{place}|{'x' * 40}".encode()).decode()

    def place(self, cursor: Any) -> int | None:
        """Where a cursor stands; None when it is none of this bot's. The empty one stands before everything."""
        if cursor == "":
            return 0
        try:
            id, place, _ = base64.b64decode(cursor, validate=True).decode().split("|")
            found = int(place)
        except (binascii.Error, TypeError, ValueError):
            return None
        return found if id == self.id and 0 <= found <= len(self.log) else None

    def arrived(self, place: int) -> None:
        """The client handled everything before `place`."""
        for entry in self.log[:place]:
            entry.acknowledged = True


class WeixinState:
    """Everything. Times are those of `clock`, seconds of the epoch."""

    def __init__(self) -> None:
        self.bots: dict[str, WeixinBot] = {}
        self.complaints: list[str] = []
        self.numbers = itertools.count(1)
        self.clock = time.time

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def bot(self, name: str) -> WeixinBot:
        if name not in self.bots:
            self.bots[name] = WeixinBot(name, len(self.bots) + 1)
        return self.bots[name]

    def owner(self, token: str) -> WeixinBot | None:
        """Whose token it is or was."""
        return next((bot for bot in self.bots.values() if token in bot.tokens), None)

    def new_id(self) -> int:
        """A `message_id`: uint64, beyond what a double holds."""
        return 7_481_209_377_000_000_000 + next(self.numbers) * 3

    def message(
        self, bot: WeixinBot, person: WeixinPerson, items: list[dict[str, Any]], *, age: float = 0.0
    ) -> dict[str, Any]:
        """One element of `msgs`. Nobody has read it yet; see `wrote`."""
        at = self.clock() - age
        number = self.new_id()
        context = base64.b64encode(f"context of {person.name} {number}".encode()).decode()
        return {
            "seq": number % 100_000,
            "message_id": number,
            "from_user_id": person.id,
            "to_user_id": bot.id,
            "client_id": f"phone-{number}",
            "create_time_ms": int(at * 1000),
            "update_time_ms": int(at * 1000),
            "delete_time_ms": 0,
            "session_id": f"{person.id}#{bot.id}",
            "group_id": "",
            "message_type": USER,
            "message_state": 2,
            "item_list": [
                {"create_time_ms": int(at * 1000), "is_completed": True, "msg_id": str(number), **item}
                for item in items
            ],
            "context_token": context,
        }

    def wrote(self, bot: WeixinBot, person: WeixinPerson, message: dict[str, Any]) -> str:
        """The person sent it: a fresh window in which the bot may answer. Returns the id of the delivery."""
        person.contexts.add(message["context_token"])
        person.wrote_at = max(person.wrote_at, message["create_time_ms"] / 1000)
        person.answers = 0
        event = str(message["message_id"])
        bot.write(event, message)
        return event
