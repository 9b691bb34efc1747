"""What a simulated DingTalk knows: apps, people, conversations, messages, cards and files."""

from __future__ import annotations

import base64
import hashlib
import html
import itertools
import re
import secrets
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Literal

CORP = "ding9f50b15b3cd16741"
WEBHOOK_LASTS = 90 * 60.0
"""Seconds from a message to the end of its session webhook, as in captures of 2024 to 2026."""

TEMPLATES = {
    "d1a90000-4e02-4a85-b672-46d1f7150001.schema": "content",
    "382e4302-551d-4880-bf29-a30acfab2e71.schema": "msgContent",
    "02fcf2f4-5e02-4a85-b672-46d1f715543e.schema": "msgContent",
}
"""Card templates that every app may use, each with its Markdown variable: one of the simulator's own, that of
dingtalk_stream's AIMarkdownCardInstance, that of DingTalk's own connector."""

SCOPES = ("qyapi_robot_sendmsg", "Card.Instance.Write", "Card.Streaming.Write")
"""What an app needs, beside what every app may do."""

_TAG = re.compile(r"<a\s+atId", re.IGNORECASE)
_MOBILE = re.compile(r"@1\d{10}")


def encrypted(kind: str, name: str) -> str:
    """An id as DingTalk encrypts them."""
    return kind + base64.b64encode(hashlib.md5(f"{kind}{name}".encode()).digest()).decode()


@dataclass
class DingTalkApp:
    """An app of the company, with a robot."""

    name: str
    number: int
    scopes: set[str] = field(default_factory=lambda: set(SCOPES))
    valid: bool = True
    """Whether client_id and client_secret are accepted."""
    tokens: dict[str, float] = field(default_factory=dict)
    """Access tokens, and when each ends."""

    @property
    def client_id(self) -> str:
        return f"ding{self.number:04d}"

    @property
    def client_secret(self) -> str:
        return f"secret-of-{self.name}-{self.number:032x}"

    @property
    def robot_code(self) -> str:
        """The same as the client id, as for every robot of a company's own app."""
        return self.client_id

    @property
    def user_id(self) -> str:
        """The robot, as a member of conversations."""
        return encrypted("$:LWCP_v1:$", f"robot {self.name}")


@dataclass
class DingTalkPerson:
    """Somebody who writes."""

    name: str
    number: int
    outside: bool = False
    """Of another company: nobody is told their staff id."""

    @property
    def staff_id(self) -> str:
        return "" if self.outside else f"0{self.number:04d}66501{self.number:04d}"

    @property
    def sender_id(self) -> str:
        return encrypted("$:LWCP_v1:$", self.name)


@dataclass
class DingTalkMessage:
    """What a robot has put into a conversation."""

    id: str
    app: DingTalkApp
    text: str
    title: str = ""
    kind: str = "markdown"
    at: list[str] = field(default_factory=list)
    """Whom it notifies."""
    card: DingTalkCard | None = None


@dataclass
class DingTalkCard:
    """An instance of a card."""

    out_track_id: str
    app: DingTalkApp
    template: str
    params: dict[str, str]
    spaces: set[str]
    """Kinds of place that it may be shown in."""
    status: Literal["processing", "inputing", "done", "failed"] = "processing"
    guids: set[str] = field(default_factory=set)
    versions: list[str] = field(default_factory=list)
    at: list[str] = field(default_factory=list)
    shown: dict[str, DingTalkMessage] = field(default_factory=dict)
    """The message in each place."""

    @property
    def key(self) -> str:
        return TEMPLATES[self.template]

    @property
    def text(self) -> str:
        return self.params.get(self.key, "")

    def say(self) -> None:
        """Note the text that is shown now."""
        if self.text and (not self.versions or self.versions[-1] != self.text):
            self.versions.append(self.text)


@dataclass
class DingTalkRoom:
    """A group, or the direct chat of one person with one robot."""

    id: str
    name: str
    direct: bool
    person: DingTalkPerson | None = None
    gone: bool = False
    messages: list[DingTalkMessage] = field(default_factory=list)
    sent: dict[str, deque[float]] = field(default_factory=dict)
    """When each robot posted by webhook lately."""
    blocked: dict[str, float] = field(default_factory=dict)
    """Until when each robot may not post by webhook."""


@dataclass
class DingTalkSession:
    """A session webhook: the way back to one conversation, for a while."""

    app: DingTalkApp
    room: DingTalkRoom
    until: float


class DingTalkWorld:
    """Everything."""

    def __init__(self) -> None:
        self.apps: dict[str, DingTalkApp] = {}
        self.people: dict[str, DingTalkPerson] = {}
        self.rooms: dict[str, DingTalkRoom] = {}
        self.sessions: dict[str, DingTalkSession] = {}
        self.cards: dict[str, DingTalkCard] = {}
        self.files: dict[str, tuple[DingTalkApp, str, bytes, str]] = {}
        """By download code: for which app, the address (empty: here), the content, its media type."""
        self.media: dict[str, tuple[str, bytes]] = {}
        """What robots have uploaded, by media id."""
        self.signs: Counter[tuple[str, str]] = Counter()
        """How often each robot's thinking sign is on each message."""
        self.known_messages: set[str] = set()
        """Ids of what people wrote."""
        self.calls: deque[tuple[str, dict[str, Any]]] = deque(maxlen=20_000)
        """What was called, with its arguments."""
        self.complaints: list[str] = []
        self.webhook_lasts = WEBHOOK_LASTS
        self.token_lasts = 7200
        self.token_end: dict[str, Any] | None = None
        """What is told of a token's end in the place of the truth."""
        self.numbers = itertools.count(1)

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def app(self, name: str) -> DingTalkApp:
        if name not in self.apps:
            self.apps[name] = DingTalkApp(name, len(self.apps) + 1)
        return self.apps[name]

    def person(self, name: str) -> DingTalkPerson:
        if name not in self.people:
            self.people[name] = DingTalkPerson(name, len(self.people) + 1)
        return self.people[name]

    def staff(self, staff_id: str) -> DingTalkPerson | None:
        return next((each for each in self.people.values() if staff_id and each.staff_id == staff_id), None)

    def group(self, name: str) -> DingTalkRoom:
        id = encrypted("cid", f"group {name}")
        return self.rooms.setdefault(id, DingTalkRoom(id, name, direct=False))

    def direct(self, person: DingTalkPerson, app: DingTalkApp) -> DingTalkRoom:
        id = encrypted("cid", f"direct {person.name} {app.name}")
        return self.rooms.setdefault(id, DingTalkRoom(id, person.name, direct=True, person=person))

    def session(self, app: DingTalkApp, room: DingTalkRoom) -> tuple[str, int]:
        """A fresh session webhook: its token and the time of its end in ms."""
        token, until = secrets.token_hex(32), time.time() + self.webhook_lasts
        self.sessions[token] = DingTalkSession(app, room, until)
        return token, int(until * 1000)

    def message_id(self) -> str:
        return encrypted("msg", f"{secrets.token_hex(8)} {next(self.numbers)}")

    def pings(self) -> list[str]:
        """Texts that notified somebody, in any version."""
        found = []
        for room in self.rooms.values():
            for message in room.messages:
                texts = message.card.versions if message.card is not None else [message.text]
                at = message.at + (message.card.at if message.card is not None else [])
                found += [f"{text} (at {at})" for text in texts if at or _TAG.search(text) or _MOBILE.search(text)]
        return found


def as_read(text: str) -> str:
    """What a person reads of DingTalk's Markdown: entities undone, also in code, marks kept."""
    return html.unescape(text)
