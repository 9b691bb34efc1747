"""What a simulated puppet service makes of sends: where they may go, what is shown, and what gets lost."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Callable
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from wechaty_grpc.wechaty import puppet

from tests.simulators import wechat_wire as wire
from tests.simulators.faults import Lost
from tests.simulators.wechat_state import TEXT_LIMIT, WechatBot, WechatMessage, WechatState


def thrown(what: str) -> GRPCError:
    """What a puppet throws, as the server hands it on."""
    return GRPCError(Status.UNKNOWN, f"Error: {what}\n    at PuppetSimulated.<anonymous> (puppet.js:1:1)")


class WechatOutbox:
    """`tell` is called with each message that was sent: the account hears of its own."""

    def __init__(self, state: WechatState, bot: WechatBot, *, tell: Callable[[WechatMessage], None]) -> None:
        self.state = state
        self.bot = bot
        self.tells_ids = True
        """Whether a send is answered with the id of the message."""
        self.echoes = True
        """Whether the account's own messages come as events."""
        self.answers_after = 0.0
        """Seconds from when a message is there until its send is answered."""
        self.faults: list[str] = []
        """What happens to the next sends: `broken` (before it took effect), `lost` (its answer)."""
        self._tell = tell

    async def send(self, request: Any) -> str | None:
        """The id, where it is told. Raises GRPCError, and Lost."""
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "broken":
            raise Lost
        wrong = self.bot.wrong_place(request.conversation_id)
        if wrong:
            self.state.complain(f"a send: {wrong}")
            raise thrown("no such conversation")
        if request.conversation_id in self.bot.gone:
            raise thrown(f"conversation {request.conversation_id} not found")
        message = self._text(request) if isinstance(request, puppet.MessageSendTextRequest) else self._file(request)
        self.bot.sent.append(message)
        if self.echoes:
            self._tell(message)
        if fault == "lost":
            raise Lost
        await asyncio.sleep(self.answers_after)
        return message.id if self.tells_ids else None

    def _text(self, request: puppet.MessageSendTextRequest) -> WechatMessage:
        if not request.text.strip():
            self.state.complain("MessageSendText: the text is empty")
        if len(request.text) > TEXT_LIMIT:
            self.state.complain(f"MessageSendText: {len(request.text)} characters")
        if request.mentonal_ids:
            self._count_pings(request.conversation_id, request.text, request.mentonal_ids)
        return self._written(request.conversation_id, request.text, wire.TEXT)

    def _file(self, request: puppet.MessageSendFileRequest) -> WechatMessage:
        try:
            box = json.loads(request.filebox)
            content = base64.b64decode(box["base64"], validate=True)
            name = str(box["name"])
            if (box.get("type") or box.get("boxType")) != 1 or not name or not content:
                raise ValueError("a FileBox that the server cannot read")
        except (ValueError, TypeError, KeyError, binascii.Error) as error:
            self.state.complain(f"MessageSendFile: {error!r}")
            raise thrown("unknown filebox json object") from None
        kind = wire.IMAGE if name.lower().endswith((".png", ".jpg", ".jpeg", ".gif")) else wire.ATTACHMENT
        message = self._written(request.conversation_id, f"[{name}]", kind)
        message.filename, message.content = name, content
        return message

    def _written(self, conversation: str, text: str, kind: int) -> WechatMessage:
        in_room = conversation in self.bot.rooms
        return self.state.message(
            self.bot,
            self.bot.id,
            text,
            listener="" if in_room else conversation,
            room=conversation if in_room else "",
            type=kind,
        )

    def _count_pings(self, conversation: str, text: str, mentions: list[str]) -> None:
        """Who asked may be named in the answer; anybody else is called away from what they do."""
        asked = [message.talker for message in self.bot.messages.values() if message.room == conversation]
        if not set(mentions) <= set(asked):
            self.bot.pings.append(text)
