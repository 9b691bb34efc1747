"""A Slack on loopback: Web API, Socket Mode, signed events, files, streams. What the contract suite plays with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

from aiohttp import web

from adapters.slack import SPEC, parse_message
from adapters.slack.identity import Identity
from core.adapter import AnyAdapterSpec
from core.messages import AccountId, Attachment, InboundMessage
from tests.contract.platform import Delivery, Feature, File, SimulatedPlatform, Visible
from tests.simulators.faults import Fault
from tests.simulators.loopback import serving
from tests.simulators.slack_delivery import SlackDelivery
from tests.simulators.slack_state import ELSEWHERE, TEAM, SlackApp, SlackChannel, SlackMessage, SlackState, as_read
from tests.simulators.slack_web import SlackWebApi

PAYLOADS = Path(__file__).parents[1] / "payloads" / "slack"
_SHOWING = ("chat.postMessage", "chat.update", "chat.startStream", "chat.appendStream", "chat.stopStream")
_NEW = ("chat.postMessage", "chat.startStream")


class SimulatedSlack(SimulatedPlatform):
    """`mode` is how every account receives. Fault control beyond the suite's: `api.faults`, `delivery`."""

    lacks: ClassVar[Mapping[Feature, str]] = {}
    patience = timedelta(seconds=5)
    alarming = (
        *SimulatedPlatform.alarming,
        "<!channel>",
        "<!here|here>",
        "<!everyone>",
        "<@U0ANN>",
        "<!subteam^S0TEAM>",
        "&lt;!channel&gt;",
    )

    def __init__(self, *, mode: Literal["socket", "http"] = "socket") -> None:
        self.state = SlackState()
        self.delivery = SlackDelivery(self.state)
        self.api = SlackWebApi(self.state, ticket=self.delivery.ticket)
        self.mode: Literal["socket", "http"] = mode
        self.url = ""
        self._sent: dict[str, tuple[SlackApp, dict[str, Any]]] = {}
        self._served = AsyncExitStack()

    async def __aenter__(self) -> Self:
        routes = [*self.api.routes(), web.get("/link", self.delivery.link)]
        self.url = self.api.base = self.delivery.base = await self._served.enter_async_context(serving(routes))
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
            "bot_token": app.bot_token,
            "app_token": app.app_token,
            "signing_secret": app.signing_secret,
            "mode": self.mode,
            "api_url": f"{self.url}/api/",
        }

    def gateway_listens(self, url: str) -> None:
        for app in self.state.apps.values():
            app.url = f"{url}/webhooks/{app.name}"

    async def listening(self, name: str = "bot") -> None:
        if self.mode == "socket":
            await self.delivery.listening(name)
        else:
            await self._signed_in(name)

    async def _signed_in(self, name: str) -> None:
        """HTTP: the gateway says 503 until it can take events."""
        app = self.state.app(name)
        probe = {
            "type": "event_callback",
            "event_id": "Ev0PROBE",
            "team_id": TEAM,
            "event": {"type": "app_home_opened"},
        }
        while not await self.delivery.by_http(app, "probe", probe, "events_api", 0):
            self.delivery.attempts["probe"] += 1
            await asyncio.sleep(0.02)

    def links(self, name: str = "bot") -> int:
        return len(self.delivery.open(name))

    # What people do

    def room(self, user: str, channel: str, direct: bool, account: str) -> SlackChannel:
        return self.state.direct(user, self.state.app(account)) if direct else self.state.channel(channel)

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
        app, room = self.state.app(account), self.room(user, channel, direct, account)
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        if not direct and mention:
            escaped = f"<@{app.user}> {escaped}"
        message = SlackMessage(self.state.ts(age=age.total_seconds()), room.id, self.state.user(user), escaped)
        message.team = ELSEWHERE if message.user in self.state.foreign else TEAM
        message.thread_ts = thread or ""
        message.files = [self._file(file) for file in files]
        message.subtype = "file_share" if files else ""
        room.shared = room.shared or (message.user in self.state.foreign and not direct)
        room.messages.append(message)
        room.messages.sort(key=lambda each: each.ts)
        id = f"Ev{next(self.state.numbers):08d}"
        event = self._event(message, room)
        self._sent[id] = (app, self._outer(app, id, event))
        if not age:
            self.delivery.deliver(app, id, self._sent[id][1])
            if not direct and mention:
                named = {**event, "type": "app_mention"}
                named.pop("channel_type")
                named.pop("subtype", None)
                other = f"Ev{next(self.state.numbers):08d}"
                self.delivery.deliver(app, other, self._outer(app, other, named))
        shown_in = thread or (None if direct else message.ts)
        return Delivery(event=id, message=message.ts, room=room.id, thread=shown_in)

    def _event(self, message: SlackMessage, room: SlackChannel) -> dict[str, Any]:
        event = {
            **message.as_json(metadata=True),
            "channel": room.id,
            "channel_type": room.kind,
            "event_ts": message.ts,
            "blocks": [{"type": "rich_text", "block_id": "x", "elements": []}],
        }
        if message.app is None:
            event["client_msg_id"] = f"client-{message.ts}"
        if message.thread_ts:
            event["parent_user_id"] = "U0PARENT"
        return event

    def _outer(self, app: SlackApp, id: str, event: dict[str, Any]) -> dict[str, Any]:
        shared = {room.id for room in self.state.channels.values() if room.shared}
        return {
            "token": "deprecated",
            "team_id": TEAM,
            "context_team_id": TEAM,
            "context_enterprise_id": None,
            "api_app_id": app.id,
            "event": event,
            "type": "event_callback",
            "event_id": id,
            "event_time": int(float(event.get("event_ts") or 0)),
            "authorizations": [
                {
                    "enterprise_id": None,
                    "team_id": TEAM,
                    "user_id": app.user,
                    "is_bot": True,
                    "is_enterprise_install": False,
                }
            ],
            "is_ext_shared_channel": event.get("channel") in shared,
            "event_context": "4-simulated",
        }

    def _file(self, file: File) -> dict[str, Any]:
        id = f"F0{next(self.state.numbers):08d}"
        self.state.contents[id] = file.content
        url = f"{self.url}/files/{id}/{file.name}"
        self.state.files[id] = {
            "id": id,
            "name": file.name,
            "title": file.name,
            "mimetype": file.media_type,
            "filetype": "text",
            "size": len(file.content),
            "mode": "hosted",
            "url_private": url,
            "url_private_download": url,
            "file_access": "visible",
        }
        return self.state.files[id]

    async def redeliver(self, delivery: Delivery, *, times: int = 1) -> None:
        app, payload = self._sent[delivery.event]
        for _ in range(times):
            self.delivery.deliver(app, delivery.event, payload, retries=False)

    async def bot_writes(self, text: str, *, own: bool, account: str = "bot", direct: bool = True) -> None:
        app, room = self.state.app(account), self.room("ann", "general", direct, account)
        self.state.user("ann")
        mention = "" if direct else f"<@{app.user}> "
        author = app if own else SlackApp("another", 99)
        message = SlackMessage(self.state.ts(), room.id, author.user, f"{mention}{text}", app=author)
        if not own:
            room.messages.append(message)
        id = f"Ev{next(self.state.numbers):08d}"
        self.delivery.deliver(app, id, self._outer(app, id, self._event(message, room)))

    async def person_edits(self, delivery: Delivery, text: str) -> None:
        app, _ = self._sent[delivery.event]
        room = self.state.channels[delivery.room]
        message = room.find(delivery.message)
        assert message is not None
        before = self._event(message, room)
        message.text = text
        event = {
            "type": "message",
            "subtype": "message_changed",
            "hidden": True,
            "channel": room.id,
            "channel_type": room.kind,
            "ts": self.state.ts(),
            "message": {**self._event(message, room), "edited": {"user": message.user, "ts": self.state.ts()}},
            "previous_message": before,
        }
        id = f"Ev{next(self.state.numbers):08d}"
        self.delivery.deliver(app, id, self._outer(app, id, {**event, "event_ts": event["ts"]}))

    def command(
        self, text: str, *, user: str = "ann", channel: str = "general", account: str = "bot", direct: bool = False
    ) -> Delivery:
        """Somebody types `/chatgpt text`."""
        app, room = self.state.app(account), self.room(user, channel, direct, account)
        id = f"command-{next(self.state.numbers)}"
        payload = {
            "token": "deprecated",
            "team_id": TEAM,
            "team_domain": "simulated",
            "channel_id": room.id,
            "channel_name": "directmessage" if direct else room.name,
            "user_id": self.state.user(user),
            "user_name": user,
            "command": "/chatgpt",
            "text": text,
            "api_app_id": app.id,
            "is_enterprise_install": "false",
            "response_url": f"{self.url}/response/{room.id}/{user}",
            "trigger_id": f"{next(self.state.numbers)}.1.{id}",
        }
        self.delivery.deliver(app, id, payload, kind="slash_commands", retries=False)
        return Delivery(event=id, message="", room=room.id, thread=None)

    def event(self, event: dict[str, Any], *, account: str = "bot") -> str:
        """Any other event; returns its id."""
        app = self.state.app(account)
        id = f"Ev{next(self.state.numbers):08d}"
        self.delivery.deliver(app, id, self._outer(app, id, event))
        return id

    # What is seen

    def acknowledged(self, delivery: Delivery) -> int:
        return self.delivery.acknowledged[delivery.event]

    def visible(self, room: str) -> Sequence[Visible]:
        return [
            Visible(
                id=message.ts,
                account=message.app.name,
                text=as_read(message.text),
                thread=message.thread_ts or None,
                growing=message.streaming,
                versions=[as_read(version) for version in message.versions],
            )
            for message in self.state.channels[room].messages
            if message.app is not None and message.app.name != "another"
        ]

    def complaints(self) -> Sequence[str]:
        return self.state.complaints

    def pings(self) -> Sequence[str]:
        return self.state.pings()

    # What goes wrong

    def limit_rate(self, seconds: float, *, times: int = 1) -> None:
        self.api.faults += [Fault(_SHOWING, "limit", seconds) for _ in range(times)]

    def break_send(self, *, after: bool, times: int = 1) -> None:
        self.api.faults += [Fault(_NEW, "lost" if after else "broken") for _ in range(times)]

    def remove(self, room: str) -> None:
        self.state.channels[room].gone = True

    def refuse_credentials(self, name: str = "bot") -> None:
        self.state.app(name).valid = False

    async def drop(self, name: str = "bot") -> None:
        await self.delivery.drop(name)

    def refuse_links(self, times: int, name: str = "bot") -> None:
        self.state.app(name)
        self.delivery.refuse[name] = times

    def go_silent(self, name: str = "bot") -> None:
        self.delivery.go_silent(name)

    # Files and payloads

    def elsewhere(self, attachment: Attachment, url: str) -> Attachment:
        return replace(attachment, source=json.dumps({**json.loads(attachment.source), "url": url}))

    def payloads(self) -> Sequence[Any]:
        return [json.loads(path.read_text(encoding="utf-8"))["payload"] for path in sorted(PAYLOADS.glob("*.json"))]

    def parse(self, payload: Any) -> InboundMessage | None:
        identity = Identity(user="U0LAN0Z89", bot="B0LAN0Z89", team="T061EG9R6", enterprise="", name="chatgpt")
        names = {"U061F7AUR": "Ann", "C024BE91L": "general"}
        return parse_message(
            payload, account=AccountId("bot"), identity=identity, name=names.get, now=datetime(2026, 11, 23, tzinfo=UTC)
        )
