"""A Feishu on loopback: HTTP API, CardKit, long connections, webhooks, files. What the contract suite plays with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

from adapters.feishu import SPEC, parse_message
from adapters.feishu.identity import Identity
from core.adapter import AnyAdapterSpec
from core.messages import AccountId, Attachment, InboundMessage
from tests.contract.platform import Delivery, Feature, File, SimulatedPlatform, Visible
from tests.simulators.feishu_app import FeishuAppInfo
from tests.simulators.feishu_cardkit import FeishuCardKit
from tests.simulators.feishu_content import notifies
from tests.simulators.feishu_delivery import CALLBACK, MESSAGE, FeishuDelivery
from tests.simulators.feishu_history import FeishuHistory
from tests.simulators.feishu_messages import FeishuMessages
from tests.simulators.feishu_rest import Fault, FeishuApi
from tests.simulators.feishu_state import (
    ELSEWHERE,
    TENANT,
    FeishuApp,
    FeishuChat,
    FeishuFile,
    FeishuMessage,
    FeishuState,
    ids,
)
from tests.simulators.loopback import serving

PAYLOADS = Path(__file__).parents[1] / "payloads" / "feishu"
INCLUDE_BOTS = "im:message.group_at_msg.include_bot:readonly"
_NEW = ("im.v1.message.create", "im.v1.message.reply")
_SHOWING = (
    *_NEW,
    "im.v1.message.update",
    "im.v1.message.patch",
    "cardkit.v1.card.update",
    "cardkit.v1.card_element.content",
)


class SimulatedFeishu(SimulatedPlatform):
    """`mode` is how every account receives; with `topics` every group is one where each message begins a topic, and without
    `names_new_topics` the event of that message does not tell the id of the topic, nor does any in a direct chat.

    Fault control beyond the suite's: `api.faults`, `delivery`, `state.speed`.
    """

    lacks: ClassVar[Mapping[Feature, str]] = {
        Feature.OWN: "an app gets the messages of people and of other bots, never its own",
        Feature.EDITS: "im.message.receive_v1 comes once; that a message was edited is not told",
    }
    patience = timedelta(seconds=3)
    alarming = (
        *SimulatedPlatform.alarming,
        "@所有人",
        "@_all",
        "@_user_1",
        '<at user_id="all"></at>',
        '<at user_id="ou_84aad35d084aa403a838cf73ee18467">Ann</at>',
        "<at id=all></at>",
        "<at ids=ou_84aad35d084aa403a838cf73ee18467,all></at>",
        "<at email=ann@example.com></at>",
        "<AT ID=ALL></AT>",
        "<person id = 'ou_84aad35d084aa403a838cf73ee18467' show_name = true></person>",
        "&lt;at id=all&gt;&lt;/at&gt;",
        "&#60;at id=all&#62;&#60;/at&#62;",
    )

    def __init__(
        self,
        *,
        mode: Literal["websocket", "webhook"] = "websocket",
        topics: bool = False,
        names_new_topics: bool = True,
    ) -> None:
        self.state = FeishuState()
        self.delivery = FeishuDelivery(self.state)
        self.api = FeishuApi(self.state)
        for part in (FeishuAppInfo, FeishuMessages, FeishuHistory, FeishuCardKit):
            self.api.apis += part(self.state).apis()
        self.mode: Literal["websocket", "webhook"] = mode
        self.topics = topics
        self.names_new_topics = names_new_topics
        self.foreign: set[str] = set()
        """Who belongs to another organisation."""
        self.url = ""
        self._sent: dict[str, tuple[FeishuApp, dict[str, Any]]] = {}
        self._served = AsyncExitStack()

    async def __aenter__(self) -> Self:
        routes = [*self.api.routes(), *self.delivery.routes()]
        self.url = self.delivery.base = await self._served.enter_async_context(serving(routes))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.delivery.close()
        await self._served.aclose()

    # The account

    @property
    def spec(self) -> AnyAdapterSpec:
        return SPEC

    def account(self, name: str = "bot") -> dict[str, Any]:
        app = self.state.app(name)
        app.mode = self.mode
        return {
            "app_id": app.id,
            "app_secret": app.secret,
            "mode": self.mode,
            "encrypt_key": app.encrypt_key,
            "verification_token": app.verification_token,
            "api_url": self.url,
        }

    def gateway_listens(self, url: str) -> None:
        for app in self.state.apps.values():
            app.url = f"{url}/webhooks/{app.name}"

    async def listening(self, name: str = "bot") -> None:
        if self.mode == "websocket":
            await self.delivery.listening(name)
        else:
            await self._reachable(self.state.app(name))

    async def _reachable(self, app: FeishuApp) -> None:
        """HTTP: its address is verified, and an event that is no message is taken."""
        while not await self.delivery.verify(app):
            await asyncio.sleep(0.02)
        probe = self._envelope(app, "im.message.message_read_v1", {"reader": {}, "message_id_list": []})
        while not await self.delivery.by_http(app, "probe", probe):
            await asyncio.sleep(0.02)

    def links(self, name: str = "bot") -> int:
        return len(self.delivery.open(name))

    # What people do

    def room(self, user: str, channel: str, direct: bool, account: str) -> FeishuChat:
        if direct:
            chat = self.state.direct(user, self.state.app(account))
        else:
            chat = self.state.group(channel, topics=self.topics)
        chat.names_new_topics = self.names_new_topics
        return chat

    async def person_writes(
        self,
        text: str,
        *,
        user: str = "ann",
        channel: str = "general",
        direct: bool = True,
        thread: str | None = None,
        mention: bool = True,
        account: str = "bot",
        files: Sequence[File] = (),
        age: timedelta = timedelta(0),
    ) -> Delivery:
        """A file is a message of its own; beside a text there are videos and pictures, whatever else `files` says."""
        app, room = self.state.app(account), self.room(user, channel, direct, account)
        mention = mention and not direct
        type, content = self._written(f"@_user_1 {text}".strip() if mention else text, files)
        root = next((each for each in room.messages if thread and each.thread_id == thread), None)
        seconds = age.total_seconds()
        message = self.state.post(room, type, content, user=user, reply_to=root, thread=root is not None, age=seconds)
        message.mentions = [("@_user_1", f"app {app.name}")] if mention else []
        message.tenant = ELSEWHERE if user in self.foreign else TENANT
        return self.delivered(message, app, heard=not age)

    def delivered(self, message: FeishuMessage, app: FeishuApp, *, heard: bool = True) -> Delivery:
        """The app is told of a message, unless its scopes do not cover it."""
        envelope = self._envelope(app, MESSAGE, message.as_event(app))
        id = envelope["header"]["event_id"]
        self._sent[id] = (app, envelope)
        if heard and self._covered(message, app):
            self.delivery.deliver(app, id, envelope)
        return Delivery(event=id, message=message.id, room=message.chat.id, thread=message.thread_id or None)

    def _covered(self, message: FeishuMessage, app: FeishuApp) -> bool:
        """https://open.feishu.cn/document/server-docs/im-v1/message/events/receive: which scope brings which messages."""
        if not app.published:
            return False
        named = any(who == f"app {app.name}" for _, who in message.mentions)
        if message.app is not None:
            return named and INCLUDE_BOTS in app.scopes
        if message.chat.kind == "p2p":
            return bool({"im:message.p2p_msg:readonly", "im:message.p2p_msg"} & app.scopes)
        if {"im:message.group_msg", "im:message.group_msg:readonly"} & app.scopes:
            return True
        return named and bool(
            {"im:message.group_at_msg:readonly", "im:message.group_at_msg", INCLUDE_BOTS} & app.scopes
        )

    def _written(self, text: str, files: Sequence[File]) -> tuple[str, dict[str, Any]]:
        match files:
            case []:
                return "text", {"text": text}
            case [file] if not text:
                element = self._attached(file)
                type = str(element.pop("tag"))
                return {"img": "image"}.get(type, type), element
            case _:
                shown = [
                    file if file.media_type.startswith("video/") else replace(file, media_type="image/png")
                    for file in files
                ]
                lines = [[{"tag": "text", "text": text, "style": []}], *([self._attached(file)] for file in shown)]
                return "post", {"title": "", "content": lines}

    def _attached(self, file: File) -> dict[str, Any]:
        kind = file.media_type.partition("/")[0]
        key = self.state.new_id("img_v3_" if kind == "image" else "file_v3_")
        self.state.files[key] = FeishuFile(file.name, file.media_type, file.content)
        match kind:
            case "image":
                return {"tag": "img", "image_key": key}
            case "video":
                cover = self._attached(File(name="cover.png", media_type="image/png", content=b"cover"))["image_key"]
                return {
                    "tag": "media",
                    "file_key": key,
                    "image_key": cover,
                    "file_name": file.name,
                    "duration": 2000,
                }
            case "audio":
                return {"tag": "audio", "file_key": key, "duration": 2000}
            case _:
                return {"tag": "file", "file_key": key, "file_name": file.name}

    async def redeliver(self, delivery: Delivery, *, times: int = 1) -> None:
        """Every second time under another event_id, which happens: only `message_id` stays what it is."""
        app, envelope = self._sent[delivery.event]
        for number in range(times):
            again = envelope
            if number % 2:
                again = {**envelope, "header": {**envelope["header"], "event_id": self.state.new_id("")}}
            self.delivery.deliver(app, delivery.event, again, retries=False)

    async def bot_writes(self, text: str, *, own: bool, account: str = "bot", direct: bool = True) -> None:
        """Bots have no direct chats with each other: another one writes in a group and mentions ours."""
        assert not own, self.lacks[Feature.OWN]
        app, other = self.state.app(account), FeishuApp("another", 99)
        message = self.state.post(
            self.room("ann", "general", False, account), "text", {"text": f"@_user_1 {text}"}, app=other
        )
        message.mentions = [("@_user_1", f"app {app.name}")]
        self.delivered(message, app)

    def person_forwards(self, texts: Sequence[str], *, user: str = "ann", account: str = "bot") -> Delivery:
        """Somebody forwards what others wrote elsewhere, as one message; what it says has to be read."""
        app = self.state.app(account)
        bundle = self.state.post(
            self.state.direct(user, app), "merge_forward", {"content": "Merged and Forwarded Message"}, user=user
        )
        elsewhere = self.state.group("elsewhere")
        bundle.forwarded = [self.state.post(elsewhere, "text", {"text": text}, user="bob") for text in texts]
        return self.delivered(bundle, app)

    def person_recalls(self, delivery: Delivery) -> None:
        """Somebody takes back what they wrote."""
        self.state.messages[delivery.message].recalled = True

    def person_clicks(self, message: str, value: Any, *, user: str = "ann", account: str = "bot") -> str:
        """Somebody presses a button of a card; returns the id of the callback, which is not sent again."""
        app, card = self.state.app(account), self.state.messages[message]
        event = {
            "operator": {**ids(user, app), "tenant_key": TENANT},
            "token": f"c-{self.state.new_id('')}",
            "action": {"value": value, "tag": "button", "name": "button"},
            "host": "im_message",
            "context": {"open_message_id": message, "open_chat_id": card.chat.id},
        }
        return self.event(CALLBACK, event, account=account)

    def event(self, type: str, event: dict[str, Any], *, account: str = "bot") -> str:
        """Any other event; returns its id."""
        app = self.state.app(account)
        envelope = self._envelope(app, type, event)
        id = str(envelope["header"]["event_id"])
        self._sent[id] = (app, envelope)
        self.delivery.deliver(app, id, envelope)
        return id

    def _envelope(self, app: FeishuApp, type: str, event: dict[str, Any]) -> dict[str, Any]:
        header = {
            "event_id": self.state.new_id(""),
            "event_type": type,
            "create_time": str(self.state.milliseconds()),
            "token": app.verification_token if self.mode == "webhook" else "",
            "app_id": app.id,
            "tenant_key": TENANT,
        }
        return {"schema": "2.0", "header": header, "event": event}

    # What is seen

    def acknowledged(self, delivery: Delivery) -> int:
        return self.delivery.acknowledged[delivery.event]

    def visible(self, room: str) -> Sequence[Visible]:
        return [
            Visible(
                id=message.id,
                account=message.app.name,
                text=message.versions[-1],
                thread=message.thread_id or None,
                growing=message.card is not None and self.state.is_streaming(message.card),
                versions=tuple(message.versions),
            )
            for message in self.state.chats[room].messages
            if message.app is not None and message.app.name in self.state.apps and not message.recalled
        ]

    def complaints(self) -> Sequence[str]:
        return self.state.complaints

    def pings(self) -> Sequence[str]:
        return [source for message in self.state.of_bots() for source in message.sent if notifies(source)]

    # What goes wrong

    def limit_rate(self, seconds: float, *, times: int = 1) -> None:
        self.api.faults += [Fault(_SHOWING, "limit", seconds) for _ in range(times)]

    def break_send(self, *, after: bool, times: int = 1) -> None:
        self.api.faults += [Fault(_NEW, "lost" if after else "broken") for _ in range(times)]

    def remove(self, room: str) -> None:
        """A group is dissolved; a person is taken out of the bot's availability."""
        chat = self.state.chats[room]
        if chat.kind == "group":
            chat.dissolved = True
        else:
            chat.closed_to = set(self.state.apps)

    def refuse_credentials(self, name: str = "bot") -> None:
        self.state.app(name).valid = False

    def forget_tokens(self, name: str = "bot") -> None:
        """Every tenant_access_token of the app is invalid before its time."""
        self.state.app(name).tokens.clear()

    async def drop(self, name: str = "bot") -> None:
        await self.delivery.drop(name)

    def refuse_links(self, times: int, name: str = "bot") -> None:
        self.state.app(name)
        self.delivery.refuse[name] = times

    def go_silent(self, name: str = "bot") -> None:
        self.delivery.go_silent(name)

    # Files and payloads

    def elsewhere(self, attachment: Attachment, url: str) -> Attachment:
        """Feishu names no addresses: what an event can forge is the key, which goes into one."""
        source = json.loads(attachment.source)
        return replace(attachment, source=json.dumps({**source, "key": url}))

    def payloads(self) -> Sequence[Any]:
        return [json.loads(path.read_text(encoding="utf-8"))["payload"] for path in sorted(PAYLOADS.glob("*.json"))]

    def parse(self, payload: Any) -> InboundMessage | None:
        identity = Identity(
            open_id="ou_e6e14f667cfe239d7b129b521dce0569", name="ChatGPT", app_id="cli_9f5343c580712544"
        )
        return parse_message(payload, account=AccountId("bot"), identity=identity)
