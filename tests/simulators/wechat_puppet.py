"""A simulated puppet service: `wechaty.Puppet` over gRPC for one account, as the Wechaty project's own server does it.

https://github.com/wechaty/puppet-service (src/server): the token in the metadata, one event stream at a time, a
heartbeat first, then what the account is in. What a puppet throws comes back as UNKNOWN with the trace as its text.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream
from wechaty_grpc.wechaty import puppet

from tests.simulators import wechat_wire as wire
from tests.simulators.faults import Lost
from tests.simulators.wechat_cable import WechatCable, WechatLine
from tests.simulators.wechat_send import WechatOutbox, thrown
from tests.simulators.wechat_state import WechatBot, WechatMessage, WechatState

_FORBIDDEN = (
    "Stop",
    "Logout",
    "ContactSelfName",
    "ContactSelfSignature",
    "FriendshipAdd",
    "FriendshipAccept",
    "MessageRecall",
    "RoomAdd",
    "RoomAnnounce",
    "RoomCreate",
    "RoomDel",
    "RoomInvitationAccept",
    "RoomQuit",
)
"""What a bot that only answers has no business with. `Stop` would stop the WeChat client on the server."""
_GRACE = 0.3
"""Seconds that a connection that its client gave up may still seem to be there."""

_READY = 0.1
"""Seconds from `login` to `ready`."""


@dataclass(eq=False)
class EventStream:
    """The one `Event` call that is open."""

    line: WechatLine | None
    events: asyncio.Queue[tuple[int, dict[str, Any] | str] | None] = field(default_factory=asyncio.Queue)
    """None ends it politely."""

    @property
    def alive(self) -> bool:
        return self.line is None or (self.line.whole and not self.line.silent)


class WechatPuppet:
    """The service. What goes on is set by its attributes."""

    def __init__(self, state: WechatState, bot: WechatBot, cable: WechatCable) -> None:
        self.state = state
        self.bot = bot
        self.token = bot.token
        self.form: wire.Form = "1.x"
        self.milliseconds = True
        """Of timestamps; some puppets give seconds."""
        self.replays = False
        """Whether all messages of the account come again after each login."""
        self.gets_ready = True
        """Whether `ready` follows a login; some puppets never say it."""
        self.beats = 0.5
        """Seconds between two heartbeats; 0: only the first one."""
        self.started = True
        self.logged_in = True
        self.scan: dict[str, Any] | None = None
        """The code that waits to be scanned."""
        self.occupied = False
        """Another program holds the stream, or one that died and that the server still believes in."""
        self.missing: set[str] = set()
        """Ids of contacts, rooms and messages that the server cannot look up."""
        self.lacks: set[str] = set()
        """Methods that the server does not have; those of others than the Wechaty project may have few."""
        self.slow: dict[str, float] = {}
        self.breaks_over: set[str] = set()
        """Ids of messages: when one is looked up, all connections end."""
        """Method to the seconds that it takes."""
        self.calls: list[str] = []
        self.stream: EventStream | None = None
        self.outbox = WechatOutbox(state, bot, tell=self.tell)
        self._cable = cable
        self._files: dict[str, bytes] = {}

    # What the server does by itself

    def emit(self, type: int, payload: dict[str, Any] | str) -> None:
        """Lost where nobody listens. A text is sent as it is."""
        if self.stream is not None:
            self.stream.events.put_nowait((type, payload))

    def tell(self, message: WechatMessage) -> None:
        """Only the id goes with the event."""
        if self.started and self.logged_in:
            self.emit(puppet.EventType.EVENT_TYPE_MESSAGE, {"messageId": message.id})

    def show_code(self, content: str, status: int = wire.WAITING) -> None:
        """A code to scan; whoever opens the stream later is told of it too."""
        self.scan = {"qrcode": content, "status": status}
        self.emit(puppet.EventType.EVENT_TYPE_SCAN, self.scan)

    def log_in(self) -> None:
        """Somebody has scanned and confirmed."""
        self.scan, self.logged_in = None, True
        self._logged_in()

    def log_out(self) -> None:
        """On the phone, or by WeChat."""
        self.logged_in = False
        self.emit(puppet.EventType.EVENT_TYPE_LOGOUT, {"contactId": self.bot.id, "data": "logged out on the phone"})

    def end_stream(self) -> None:
        """What `Stop` of somebody else does to ours."""
        if self.stream is not None:
            self.stream.events.put_nowait(None)

    def forget_files(self) -> None:
        """What was handed over for `Download` does not outlive the server."""
        self._files.clear()

    def _logged_in(self) -> None:
        self.emit(puppet.EventType.EVENT_TYPE_LOGIN, {"contactId": self.bot.id})
        if self.gets_ready:  # later, and messages may come before
            ready = (puppet.EventType.EVENT_TYPE_READY, {"data": "ready"})
            asyncio.get_running_loop().call_later(_READY, self.emit, *ready)
        if self.replays:
            for message in self.bot.messages.values():
                self.tell(message)

    # gRPC

    def __mapping__(self) -> dict[str, Handler]:
        unary = {
            "Start": (self._start, puppet.StartRequest, puppet.StartResponse),
            "Version": (self._version, puppet.VersionRequest, puppet.VersionResponse),
            "Ding": (self._ding, puppet.DingRequest, puppet.DingResponse),
            "DirtyPayload": (self._nothing, puppet.DirtyPayloadRequest, puppet.DirtyPayloadResponse),
            "ContactPayload": (self._contact, puppet.ContactPayloadRequest, wire.ContactPayload),
            "ContactList": (self._contacts, puppet.ContactListRequest, puppet.ContactListResponse),
            "RoomPayload": (self._room, puppet.RoomPayloadRequest, wire.RoomPayload),
            "RoomList": (self._rooms, puppet.RoomListRequest, puppet.RoomListResponse),
            "RoomMemberList": (self._members, puppet.RoomMemberListRequest, puppet.RoomMemberListResponse),
            "RoomMemberPayload": (self._member, puppet.RoomMemberPayloadRequest, wire.RoomMemberPayload),
            "MessagePayload": (self._message, puppet.MessagePayloadRequest, wire.MessagePayload),
            "MessageFile": (self._file, puppet.MessageFileRequest, puppet.MessageFileResponse),
            "MessageImage": (self._file, puppet.MessageImageRequest, puppet.MessageImageResponse),
            "MessageSendText": (self._send, puppet.MessageSendTextRequest, wire.Sent),
            "MessageSendFile": (self._send, puppet.MessageSendFileRequest, wire.Sent),
            **dict.fromkeys(_FORBIDDEN, (self._forbidden, puppet.StopRequest, puppet.StopResponse)),
        }
        return {
            **{
                f"/wechaty.Puppet/{name}": Handler(self._unary(name, *how), Cardinality.UNARY_UNARY, how[1], how[2])
                for name, how in unary.items()
            },
            "/wechaty.Puppet/Event": Handler(
                self._events, Cardinality.UNARY_STREAM, puppet.EventRequest, puppet.EventResponse
            ),
            "/wechaty.Puppet/Download": Handler(self._download, Cardinality.UNARY_STREAM, wire.Id, wire.Chunk),
        }

    def _unary(
        self, name: str, answer: Callable[[Any], Awaitable[Any]], asked: type, answered: type
    ) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
        async def handle(stream: Stream[Any, Any]) -> None:
            if name in self.lacks:
                raise GRPCError(Status.UNIMPLEMENTED, "Method not found")
            self._authorize(stream)
            request = await stream.recv_message()
            assert request is not None
            self.calls.append(name)
            size = len(bytes(request))
            if size > wire.LARGEST_UNARY:
                self.state.complain(f"{name}: a request of {size} bytes")
                raise GRPCError(
                    Status.RESOURCE_EXHAUSTED, f"Received message larger than max ({size} vs {wire.LARGEST_UNARY})"
                )
            await asyncio.sleep(self.slow.get(name, 0.0))
            if answer == self._forbidden:
                self._forbid(name)
            try:
                await stream.send_message(await answer(request))
            except Lost:
                await stream.cancel()

        return handle

    def _authorize(self, stream: Stream[Any, Any]) -> None:
        assert stream.metadata is not None
        told = str(stream.metadata.get("authorization") or "")
        kind, _, token = told.partition(" ")
        if not told:
            self.state.complain("a call without authorization")
            raise GRPCError(Status.UNAUTHENTICATED, "No Authorization found.")
        if kind != "Wechaty":
            self.state.complain("a call with another kind of authorization")
            raise GRPCError(Status.UNAUTHENTICATED, f'Invalid authorization type: "{kind}"')
        if token != self.token:
            raise GRPCError(Status.UNAUTHENTICATED, f'Invalid Wechaty TOKEN "{token}"')

    async def _events(self, stream: Stream[Any, Any]) -> None:
        self._authorize(stream)
        await stream.recv_message()
        mine = EventStream(self._line(stream))
        if self.occupied or self.stream is not None:
            if self.stream is not None:
                asyncio.get_running_loop().call_later(_GRACE, self._complain_of_two, self.stream)
            raise GRPCError(Status.ALREADY_EXISTS, "GrpcServerImpl.event() can not call twice.")
        self.stream = mine
        try:
            hello = "Wechaty Puppet gRPC stream connect successfully"
            self.emit(puppet.EventType.EVENT_TYPE_HEARTBEAT, {"data": hello})
            if self.started and self.logged_in:
                self._logged_in()
            if self.started and self.scan is not None:
                self.emit(puppet.EventType.EVENT_TYPE_SCAN, self.scan)
            while (event := await self._next(mine)) is not None:
                type, payload = event
                text = payload if isinstance(payload, str) else json.dumps(payload)
                await stream.send_message(puppet.EventResponse(type=type, payload=text))
        finally:
            self.stream = None

    async def _next(self, stream: EventStream) -> tuple[int, dict[str, Any] | str] | None:
        try:
            async with asyncio.timeout(self.beats or None):
                return await stream.events.get()
        except TimeoutError:
            return puppet.EventType.EVENT_TYPE_HEARTBEAT, {"data": "still here"}

    def _line(self, stream: Stream[Any, Any]) -> WechatLine | None:
        address = stream.peer.addr()
        port = address[1] if address is not None else 0
        return next((line for line in self._cable.lines if line.port == port), None)

    def _complain_of_two(self, first: EventStream) -> None:
        if self.stream is first and first.alive:
            self.state.complain("Event: a second stream while the first is open")

    def _forbid(self, name: str) -> None:
        self.state.complain(f"{name} was called")
        if name == "Stop":
            self.end_stream()
            self.started = False

    async def _start(self, request: Any) -> puppet.StartResponse:
        if not self.started:
            self.started = True
            if self.logged_in:
                self._logged_in()
            elif self.scan is not None:
                self.emit(puppet.EventType.EVENT_TYPE_SCAN, self.scan)
        return puppet.StartResponse()

    async def _version(self, request: Any) -> puppet.VersionResponse:
        return puppet.VersionResponse(version="1.19.9")

    async def _ding(self, request: puppet.DingRequest) -> puppet.DingResponse:
        self.emit(puppet.EventType.EVENT_TYPE_DONG, {"data": request.data})
        return puppet.DingResponse()

    async def _nothing(self, request: Any) -> puppet.DirtyPayloadResponse:
        return puppet.DirtyPayloadResponse()

    async def _forbidden(self, request: Any) -> puppet.StopResponse:
        return puppet.StopResponse()

    async def _send(self, request: Any) -> wire.Sent:
        if not self.logged_in:
            raise thrown("not logged in")
        return wire.sent(await self.outbox.send(request), self.form)

    # Looking up

    def _known(self, id: str, where: dict[str, Any]) -> Any:
        if id in self.missing or id not in where:
            raise thrown(f"no such payload: {id}")
        return where[id]

    async def _contact(self, request: puppet.ContactPayloadRequest) -> wire.ContactPayload:
        contact = self._known(request.id, self.bot.contacts)
        return wire.ContactPayload(id=contact.id, gender=1, type=contact.type, name=contact.name, friend=True)

    async def _contacts(self, request: Any) -> puppet.ContactListResponse:
        return puppet.ContactListResponse(ids=list(self.bot.contacts))

    async def _room(self, request: puppet.RoomPayloadRequest) -> wire.RoomPayload:
        room = self._known(request.id, self.bot.rooms)
        return wire.RoomPayload(id=room.id, topic=room.topic, owner_id=room.members[-1], member_ids=room.members)

    async def _rooms(self, request: Any) -> puppet.RoomListResponse:
        return puppet.RoomListResponse(ids=list(self.bot.rooms))

    async def _members(self, request: puppet.RoomMemberListRequest) -> puppet.RoomMemberListResponse:
        return puppet.RoomMemberListResponse(member_ids=self._known(request.id, self.bot.rooms).members)

    async def _member(self, request: puppet.RoomMemberPayloadRequest) -> wire.RoomMemberPayload:
        room = self._known(request.id, self.bot.rooms)
        contact = self._known(request.member_id, self.bot.contacts)
        return wire.RoomMemberPayload(id=contact.id, room_alias=room.aliases.get(contact.id, ""), name=contact.name)

    async def _message(self, request: puppet.MessagePayloadRequest) -> wire.MessagePayload:
        if request.id in self.breaks_over:
            self._cable.cut()
        message: WechatMessage = self._known(request.id, self.bot.messages)
        payload = wire.MessagePayload(
            id=message.id,
            filename=message.filename,
            text=message.text,
            timestamp_deprecated=int(message.at * (1000 if self.milliseconds else 1)),
            type=message.type,
            talker_id=message.talker,
            room_id=message.room,
            listener_id=message.listener,
            mention_ids=message.mentions,
        )
        if self.form == "1.x":
            payload.receive_time = datetime.fromtimestamp(message.at, UTC)
        return payload

    async def _file(self, request: Any) -> Any:
        message: WechatMessage = self._known(request.id, self.bot.messages)
        box = message.box
        if box is None:
            if not message.content:
                raise thrown("no file in this message")
            id = str(uuid.uuid4())
            self._files[id] = message.content
            box = wire.file_box(message.filename, message.content, uuid=id, form=self.form)
        answered = (
            puppet.MessageFileResponse
            if isinstance(request, puppet.MessageFileRequest)
            else puppet.MessageImageResponse
        )
        return answered(filebox=json.dumps(box))

    async def _download(self, stream: Stream[Any, Any]) -> None:
        self._authorize(stream)
        request = await stream.recv_message()
        assert request is not None
        self.calls.append("Download")
        content = self._files.get(request.id)
        if content is None:
            self.state.complain("Download of a file that the server does not have: the real one dies of it")
            self._cable.cut()
            return
        await asyncio.sleep(self.slow.get("Download", 0.0))
        for start in range(0, len(content), 64 * 1024):
            await stream.send_message(wire.Chunk(chunk=content[start : start + 64 * 1024]))
