"""What a simulated Feishu knows: apps, people, chats, messages and cards.

Shapes follow https://open.feishu.cn/document/server-docs/im-v1/message/intro and
https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/cardkit-v1/feishu-card-resource-overview.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

TENANT = "736588c9260f175e"
ELSEWHERE = "2ed263bf32cf1651"
"""Another organisation."""
STREAMING_LASTS = 600.0
"""Seconds after which a card leaves the streaming mode by itself."""
SCOPES = (
    "application:application:self_manage",
    "cardkit:card:write",
    "im:chat:readonly",
    "im:message.group_at_msg.include_bot:readonly",
    "im:message.group_at_msg:readonly",
    "im:message.group_msg",
    "im:message.p2p_msg:readonly",
    "im:message.reactions:write_only",
    "im:message:readonly",
    "im:message:recall",
    "im:message:send_as_bot",
    "im:message:update",
    "im:resource",
)
"""What an app is granted that may do all that a chat bot needs, each right by its narrowest scope."""


@dataclass
class FeishuApp:
    """A self-built app, installed once: a bot."""

    name: str
    number: int
    valid: bool = True
    mode: Literal["websocket", "webhook"] = "websocket"
    encrypted: bool = True
    """An Encrypt Key is set: webhooks are encrypted and signed."""
    url: str = ""
    """The request address, for events over HTTP."""
    scopes: set[str] = field(default_factory=lambda: set(SCOPES))
    events: set[str] = field(default_factory=lambda: {"im.message.receive_v1"})
    """What the published version subscribes to."""
    published: bool = True
    activate_status: int = 2
    tokens: dict[str, float] = field(default_factory=dict)
    """Each tenant_access_token with the time until which it is valid."""

    @property
    def id(self) -> str:
        return f"cli_a{self.number:015x}"

    @property
    def secret(self) -> str:
        return f"{_hash('secret', self.name)}-of-the-simulator"

    @property
    def encrypt_key(self) -> str:
        return f"encrypt-{_hash('encrypt', self.name)[:16]}" if self.encrypted else ""

    @property
    def verification_token(self) -> str:
        return _hash("verification", self.name)

    @property
    def open_id(self) -> str:
        """The bot, as its own app sees it."""
        return open_id(f"app {self.name}", self)


@dataclass
class FeishuCard:
    """A card entity: JSON 2.0 that can be changed after it was sent."""

    id: str
    app: FeishuApp
    data: dict[str, Any]
    message: FeishuMessage | None = None
    """Where it was sent; once at most."""
    streaming: bool = False
    began: float = 0.0
    """When the streaming mode was last switched on."""
    timed_out: bool = False
    sequence: int = 0
    uuids: set[str] = field(default_factory=set)
    operations: deque[float] = field(default_factory=lambda: deque(maxlen=20))


@dataclass
class FeishuMessage:
    """A message; `content` is what events and the history carry."""

    id: str
    chat: FeishuChat
    type: str
    content: str
    created: int
    """Milliseconds."""
    user: str = ""
    app: FeishuApp | None = None
    root: FeishuMessage | None = None
    parent: FeishuMessage | None = None
    thread_id: str = ""
    mentions: list[tuple[str, str]] = field(default_factory=list)
    """Who is named: the key in the text, and the name of the person, or `app ` and the name of the app."""
    versions: list[str] = field(default_factory=list)
    """What a person read there, one after the other."""
    sent: list[str] = field(default_factory=list)
    """All that was sent to be shown there, as it came."""
    card: FeishuCard | None = None
    edits: int = 0
    updated: int = 0
    recalled: bool = False
    patches: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    reactions: dict[str, tuple[FeishuApp, str]] = field(default_factory=dict)
    forwarded: list[FeishuMessage] = field(default_factory=list)
    """The messages that a forwarded bundle holds."""
    tenant: str = TENANT
    """The organisation of who wrote it."""

    @property
    def sender(self) -> str:
        return f"app {self.app.name}" if self.app is not None else self.user

    def show(self, text: str) -> None:
        if not self.versions or self.versions[-1] != text:
            self.versions.append(text)

    def as_item(self, app: FeishuApp, *, cards: bool = False) -> dict[str, Any]:
        """As the message APIs show it to an app. `cards`: cards come as the JSON that made them."""
        by = self.app
        content = json.dumps(self.card.data, ensure_ascii=False) if cards and self.card is not None else self.content
        item: dict[str, Any] = {
            "message_id": self.id,
            "msg_type": self.type,
            "create_time": str(self.created),
            "update_time": str(self.updated or self.created),
            "deleted": self.recalled,
            "updated": self.updated > 0,
            "chat_id": self.chat.id,
            "sender": {
                "id": by.id if by is not None else open_id(self.user, app),
                "id_type": "app_id" if by is not None else "open_id",
                "sender_type": "app" if by is not None else "user",
                "tenant_key": self.tenant,
            },
            "body": {"content": "This message was recalled" if self.recalled else content},
        }
        if self.mentions and not self.recalled:
            item["mentions"] = [
                {"key": key, "id": open_id(who, app), "id_type": "open_id", "name": title(who), "tenant_key": TENANT}
                for key, who in self.mentions
            ]
        return item | self._place()

    def as_event(self, app: FeishuApp) -> dict[str, Any]:
        """The `event` of im.message.receive_v1, as an app gets it."""
        mentions = [
            {
                "key": key,
                "id": ids(who, app) if key != "@_all" else {"open_id": "", "union_id": "", "user_id": ""},
                "mentioned_type": "bot" if who.startswith("app ") else "user",
                "name": title(who),
                "tenant_key": TENANT,
            }
            for key, who in self.mentions
        ]
        message = {
            "message_id": self.id,
            "create_time": str(self.created),
            "update_time": str(self.updated or self.created),
            "chat_id": self.chat.id,
            "chat_type": "topic_group" if self.chat.topics else self.chat.kind,
            "message_type": self.type,
            "content": self.content,
            **({"mentions": mentions} if mentions else {}),
            **self._place(),
        }
        if not self.chat.names_new_topics and (self.root is None or self.chat.kind == "p2p"):
            message.pop("thread_id", None)
        sender_type = "bot" if self.app is not None else "user"
        sender = {"sender_id": ids(self.sender, app), "sender_type": sender_type, "tenant_key": self.tenant}
        return {"sender": sender, "message": message}

    def _place(self) -> dict[str, str]:
        place = {"thread_id": self.thread_id} if self.thread_id else {}
        if self.root is not None and self.parent is not None:
            place |= {"root_id": self.root.id, "parent_id": self.parent.id}
        return place


@dataclass
class FeishuChat:
    """A group, or the chat of a person with a bot."""

    id: str
    name: str
    kind: Literal["group", "p2p"]
    topics: bool = False
    """A group where every message begins a topic."""
    names_new_topics: bool = True
    """The event of the message that begins one has its id, in a direct chat that of every message in one."""
    dissolved: bool = False
    person: str = ""
    closed_to: set[str] = field(default_factory=set)
    """Apps that are not in the group, or not available to the person."""
    messages: list[FeishuMessage] = field(default_factory=list)
    sends: deque[float] = field(default_factory=lambda: deque(maxlen=20))


@dataclass
class FeishuFile:
    """What was uploaded, by a person or an app."""

    name: str
    media_type: str
    content: bytes


def _hash(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def open_id(who: str, app: FeishuApp) -> str:
    """A person or a bot (`app ` and its name) as one app knows them: every app has other ids for the same people."""
    return f"ou_{_hash('open', who, app.id)}"


def union_id(who: str) -> str:
    """The same in all apps of one developer."""
    return f"on_{_hash('union', who)}"


def ids(who: str, app: FeishuApp) -> dict[str, str | None]:
    """All ids; user_id needs a scope (contact:user.employee_id:readonly)."""
    return {"union_id": union_id(who), "user_id": None, "open_id": open_id(who, app)}


def title(who: str) -> str:
    """The name that is shown."""
    return who.removeprefix("app ") if who.startswith("app ") else who.title()


class FeishuState:
    """Everything."""

    def __init__(self) -> None:
        self.apps: dict[str, FeishuApp] = {}
        self.chats: dict[str, FeishuChat] = {}
        self.messages: dict[str, FeishuMessage] = {}
        self.cards: dict[str, FeishuCard] = {}
        self.files: dict[str, FeishuFile] = {}
        self.complaints: list[str] = []
        self.calls: deque[tuple[str, dict[str, Any]]] = deque(maxlen=20_000)
        """Each call of an API by its name, with what it carried."""
        self.sent: defaultdict[tuple[str, str], dict[str, FeishuMessage]] = defaultdict(dict)
        self.settings_end_streaming = False
        """Only settings do: to write a card anew leaves it in the mode that it was in."""
        self.speed = 1.0
        """How many times faster than in life the long times pass: redeliveries, tokens, streaming mode, uuids."""
        self._named: dict[str, FeishuChat] = {}
        """Direct chats by their names."""
        self._numbers = itertools.count(1)
        self._last = 0

    def number(self) -> int:
        return next(self._numbers)

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{_hash(prefix, str(self.number()), str(id(self)))}"

    def later(self, seconds: float) -> float:
        """How long one of the long times lasts here."""
        return seconds / self.speed

    def milliseconds(self, *, age: float = 0.0) -> int:
        """A time that no earlier message has; `age`: of so many seconds ago."""
        at = int((time.time() - age) * 1000)
        if age == 0.0:
            at = self._last = max(at, self._last + 1)
        return at

    def complain(self, text: str) -> None:
        self.complaints.append(text)

    def app(self, name: str) -> FeishuApp:
        if name not in self.apps:
            self.apps[name] = FeishuApp(name, len(self.apps) + 1)
        return self.apps[name]

    def group(self, name: str, *, topics: bool = False) -> FeishuChat:
        for chat in self.chats.values():
            if (chat.kind, chat.name) == ("group", name):
                return chat
        return self._add(FeishuChat(self.new_id("oc_"), name, "group", topics=topics))

    def direct(self, person: str, app: FeishuApp) -> FeishuChat:
        name = f"{person} with {app.name}"
        if name in self._named:
            return self._named[name]
        chat = self._named[name] = FeishuChat(self.new_id("oc_"), name, "p2p", person=person)
        chat.closed_to = {other.name for other in self.apps.values()} - {app.name}
        return self._add(chat)

    def _add(self, chat: FeishuChat) -> FeishuChat:
        self.chats[chat.id] = chat
        return chat

    def post(
        self,
        chat: FeishuChat,
        type: str,
        content: dict[str, Any],
        *,
        user: str = "",
        app: FeishuApp | None = None,
        reply_to: FeishuMessage | None = None,
        thread: bool = False,
        age: float = 0.0,
    ) -> FeishuMessage:
        """A new message. `thread`: it goes into the topic of `reply_to`, which is opened if there is none.

        In a topic `parent_id` and `root_id` are both the topic's first message; elsewhere the tree of quotes is kept.
        """
        body = json.dumps(content, ensure_ascii=False)
        message = FeishuMessage(self.new_id("om_"), chat, type, body, self.milliseconds(age=age), user=user, app=app)
        if reply_to is not None:
            message.root = message.parent = reply_to.root or reply_to
            if thread or reply_to.thread_id:
                message.root.thread_id = message.root.thread_id or self.new_id("omt_")
                message.thread_id = message.root.thread_id
            else:
                message.parent = reply_to
        elif chat.topics:
            message.thread_id = self.new_id("omt_")
        self.messages[message.id] = message
        chat.messages.append(message)
        chat.messages.sort(key=lambda each: each.created)
        return message

    def of_bots(self) -> Iterator[FeishuMessage]:
        """What our accounts wrote."""
        for message in self.messages.values():
            if message.app is not None and message.app.name in self.apps:
                yield message

    def is_streaming(self, card: FeishuCard) -> bool:
        """Ten minutes after it was last switched on the mode is over."""
        if card.streaming and time.monotonic() - card.began > self.later(STREAMING_LASTS):
            card.streaming, card.timed_out = False, True
        return card.streaming
