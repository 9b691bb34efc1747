"""What becomes of the messages that a server tells of: each is looked up, and handed on in the order of its conversation.

An event names a message and nothing else, and is not repeated. So what was told of is remembered until it is handed on,
from one connection to the next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import structlog
from wechaty_grpc.wechaty import puppet

from adapters.wechat.order import Order, Turn
from adapters.wechat.parse import parse_message
from adapters.wechat.people import People
from adapters.wechat.service import PuppetService, Refused
from adapters.wechat.wire import MessagePayload
from core.adapter import Inbox
from core.clock import Clock
from core.errors import DeliveryError
from core.handover import hand_over
from core.latest import Latest
from core.messages import AccountId, InboundMessage

log = structlog.get_logger(__name__)

T = TypeVar("T")

_OLD = timedelta(seconds=60)
"""Messages from so long before the start are not answered: puppets tell of old ones again after a login."""

_LOOK_UP = 5.0
"""Seconds for looking a message up."""
_AGAIN = 1.0
_GIVES_UP_AFTER = 120.0
_BELIEVES_AFTER = 3.0
"""Seconds until that is tried again; for which it is tried where the server does not answer; and where it says that it has
no such message."""

_LONGEST_ID = 1_000
"""Characters. A server that repeats a longer one in its refusal breaks the connection, each time it is asked."""
_MOST_WAITING = 10_000
"""Messages; when there are more, no event is read."""
_MOST_DONE = 10_000
_AT_ONCE = 32
"""Messages that are looked up and handed on at the same time."""

_STRIKES = 3
"""Connections that may end while a message alone is looked up, until it is blamed for it."""

_FULL = 1.0
"""Seconds between two looks whether there is room again."""


class Reception:
    """One account's. `me`: the id of the WeChat account that is logged in; empty while nobody is."""

    def __init__(self, account: AccountId, clock: Clock, *, listens_in: Callable[[str], bool]) -> None:
        """`listens_in`: whether messages in a room are answered that do not mention the bot."""
        self.people = People(clock)
        self.me = ""
        self._account = account
        self._clock = clock
        self._listens_in = listens_in
        self._since = clock.now() - _OLD
        self._unfinished: dict[str, None] = {}
        """Ids in the order in which they were told of."""
        self._done: Latest[str, None] = Latest(_MOST_DONE)
        """Ids of which nothing more is wanted."""
        self._upcoming: deque[str] = deque()
        self._under_way: set[str] = set()
        self._suspects: dict[str, int] = {}
        """Ids that were under way when a connection ended, with how many ended while nothing else was."""
        self._news = asyncio.Event()

    async def take(self, id: str) -> None:
        """An event told of a message. Returns late while there are too many."""
        if 0 < len(id) <= _LONGEST_ID and id not in self._unfinished and id not in self._done:
            self._unfinished[id] = None
            self._upcoming.append(id)
            self._news.set()
        while len(self._unfinished) >= _MOST_WAITING:
            await self._clock.sleep(_FULL)

    def log_in(self, me: str) -> None:
        """Whose messages these are."""
        self.me = me
        self._news.set()

    async def run(self, service: PuppetService, inbox: Inbox) -> None:
        """Hand messages on, until cancelled. What it is broken off at comes first in the next run."""
        self._upcoming = deque(self._unfinished)
        order, free = Order(), asyncio.Semaphore(_AT_ONCE)
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await free.acquire()
                    while not (self.me and self._upcoming):
                        self._news.clear()
                        await self._news.wait()
                    id = self._upcoming.popleft()
                    self._under_way.add(id)
                    receiving = tasks.create_task(self._receive(service, inbox, self.me, id, order.next()))
                    receiving.add_done_callback(lambda _: free.release())
                    if id in self._suspects:  # nothing else is under way, so that it is known what ends a connection
                        await asyncio.wait({receiving}, timeout=_LOOK_UP)
        finally:
            self._suspect()

    def _suspect(self) -> None:
        """The connection is over. What was under way alone, each time, has ended it: a server may break over a message
        that it cannot tell."""
        under_way, self._under_way = self._under_way, set()
        for id in under_way:
            self._suspects[id] = self._suspects.get(id, 0) + (len(under_way) == 1)
            if self._suspects[id] >= _STRIKES:
                log.error("a message is lost: each connection ends when it is asked for", account=self._account, id=id)
                self._finish(id)

    async def _receive(self, service: PuppetService, inbox: Inbox, me: str, id: str, turn: Turn) -> None:
        found = await self._insist(id, turn, partial(self._looked_up, service, id))
        if found is not None:
            async with turn.within(found["room_id"] or found["from_id"]) as earlier_ones:
                message = await self._insist(id, turn, partial(self._message, service, me, found))
                self._under_way.discard(id)  # the server has told what it was asked
                await earlier_ones()
                if message is not None:
                    await hand_over(message, inbox, self._clock)
        self._finish(id)

    def _finish(self, id: str) -> None:
        """Nothing more is wanted of a message."""
        self._under_way.discard(id)
        self._suspects.pop(id, None)
        del self._unfinished[id]
        self._done[id] = None

    async def _insist(self, id: str, turn: Turn, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Ask again and again, without holding up others any more. None where that is given up."""
        since = self._clock.monotonic()
        while True:
            try:
                return await ask()
            except DeliveryError as error:
                reason = error
            await turn.let_pass()
            patience = _BELIEVES_AFTER if isinstance(reason, Refused) else _GIVES_UP_AFTER
            if self._clock.monotonic() - since > patience:
                log.error(
                    "a message is lost: the server does not tell it", account=self._account, id=id, reason=str(reason)
                )
                return None
            await self._clock.sleep(_AGAIN)

    async def _looked_up(self, service: PuppetService, id: str) -> dict[str, Any]:
        """The fields of a message. Raises DeliveryError."""
        request = puppet.MessagePayloadRequest(id=id)
        found = await service.call("MessagePayload", request, MessagePayload, seconds=_LOOK_UP)
        return {
            "id": id,
            "type": found.type,
            "text": found.text,
            "filename": found.filename,
            "timestamp": found.timestamp or int(found.receive_time.timestamp() * 1000),
            "from_id": found.from_id,
            "room_id": found.room_id,
            "mention_ids": found.mention_ids,
        }

    async def _message(self, service: PuppetService, me: str, found: dict[str, Any]) -> InboundMessage | None:
        """Look up who wrote it, as far as that is needed to answer it. Raises DeliveryError where it cannot be told
        whether the bot is mentioned."""
        payload: dict[str, Any] = {"message": found, "self": {"id": me}}
        now, room, user = self._clock.now(), found["room_id"], found["from_id"]
        if max(len(room), len(user)) > _LONGEST_ID:
            return None
        if room and "@" in found["text"]:
            payload["self"] = {"id": me, **await self.people.names(service, room, me)}
        message = parse_message(payload, account=self._account, now=now)
        if message is None or message.sent_at < self._since:
            return None
        if not (message.mentions_bot or self._listens_in(room)):
            return None  # nobody need be asked who wrote it
        payload["contact"] = await self.people.contact(service, user)
        payload["member"] = await self.people.member(service, room, user) if room else None
        return parse_message(payload, account=self._account, now=now)
