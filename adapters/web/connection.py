"""One page that is connected: what it asks for is carried out in order, what happens is sent at the page's pace."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from contextlib import suppress
from typing import Protocol

import structlog
from aiohttp import WSCloseCode, WSMsgType, web
from pydantic import ValidationError

from adapters.web.history import History
from adapters.web.live import Conversation, Conversations, Question
from adapters.web.protocol import (
    NOT_ALLOWED,
    PROTOCOL,
    TOO_SLOW,
    Delete,
    Event,
    Hello,
    List,
    Open,
    Retry,
    Send,
    Stop,
    client_message,
    milliseconds,
    shown_failure,
)
from adapters.web.visitor import Visitor
from core.adapter import IdempotencyKey, Receipt
from core.errors import StorageUnavailable
from core.host import Host
from core.limits import Rates
from core.messages import AccountId, ConversationKey, MessageId, ThreadId

log = structlog.get_logger(__name__)

_HELLO_WITHIN = 15.0
"""Seconds from connecting to the first message."""
_PACE = 0.04
"""Seconds between two looks at a growing answer."""
_SEND_WITHIN = 30.0
"""Seconds that a page may take to read one message."""
_CHECK_EVERY = 20.0
"""Seconds after which a silent page's right to be here is checked again."""
_COMMAND_WITHIN = 20.0
"""Seconds that a command may take."""
_EVENTS = 256
"""Messages that may wait for a slow page, growing answers not counted."""
_LISTED = 100
"""Conversations in the list."""


class Desk(Protocol):
    """The adapter, as one connected page needs it."""

    account: AccountId
    version: str
    visits: Conversations
    history: History
    rates: Rates

    @property
    def served(self) -> Host: ...

    def welcome(self, visitor: Visitor) -> bool: ...

    def csrf_matches(self, visitor: Visitor, shown: str) -> bool: ...

    @property
    def key_required(self) -> bool: ...

    async def ask(
        self, visitor: Visitor, conversation: ThreadId, message: MessageId, text: str, language: str | None
    ) -> Receipt: ...

    def may_stop(self, visitor: Visitor, conversation: ThreadId) -> bool: ...

    def tell(self, visitor: Visitor, event: Event | None) -> None: ...


