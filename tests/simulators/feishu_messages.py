"""The message APIs of a simulated Feishu: https://open.feishu.cn/document/server-docs/im-v1/message/intro.

5 messages a second may be sent to a person, and to a group by all its bots together; the same `uuid` sends at most one
message an hour.
"""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.simulators.feishu_content import (
    MOST_RICH,
    MOST_TEXT,
    Refused,
    bad_card,
    card_sources,
    card_text,
    check_card,
    check_post,
    check_text,
    object_in,
    post_text,
    size_in_request,
)
from tests.simulators.feishu_history import message_of, open_to
from tests.simulators.feishu_rest import Api, Call, number_of, page_of, text_of
from tests.simulators.feishu_state import (
    FeishuApp,
    FeishuCard,
    FeishuChat,
    FeishuFile,
    FeishuMessage,
    FeishuState,
    open_id,
)

SENDS_PER_SECOND = 5
MOST_EDITS = 20
UUID_LASTS = 3600.0
MOST_UUID = 50
_FILE_TYPES = ("opus", "mp4", "pdf", "doc", "xls", "ppt", "stream")
_A_SECOND = 0.9
"""What counts as the same second: calls are counted when they arrive, which may be a little closer than they were sent."""


@dataclass
class _Sent:
    """What was sent with a `uuid`."""

    message: FeishuMessage
    content: str
    at: float


