"""What people look up and manage in the store: sessions, keys, dead letters, backups.

Reading happens beside the hot path and is bounded by `limit`. An engine implements this together with Journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from core.access import Standing
from core.adapter import Place
from core.budgets import Used
from core.journal import InboxId, PartId, TurnId, TurnState
from core.messages import (
    AccountId,
    ChannelId,
    ConversationKey,
    InboundMessage,
    MessageId,
    Person,
    ReplyAddress,
    UserId,
)
from core.texts import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A stored conversation."""

    key: ConversationKey
    title: str
    """The beginning of its first question, at most 80 characters."""
    person: str
    """Display name of who wrote last."""
    model: str | None
    turns: int
    """Exchanges of the present generation."""
    created_at: datetime
    last_active: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTurn:
    """A turn of a conversation, as a person may read it."""

    id: TurnId
    generation: int
    state: TurnState
    question: str
    """Also of a turn that failed or still runs."""
    answer: str
    """The reply or the notice that was sent; empty while it runs."""
    failure: str
    """JSON of the Failure, empty where there was none."""
    model: str | None
    started_at: datetime
    ended_at: datetime | None
    messages: tuple[MessageId, ...] = ()
    """The messages it answers, oldest first, so that a page that shows them live knows them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An accepted message whose turn has not begun."""

    id: InboxId
    message: InboundMessage
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message or a part of a reply that will not arrive unless somebody retries it."""

    id: str
    """`in-<row>` or `out-<row>`."""
    account: AccountId
    conversation: ConversationKey
    text: str
    """At most 200 characters."""
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceStep:
    """One thing that happened to an accepted message."""

    at: datetime
    what: Literal["received", "turn started", "model done", "sending", "sent", "waiting", "dead", "expired", "failed"]
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key of the HTTP API. The secret itself is not stored, only its SHA-256."""

    id: str
    """Eight characters; names the key in lists and in `revoke`."""
    name: str
    namespace: str
    scopes: tuple[str, ...]
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonBudget:
    """What one person may use, where that differs from the configuration. None is as the configuration says.

    Raises ValueError for what is not more than nothing, or more than `MOST`.
    """

    MOST: ClassVar[int] = 10**12
    messages_per_day: int | None = None
    tokens_per_day: int | None = None
    money_per_month: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value <= self.MOST:
                raise ValueError(f"{field.name}: got {value!r}, expected more than 0 and at most {self.MOST}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPerson:
    """What was decided about somebody on one account."""

    person: Person
    name: str = ""
    """The display name they had then."""
    standing: Standing = Standing.UNDECIDED
    """ALLOWED, BLOCKED or UNDECIDED; who is an admin is never stored."""
    decided_by: str
    decided_at: datetime
    budget: PersonBudget = PersonBudget()


@dataclass(frozen=True, slots=True, kw_only=True)
class PairingRequest:
    """Somebody who was told a code and waits to be let in. The code itself is not stored, only its SHA-256."""

    person: Person
    name: str
    digest: bytes
    created_at: datetime
    expires_at: datetime
    reply_to: ReplyAddress | None = None
    """Where they were told it."""
    language: Language = "en"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An identity that belongs to the same person as another one."""

    person: Person
    to: Person
    """Whose conversation and budget both use; itself linked to nobody."""
    linked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOffer:
    """A link on its way. The code itself is not stored, only its SHA-256."""

    person: Person
    """Whom the code was made for."""
    name: str
    digest: bytes
    expires_at: datetime
    other: Person | None = None
    """Who entered it."""
    other_name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFigures:
    """Sizes for /metrics and /readyz; cheap to ask for."""

    waiting: int
    running: int
    unsent: int
    dead: int
    pending_bytes: int
    file_bytes: int


class Archive(Protocol):
    """See the module's text. All methods raise StorageUnavailable when the store cannot be read or written."""

    @property
    def instance(self) -> str:
        """A random name that this store got when it was made; known to nobody else."""
        ...

    async def sessions(
        self,
        *,
        account: AccountId | None = None,
        channel: ChannelId | None = None,
        user: UserId | None = None,
        limit: int = 100,
    ) -> Sequence[SessionInfo]:
        """Conversations, most recently active first."""
        ...

    async def turns(self, conversation: ConversationKey, *, limit: int = 200) -> Sequence[StoredTurn]:
        """The newest turns of all generations (no commands), oldest first."""
        ...

    async def waiting(self, conversation: ConversationKey) -> Sequence[Waiting]:
        """Messages that wait for their turn, oldest first."""
        ...

    async def trace(self, inbox: InboxId) -> Sequence[TraceStep]:
        """What happened to an accepted message, in order."""
        ...

    async def dead_letters(self, *, limit: int = 100) -> Sequence[DeadLetter]:
        """Newest first."""
        ...

    async def used(self, person: Person) -> Sequence[tuple[Used, Used]]:
        """Today and this month, by UTC: of `person` (or whom they are linked to), of their account, of everybody."""
        ...

    async def used_by_person(
        self, *, account: AccountId | None, month: bool, limit: int = 100
    ) -> Sequence[tuple[Person, Used]]:
        """What people used today, or this `month`, those who spent most first."""
        ...

    async def places(self, account: AccountId, *, since: datetime, limit: int = 50) -> Sequence[Place]:
        """Where messages to this account were accepted since then, the most lately active first.

        Looks at the newest 1,000 messages of the account; those whose texts were removed are passed over.
        """
        ...

    def last_sent(self, account: AccountId) -> datetime | None:
        """When a part of a reply last arrived there; None since this store was opened. Kept in memory."""
        ...

    async def retry_part(self, part: PartId) -> ConversationKey | None:
        """A dead outbound part, and the dead parts after it, are pending again. None: it is not dead."""
        ...

    async def conversation_of(self, inbox: InboxId) -> ConversationKey | None:
        """Whose message this is."""
        ...

    async def api_keys(self) -> Sequence[tuple[ApiKey, bytes]]:
        """All keys, revoked ones too, with the SHA-256 of each secret."""
        ...

    async def add_api_key(self, key: ApiKey, digest: bytes) -> None:
        """Store a new key."""
        ...

    async def revoke_api_key(self, id: str) -> bool:
        """False: there is no such key that is still valid."""
        ...

    async def people(self) -> Sequence[KnownPerson]:
        """Everybody about whom something was decided, by account and id."""
        ...

    async def keep_person(self, known: KnownPerson) -> None:
        """Store what was decided, in place of what was there."""
        ...

    async def remove_person(self, person: Person) -> bool:
        """Whatever was decided is no more. False: there was nothing."""
        ...

    async def pairings(self) -> Sequence[PairingRequest]:
        """Who waits to be let in, oldest first; also those whose code has expired."""
        ...

    async def add_pairing(self, request: PairingRequest) -> None:
        """Store a request in place of that person's earlier one; all that had expired by its `created_at` go."""
        ...

    async def remove_pairing(self, person: Person) -> None:
        """That person waits no more."""
        ...

    async def links(self) -> Sequence[Link]:
        """All of them, the oldest first."""
        ...

    async def add_link(self, link: Link) -> None:
        """Store a link. Offers end with it that it makes impossible: those of both, and those that its person entered."""
        ...

    async def remove_links(self, person: Person) -> int:
        """Remove the link of `person` and those that lead to them; returns how many there were."""
        ...

    async def link_offers(self) -> Sequence[LinkOffer]:
        """Those that have not expired, in the order in which they will."""
        ...

    async def put_link_offer(self, offer: LinkOffer) -> None:
        """Store an offer in the place of an earlier one of the same person. Expired ones go."""
        ...

    async def remove_link_offer(self, person: Person) -> None:
        """The offer of `person`, where there is one."""
        ...

    async def figures(self) -> StorageFigures:
        """Counts and sizes."""
        ...

    async def sweep(self, *, older_than: datetime, most: int = 500) -> int:
        """Remove up to `most` finished rows of each kind that are older; returns how many went.

        Rows that deduplicate (inbox) keep their ids for at least 7 days, whatever `older_than` says; their texts go.
        """
        ...

    async def backup(self, target: Path) -> int:
        """Write a consistent copy while the gateway works; returns bytes. Raises ConfigError if `target` exists."""
        ...
