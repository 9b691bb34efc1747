"""Durable storage of the road from a message to its answer: the records and the protocol. core.states has the states.

Every method is one transaction, committed when it returns. Where several are asked for at once an engine may commit
them together. All raise StorageUnavailable when nothing could be stored; the caller then must not acknowledge.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import NewType, Protocol, Self

from core.adapter import IdempotencyKey, Receipt
from core.budgets import NOBODY, UNBOUNDED, Ahead, Budgets, Exhausted, Payers, Spent, nobody_ahead
from core.chat import Usage
from core.messages import AccountId, ConversationKey, EventId, InboundMessage, MessageId, Person, ReplyAddress
from core.quota import Bound as Bound  # noqa: PLC0414 - part of the contract
from core.quota import Quota as Quota  # noqa: PLC0414 - part of the contract
from core.states import InboxState as InboxState  # noqa: PLC0414 - part of the contract
from core.states import OutboxState as OutboxState  # noqa: PLC0414 - part of the contract
from core.states import TurnState as TurnState  # noqa: PLC0414 - part of the contract

InboxId = NewType("InboxId", int)
"""Rises with acceptance; the order of replies."""
TurnId = NewType("TurnId", int)
PartId = NewType("PartId", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of a message in `accept`."""

    receipt: Receipt
    """ACCEPTED, DUPLICATE, REFUSED (a bound of the sender's, or a budget) or OVERLOADED (a bound of all)."""
    inbox: InboxId | None = None
    """The row, for ACCEPTED and DUPLICATE."""
    bound: Bound | None = None
    """For REFUSED and OVERLOADED, unless a budget is."""
    exhausted: Exhausted | None = None
    """The budget of which nothing is left, for REFUSED."""
    turn: Turn | None = None
    """The message's turn, where it was begun at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxRow:
    """An accepted message."""

    id: InboxId
    message: InboundMessage
    received_at: datetime
    attempts: int
    """How often its turn was begun, this time included; a beginning that was released does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Work to be done: one or more messages that are answered together.

    A turn that a crash broke off is begun again as the same turn: same id, same key, and `preview` is what it had
    already shown.
    """

    id: TurnId
    key: str
    """At most 20 characters; `part_key` makes the idempotency keys of its parts."""
    epoch: int
    """Grows with each beginning; a later write by an earlier owner hits nothing."""
    conversation: ConversationKey
    generation: int
    model: str | None
    """The model this conversation chose, None for the configured one."""
    persona: str | None = None
    """The persona this conversation chose, None for the default."""
    rows: tuple[InboxRow, ...]
    """At least one, oldest first; all of one person, where the turn is no command."""
    preview: MessageId | None = None
    payers: Payers = NOBODY
    exhausted: Exhausted | None = None
    """A budget of which nothing is left: the model is not to be asked."""

    @property
    def last(self) -> InboundMessage:
        """The newest of the messages; its way back is the turn's."""
        return self.rows[-1].message

    def part_key(self, part: int) -> IdempotencyKey:
        """The key of outbound part `part`, the same on every attempt."""
        return IdempotencyKey(f"{self.key}-{part}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What history grows by: a whole turn, never half of one."""

    question: str
    answer: str
    turn: TurnId | None = field(default=None, compare=False)
    """Whose it is, as `Memories` tells it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a turn ended. Committed as one: turn, history, outbox parts, usage, inbox."""

    state: TurnState
    parts: tuple[str, ...] = ()
    """CommonMark, each within the reply channel's limit. None: nothing is to be sent."""
    exchange: Exchange | None = None
    model: str | None = None
    usage: Usage | None = None
    """As the model's server counted."""
    spent: Spent | None = None
    """What is charged, also where the server did not count. None: the tokens of `usage`, and no money."""
    error: str = ""
    """The cause with its id, for the trace and the dead letters; never shown in a chat."""
    failure: str = ""
    """JSON of the Failure for channels that show failures in a form of their own; goes with the first part."""
    replaces: TurnId | None = None
    """A turn whose exchange leaves the history in the same transaction (/retry)."""
    kept: bool = False
    """The reply channel is `Kept`: what is committed has arrived."""
    dead: bool = False
    """Nobody is told: the inbox rows become dead letters with `error`."""
    kept_text: str = ""
    """What is kept of the message, where it or the reply tells a one-time code. Empty: all. The reply's codes go once it was
    sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxPart:
    """One outbound message of a reply."""

    id: PartId
    turn: TurnId
    number: int
    """From 0."""
    of: int
    """How many parts the reply has."""
    conversation: ConversationKey
    account: AccountId
    reply_to: ReplyAddress
    text: str
    failure: str
    key: IdempotencyKey
    edits: MessageId | None
    """The preview that this part's text replaces."""
    state: OutboxState
    attempts: int
    """Failed attempts so far."""
    next_at: datetime
    """Not before this."""
    created_at: datetime
    sending_at: datetime | None = None
    error: str = ""
    """Why it was not sent the last time."""
    tells_code: bool = False
    """A one-time code is in it, which is hidden in the store once it was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastTurn:
    """The newest turn of a conversation that was a question, for /retry."""

    id: TurnId
    state: TurnState
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationState:
    """What is known of a conversation, for /status and the hot session cache."""

    generation: int
    model: str | None
    persona: str | None
    turns: int
    """Exchanges of this generation."""
    summed_up: int = 0
    """How many of them are in its summary."""
    last_active: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What an earlier process left unfinished."""

    conversations: tuple[ConversationKey, ...]
    """With messages to answer or parts to send, oldest first."""
    commands: tuple[tuple[InboxId, ConversationKey], ...]
    """Chat commands that were accepted and not carried out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """How far an accepted message has come: what a repeated request is answered with."""

    inbox: InboxId
    state: InboxState
    turn_state: TurnState | None
    body: InboundMessage
    text: str
    """All parts of the reply joined, empty before it is committed."""
    failure: str
    usage: Usage | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """A call of the model that is no turn, and what is set aside for it."""

    id: int
    payers: Payers


class Journal(Protocol):
    """Durable storage, as the conversation needs it. Entered once; opening migrates and checks.

    Raises on entering: StorageBusy, StorageDamaged, ConfigError (path not usable).
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def available(self) -> bool:
        """False from a failed write until one succeeds again."""
        ...

    async def accept(
        self,
        message: InboundMessage,
        conversation: ConversationKey,
        quota: Quota,
        *,
        budgets: Budgets = UNBOUNDED,
        command: bool = False,
        lasting: bool = True,
        at_once: Ahead | None = None,
        idle_after: timedelta | None = None,
    ) -> Accepted:
        """Store a message unless its (account, event) or (account, channel, message) is stored already.

        It counts as a message of its sender (or whom they are linked to), of its account and of everybody, in the same
        transaction; where one of them has used up a budget it is refused. A command is not queued behind messages: it
        is begun by `begin_command`, and not counted. What is not `lasting` survives the process at once, and a power
        failure from the next commit on that does: enough where nobody is told of the message before its reply.
        With `at_once`, the `ahead` of `begin`, its turn is begun too, unless others wait before it or a budget is in
        use: for those who know that no turn of the conversation runs.
        """
        ...

    async def lose(self, message: InboundMessage, reason: str) -> None:
        """A message that cannot be taken in is a dead letter, with its text if that can be stored."""
        ...

    async def recover(self, *, resuming: bool = True) -> Recovery:
        """Make what an earlier process left `running` ready to begin again. Called once, before anything begins.

        What was set aside for its turns stays so, unless this process will not take them up (`resuming` is false).
        """
        ...

    async def begin(
        self,
        conversation: ConversationKey,
        *,
        most: int,
        idle_after: timedelta | None,
        budgets: Budgets = UNBOUNDED,
        ahead: Ahead = nobody_ahead,
    ) -> Turn | None:
        """Take the oldest waiting message, or up to `most` of them, and mark them running. None: nothing waits.

        Taken together are only messages of one person. A broken-off turn comes back first and alone; where something
        is set aside for it still, which `recover` sees to, it is not checked again. A conversation that rested longer than `idle_after` gets a new generation.

        What the answer may cost is set aside of every budget, in this transaction. Where a budget holds what is spent,
        what is set aside and this, or holds something and nothing is set aside of it, the turn begins: so no budget is
        exceeded by more than one turn, as long as none costs more than `budgets.reserve` said. Where nothing is left
        the turn begins with `exhausted`, and nothing set aside. Else it raises BudgetInUse, and has done nothing; also
        where `ahead` says that somebody waits for that budget.
        """
        ...

    async def begin_command(self, inbox: InboxId) -> Turn | None:
        """Take one accepted command. None: it was carried out before."""
        ...

    async def release(self, turn: Turn, spent: Spent | None = None) -> None:
        """Put a turn back that has shown nothing: its messages wait again (an interrupted turn). `spent` is charged."""
        ...

    async def preview(self, turn: Turn, message: MessageId) -> None:
        """Remember what is being shown, before it may be edited."""
        ...

    async def finish(self, turn: Turn, outcome: Outcome) -> tuple[OutboxPart, ...]:
        """End a turn. Part 0 edits the turn's preview where there is one. What it cost is charged, whatever its end.

        A late answer, to a turn of an earlier generation, is dropped: its messages expire and nothing is returned. That
        a turn was stopped is told all the same.
        """
        ...

    async def reserve(
        self,
        person: Person,
        *,
        budgets: Budgets,
        model: str | None,
        weight: int,
        message: bool = True,
        ahead: Ahead = nobody_ahead,
    ) -> Reserved | Exhausted:
        """Set aside what a call of the model may cost that is no turn, by the rules of `begin`.

        `weight`: bytes of what it asks beyond an ordinary prompt. `message`: it counts as one. Exhausted: nothing is
        left, and nothing was counted. Raises BudgetInUse. What a process had set aside when it ended is free again.
        """
        ...

    async def charge(self, reserved: Reserved, spent: Spent) -> None:
        """The call is over: it cost this, and nothing is set aside for it any more."""
        ...

    async def unsent(self, conversation: ConversationKey) -> tuple[OutboxPart, ...]:
        """The parts of this conversation that are pending, sending or unknown, in the order they are to be sent."""
        ...

    async def sending(self, part: OutboxPart) -> None:
        """A call that may take effect is about to be made."""
        ...

    async def sent(self, part: OutboxPart, message: MessageId | None) -> None:
        """It arrived. With its last part a reply is done, and its messages with it."""
        ...

    async def postpone(self, part: OutboxPart, until: datetime, error: str, *, state: OutboxState) -> OutboxPart:
        """It failed for now: `state` is PENDING (surely not delivered) or UNKNOWN. Counts an attempt."""
        ...

    async def hold(self, part: OutboxPart, error: str, *, state: OutboxState) -> None:
        """It waits for the person's next message, however long that takes. Its attempts are counted anew then."""
        ...

    async def bury(self, part: OutboxPart, error: str) -> None:
        """It will never arrive: a dead letter, and the parts after it too."""
        ...

    async def history(self, conversation: ConversationKey, generation: int, *, most: int) -> tuple[Exchange, ...]:
        """The newest exchanges, oldest first."""
        ...

    async def state(self, conversation: ConversationKey) -> ConversationState:
        """What is known of a conversation; also of one that does not exist yet."""
        ...

    async def renew(self, conversation: ConversationKey, *, before: InboxId | None) -> tuple[InboxRow, ...]:
        """Start a new generation. Waiting messages older than `before` (None: all) expire and are returned."""
        ...

    async def expire(
        self, conversation: ConversationKey, *, received_before: datetime, account: AccountId
    ) -> tuple[InboxRow, ...]:
        """Waiting messages to this account that were received before then expire and are returned."""
        ...

    async def choose_model(self, conversation: ConversationKey, model: str | None) -> None:
        """Remember this conversation's model."""
        ...

    async def choose_persona(self, conversation: ConversationKey, persona: str | None) -> None:
        """Remember this conversation's persona."""
        ...

    async def last_turn(self, conversation: ConversationKey) -> LastTurn | None:
        """The newest question of the present generation whose turn has ended, answered or not."""
        ...

    async def reached(self, account: AccountId, event: EventId) -> Reached | None:
        """How far the message of this event has come."""
        ...

    async def reopen(self, inbox: InboxId) -> bool:
        """A failed, dead or expired message waits again, as if just received. False: it is none of these."""
        ...

    async def forget(self, conversation: ConversationKey) -> int:
        """Remove every text of a conversation from the store, so that the file no longer has it; returns how many turns
        went that were no commands.

        What is needed for dedup (ids, times) stays.
        """
        ...
