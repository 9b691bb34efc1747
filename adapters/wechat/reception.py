"""What becomes of the messages that a server tells of: each is looked up, and handed on in the order of its conversation.

An event names a message and nothing else, and is not repeated. So what was told of is remembered until it is handed on,
from one connection to the next.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from datetime import timedelta
from typing import Any

import structlog
from wechaty_grpc.wechaty import puppet

from adapters.wechat.parse import parse_message
from adapters.wechat.people import People
from adapters.wechat.service import PuppetService, Refused
from adapters.wechat.wire import MessagePayload
from core.adapter import Inbox, Receipt
from core.clock import Clock
from core.errors import DeliveryError, StorageUnavailable
from core.messages import AccountId, InboundMessage

log = structlog.get_logger(__name__)

_OLD = timedelta(seconds=60)
"""Messages from so long before the start are not answered: puppets tell of old ones again after a login."""

_LOOK_UP = 5.0
"""Seconds for looking a message up."""
_AGAIN = 1.0
_GIVES_UP_AFTER = 120.0
_BELIEVES_AFTER = 3.0
"""Seconds until that is tried again; for which it is tried where the server does not answer; and where it says that it has
no such message."""

_MOST_WAITING = 10_000
"""Messages; when there are more, no event is read."""
_MOST_DONE = 10_000
_AT_ONCE = 32
"""Messages that are handed on at the same time, each of another conversation."""

_HOLD = 1.0
"""Seconds before a message that could not be stored is handed over again."""


class Reception:
    """One account's. `me`: the id of the WeChat account that is logged in; empty while nobody is."""

    def __init__(self, account: AccountId, clock: Clock, *, listens_to_all: bool) -> None:
        """`listens_to_all`: messages in rooms are answered also where the bot is not mentioned."""
        self.people = People(clock)
        self.me = ""
        self._account = account
        self._clock = clock
        self._listens_to_all = listens_to_all
        self._since = clock.now() - _OLD
        self._unfinished: dict[str, float] = {}
        """Ids in the order in which they were told of, and since when they are looked up."""
        self._done: OrderedDict[str, None] = OrderedDict()
        """Ids of which nothing more is wanted."""
        self._upcoming: deque[str] = deque()
        self._news = asyncio.Event()

    async def take(self, id: str) -> None:
        """An event told of a message. Returns late while there are too many."""
        if id and id not in self._unfinished and id not in self._done:
            self._unfinished[id] = self._clock.monotonic()
            self._upcoming.append(id)
            self._news.set()
        while len(self._unfinished) >= _MOST_WAITING:
            await self._clock.sleep(_HOLD)

    def log_in(self, me: str) -> None:
        """Whose messages these are."""
        self.me = me
        self._news.set()

    async def run(self, service: PuppetService, inbox: Inbox) -> None:
        """Hand messages on, until cancelled. What it is broken off at comes first in the next run."""
        self._upcoming = deque(self._unfinished)
        self._unfinished = dict.fromkeys(self._unfinished, self._clock.monotonic())
        last: dict[str, asyncio.Task[None]] = {}
        free = asyncio.Semaphore(_AT_ONCE)

        async with asyncio.TaskGroup() as tasks:
            while True:
                while not (self.me and self._upcoming):
                    self._news.clear()
                    await self._news.wait()
                me, id = self.me, self._upcoming.popleft()
                try:
                    found = await self._looked_up(service, id)
                except DeliveryError as error:
                    tasks.create_task(self._try_again(id, error))
                    continue
                await free.acquire()
                place = found["room_id"] or found["from_id"]
                task = tasks.create_task(self._hand_on(service, inbox, me, found, after=last.get(place)))
                last[place] = task

                def over(task: asyncio.Task[None], place: str = place) -> None:
                    free.release()
                    if last.get(place) is task:
                        del last[place]

                task.add_done_callback(over)

    async def _hand_on(
        self,
        service: PuppetService,
        inbox: Inbox,
        me: str,
        found: dict[str, Any],
        *,
        after: asyncio.Task[None] | None,
    ) -> None:
        message = await self._message(service, me, found)
        if after is not None:
            await asyncio.wait({after})
        if message is not None:
            await self._commit(message, inbox)
        self._finish(found["id"])

    def _finish(self, id: str) -> None:
        del self._unfinished[id]
        self._done[id] = None
        if len(self._done) > _MOST_DONE:
            self._done.popitem(last=False)

    async def _try_again(self, id: str, error: DeliveryError) -> None:
        """Later, and behind those that came meanwhile; or never."""
        patience = _BELIEVES_AFTER if isinstance(error, Refused) else _GIVES_UP_AFTER
        if self._clock.monotonic() - self._unfinished[id] > patience:
            log.error("a message is lost: the server does not tell it", account=self._account, id=id, reason=str(error))
            self._finish(id)
            return
        await self._clock.sleep(_AGAIN)
        self._upcoming.append(id)
        self._news.set()

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
        """Look up who wrote it, as far as that is needed to answer it."""
        payload: dict[str, Any] = {"message": found, "self": {"id": me}}
        now, room, user = self._clock.now(), found["room_id"], found["from_id"]
        if room and "@" in found["text"]:
            payload["self"] = await self._self(service, me, room)
        message = parse_message(payload, account=self._account, now=now)
        if message is None or message.sent_at < self._since:
            return None
        if not (message.mentions_bot or self._listens_to_all):
            return None  # nobody need be asked who wrote it
        payload["contact"] = await self.people.contact(service, user)
        payload["member"] = await self.people.member(service, room, user) if room else None
        return parse_message(payload, account=self._account, now=now)

    async def _self(self, service: PuppetService, me: str, room: str) -> dict[str, Any]:
        """The bot, with the names that it goes by."""
        contact, member = await self.people.contact(service, me), await self.people.member(service, room, me)
        return {**(contact or {}), **(member or {}), "id": me}

    async def _commit(self, message: InboundMessage, inbox: Inbox) -> None:
        while True:
            try:
                receipt = await inbox(message)
            except StorageUnavailable as error:
                log.warning("a message waits for the storage", account=self._account, error=str(error))
            else:
                if receipt not in (Receipt.OVERLOADED, Receipt.CLOSED):
                    return
            await self._clock.sleep(_HOLD)
