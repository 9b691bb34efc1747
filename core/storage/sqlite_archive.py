"""What people look up and manage in the SQLite store: the half of it that is core.archive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from core.adapter import Place
from core.archive import (
    ApiKey,
    DeadLetter,
    KnownPerson,
    Link,
    LinkOffer,
    PairingRequest,
    SessionInfo,
    StorageFigures,
    StoredTurn,
    TraceStep,
    Waiting,
)
from core.budgets import Used
from core.clock import Clock
from core.journal import InboxId, PartId
from core.messages import AccountId, ChannelId, ConversationKey, Person, UserId
from core.storage import links, outbound, people, records, spending, upkeep
from core.storage.codec import day, micros, name
from core.storage.writer import Writer


class SqliteArchive:
    """Satisfies core.archive.Archive, but for what concerns its life and its journal: core.storage.sqlite.SqliteStore adds
    that."""

    _path: Path
    _clock: Clock
    _writer: Writer
    _last_sent: dict[AccountId, datetime]

    async def sessions(
        self,
        *,
        account: AccountId | None = None,
        channel: ChannelId | None = None,
        user: UserId | None = None,
        limit: int = 100,
    ) -> Sequence[SessionInfo]:
        """See core.archive.Archive, also for the other methods."""
        return await self._writer.run(
            partial(records.sessions, account=account, channel=channel, user=user, limit=limit)
        )

    async def turns(self, conversation: ConversationKey, *, limit: int = 200) -> Sequence[StoredTurn]:
        return await self._writer.run(partial(records.turns, key=str(conversation), limit=limit))

    async def waiting(self, conversation: ConversationKey) -> Sequence[Waiting]:
        return await self._writer.run(partial(records.waiting, key=str(conversation)))

    async def trace(self, inbox: InboxId) -> Sequence[TraceStep]:
        return await self._writer.run(partial(records.trace, inbox=inbox))

    async def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        return await self._writer.run(partial(records.dead_letters, limit=limit))

    async def used(self, person: Person) -> Sequence[tuple[Used, Used]]:
        return await self._writer.run(partial(spending.used, person=person, today=day(self._clock.now())))

    async def used_by_person(
        self, *, account: AccountId | None, month: bool, limit: int = 100
    ) -> Sequence[tuple[Person, Used]]:
        today = day(self._clock.now())
        since = spending.month_of(today) if month else today
        rows = await self._writer.run(
            partial(
                spending.used_by_person, account=None if account is None else name(account), since=since, limit=limit
            )
        )
        return [
            (Person(AccountId(account), UserId(user)), Used(messages=messages, tokens=tokens, money=money))
            for account, user, messages, tokens, money in rows
        ]

    async def places(self, account: AccountId, *, since: datetime, limit: int = 50) -> Sequence[Place]:
        return await self._writer.run(partial(records.places, account=name(account), since=micros(since), limit=limit))

    def last_sent(self, account: AccountId) -> datetime | None:
        return self._last_sent.get(account)

    async def retry_part(self, part: PartId) -> ConversationKey | None:
        key = await self._writer.run(partial(outbound.retry_part, part=part, now=self._now()))
        return None if key is None else ConversationKey.parse(key)

    async def conversation_of(self, inbox: InboxId) -> ConversationKey | None:
        return await self._writer.run(partial(records.conversation_of, inbox=inbox))

    async def api_keys(self) -> Sequence[tuple[ApiKey, bytes]]:
        return await self._writer.run(records.api_keys)

    async def add_api_key(self, key: ApiKey, digest: bytes) -> None:
        await self._writer.run(partial(records.add_api_key, key=key, digest=digest))

    async def revoke_api_key(self, id: str) -> bool:
        return await self._writer.run(partial(records.revoke_api_key, id=id, now=self._now()))

    async def links(self) -> Sequence[Link]:
        return await self._writer.run(links.links)

    async def add_link(self, link: Link) -> None:
        await self._writer.run(partial(links.add, link=link))

    async def remove_links(self, person: Person) -> int:
        return await self._writer.run(partial(links.remove, person=person))

    async def link_offers(self) -> Sequence[LinkOffer]:
        return await self._writer.run(partial(links.offers, now=self._now()))

    async def put_link_offer(self, offer: LinkOffer) -> None:
        await self._writer.run(partial(links.put_offer, offer=offer, now=self._now()))

    async def remove_link_offer(self, person: Person) -> None:
        await self._writer.run(partial(links.remove_offer, person=person))

    async def people(self) -> Sequence[KnownPerson]:
        return await self._writer.run(people.people)

    async def keep_person(self, known: KnownPerson) -> None:
        await self._writer.run(partial(people.keep_person, known=known))

    async def remove_person(self, person: Person) -> bool:
        return await self._writer.run(partial(people.remove_person, person=person))

    async def pairings(self) -> Sequence[PairingRequest]:
        return await self._writer.run(people.pairings)

    async def add_pairing(self, request: PairingRequest) -> None:
        await self._writer.run(partial(people.add_pairing, request=request))

    async def remove_pairing(self, person: Person) -> None:
        await self._writer.run(partial(people.remove_pairing, person=person))

    async def figures(self) -> StorageFigures:
        return await self._writer.run(partial(upkeep.figures, path=self._path))

    async def sweep(self, *, older_than: datetime, most: int = 500) -> int:
        removed = await self._writer.run(
            partial(upkeep.sweep, older_than=micros(older_than), most=most, now=self._now())
        )
        if removed:
            await self._writer.run(upkeep.truncate, alone=True)
        return removed

    async def backup(self, target: Path) -> int:
        return await self._writer.run(
            lambda db: upkeep.backup(db, target, partial(self._writer.serve_waiting, db)), alone=True
        )

    def _now(self) -> int:
        return micros(self._clock.now())
