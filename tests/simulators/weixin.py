"""An iLink on loopback, Tencent's API for personal WeChat accounts: API, login by code, CDN. What the contract suite
plays with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from adapters.weixin import SPEC, parse_message
from core.adapter import AnyAdapterSpec
from core.messages import AccountId, Attachment, InboundMessage
from tests.contract.platform import Delivery, Feature, File, SimulatedPlatform, Visible
from tests.simulators.faults import Fault
from tests.simulators.weixin_server import WeixinServer
from tests.simulators.weixin_state import TEXT, VOICE, WeixinBot

PAYLOADS = Path(__file__).parents[1] / "payloads" / "weixin"


class SimulatedWeixin(SimulatedPlatform):
    """Fault control beyond the suite's: `login` (what becomes of codes), `api`, `cdn`, `outbox` (limits)."""

    lacks: ClassVar[Mapping[Feature, str]] = {
        Feature.CHANNELS: "iLink has direct chats alone",
        Feature.THREADS: "a chat of two has no threads",
        Feature.BOTS: "only people can write to an iLink bot",
        Feature.OWN: "getupdates brings what people wrote and nothing else",
        Feature.EDITS: "WeChat has no way to change a message; one that was recalled does not come",
        Feature.GROWTH: "a message is sent whole and cannot be changed",
        Feature.PINGS: "the only person there is notified of every message, whatever is in it",
        Feature.GONE: "the API has one refusal, ret -2, for every reason; a reply waits for the person to write again",
        Feature.CREDENTIALS: "there are none to configure: a stale token is followed by a new code to scan",
        Feature.HISTORY: "the cursor itself brings what was missed; there is no other history",
    }
    patience = timedelta(seconds=2)

    def __init__(self) -> None:
        self.server = WeixinServer()
        self.state, self.api, self.cdn = self.server.state, self.server.api, self.server.cdn
        self.login, self.outbox = self.server.login, self.server.outbox
        self._sent: dict[str, tuple[WeixinBot, dict[str, Any]]] = {}

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.server.__aexit__(kind, error, trace)

    # The account

    @property
    def spec(self) -> AnyAdapterSpec:
        return SPEC

    def account(self, name: str = "bot") -> dict[str, Any]:
        """Open to all: what strangers meet is tested for itself."""
        return {
            "api_url": self.server.address(self.state.bot(name)),
            "cdn_url": self.cdn.base,
            "pace": 0,
            "access": {"direct": "open"},
        }

    async def listening(self, name: str = "bot") -> None:
        while not [poll for poll in self.api.polls[name] if poll.open and not poll.silent]:
            await asyncio.sleep(0.01)

    def links(self, name: str = "bot") -> int:
        return sum(not link.is_closing() for link in self.api.links[name])

    # What people do

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
        items: list[dict[str, Any]] = [{"type": TEXT, "text_item": {"text": text}}] if text else []
        items += [self.cdn.item(file.name, file.media_type, file.content) for file in files]
        return self.person_sends(items, user=user, account=account, age=age)

    def person_speaks(self, transcript: str, *, user: str = "ann", account: str = "bot") -> Delivery:
        """A voice message; the platform writes down what was said where it can."""
        item = self.cdn.item("voice", "audio/silk", b"\x02#!SILK_V3 of the simulator")
        if transcript:
            item["voice_item"]["text"] = transcript
        assert item["type"] == VOICE
        return self.person_sends([item], user=user, account=account)

    def person_sends(
        self, items: list[dict[str, Any]], *, user: str = "ann", account: str = "bot", age: timedelta = timedelta(0)
    ) -> Delivery:
        """A message of any items."""
        bot = self.state.bot(account)
        person = bot.person(user)
        message = self.state.message(bot, person, items, age=age.total_seconds())
        event = self.state.wrote(bot, person, message)
        self._sent[event] = (bot, message)
        return Delivery(event=event, message=event, room=bot.room(person), thread=None)

    async def redeliver(self, delivery: Delivery, *, times: int = 1) -> None:
        bot, message = self._sent[delivery.event]
        for _ in range(times):
            bot.write(delivery.event, message)

    # What is seen

    def acknowledged(self, delivery: Delivery) -> int:
        bot, _ = self._sent[delivery.event]
        return sum(entry.acknowledged for entry in bot.log if entry.event == delivery.event)

    def visible(self, room: str) -> Sequence[Visible]:
        return [
            Visible(id=shown.id, account=bot.name, text=shown.text, versions=[shown.text])
            for bot in self.state.bots.values()
            for shown in bot.shown
            if shown.room == room
        ]

    def complaints(self) -> Sequence[str]:
        return self.state.complaints

    # What goes wrong

    def limit_rate(self, seconds: float, *, times: int = 1) -> None:
        self.outbox.faults += [Fault(("sendmessage",), "limit", seconds) for _ in range(times)]

    def break_send(self, *, after: bool, times: int = 1) -> None:
        self.outbox.faults += [Fault(("sendmessage",), "lost" if after else "broken") for _ in range(times)]

    def grow_stale(self, name: str = "bot") -> None:
        """The account's token is no longer valid; the poll that is held is told so."""
        bot = self.state.bot(name)
        bot.valid = False
        bot.change()

    async def drop(self, name: str = "bot") -> None:
        for poll in self.api.polls[name]:
            poll.abort()

    def refuse_links(self, times: int, name: str = "bot") -> None:
        self.state.bot(name)
        self.api.refuse[name] = times

    def go_silent(self, name: str = "bot") -> None:
        for poll in self.api.polls[name]:
            poll.silent = True

    # Files and payloads

    def elsewhere(self, attachment: Attachment, url: str) -> Attachment:
        """What a forged message would describe: the event names whole addresses."""
        item = self.cdn.item(attachment.name, attachment.media_type, b"forged")
        media = item["image_item" if "image_item" in item else "file_item"]["media"]
        media["full_url"] = url
        bot = self.state.bot("bot")
        forged = self.parse(self.state.message(bot, bot.person("mallory"), [item]))
        assert forged is not None
        return forged.attachments[0]

    def payloads(self) -> Sequence[Any]:
        return [json.loads(path.read_text(encoding="utf-8"))["payload"] for path in sorted(PAYLOADS.glob("*.json"))]

    def parse(self, payload: Any) -> InboundMessage | None:
        return parse_message(payload, account=AccountId("bot"))
