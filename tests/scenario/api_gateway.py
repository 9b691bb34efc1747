"""The HTTP API behind a real server, with a gateway around it that is small enough to be scripted by a test."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
from aiohttp import web

from adapters.api import ApiAdapter, ApiReply, Config, WholeReply
from core.adapter import Failure, IdempotencyKey, Receipt
from core.archive import Archive
from core.chat import ChatClient, ChatMessage, Usage
from core.clock import Clock, SystemClock
from core.delivery import failure_json
from core.errors import ChatError
from core.headroom import Headroom
from core.host import Host
from core.journal import InboxId, InboxState, Journal, Reached, TurnState
from core.keys import KeyRing
from core.limits import Limits, LimitSettings, MessageRates
from core.messages import AccountId, ConversationKey, EventId, InboundMessage, Scope
from core.paid import PaidCalls
from core.storage.sqlite import SqliteStore

API = AccountId("api")
MAX_BODY = 1_000_000

Answering = Callable[[InboundMessage, WholeReply], Awaitable[str | Failure]]


@dataclass
class Row:
    """An accepted message."""

    message: InboundMessage
    outcome: str | Failure | None = None


class Desk:
    """Inbox, journal and dispatcher in one: accepts messages and answers each in a task of its own."""

    def __init__(self) -> None:
        self.answering: Answering = echo
        self.receipt: Receipt | Exception | None = None
        """What the next messages get instead of being accepted."""
        self.reason: Failure | None = None
        """What is told to the sender of a refused message."""
        self.adapter: ApiAdapter
        self.rows: dict[EventId, Row] = {}
        self.begun = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def receive(self, message: InboundMessage) -> Receipt:
        if isinstance(self.receipt, Exception):
            raise self.receipt
        if self.receipt is not None:
            if self.reason is not None:
                self._spawn(self._tell(message, self.reason))
            return self.receipt
        if message.event in self.rows:
            return Receipt.DUPLICATE
        self.rows[message.event] = Row(message)
        self._spawn(self._answer(message.event))
        return Receipt.ACCEPTED

    async def reached(self, account: AccountId, event: EventId) -> Reached | None:
        row = self.rows.get(event)
        if row is None or account != API:
            return None
        failed = isinstance(row.outcome, Failure)
        return Reached(
            inbox=InboxId(list(self.rows).index(event)),
            state=InboxState.RUNNING if row.outcome is None else InboxState.DONE,
            turn_state=None if row.outcome is None else TurnState.FAILED if failed else TurnState.COMPLETE,
            body=row.message,
            text=row.outcome if isinstance(row.outcome, str) else "",
            failure=failure_json(row.outcome) if isinstance(row.outcome, Failure) else "",
            usage=Usage(7, 5),
            model="answered-by",
        )

    async def reopen(self, inbox: InboxId) -> bool:
        row = list(self.rows.values())[inbox]
        if not isinstance(row.outcome, Failure):
            return False
        row.outcome = None
        return True

    async def conversation_of(self, inbox: InboxId) -> ConversationKey:
        return ConversationKey.of(list(self.rows.values())[inbox].message, Scope.USER)

    def wake(self, conversation: ConversationKey) -> None:
        for event, row in self.rows.items():
            if row.outcome is None and ConversationKey.of(row.message, Scope.USER) == conversation:
                self._spawn(self._answer(event))

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _answer(self, event: EventId) -> None:
        row = self.rows[event]
        self.begun += 1
        reply = self.adapter.reply(row.message.reply_to)
        assert isinstance(reply, WholeReply)
        outcome = await self.answering(row.message, reply)
        row.outcome = outcome
        if isinstance(outcome, Failure):
            await reply.fail(outcome, key=IdempotencyKey("t-0"))
        else:
            await reply.send(outcome, key=IdempotencyKey("t-0"))

    async def _tell(self, message: InboundMessage, reason: Failure) -> None:
        reply = self.adapter.reply(message.reply_to)
        assert isinstance(reply, WholeReply)
        await reply.fail(reason, key=IdempotencyKey("refused"))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


async def echo(message: InboundMessage, reply: WholeReply) -> str:
    """Say the text again, word by word."""
    text = f"{message.sender.id} says: {message.text}"
    if not isinstance(reply, ApiReply):
        return text
    async with reply.stream(key=IdempotencyKey("t-0")) as sink:
        for word in text.split(" "):
            await sink.append(word if word == text.split(" ", maxsplit=1)[0] else f" {word}")
            await asyncio.sleep(0)
    return text


@dataclass
class Call:
    """What the model was asked."""

    messages: Sequence[ChatMessage]
    end_user: str
    model: str | None
    options: Mapping[str, Any] | None


@dataclass
class ScriptedStream:
    pieces: Sequence[str | ChatError]
    model: str = "model-a"
    usage: Usage | None = field(default_factory=lambda: Usage(3, 2))
    finish_reason: str | None = "stop"

    async def __aiter__(self) -> AsyncIterator[str]:
        for piece in self.pieces:
            if isinstance(piece, ChatError):
                raise piece
            await asyncio.sleep(0)
            yield piece


class ScriptedChat:
    """A model that says what it is told to."""

    def __init__(self) -> None:
        self.pieces: Sequence[str | ChatError] = ("Hel", "lo")
        self.refusal: ChatError | None = None
        self.calls: list[Call] = []
        self.finished = 0

    @asynccontextmanager
    async def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        end_user: str,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[ScriptedStream]:
        self.calls.append(Call(messages, end_user, model, options))
        if self.refusal is not None:
            raise self.refusal
        try:
            yield ScriptedStream(self.pieces)
        finally:
            self.finished += 1


class ApiGateway:
    """What a test sees of it."""

    def __init__(self, url: str, adapter: ApiAdapter, desk: Desk, chat: ScriptedChat, host: Host) -> None:
        self.url = url
        self.adapter = adapter
        self.desk = desk
        self.chat = chat
        self.host = host
        self.http: aiohttp.ClientSession
        self.store: SqliteStore

    async def post(
        self, path: str, body: Any, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any, Mapping[str, str]]:
        """Send JSON; status, JSON and headers come back. `key` is an idempotency key."""
        sent = {**({"Idempotency-Key": key} if key else {}), **(headers or {})}
        async with self.http.post(self.url + path, json=body, headers=sent) as response:
            return response.status, await response.json(), response.headers

    async def lines(self, body: Any, **options: Any) -> list[Any]:
        """The lines of /chat-stream."""
        async with self.http.post(f"{self.url}/chat-stream", json=body, **options) as response:
            assert response.status == 200, await response.text()
            return [json.loads(line) async for line in response.content]


@asynccontextmanager
async def api_gateway(
    *,
    config: Config | None = None,
    keys: KeyRing | None = None,
    per_minute: int | None = None,
    limits: LimitSettings | None = None,
    chat: ChatClient | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[ApiGateway]:
    """Serve it on loopback. What is spent is written to a real store. `chat` answers in place of `gateway.chat`."""
    clock = clock or SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteStore(Path(folder) / "journal.db", clock=clock) as store:
            held = Limits(limits or LimitSettings(per_minute=per_minute))
            paid = PaidCalls(store, held, Headroom(), clock)
            async with _serving(config, keys, held, paid, chat, clock) as gateway:
                gateway.store = store
                yield gateway
                await paid.close()


@asynccontextmanager
async def _serving(
    config: Config | None,
    keys: KeyRing | None,
    limits: Limits,
    paid: PaidCalls,
    other: ChatClient | None,
    clock: Clock,
) -> AsyncIterator[ApiGateway]:
    desk, chat = Desk(), ScriptedChat()
    desk.adapter = adapter = ApiAdapter(API, config or Config())
    host = Host(
        journal=cast("Journal", desk),
        archive=cast("Archive", desk),
        chat=other or chat,
        clock=clock,
        keys=keys or KeyRing((), required=False),
        rates=MessageRates(limits, clock),
        limits=limits,
        paid=paid,
        models=lambda: ("model-a", "vendor/model-b"),
        notice=str,
        wake=desk.wake,
        stop=lambda _: False,
    )
    adapter.ask_leave(lambda _: True)
    adapter.host(host)
    app = web.Application(client_max_size=MAX_BODY)
    app.add_routes(adapter.routes())
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with adapter, aiohttp.ClientSession() as http:
        running = asyncio.create_task(adapter.run(desk.receive))
        await asyncio.sleep(0)
        gateway = ApiGateway(f"http://127.0.0.1:{port}", adapter, desk, chat, host)
        gateway.http = http
        try:
            yield gateway
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await desk.close()
    await runner.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the test knows will come."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)
