"""WeChat behind a Wechaty puppet service on loopback, one server for each account. What the contract suite plays with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from adapters.wechat import SPEC, parse_message
from core.adapter import AnyAdapterSpec
from core.messages import AccountId, Attachment, InboundMessage
from tests.contract.platform import Delivery, Feature, File, SimulatedPlatform, Visible
from tests.simulators import wechat_wire as wire
from tests.simulators.wechat_puppet import WechatPuppet
from tests.simulators.wechat_server import WechatServer
from tests.simulators.wechat_state import WechatBot, WechatMessage, WechatState
from tests.simulators.wechat_tls import make_certificate, server_context

PAYLOADS = Path(__file__).parents[1] / "payloads" / "wechat"
_KINDS = {"image": wire.IMAGE, "audio": wire.AUDIO, "video": wire.VIDEO}


class SimulatedWechat(SimulatedPlatform):
    """Fault control beyond the suite's: `puppet(name)`, `server(name)`."""

    lacks: ClassVar[Mapping[Feature, str]] = {
        Feature.ACKNOWLEDGEMENT: "events are pushed, and the server is told nothing of them",
        Feature.THREADS: "WeChat's rooms have no threads",
        Feature.EDITS: "WeChat has no way to change a message",
        Feature.GROWTH: "a message is sent whole and cannot be changed",
        Feature.RATE_LIMIT: "nobody asks to wait: who writes too much is banned, so the adapter takes its time",
        Feature.HISTORY: "a server keeps nothing for later; events while nobody listens are lost",
    }
    patience = timedelta(seconds=2)
    alarming = (*SimulatedPlatform.alarming, "@所有人", "@Ann\u2005", "@Bob ")

    def __init__(self, *, form: wire.Form = "1.x", tls: bool = False, replays: bool = False) -> None:
        """`replays`: servers tell of all messages again after each login."""
        self.state = WechatState()
        self.form: wire.Form = form
        self.replays = replays
        self.certificate = ""
        self._key = ""
        if tls:
            self._key, self.certificate = make_certificate()
        self._servers: dict[str, WechatServer] = {}
        self._starts: list[asyncio.Task[WechatServer]] = []
        self._sent: dict[str, tuple[WechatBot, WechatMessage]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*self._starts)
        for server in self._servers.values():
            await server.__aexit__(kind, error, trace)

    # The account

    @property
    def spec(self) -> AnyAdapterSpec:
        return SPEC

    def server(self, name: str = "bot") -> WechatServer:
        """Each account has a server of its own, which begins to listen when it is first spoken of."""
        if name not in self._servers:
            tls = server_context(self._key, self.certificate) if self.certificate else None
            server = self._servers[name] = WechatServer(self.state, self.state.bot(name), tls=tls)
            server.puppet.form = self.form
            server.puppet.replays = self.replays
            server.puppet.milliseconds = self.form == "1.x"
            self._starts.append(asyncio.create_task(server.__aenter__()))
        return self._servers[name]

    def account(self, name: str = "bot") -> dict[str, Any]:
        return {
            "endpoint": self.server(name).cable.endpoint,
            "token": self.state.bot(name).token,
            "tls": bool(self.certificate),
            "pace": 0,
            "access": {"direct": "open"},  # what strangers meet is tested for itself
        }

    async def listening(self, name: str = "bot") -> None:
        puppet = self.server(name).puppet
        while puppet.stream is None or not puppet.stream.alive or not (puppet.started and puppet.logged_in):
            await asyncio.sleep(0.01)

    def links(self, name: str = "bot") -> int:
        return sum(line.whole for line in self.server(name).cable.lines)

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
        """In WeChat each file is a message of its own; the files go first, and what is returned is the last message."""
        bot = self.state.bot(account)
        person = bot.contact(user)
        where: dict[str, Any] = {"listener": bot.id}
        if not direct:
            room = bot.room(channel)
            where = {"room": room.id}
            if person.id not in room.members:
                room.members.append(person.id)
        messages = [
            self.state.message(
                bot,
                person.id,
                "",
                **where,
                type=_KINDS.get(file.media_type.partition("/")[0], wire.ATTACHMENT),
                filename=file.name,
                content=file.content,
                age=age.total_seconds(),
            )
            for file in files
        ]
        if text or not files:
            named = not direct and mention
            said = f"@{bot.shown_name}\u2005{text}" if named else text
            mentions = [bot.id] if named else []
            messages.append(
                self.state.message(bot, person.id, said, **where, mentions=mentions, age=age.total_seconds())
            )
        for message in messages:
            self._sent[message.id] = bot, message
            if not age:
                self.puppet(account).tell(message)
        return self._delivery(bot, messages[-1])

    def _delivery(self, bot: WechatBot, message: WechatMessage) -> Delivery:
        room = f"{bot.name}/{bot.place(message)}"
        return Delivery(event=message.id, message=message.id, room=room, thread=None)

    def puppet(self, name: str = "bot") -> WechatPuppet:
        """What a server does."""
        return self.server(name).puppet

    async def redeliver(self, delivery: Delivery, *, times: int = 1) -> None:
        bot, message = self._sent[delivery.event]
        for _ in range(times):
            self.puppet(bot.name).tell(message)

    async def bot_writes(self, text: str, *, own: bool, account: str = "bot", direct: bool = True) -> None:
        """The others that write by themselves are official accounts; there are none in rooms."""
        bot = self.state.bot(account)
        ann = bot.contact("ann").id
        if own:
            place: dict[str, Any] = {"listener": ann} if direct else {"room": bot.room("general").id}
            message = self.state.message(bot, bot.id, text, **place)
        else:
            news = bot.contact("news", type=wire.OFFICIAL)
            message = self.state.message(bot, news.id, text, listener=bot.id)
        self.puppet(account).tell(message)

    # What is seen

    def visible(self, room: str) -> Sequence[Visible]:
        name, _, place = room.partition("/")
        return [
            Visible(id=message.id, account=name, text=message.text, versions=[message.text])
            for message in self.state.bot(name).sent
            if (message.room or message.listener) == place
        ]

    def complaints(self) -> Sequence[str]:
        return self.state.complaints

    def pings(self) -> Sequence[str]:
        return [text for bot in self.state.bots.values() for text in bot.pings]

    # What goes wrong

    def break_send(self, *, after: bool, times: int = 1) -> None:
        for server in self._servers.values():
            server.puppet.outbox.faults += ["lost" if after else "broken"] * times

    def remove(self, room: str) -> None:
        name, _, place = room.partition("/")
        self.state.bot(name).gone.add(place)

    def refuse_credentials(self, name: str = "bot") -> None:
        self.server(name).puppet.token = "insecure_another-token-of-the-simulator"

    async def drop(self, name: str = "bot") -> None:
        self.server(name).cable.cut()

    def refuse_links(self, times: int, name: str = "bot") -> None:
        self.server(name).cable.refuse = times

    def go_silent(self, name: str = "bot") -> None:
        for line in self.server(name).cable.lines:
            line.silent = True

    # Files and payloads

    def elsewhere(self, attachment: Attachment, url: str) -> Attachment:
        """A server may name an address for a file instead of handing it over."""
        bot = self.state.bot("bot")
        mallory = bot.contact("mallory").id
        message = self.state.message(bot, mallory, "", listener=bot.id, type=wire.ATTACHMENT, filename=attachment.name)
        message.box = {"type": 2, "boxType": 2, "url": url, "name": attachment.name, "metadata": {}}
        told = {"id": message.id, "type": message.type, "filename": message.filename, "text": ""}
        forged = self.parse(
            {
                "message": {**told, "from_id": mallory, "to_id": bot.id, "timestamp": int(message.at)},
                "self": {"id": bot.id, "name": bot.shown_name},
                "contact": {"id": mallory, "name": "Mallory", "type": wire.PERSONAL},
            }
        )
        assert forged is not None
        return forged.attachments[0]

    def payloads(self) -> Sequence[Any]:
        return [json.loads(path.read_text(encoding="utf-8"))["payload"] for path in sorted(PAYLOADS.glob("*.json"))]

    def parse(self, payload: Any) -> InboundMessage | None:
        return parse_message(payload, account=AccountId("bot"))