class FeishuMessages:
    """Handlers for `FeishuApi.apis`."""

    def __init__(self, state: FeishuState) -> None:
        self.state = state
        self._uuids: dict[tuple[str, str], _Sent] = {}

    def apis(self) -> list[Api]:
        one = "/im/v1/messages/{message}"
        return [
            Api("im.v1.message.create", "POST", "/im/v1/messages", "send", self._create),
            Api("im.v1.message.reply", "POST", f"{one}/reply", "send", self._reply),
            Api("im.v1.message.update", "PUT", one, "update", self._update),
            Api("im.v1.message.patch", "PATCH", one, "update", self._patch),
            Api("im.v1.message.delete", "DELETE", one, "recall", self._delete),
            Api("im.v1.message_reaction.create", "POST", f"{one}/reactions", "react", self._react),
            Api("im.v1.message_reaction.list", "GET", f"{one}/reactions", "reactions", self._reactions),
            Api("im.v1.message_reaction.delete", "DELETE", f"{one}/reactions/{{id}}", "react", self._unreact),
            Api("im.v1.image.create", "POST", "/im/v1/images", "upload", self._image),
            Api("im.v1.file.create", "POST", "/im/v1/files", "upload", self._file),
        ]

    # Sending

    async def _create(self, call: Call) -> dict[str, Any]:
        kind, receiver = call.query.get("receive_id_type"), text_of(call, "receive_id", code=230001)
        if kind == "chat_id":
            chat = self.state.chats.get(receiver)
        elif kind == "open_id":
            direct = (chat for chat in self.state.chats.values() if chat.kind == "p2p")
            chat = next((chat for chat in direct if open_id(chat.person, call.app) == receiver), None)
        else:
            raise Refused(99992402, "field validation failed, receive_id_type", mistake=True)
        if chat is None:
            raise Refused(230034, "The receive_id is invalid.", mistake=True)
        return await self._send(call, chat, None, in_thread=False)

    async def _reply(self, call: Call) -> dict[str, Any]:
        parent = message_of(self.state, call)
        if parent.recalled:
            raise Refused(230011, "The message is recalled.")
        in_thread = call.body.get("reply_in_thread", False)
        if not isinstance(in_thread, bool):
            raise Refused(230001, "invalid request parameter, ext=reply_in_thread", mistake=True)
        return await self._send(call, parent.chat, parent, in_thread=in_thread)

    async def _send(
        self, call: Call, chat: FeishuChat, parent: FeishuMessage | None, *, in_thread: bool
    ) -> dict[str, Any]:
        open_to(call.app, chat)
        type, content = text_of(call, "msg_type", code=230001), text_of(call, "content", code=230001)
        uuid = call.body.get("uuid") or ""
        if not isinstance(uuid, str) or len(uuid) > MOST_UUID:
            raise Refused(230001, "invalid request parameter, ext=uuid has at most 50 characters", mistake=True)
        earlier = self._uuids.get((call.app.name, uuid)) if uuid else None
        if earlier is not None and time.monotonic() - earlier.at < self.state.later(UUID_LASTS):
            if earlier.content != content:
                self.state.complain(f"uuid {uuid} was used with another content, which nobody will see")
            return earlier.message.as_item(call.app)
        if not _fits(chat.sends, SENDS_PER_SECOND):
            raise Refused(230020, "This operation triggers the frequency limit.", mistake=True)
        message = self._put(call.app, chat, parent, type, content, in_thread=in_thread)
        if uuid:
            self._uuids[call.app.name, uuid] = _Sent(message, content, time.monotonic())
        return message.as_item(call.app)

    def _put(
        self,
        app: FeishuApp,
        chat: FeishuChat,
        parent: FeishuMessage | None,
        type: str,
        content: str,
        *,
        in_thread: bool,
    ) -> FeishuMessage:
        value = object_in(content, 230001, "content")
        received, shown, sources, card = self._content(app, type, content, value)
        message = self.state.post(chat, type, received, app=app, reply_to=parent, thread=in_thread)
        message.sent += sources
        message.show(shown)
        if card is not None:
            message.card = card
            card.message = message
        return message

    def _content(
        self, app: FeishuApp, type: str, content: str, value: dict[str, Any]
    ) -> tuple[dict[str, Any], str, list[str], FeishuCard | None]:
        """What is received of it, what a person reads, what was sent to be read, and the card if it is one."""
        if size_in_request(content) > (MOST_TEXT if type == "text" else MOST_RICH):
            raise Refused(230025, "The length of the message content reaches its limit.", mistake=True)
        match type:
            case "text":
                text = check_text(value)
                return value, text, [text], None
            case "post":
                lines = check_post(value)
                simple = [
                    [{"tag": "text", "text": each.get("text", "")} if each["tag"] == "md" else each for each in line]
                    for line in lines
                ]
                title = next(iter(value.values())).get("title", "")
                return {"title": title, "content": simple}, post_text(lines), [content], None
            case "interactive":
                card = self._card(app, value)
                text = card_text(card.data)
                return _as_received(text), text, card_sources(card.data), card
            case "image" | "file" | "audio" | "media":
                key = value.get("image_key" if type == "image" else "file_key")
                if key not in self.state.files:
                    raise Refused(230001, "invalid request parameter, ext=no such key", mistake=True)
                name = self.state.files[str(key)].name
                return ({**value, "file_name": name} if type == "file" else value), f"[{name}]", [], None
            case _:
                raise Refused(230001, f"invalid request parameter, ext=msg_type {type}", mistake=True)

    def _card(self, app: FeishuApp, value: dict[str, Any]) -> FeishuCard:
        """A card entity that is sent, or a card of its own."""
        if value.get("type") == "card":
            card = self.state.cards.get(str((value.get("data") or {}).get("card_id")))
            if card is None:
                raise bad_card(200740, "The card entity does not exist")
            if card.app is not app:
                raise bad_card(300311, "The current application does not have permission to update/use this card")
            if card.message is not None:
                raise bad_card(200620, "a card entity can be sent once only")
            return card
        if value.get("schema") != "2.0":
            raise bad_card(200621, "only cards of JSON 2.0 are known here")
        check_card(value, list(self.state.files))
        streaming = bool(value.get("config", {}).get("streaming_mode"))
        return FeishuCard(str(7_000_000_000_000_000_000 + self.state.number()), app, value, streaming=streaming)

    # Changing

    async def _update(self, call: Call) -> dict[str, Any]:
        message = self._own(call, 230071, "The operator is not the sender of the message.")
        type, content = text_of(call, "msg_type", code=230001), text_of(call, "content", code=230001)
        if message.type not in ("text", "post") or type not in ("text", "post"):
            raise Refused(230054, "This operation is not supported for this message type.", mistake=True)
        if message.edits >= MOST_EDITS:
            raise Refused(230072, "The message has reached the number of times it can be edited.", mistake=True)
        received, shown, sources, _ = self._content(call.app, type, content, object_in(content, 230001, "content"))
        message.edits += 1
        self._change(message, received, shown, sources)
        message.type = type
        return message.as_item(call.app)

    async def _patch(self, call: Call) -> dict[str, Any]:
        message = self._own(call, 230001, "not the app that sent the card")
        content = text_of(call, "content", code=230001)
        if message.type != "interactive" or message.card is None:
            raise Refused(230001, "This message is NOT a card.", mistake=True)
        if message.card.id in self.state.cards:
            raise Refused(230001, "a card entity is changed through CardKit", mistake=True)
        if not _fits(message.patches, SENDS_PER_SECOND):
            raise Refused(230020, "This operation triggers the frequency limit.", mistake=True)
        if size_in_request(content) > MOST_RICH:
            raise Refused(230025, "The length of the message content reaches its limit.", mistake=True)
        value = object_in(content, 230001, "content")
        if not (
            value.get("config", {}).get("update_multi") and message.card.data.get("config", {}).get("update_multi")
        ):
            self.state.complain("im.v1.message.patch: update_multi is to be true before and after")
        if value.get("schema") != "2.0":
            raise bad_card(200621, "only cards of JSON 2.0 are known here")
        check_card(value, list(self.state.files))
        message.card.data = value
        message.card.streaming = bool(value["config"].get("streaming_mode")) if "config" in value else False
        text = card_text(value)
        self._change(message, _as_received(text), text, card_sources(value))
        return {}

    def _change(self, message: FeishuMessage, received: dict[str, Any], shown: str, sources: list[str]) -> None:
        message.content = json.dumps(received, ensure_ascii=False)
        message.updated = self.state.milliseconds()
        message.sent += sources
        message.show(shown)

    async def _delete(self, call: Call) -> dict[str, Any]:
        message = self._own(call, 230026, "No permission to recall this message.")
        message.recalled = True
        return {}

    def _own(self, call: Call, code: int, text: str) -> FeishuMessage:
        message = message_of(self.state, call)
        if message.recalled:
            raise Refused(230011, "The message is recalled.")
        if message.app is not call.app:
            raise Refused(code, text, mistake=True)
        return message

    # Reactions and uploads

    async def _react(self, call: Call) -> dict[str, Any]:
        message = message_of(self.state, call)
        if message.recalled:
            raise Refused(231003, "The message is not found, maybe not exist or deleted.")
        emoji = (call.body.get("reaction_type") or {}).get("emoji_type")
        if not isinstance(emoji, str) or not emoji:
            raise Refused(231001, "reaction type is invalid.", mistake=True)
        id = self.state.new_id("ZC")
        message.reactions[id] = (call.app, emoji)
        return self._reaction(call.app, id, emoji)

    async def _reactions(self, call: Call) -> dict[str, Any]:
        message = message_of(self.state, call)
        size = number_of(call, "page_size", default=20, least=1, most=50, code=231001)
        wanted = call.query.get("reaction_type")
        found = [
            self._reaction(app, id, emoji) for id, (app, emoji) in message.reactions.items() if wanted in (None, emoji)
        ]
        page, more = page_of(found, call, size)
        return {"items": page, **more}

    async def _unreact(self, call: Call) -> dict[str, Any]:
        message = message_of(self.state, call)
        app, emoji = message.reactions.get(call.path["id"], (None, ""))
        if app is not call.app:
            raise Refused(231011, "The request has an invalid reaction_id.", mistake=True)
        del message.reactions[call.path["id"]]
        return self._reaction(call.app, call.path["id"], emoji)

    def _reaction(self, app: FeishuApp, id: str, emoji: str) -> dict[str, Any]:
        return {
            "reaction_id": id,
            "operator": {"operator_id": app.id, "operator_type": "app"},
            "action_time": str(self.state.milliseconds()),
            "reaction_type": {"emoji_type": emoji},
        }

    async def _image(self, call: Call) -> dict[str, Any]:
        if call.form.get("image_type") != "message":
            raise Refused(234001, "Invalid request param.", mistake=True)
        return {"image_key": self._upload("img_v3_", call.form.get("image"), "image.png")}

    async def _file(self, call: Call) -> dict[str, Any]:
        if call.form.get("file_type") not in _FILE_TYPES or not call.form.get("file_name"):
            raise Refused(234001, "Invalid request param.", mistake=True)
        return {"file_key": self._upload("file_v3_", call.form.get("file"), str(call.form["file_name"]))}

    def _upload(self, prefix: str, field: Any, name: str) -> str:
        if not isinstance(field, web.FileField):
            raise Refused(234001, "Invalid request param.", mistake=True)
        content = field.file.read()
        if not content:
            raise Refused(234010, "File's size can't be 0.", mistake=True)
        key = self.state.new_id(prefix)
        self.state.files[key] = FeishuFile(name, field.content_type, content)
        return key


def _fits(times: deque[float], most: int) -> bool:
    """Whether one more call fits into this second."""
    now = time.monotonic()
    if sum(at > now - _A_SECOND for at in times) >= most:
        return False
    times.append(now)
    return True


def _as_received(text: str) -> dict[str, Any]:
    """How a card comes back: not the JSON that was sent."""
    return {"title": None, "elements": [[{"tag": "text", "text": text}]]}
