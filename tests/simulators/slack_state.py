"""What a simulated Slack knows: apps, people, channels and messages."""

from __future__ import annotations

import itertools
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

TEAM = "T0SIMULATE"
ELSEWHERE = "T0ELSEWHERE"
"""The workspace of another organisation."""
_LIVE = re.compile(r"<(?:!(?:channel|here|everyone)|!subteam\^\w+|@[UW]\w+)(?:\|[^>]*)?>")
_ESCAPED = re.compile(r"\\([\\*`\[\]~|_#+\-.>!(){}&<])")


@dataclass
class SlackApp:
    """An app, installed once: a bot."""

    name: str
    number: int
    bot_token: str = ""
    app_token: str = ""
    signing_secret: str = ""
    scopes: list[str] = field(default_factory=list)
    valid: bool = True
    mode: Literal["socket", "http"] = "socket"
    url: str = ""
    """Request URL, for events over HTTP."""

    def __post_init__(self) -> None:
        self.bot_token = f"xoxb-{self.number}0000-{self.name}-of-the-simulator"
        self.app_token = f"xapp-1-A{self.number}-{self.name}-of-the-simulator"
        self.signing_secret = f"{self.number:032x}"
        self.scopes = [
            "app_mentions:read",
            "assistant:write",
            "channels:history",
            "channels:read",
            "chat:write",
            "commands",
            "files:read",
            "files:write",
            "groups:history",
            "groups:read",
            "im:history",
            "im:read",
            "users:read",
        ]

    @property
    def user(self) -> str:
        return f"U0BOT{self.number}"

    @property
    def bot(self) -> str:
        return f"B0BOT{self.number}"

    @property
    def id(self) -> str:
        return f"A{self.number}"


@dataclass
class SlackMessage:
    """A message; `text` is what was sent, escapes included."""

    ts: str
    channel: str
    user: str
    text: str
    app: SlackApp | None = None
    thread_ts: str = ""
    subtype: str = ""
    metadata: dict[str, Any] | None = None
    files: list[dict[str, Any]] = field(default_factory=list)
    streaming: bool = False
    began: float = 0.0
    stopped_by_user: bool = False
    versions: list[str] = field(default_factory=list)
    blocks: list[Any] = field(default_factory=list)
    ephemeral: bool = False
    team: str = TEAM
    """Of who wrote it."""

    def say(self, text: str) -> None:
        self.text = text
        self.versions.append(text)

    def as_json(self, *, metadata: bool) -> dict[str, Any]:
        """As the history methods show it."""
        shown: dict[str, Any] = {
            "type": "message",
            "user": self.user,
            "text": self.text,
            "ts": self.ts,
            "team": self.team,
        }
        if self.team != TEAM:
            shown |= {"user_team": self.team, "source_team": self.team}
        if self.subtype:
            shown["subtype"] = self.subtype
        if self.app is not None:
            shown["bot_id"], shown["app_id"] = self.app.bot, self.app.id
        if self.thread_ts:
            shown["thread_ts"] = self.thread_ts
        if self.files:
            shown["files"] = self.files
        if self.metadata is not None:
            shown["metadata"] = self.metadata if metadata else {"event_type": self.metadata["event_type"]}
        return shown


@dataclass
class SlackChannel:
    id: str
    name: str
    kind: Literal["channel", "im"]
    archived: bool = False
    shared: bool = False
    """With another organisation."""
    gone: bool = False
    messages: list[SlackMessage] = field(default_factory=list)
    closed_to: set[str] = field(default_factory=set)
    """Apps that are no members."""

    def find(self, ts: str) -> SlackMessage | None:
        return next((message for message in self.messages if message.ts == ts), None)


class SlackState:
    """Everything, with a clock of its own for `ts`."""

    def __init__(self) -> None:
        self.apps: dict[str, SlackApp] = {}
        self.channels: dict[str, SlackChannel] = {}
        self.users: dict[str, str] = {}
        """Id to name."""
        self.guests: set[str] = set()
        self.foreign: set[str] = set()
        """Ids of guests, and of people of another organisation."""
        self.files: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, bytes] = {}
        self.complaints: list[str] = []
        self.calls: deque[tuple[str, dict[str, Any]]] = deque(maxlen=20_000)
        self._last_ts = 0
        self.numbers = itertools.count(1)

    def ts(self, *, age: float = 0.0) -> str:
        """A new `ts`: seconds and a unique number."""
        at = int((time.time() - age) * 1_000_000)
        if age == 0.0:
            at = self._last_ts = max(at, self._last_ts + 1)
        return f"{at // 1_000_000}.{at % 1_000_000:06d}"

    def app(self, name: str) -> SlackApp:
        if name not in self.apps:
            self.apps[name] = SlackApp(name, len(self.apps) + 1)
        return self.apps[name]

    def user(self, name: str) -> str:
        id = f"U0{name.upper()}"
        self.users.setdefault(id, name)
        return id

    def channel(self, name: str) -> SlackChannel:
        id = f"C0{name.upper()}"
        return self.channels.setdefault(id, SlackChannel(id, name, "channel"))

    def direct(self, user: str, app: SlackApp) -> SlackChannel:
        id = f"D0{user.upper()}{app.number}"
        return self.channels.setdefault(id, SlackChannel(id, user, "im"))

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def pings(self) -> list[str]:
        """Texts of bots that notified somebody, in any version."""
        return [
            version
            for channel in self.channels.values()
            for message in channel.messages
            if message.app is not None
            for version in message.versions
            if _LIVE.search(version)
        ]


def as_read(text: str) -> str:
    """What a person reads of Slack's Markdown: escapes undone, marks kept."""
    pieces = re.split(r"(```.*?```|``.+?``|`[^`\n]*`)", text, flags=re.DOTALL)
    return "".join(piece if index % 2 else _read(piece) for index, piece in enumerate(pieces))


def _read(text: str) -> str:
    text = _ESCAPED.sub(r"\1", text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