class Connection:
    """Owns its socket's writer. `serve` ends when the socket does."""

    def __init__(self, desk: Desk, socket: web.WebSocketResponse, visitor: Visitor, language: str | None) -> None:
        self.visitor = visitor
        self._desk = desk
        self._socket = socket
        self._language = language
        self._awake = asyncio.Event()
        self._events: deque[Event] = deque()
        self._list_changed = False
        self._thread: ThreadId | None = None
        self._live: Conversation | None = None
        self._told: set[MessageId] = set()
        """Questions of the open conversation that the page knows."""
        self._shown: dict[IdempotencyKey, tuple[int, int, str, str]] = {}
        """Per answer: version, settled pieces, tail and state that the page has."""
        self._closing: tuple[int, str] | None = None

    async def serve(self) -> None:
        """Hear and answer until the socket closes."""
        try:
            async with asyncio.timeout(_HELLO_WITHIN):
                welcome = await self._greeted()
        except TimeoutError:
            welcome = False
        if not welcome:
            await self._socket.close(code=NOT_ALLOWED, message=b"hello")
            return
        writer = asyncio.create_task(self._write())
        try:
            async for received in self._socket:
                if received.type is not WSMsgType.TEXT or not await self._hear(received.data):
                    break
        finally:
            self._leave()
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer

    async def close(self, code: int, reason: str) -> None:
        """End it from the server's side."""
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(2):
                await self._socket.close(code=code, message=reason.encode())

    def end(self, code: int, reason: str) -> None:
        """Have it closed, without waiting for the page."""
        self._closing = (code, reason)
        self._awake.set()

    def wake(self) -> None:
        """Something may have changed."""
        self._awake.set()

    def list_changed(self) -> None:
        """The list of conversations is to be sent again."""
        self._list_changed = True
        self._awake.set()

    def post(self, event: Event) -> None:
        """Send `event`. A page for which too many wait is dropped; it comes back and starts anew."""
        if len(self._events) >= _EVENTS:
            self.end(TOO_SLOW, "too slow")
        else:
            self._events.append(event)
            self._awake.set()

    # Hearing

    async def _greeted(self) -> bool:
        received = await self._socket.receive()
        if received.type is not WSMsgType.TEXT:
            return False
        try:
            hello = client_message.validate_json(received.data)
        except ValidationError:
            return False
        if not isinstance(hello, Hello) or not self._desk.csrf_matches(self.visitor, hello.csrf):
            return False
        host = self._desk.served
        self.post(
            {
                "type": "ready",
                "protocol": PROTOCOL,
                "version": self._desk.version,
                "notice": host.notice(),
                "models": list(host.models()),
                "keys": self._desk.key_required,
            }
        )
        self.list_changed()
        return True

    async def _hear(self, data: str) -> bool:
        """Carry out one message; False ends the connection."""
        if not self._desk.welcome(self.visitor):
            await self._socket.close(code=NOT_ALLOWED, message=b"key")
            return False
        if self._desk.rates.take(self.visitor.id) is not None:
            self.post({"type": "error", "code": "too_fast"})
            await self._desk.served.clock.sleep(1)
        try:
            message = client_message.validate_json(data)
        except ValidationError as error:
            log.info("a page sent what cannot be read", faults=error.error_count())
            self.post({"type": "error", "code": "bad_message"})
            return True
        try:
            match message:
                case Hello():
                    pass
                case Open():
                    await self._open(ThreadId(message.conversation), message.turns)
                case Send() | Retry():
                    await self._ask(message)
                case Stop():
                    if self._desk.may_stop(self.visitor, ThreadId(message.conversation)):
                        self._desk.served.stop(self._key(ThreadId(message.conversation)))
                case Delete():
                    await self._delete(ThreadId(message.conversation))
                case List():
                    self.list_changed()
        except StorageUnavailable as error:
            log.warning("a page could not be served", what=message.type, error=str(error))
            self.post({"type": "error", "code": "storage"})
        return True

    async def _open(self, thread: ThreadId, most: int) -> None:
        self._leave()
        live = self._desk.visits.get(self.visitor.id, thread)
        live.watchers[self] = self.wake  # it stays while it is read
        asked = set(live.questions)
        try:
            turns, more = await self._desk.history.turns(self._key(thread), live, most=most)
        except BaseException:
            live.watchers.pop(self, None)
            raise
        self._thread, self._live = thread, live
        self._told = asked | {turn["message"] for turn in turns}
        self._shown = {}
        unended = {turn["message"] for turn in turns if turn["state"] in ("waiting", "running")}  # when they were read
        for answer in live.answers.values():  # what has ended is in the turns
            if answer.message in self._told - unended and answer.ended:
                answer.render()
                self._shown[answer.key] = (answer.version, len(answer.settled), answer.tail, answer.state.value)
        self.post({"type": "conversation", "conversation": thread, "turns": turns, "more": more})

    def _leave(self) -> None:
        if self._live is not None:
            self._live.watchers.pop(self, None)
            self._thread = self._live = None
            self._desk.visits.tidy()

    async def _ask(self, message: Send | Retry) -> None:
        thread, id = ThreadId(message.conversation), MessageId(message.client_id)
        text = message.text if isinstance(message, Send) else "/retry"
        language = message.language or self._language
        reason = None
        try:
            receipt = await self._desk.ask(self.visitor, thread, id, text, language)
        except StorageUnavailable as error:
            log.warning("a question could not be stored", error=str(error))
            reason = "storage"
        else:
            reason = _REJECTED.get(receipt)
        if reason:
            self.post({"type": "rejected", "client_id": id, "reason": reason})
            return
        self.post({"type": "accepted", "client_id": id})
        if receipt is Receipt.ACCEPTED:
            now = self._desk.served.clock.now()
            live = self._desk.visits.get(self.visitor.id, thread)
            live.ask(Question(id, text, now, retry=isinstance(message, Retry)))
            self._desk.tell(self.visitor, None)

    async def _delete(self, thread: ThreadId) -> None:
        """Have it forgotten by the command that does so on every platform: it ends what runs there first."""
        self._desk.history.forget(await self._desk.served.archive.turns(self._key(thread), limit=1000))
        id = MessageId(f"delete-{secrets.token_hex(8)}")
        receipt = await self._desk.ask(self.visitor, thread, id, "/forget yes", None)
        if receipt is not Receipt.ACCEPTED or not await self._replied(thread, id):
            self.post({"type": "error", "code": _REJECTED.get(receipt, "slow")})
            self.list_changed()
            return
        self._desk.visits.drop(self.visitor.id, thread)
        self._desk.tell(self.visitor, {"type": "deleted", "conversation": thread})

    async def _replied(self, thread: ThreadId, message: MessageId) -> bool:
        """Wait for the reply to a command; False if none comes."""
        live, changed = self._desk.visits.get(self.visitor.id, thread), asyncio.Event()
        live.watchers[changed] = changed.set
        try:
            async with asyncio.timeout(_COMMAND_WITHIN):
                while not any(each.message == message and each.ended for each in live.answers.values()):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return False
        finally:
            live.watchers.pop(changed, None)
        return True

    def _key(self, thread: ThreadId) -> ConversationKey:
        """A page can name conversations of its own browser alone: the channel is not its to choose."""
        return ConversationKey(self._desk.account, channel=self.visitor.id, thread=thread)

    # Telling

    async def _write(self) -> None:
        clock = self._desk.served.clock
        try:
            while self._closing is None and not self._socket.closed:
                await self._news()
                await clock.sleep(_PACE)
                with suppress(TimeoutError):
                    async with asyncio.timeout(_CHECK_EVERY):
                        await self._awake.wait()
                self._awake.clear()
                if not self._desk.welcome(self.visitor):
                    self.end(NOT_ALLOWED, "key")
        except (ConnectionError, TimeoutError):
            self.end(TOO_SLOW, "too slow")
        except Exception:
            log.exception("a page cannot be told what happens", browser=self.visitor.id)
        code, reason = self._closing or (WSCloseCode.GOING_AWAY, "")
        if code == TOO_SLOW:
            log.info("a page that does not read was dropped", browser=self.visitor.id)
        await self.close(code, reason)

    async def _news(self) -> None:
        while self._events:
            await self._send(self._events.popleft())
        if self._list_changed:
            self._list_changed = False
            await self._send_list()
        live, thread = self._live, self._thread
        if live is None or thread is None:
            return
        for question in tuple(live.questions.values()):
            if question.message not in self._told:
                self._told.add(question.message)
                await self._send(
                    {
                        "type": "question",
                        "conversation": thread,
                        "message": question.message,
                        "text": question.text,
                        "at": milliseconds(question.at),
                        "retry": question.retry,
                    }
                )
        shown = self._shown
        for answer in tuple(live.answers.values()):
            answer.render()
            version, count, tail, state = shown.get(answer.key, (0, 0, "", ""))
            if version != answer.version:
                count, tail, state = 0, "", ""
            now = (answer.version, len(answer.settled), answer.tail, answer.state.value)
            if now == (version, count, tail, state):
                continue
            shown[answer.key] = now
            if answer.ended:
                self._desk.tell(self.visitor, None)  # its time in the list
            await self._send(
                {
                    "type": "answer",
                    "conversation": thread,
                    "message": answer.message,
                    "answer": answer.key,
                    "from": count,
                    "settled": "".join(answer.settled[count:]),
                    "tail": answer.tail,
                    "state": answer.state.value,
                    "failure": shown_failure(answer.failure),
                }
            )

    async def _send_list(self) -> None:
        host = self._desk.served
        try:
            sessions = await host.archive.sessions(account=self._desk.account, channel=self.visitor.id, limit=_LISTED)
        except StorageUnavailable as error:
            log.warning("the conversations could not be listed", error=str(error))
            return
        await self._send({"type": "conversations", "conversations": self._desk.history.conversations(sessions)})

    async def _send(self, event: Event) -> None:
        async with asyncio.timeout(_SEND_WITHIN):
            await self._socket.send_str(json.dumps(event, ensure_ascii=False, separators=(",", ":")))


_REJECTED: dict[Receipt, str] = {
    Receipt.IGNORED: "ignored",
    Receipt.REFUSED: "refused",
    Receipt.STALE: "stale",
    Receipt.OVERLOADED: "overloaded",
    Receipt.CLOSED: "closed",
}
