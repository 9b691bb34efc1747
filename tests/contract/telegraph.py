"""The adapter of an imaginary platform, complete and small: what docs/adapters.md explains, and what the contract suite
is judged with. Its wire is described in tests/simulators/telegraph.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, ClassVar, Self

import aiohttp
from pydantic import Field, SecretStr

from core.account import AccountConfig
from core.adapter import (
    Adapter,
    AdapterSpec,
    AnyAdapterSpec,
    CanEdit,
    CanFind,
    CanType,
    CatchesUp,
    Diagnoses,
    FetchesFiles,
    Heard,
    IdempotencyKey,
    Inbox,
    Place,
    Receipt,
    ReplyChannel,
    TextLimits,
)
from core.clock import Clock, SystemClock
from core.errors import (
    AuthenticationError,
    ConnectionLost,
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    RateLimited,
    StorageUnavailable,
    TargetGone,
)
from core.fetching import Files
from core.messages import (
    AccountId,
    Attachment,
    ChannelId,
    EventId,
    InboundMessage,
    MessageId,
    ReplyAddress,
    Sender,
    ThreadId,
    UserId,
)
from tests.contract.platform import Delivery, Feature, File, SimulatedPlatform, Visible
from tests.contract.world import until
from tests.simulators.telegraph import LENGTH, Telegraph, unescape


class Config(AccountConfig):
    """A bot on Telegraph."""

    token: SecretStr = Field(SecretStr(""), description="The bot's token.")
    api_url: str = Field("https://telegraph.example/", description="Where Telegraph is.")

    def credentials_missing(self) -> tuple[str, ...]:
        return () if self.token.get_secret_value() else ("token",)


def parse_message(account: AccountId, bot: str, payload: Any) -> InboundMessage | None:
    """What an event says, or None where it is no message of a person. Never raises: the wire is not ours."""
    try:
        return _parsed(account, bot, payload)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _parsed(account: AccountId, bot: str, payload: Any) -> InboundMessage | None:
    if payload["type"] != "message":
        return None
    message = payload["message"]
    author, room, thread = message["author"], _id(message["room"]), message["thread"]
    if author["bot"] is not False:
        return None
    sent_at = datetime.fromisoformat(message["at"])
    if sent_at.tzinfo is None:
        return None
    direct = message["direct"] is True
    id = _id(message["id"])
    answers_in = thread if thread is not None or direct else id
    return InboundMessage(
        id=MessageId(id),
        event=EventId(_id(payload["event"])),
        account=account,
        sender=Sender(id=UserId(_id(author["id"])), display_name=str(author.get("name", ""))),
        channel=ChannelId(room),
        thread=None if thread is None else ThreadId(_id(thread)),
        is_direct=direct,
        mentions_bot=bot in message["mentions"],
        text=message["text"].replace(f"@{bot}", "").strip(),
        attachments=tuple(
            Attachment(
                name=_id(file["name"]),
                media_type=_id(file["type"]),
                size=file["size"] if isinstance(file["size"], int) and file["size"] >= 0 else None,
                source=_id(file["url"]),
            )
            for file in message["files"]
        ),
        sent_at=sent_at,
        reply_to=ReplyAddress(json.dumps({"room": room, "thread": answers_in})),
    )


def _id(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


def escape(text: str) -> str:
    """`@` notifies nobody."""
    return text.replace("\\", "\\\\").replace("@", "\\@")


class TelegraphReply(ReplyChannel, CanEdit, CanType, CanFind):
    """A room, or a thread in it."""

    limits: ClassVar[TextLimits] = TextLimits(
        max_length=LENGTH, count=lambda text: len(escape(text)), edit_interval=0.3
    )

    def __init__(self, adapter: TelegraphAdapter, room: str, thread: str | None) -> None:
        self._adapter = adapter
        self._room = room
        self._thread = thread

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        body = {"room": self._room, "thread": self._thread, "text": escape(text), "key": key}
        return MessageId((await self._adapter.call("POST", "messages", json=body))["id"])

    async def edit(self, message: MessageId, text: str) -> None:
        await self._adapter.call("PATCH", f"messages/{message}", json={"text": escape(text)})

    async def typing(self) -> None:
        await self._adapter.call("POST", "typing", json={"room": self._room})

    async def find(self, key: IdempotencyKey) -> MessageId | None:
        found = (await self._adapter.call("GET", "messages", params={"key": key}))["id"]
        return None if found is None else MessageId(found)


class TelegraphAdapter(Adapter, Heard, CatchesUp, FetchesFiles, Diagnoses):
    """One bot. Everything of an attempt is made when it is entered."""

    Reply: ClassVar[type[TelegraphReply]] = TelegraphReply

    def __init__(self, account: AccountId, config: Config, clock: Clock | None = None) -> None:
        self.account = account
        self.deaf_after = timedelta(seconds=30)
        self._config = config
        self._clock = clock or SystemClock()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._heard: datetime | None = None
        self._gaps = 0
        headers = {"Authorization": f"Bearer {self._config.token.get_secret_value()}"}
        async with AsyncExitStack() as stack:
            self._files = await stack.enter_async_context(
                Files(hosts=("files.telegraph.example",), api_url=self._config.api_url, headers=headers)
            )
            self._session = await stack.enter_async_context(
                aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=10))
            )
            stack.callback(self._signed_out)
            self.bot = (await self._sign_in(self._session))["id"]
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _signed_out(self) -> None:
        self._session = None

    async def _sign_in(self, session: aiohttp.ClientSession) -> dict[str, Any]:
        try:
            async with session.get(f"{self._config.api_url}me") as response:
                if response.status == 401:
                    raise AuthenticationError("the token is refused; make a new one on Telegraph's bot page")
                response.raise_for_status()
                return dict(await response.json())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConnectionLost(f"Telegraph cannot be reached: {type(error).__name__}") from error

    # Receiving

    async def run(self, inbox: Inbox) -> None:
        assert self._session is not None
        try:
            link = await self._session.ws_connect(f"{self._config.api_url}link")
        except aiohttp.WSServerHandshakeError as error:
            if error.status == 401:
                raise AuthenticationError("the token is refused") from error
            raise ConnectionLost(f"the connection was refused with status {error.status}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ConnectionLost(f"Telegraph cannot be reached: {type(error).__name__}") from error
        waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(500)
        async with link, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive(link, waiting))
            tasks.create_task(self._take_in(link, waiting, inbox))

    async def _receive(self, link: aiohttp.ClientWebSocketResponse, waiting: asyncio.Queue[dict[str, Any]]) -> None:
        """Hear every frame at once, also while the store is slow."""
        async for frame in link:
            self._heard = self._clock.now()
            event = frame.json()
            if event["type"] == "hello":
                self._gaps += 1  # there is no resuming: what was written before is only in the history
            elif event["type"] != "beat":
                await waiting.put(event)
        raise ConnectionLost("Telegraph closed the connection")

    async def _take_in(
        self, link: aiohttp.ClientWebSocketResponse, waiting: asyncio.Queue[dict[str, Any]], inbox: Inbox
    ) -> None:
        while True:
            event = await waiting.get()
            if await self._committed(event, inbox):
                try:
                    await link.send_json({"ack": event["event"]})
                except ConnectionError as error:
                    raise ConnectionLost("the connection broke") from error

    async def _committed(self, event: dict[str, Any], inbox: Inbox) -> bool:
        """Whether the platform may forget it."""
        message = parse_message(self.account, self.bot, event)
        if message is None:
            return True
        try:
            return await inbox(message) not in (Receipt.OVERLOADED, Receipt.CLOSED)
        except StorageUnavailable:
            return False

    def last_heard(self) -> datetime | None:
        return self._heard

    def gaps(self) -> int:
        return self._gaps

    async def missed(self, since: datetime, places: Sequence[Place]) -> AsyncGenerator[InboundMessage, None]:
        for room in dict.fromkeys(place.channel for place in places):
            start, more = 0, True
            while more:
                query = {"room": room, "since": since.isoformat(), "from": str(start)}
                try:
                    page = await self.call("GET", "history", params=query)
                except TargetGone:
                    break
                for each in page["messages"]:
                    event = {"type": "message", "event": f"e-{each['id']}", "message": each}
                    if (message := parse_message(self.account, self.bot, event)) is not None:
                        yield message
                start, more = start + len(page["messages"]), page["more"]

    async def fetch(self, attachment: Attachment, *, most_bytes: int) -> bytes:
        html = attachment.media_type == "text/html"
        return await self._files.get(
            attachment.source, most_bytes=most_bytes, accepts=lambda kind: html or kind != "text/html"
        )

    async def diagnose(self) -> Sequence[str]:
        return () if self.bot else ("the bot has no name; give it one on Telegraph's bot page",)

    # Replying

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        place = json.loads(address)
        return self.Reply(self, place["room"], place["thread"])

    async def call(
        self, method: str, path: str, *, json: Mapping[str, Any] | None = None, params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One call of the API. Raises the DeliveryError that fits."""
        if self._session is None:
            raise DeliveryUnavailable("the account is not signed in")
        try:
            async with self._session.request(
                method, f"{self._config.api_url}{path}", json=json, params=params
            ) as response:
                match response.status:
                    case 200:
                        return dict(await response.json())
                    case 404:
                        raise TargetGone(f"{path} is gone")
                    case 429:
                        seconds = float(response.headers["Retry-After"])
                        raise RateLimited("Telegraph asks to wait", retry_after=seconds)
                    case status if status >= 500 or status == 401:
                        raise DeliveryUnavailable(f"Telegraph answered with status {status}")
                    case status:
                        raise DeliveryError(f"Telegraph answered with status {status}")
        except aiohttp.ClientConnectorError as error:
            raise DeliveryUnavailable(f"Telegraph cannot be reached: {type(error).__name__}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DeliveryUncertain(f"the call broke off: {type(error).__name__}") from error


class SimulatedTelegraph(SimulatedPlatform):
    """What a test does on Telegraph."""

    lacks: ClassVar[Mapping[Feature, str]] = {}

    def __init__(self, adapter: type[TelegraphAdapter] = TelegraphAdapter) -> None:
        self.wire = Telegraph()
        self._spec = AdapterSpec(platform="telegraph", config=Config, create=adapter, reply=TelegraphReply)
        self._places: dict[str, str] = {}

    @property
    def spec(self) -> AnyAdapterSpec:
        return self._spec

    async def __aenter__(self) -> Self:
        await self.wire.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.wire.__aexit__(kind, error, trace)

    def account(self, name: str = "bot") -> dict[str, Any]:
        return {"token": self.wire.bot(name).token, "api_url": f"{self.wire.url}/"}

    async def listening(self, name: str = "bot") -> None:
        await until(lambda: self.wire.bot(name).link is not None)

    def links(self, name: str = "bot") -> int:
        return len(self.wire.bot(name).transports)

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
        room = f"dm-{user}-{account}" if direct else channel
        named = [] if direct or not mention else [account]
        described = []
        for file in files:
            self.wire.contents[file.name] = (file.media_type, file.content)
            url = f"{self.wire.url}/files/{file.name}"
            described.append({"name": file.name, "type": file.media_type, "size": len(file.content), "url": url})
        post = self.wire.write(
            f"@{account} {text}" if named else text,
            room=room,
            author=user,
            thread=thread,
            mentions=named,
            files=described,
            age=age,
        )
        self._places[post.id] = account
        if not age:
            await self.wire.tell(account, {"type": "message", "event": f"e-{post.id}", "message": post.wire()})
        answers_in = thread if thread is not None or direct else post.id
        return Delivery(event=f"e-{post.id}", message=post.id, room=room, thread=answers_in)

    async def redeliver(self, delivery: Delivery, *, times: int = 1) -> None:
        (post,) = [post for post in self.wire.posts if post.id == delivery.message]
        event = {"type": "message", "event": delivery.event, "message": post.wire()}
        await self.wire.tell(self._places[post.id], event, times=times)

    async def bot_writes(self, text: str, *, own: bool, account: str = "bot", direct: bool = True) -> None:
        room = f"dm-ann-{account}" if direct else "general"
        mentions = [] if direct else [account]
        post = self.wire.write(text, room=room, author=account if own else "another-bot", bot=True, mentions=mentions)
        await self.wire.tell(account, {"type": "message", "event": f"e-{post.id}", "message": post.wire()})

    async def person_edits(self, delivery: Delivery, text: str) -> None:
        (post,) = [post for post in self.wire.posts if post.id == delivery.message]
        post.text = text
        event = {"type": "edited", "event": f"{delivery.event}-edited", "message": post.wire()}
        await self.wire.tell(self._places[post.id], event)

    def acknowledged(self, delivery: Delivery) -> int:
        return self.wire.acknowledged.get(delivery.event, 0)

    def visible(self, room: str) -> Sequence[Visible]:
        return [
            Visible(
                id=post.id,
                account=post.author,
                text=unescape(post.text),
                thread=post.thread,
                versions=[unescape(version) for version in post.versions],
            )
            for post in self.wire.posts
            if post.room == room and post.key
        ]

    def complaints(self) -> Sequence[str]:
        return self.wire.complaints

    def pings(self) -> Sequence[str]:
        return [
            version
            for post in self.wire.posts
            if post.key
            for version in post.versions
            if "@" in version.replace("\\\\", "").replace("\\@", "")
        ]

    def limit_rate(self, seconds: float, *, times: int = 1) -> None:
        self.wire.limits += [seconds] * times

    def break_send(self, *, after: bool, times: int = 1) -> None:
        self.wire.broken += [after] * times

    def remove(self, room: str) -> None:
        self.wire.gone.add(room)

    def refuse_credentials(self, name: str = "bot") -> None:
        self.wire.bot(name).refused = True

    async def drop(self, name: str = "bot") -> None:
        self.wire.drop(name)

    def refuse_links(self, times: int, name: str = "bot") -> None:
        self.wire.bot(name).refuse_links = times

    def go_silent(self, name: str = "bot") -> None:
        self.wire.silence(name)

    def elsewhere(self, attachment: Attachment, url: str) -> Attachment:
        return Attachment(name=attachment.name, media_type=attachment.media_type, size=attachment.size, source=url)

    def payloads(self) -> Sequence[Any]:
        file = {"name": "a.txt", "type": "text/plain", "size": 3, "url": "https://files.telegraph.example/a.txt"}
        author = {"id": "ann", "name": "Ann", "bot": False}
        base = {"id": "m1", "room": "dm-ann-bot", "direct": True, "thread": None, "author": author, "text": "hello"}
        rest = {"mentions": [], "files": [], "at": "2026-11-02T09:00:00+00:00"}
        in_channel = {**base, **rest, "room": "general", "direct": False, "thread": "m0", "mentions": ["bot"]}
        return [
            {"type": "message", "event": "e1", "message": {**base, **rest}},
            {"type": "message", "event": "e2", "message": {**in_channel, "text": "@bot hello", "files": [file]}},
            {"type": "edited", "event": "e3", "message": {**base, **rest}},
        ]

    def parse(self, payload: Any) -> InboundMessage | None:
        return parse_message(AccountId("bot"), "bot", payload)
