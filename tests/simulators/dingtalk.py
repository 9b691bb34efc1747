"""A DingTalk on loopback: its two APIs, session webhooks, cards, files, the stream. What the contract suite plays with."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from adapters.dingtalk import SPEC, parse_message
from core.adapter import AnyAdapterSpec
from core.messages import AccountId, Attachment, InboundMessage
from tests.contract.platform import Delivery, Feature, File, SimulatedPlatform, Visible
from tests.simulators.dingtalk_api import NEW, SHOWING, DingTalkApi, Fault
from tests.simulators.dingtalk_cards import DingTalkCards
from tests.simulators.dingtalk_gateway import DingTalkGateway
from tests.simulators.dingtalk_robot import DingTalkRobots
from tests.simulators.dingtalk_world import (
    CORP,
    TEMPLATES,
    DingTalkApp,
    DingTalkMessage,
    DingTalkPerson,
    DingTalkRoom,
    DingTalkWorld,
    as_read,
    encrypted,
)
from tests.simulators.loopback import serving

PAYLOADS = Path(__file__).parents[1] / "payloads" / "dingtalk"


class SimulatedDingTalk(SimulatedPlatform):
    """`card`: every account answers with an AI card. Fault control beyond the suite's: `api.faults`, `gateway`."""

    lacks: ClassVar[Mapping[Feature, str]] = {
        Feature.THREADS: "a group is one conversation",
        Feature.BOTS: "only what people write is pushed to robots",
        Feature.OWN: "a robot's own messages are not pushed to it",
        Feature.EDITS: "changes of messages are not pushed to robots",
        Feature.HISTORY: "robots cannot read back what was written",
    }
    patience = timedelta(seconds=5)
    alarming = (
        *SimulatedPlatform.alarming,
        "@所有人",
        "@13800000000",
        "<a atId=016650127698>Ann</a>",
        "@016650127698",
    )

    def __init__(self, *, card: bool) -> None:
        self.world = DingTalkWorld()
        self.api = DingTalkApi(self.world)
        self.gateway = DingTalkGateway(self.world, self.api)
        self.robots = DingTalkRobots(self.world, self.api)
        self.cards = DingTalkCards(self.world, self.api)
        self.card = card
        self.url = ""
        self._sent: dict[str, tuple[DingTalkApp, dict[str, Any]]] = {}
        self._served = AsyncExitStack()

    async def __aenter__(self) -> Self:
        routes = [*self.gateway.routes(), *self.robots.routes(), *self.api.routes()]
        self.url = self.gateway.base = self.robots.base = await self._served.enter_async_context(serving(routes))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.gateway.close()
        await self._served.aclose()

    # The account

    @property
    def spec(self) -> AnyAdapterSpec:
        return SPEC

    def account(self, name: str = "bot") -> dict[str, Any]:
        app = self.world.app(name)
        return {
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "card_template": next(iter(TEMPLATES)) if self.card else "",
            "api_url": self.url,
            "oapi_url": self.url,
        }

    async def listening(self, name: str = "bot") -> None:
        await self.gateway.listening(name)

    def links(self, name: str = "bot") -> int:
        return len(self.gateway.open(name))

    # What people do

    def room(self, user: str, channel: str, direct: bool, account: str) -> DingTalkRoom:
        return (
            self.world.direct(self.world.person(user), self.world.app(account)) if direct else self.world.group(channel)
        )

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
        """A file without a text is sent as it is, one-to-one alone; with a text there are only pictures, which have
        neither a name nor a size. In a group nothing is pushed that does not mention the robot."""
        app, person = self.world.app(account), self.world.person(user)
        room = self.room(user, channel, direct, account)
        data = self._data(app, person, room, age)
        if files:
            data |= self._with_files(app, text if direct else f" {text}", files, direct=direct)
        else:
            data |= {"text": {"content": text if direct else f" {text}"}, "msgtype": "text"}
        self._sent[data["msgId"]] = (app, data)
        if not age and (direct or mention):
            self.gateway.push(app, data["msgId"], data)
        return Delivery(event=data["msgId"], message=data["msgId"], room=room.id, thread=None)

    def _data(self, app: DingTalkApp, person: DingTalkPerson, room: DingTalkRoom, age: timedelta) -> dict[str, Any]:
        """What every push of a message says, in the order of captures."""
        session, ends = self.world.session(app, room)
        data: dict[str, Any] = {
            "senderPlatform": "Mac",
            "conversationId": room.id,
            "chatbotCorpId": CORP,
            "chatbotUserId": app.user_id,
            "msgId": self.world.message_id(),
            "senderNick": person.name.title(),
            "isAdmin": False,
            "senderStaffId": person.staff_id,
            "sessionWebhookExpiredTime": ends,
            "createAt": int((time.time() - age.total_seconds()) * 1000),
            "senderCorpId": encrypted("ding", "elsewhere") if person.outside else CORP,
            "conversationType": "1" if room.direct else "2",
            "senderId": person.sender_id,
            "sessionWebhook": f"{self.url}/robot/sendBySession?session={session}",
            "robotCode": app.robot_code,
        }
        if not room.direct:
            data |= {"conversationTitle": room.name, "isInAtList": True, "atUsers": [{"dingtalkId": app.user_id}]}
        if person.outside:
            del data["senderStaffId"]
        self.world.known_messages.add(data["msgId"])
        return data

    def _with_files(self, app: DingTalkApp, text: str, files: Sequence[File], *, direct: bool) -> dict[str, Any]:
        codes = [self.keep(app, file) for file in files]
        if text.strip() or len(files) > 1:
            parts = [{"text": text}] if text.strip() else []
            pictures = [{"type": "picture", "downloadCode": code} for code in codes]
            return {"content": {"richText": [*parts, *pictures]}, "msgtype": "richText"}
        if not direct:
            raise ValueError("nobody can mention a robot and send it a file")
        content: dict[str, Any] = {"downloadCode": codes[0]}
        match files[0].media_type.partition("/")[0]:
            case "image":
                return {"content": content, "msgtype": "picture"}
            case "audio":
                return {"content": {**content, "duration": 4000, "recognition": "spoken"}, "msgtype": "audio"}
            case "video":
                return {"content": {**content, "duration": 4000, "videoType": "mp4"}, "msgtype": "video"}
        return {"content": {**content, "fileName": files[0].name}, "msgtype": "file"}

    def keep(self, app: DingTalkApp, file: File, *, url: str = "") -> str:
        """A download code for a file, which is here unless `url` says where else."""
        code = encrypted("mIofN681YE3f/+m+", f"{next(self.world.numbers)}")
        self.world.files[code] = (app, url, file.content, file.media_type)
        return code

    async def redeliver(self, delivery: Delivery, *, times: int = 1) -> None:
        app, data = self._sent[delivery.event]
        for _ in range(times):
            self.gateway.push_again(app, delivery.event, data)

    def push(self, data: dict[str, Any], *, account: str = "bot", **changes: Any) -> str:
        """Any message, in the words of a payload, as if it had been written here just now; returns its id."""
        app = self.world.app(account)
        fresh = self._data(app, self.world.person("ann"), self.room("ann", "general", True, account), timedelta(0))
        whole = {**data, **{name: fresh[name] for name in ("msgId", "createAt", "robotCode")}, **changes}
        self._sent[whole["msgId"]] = (app, whole)
        self.gateway.push(app, whole["msgId"], whole)
        return str(whole["msgId"])

    # What is seen

    def acknowledged(self, delivery: Delivery) -> int:
        return self.gateway.acknowledged[delivery.event]

    def visible(self, room: str) -> Sequence[Visible]:
        return [_seen(message) for message in self.world.rooms[room].messages]

    def complaints(self) -> Sequence[str]:
        return self.world.complaints

    def pings(self) -> Sequence[str]:
        return self.world.pings()

    # What goes wrong

    def limit_rate(self, seconds: float, *, times: int = 1) -> None:
        self.api.faults += [Fault(SHOWING, "limit", seconds) for _ in range(times)]

    def break_send(self, *, after: bool, times: int = 1) -> None:
        self.api.faults += [Fault(NEW, "lost" if after else "broken") for _ in range(times)]

    def remove(self, room: str) -> None:
        self.world.rooms[room].gone = True

    def refuse_credentials(self, name: str = "bot") -> None:
        self.world.app(name).valid = False

    def forget_tokens(self, name: str = "bot") -> None:
        """The access tokens given so far are good no more."""
        self.world.app(name).tokens.clear()

    async def drop(self, name: str = "bot") -> None:
        await self.gateway.drop(name)

    def refuse_links(self, times: int, name: str = "bot") -> None:
        self.world.app(name)
        self.gateway.refuse[name] = times

    def go_silent(self, name: str = "bot") -> None:
        self.gateway.go_silent(name)

    # Files and payloads

    def elsewhere(self, attachment: Attachment, url: str) -> Attachment:
        """The event names a code; it is DingTalk's answer to the code that names an address."""
        code = next(code for code in self.world.files if code in attachment.source)
        app = self.world.files[code][0]
        return replace(attachment, source=attachment.source.replace(code, self.keep(app, File(), url=url)))

    def payloads(self) -> Sequence[Any]:
        return [json.loads(path.read_text(encoding="utf-8"))["payload"] for path in sorted(PAYLOADS.glob("*.json"))]

    def parse(self, payload: Any) -> InboundMessage | None:
        return parse_message(payload, account=AccountId("bot"))


def _seen(message: DingTalkMessage) -> Visible:
    card = message.card
    if card is None:
        text = as_read(message.text)
        return Visible(id=message.id, account=message.app.name, text=text, versions=[text])
    return Visible(
        id=message.id,
        account=message.app.name,
        text=as_read(card.text),
        growing=card.status in ("processing", "inputing"),
        versions=[as_read(version) for version in card.versions],
    )
