"""What can be read back from a simulated Feishu: messages, topics, files, groups.

https://open.feishu.cn/document/server-docs/im-v1/message/list: a chat's history has the first message of each topic
alone; a topic's has all of it, and is not read by time. Of groups it wants the scope im:message.group_msg.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.simulators.feishu_content import Refused
from tests.simulators.feishu_rest import Api, Call, number_of, page_of
from tests.simulators.feishu_state import FeishuApp, FeishuChat, FeishuMessage, FeishuState

MOST_RESOURCE = 100 * 1024 * 1024
"""Bytes that can be downloaded."""


def open_to(app: FeishuApp, chat: FeishuChat) -> None:
    """Raises Refused where an app may not be."""
    if chat.dissolved:
        raise Refused(232009, "Your request specifies a chat which has already been dissolved.")
    if app.name in chat.closed_to:
        if chat.kind == "p2p":
            raise Refused(230013, "Bot has NO availability to this user.")
        raise Refused(230002, "The bot can not be outside the group.")


def message_of(state: FeishuState, call: Call) -> FeishuMessage:
    """The message that a path names: it exists, in a chat that is open to the app."""
    message = state.messages.get(call.path["message"])
    if message is None:
        raise Refused(99992354, f"these ids not existed: {call.path['message']}", mistake=True)
    open_to(call.app, message.chat)
    return message


class FeishuHistory:
    """Handlers for `FeishuApi.apis`."""

    def __init__(self, state: FeishuState) -> None:
        self.state = state

    def apis(self) -> list[Api]:
        one = "/im/v1/messages/{message}"
        return [
            Api("im.v1.message.list", "GET", "/im/v1/messages", "read", self._list),
            Api("im.v1.message.get", "GET", one, "read", self._get),
            Api("im.v1.message_resource.get", "GET", f"{one}/resources/{{key}}", "read", self._resource),
            Api("im.v1.chat.list", "GET", "/im/v1/chats", "chats", self._chats),
            Api("im.v1.chat.get", "GET", "/im/v1/chats/{chat}", "chats", self._chat),
        ]

    async def _list(self, call: Call) -> dict[str, Any]:
        kind, container = call.query.get("container_id_type"), call.query.get("container_id", "")
        size = number_of(call, "page_size", default=20, least=1, most=50, code=230001)
        begin = number_of(call, "start_time", default=0, least=0, most=10**10, code=230001)
        end = number_of(call, "end_time", default=10**10, least=begin, most=10**10, code=230001)
        order = call.query.get("sort_type", "ByCreateTimeAsc")
        if order not in ("ByCreateTimeAsc", "ByCreateTimeDesc"):
            raise Refused(230001, "invalid request parameter, ext=sort_type", mistake=True)
        found = self._contained(call, kind, container)
        if kind == "thread" and {"start_time", "end_time"} & set(call.query):
            self.state.complain("im.v1.message.list: a topic cannot be read by time")
        elif kind == "chat":
            found = [each for each in found if begin <= each.created // 1000 <= end]
        if order == "ByCreateTimeDesc":
            found = found[::-1]
        page, more = page_of(found, call, size)
        cards = _wants_cards(call)
        return {"items": [message.as_item(call.app, cards=cards) for message in page], **more}

    def _contained(self, call: Call, kind: str | None, container: str) -> list[FeishuMessage]:
        """Of a chat: topics are there with their first message alone."""
        if kind == "chat":
            chat = self.state.chats.get(container)
            found = [each for each in chat.messages if not each.thread_id or each.root is None] if chat else []
        elif kind == "thread":
            found = [each for each in self.state.messages.values() if each.thread_id == container]
            found.sort(key=lambda each: each.created)
            chat = found[0].chat if found else None
        else:
            raise Refused(230001, "invalid request parameter, ext=container_id_type", mistake=True)
        if chat is None:
            raise Refused(230001, "invalid request parameter, ext=invalid container_id", mistake=True)
        open_to(call.app, chat)
        if chat.kind == "group" and "im:message.group_msg" not in call.app.scopes:
            raise Refused(230027, "Lack of necessary permissions, ext=need scope: im:message.group_msg")
        return found

    async def _get(self, call: Call) -> dict[str, Any]:
        """The message; of a forwarded bundle what it holds, too."""
        message = message_of(self.state, call)
        cards = _wants_cards(call)
        inner = [{**each.as_item(call.app, cards=cards), "upper_message_id": message.id} for each in message.forwarded]
        return {"items": [message.as_item(call.app, cards=cards), *inner]}

    async def _resource(self, call: Call) -> web.Response:
        message, key = message_of(self.state, call), call.path["key"]
        wanted = call.query.get("type")
        if wanted not in ("image", "file"):
            raise Refused(234001, "Invalid request param.", mistake=True)
        if message.type in ("interactive", "merge_forward"):
            raise Refused(234043, "Unsupported message type.", mistake=True)
        if f'"{key}"' not in message.content or key not in self.state.files:
            raise Refused(234003, "File not in message.", mistake=True)
        if (wanted == "image") is not key.startswith("img_"):
            raise Refused(234001, "Invalid request param.", mistake=True)
        file = self.state.files[key]
        if len(file.content) > MOST_RESOURCE:
            raise Refused(234037, "Downloaded file size exceeds limit.")
        headers = {"Content-Disposition": f'attachment; filename="{file.name}"'}
        return web.Response(body=file.content, content_type=file.media_type, headers=headers)

    async def _chats(self, call: Call) -> dict[str, Any]:
        size = number_of(call, "page_size", default=20, least=1, most=100, code=232001)
        groups = [
            chat
            for chat in self.state.chats.values()
            if chat.kind == "group" and not chat.dissolved and call.app.name not in chat.closed_to
        ]
        page, more = page_of(groups, call, size)
        items = [{"chat_id": chat.id, "name": chat.name, "external": False, "chat_status": "normal"} for chat in page]
        return {"items": items, **more}

    async def _chat(self, call: Call) -> dict[str, Any]:
        chat = self.state.chats.get(call.path["chat"])
        if chat is None:
            raise Refused(232006, "Your request specifies a chat_id which is invalid.", mistake=True)
        open_to(call.app, chat)
        form = "thread" if chat.topics else "chat"
        return {"name": chat.name, "chat_mode": chat.kind, "group_message_type": form, "chat_status": "normal"}


def _wants_cards(call: Call) -> bool:
    """Whether cards are to come as they were sent."""
    wanted = call.query.get("card_msg_content_type")
    if wanted not in (None, "user_card_content", "raw_card_content"):
        raise Refused(230001, "invalid request parameter, ext=card_msg_content_type", mistake=True)
    return wanted is not None
