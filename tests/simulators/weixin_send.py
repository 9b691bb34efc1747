"""What a simulated iLink makes of `sendmessage`: who may be written to, how often, and what is shown.

The limits were measured by people: https://github.com/Tencent/openclaw-weixin/issues/81 (about 10 messages for each
message of the person), /issues/270 (bursts), /issues/156 (24 hours). All of them are told as `ret: -2`.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from tests.simulators.faults import Fault, Lost, befalls
from tests.simulators.weixin_cdn import WeixinCdn
from tests.simulators.weixin_state import (
    BOT,
    FILE,
    IMAGE,
    TEXT_LIMIT,
    VIDEO,
    WeixinBot,
    WeixinPerson,
    WeixinShown,
    WeixinState,
)


class Refused(Exception):
    """`ret` of an answer with status 200."""

    def __init__(self, ret: int, reason: str) -> None:
        super().__init__(reason)
        self.ret = ret
        self.reason = reason


@dataclass
class WeixinOutbox:
    """Set a limit to None to have none."""

    state: WeixinState
    cdn: WeixinCdn
    most_answers: int | None = 10
    """Messages of the bot for each message of the person."""
    most_in_a_second: int | None = 2
    """Messages of the bot to one person."""
    window: float | None = 24 * 3600.0
    """Seconds after the person's last message for which the bot may answer."""
    answers_after: float = 0.0
    """Seconds from when a message is shown until its send is answered."""
    faults: list[Fault] = field(default_factory=list)
    _paused: float = 0.0

    async def send(self, bot: WeixinBot, message: Any) -> dict[str, Any]:
        """The answer to a `sendmessage`. Raises Refused, and Lost."""
        person = self._check(bot, message)
        if time.monotonic() < self._paused:
            self.state.complain("sendmessage: again within the pause that a refusal asked for")
        fault = befalls(self.faults, "sendmessage")
        if fault is not None and fault.kind == "limit":
            self._paused = time.monotonic() + fault.seconds
            raise self._refused(bot, "rate limited")
        if fault is not None and fault.kind == "broken":
            raise Lost
        self._count(bot, person)
        shown = self._show(bot, person, message)
        if fault is not None:
            raise Lost
        await asyncio.sleep(self.answers_after)
        return {"ret": 0, "message_id": int(shown.id)}

    def _check(self, bot: WeixinBot, message: Any) -> WeixinPerson:
        """A send that makes no sense is refused, and complained of."""
        if not isinstance(message, dict):
            raise self._mistake("msg is missing")
        person = bot.people.get(str(message.get("to_user_id")))
        if person is None:
            raise self._mistake("to_user_id is nobody whom this bot knows")
        if message.get("from_user_id") != "":
            raise self._mistake("from_user_id is not empty")
        client_id = message.get("client_id")
        if not isinstance(client_id, str) or not client_id:
            raise self._mistake("client_id is missing")
        if (message.get("message_type"), message.get("message_state")) != (BOT, 2):
            raise self._mistake("message_type and message_state are not 2")
        if message.get("context_token") not in person.contexts:
            raise self._mistake("context_token came with no message of this person")
        items = message.get("item_list")
        if not isinstance(items, list) or len(items) != 1 or not isinstance(items[0], dict):
            raise self._mistake("item_list has not one item")
        return person

    def _mistake(self, reason: str) -> Refused:
        self.state.complain(f"sendmessage: {reason}")
        return Refused(-2, "")

    def _refused(self, bot: WeixinBot, reason: str) -> Refused:
        bot.refusals.append(reason)
        return Refused(-2, "rate limited" if reason == "rate limited" else "")

    def _count(self, bot: WeixinBot, person: WeixinPerson) -> None:
        now = self.state.clock()
        if self.window is not None and now - person.wrote_at > self.window:
            raise self._refused(bot, "over the window")
        if self.most_answers is not None and person.answers >= self.most_answers:
            raise self._refused(bot, "over the answers to one message")
        lately = [at for at in person.answered_at if now - at < 1.0]
        if self.most_in_a_second is not None and len(lately) >= self.most_in_a_second:
            raise self._refused(bot, "rate limited")
        person.answered_at.append(now)
        person.answers += 1

    def _show(self, bot: WeixinBot, person: WeixinPerson, message: dict[str, Any]) -> WeixinShown:
        item = message["item_list"][0]
        text = self._text(item)
        shown = WeixinShown(
            id=str(self.state.new_id()),
            room=bot.room(person),
            text=text,
            item=item,
            client_id=message["client_id"],
            at=self.state.clock(),
        )
        bot.shown.append(shown)
        return shown

    def _text(self, item: dict[str, Any]) -> str:
        """What a person reads; a file is its name or kind in brackets."""
        match item.get("type"):
            case 1:
                text = (item.get("text_item") or {}).get("text")
                if not isinstance(text, str) or not text.strip():
                    raise self._mistake("the text is empty")
                if len(text) > TEXT_LIMIT:
                    self.state.complain(f"sendmessage: {len(text)} characters, {TEXT_LIMIT} are shown")
                return text[:TEXT_LIMIT]
            case 2 | 4 | 5:
                return self._file(item)
            case kind:
                raise self._mistake(f"an item of type {kind!r}")

    def _file(self, item: dict[str, Any]) -> str:
        kind = {IMAGE: "image_item", FILE: "file_item", VIDEO: "video_item"}[item["type"]]
        inner = item.get(kind) or {}
        content = self.cdn.content(inner.get("media"))
        if content is None:
            raise self._mistake(f"{kind}.media leads to nothing that can be read")
        encrypted = (len(content) // 16 + 1) * 16
        if inner["media"].get("encrypt_type") != 1:
            raise self._mistake(f"{kind}.media.encrypt_type is not 1")
        if kind == "file_item":
            if not inner.get("file_name") or inner.get("len") != str(len(content)):
                raise self._mistake("file_item wants file_name, and len as a text")
            return f"[{inner['file_name']}]"
        size = inner.get("mid_size" if kind == "image_item" else "video_size")
        if size != encrypted:
            raise self._mistake(f"the size of {kind} is {size!r}, encrypted it is {encrypted}")
        return f"[{kind.removesuffix('_item')}]"
