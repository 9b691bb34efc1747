"""Whether a message is stored: what the connection does for accept."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from core.adapter import Receipt
from core.budgets import NOBODY, BudgetInUse, Budgets, Payers
from core.journal import Accepted, Bound, InboxId, InboxRow, Quota, Turn
from core.messages import ConversationKey, InboundMessage, Person, Scope
from core.storage import inbound, spending, statements
from core.storage.codec import moment, name, storable
from core.storage.inbound import Conversation

TITLE_LENGTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A message ready to be stored: everything encoded before the writer's thread takes over."""

    message: InboundMessage
    conversation: ConversationKey
    body: str
    bytes: int
    command: bool
    now: int
    today: int


def accept(
    db: sqlite3.Connection,
    arrival: Arrival,
    quota: Quota,
    budgets: Budgets,
    at_once: inbound.Beginning | None = None,
) -> Accepted:
    """Duplicate, refused, overloaded or stored; with `at_once` and nobody before it, begun."""
    message = arrival.message
    account, event, user = name(message.account), name(message.event), name(message.sender.id)
    channel, id = name(message.channel), name(message.id)
    known = db.execute(statements.KNOWN, (account, event, channel, id)).fetchone()
    if known is not None:
        return Accepted(receipt=Receipt.DUPLICATE, inbox=InboxId(known[0]))
    key = str(arrival.conversation)
    found = db.execute(statements.CONVERSATION, (key,)).fetchone()
    payers = NOBODY if arrival.command else spending.payers_of(db, account, user)
    if not arrival.command:
        sender = Person(message.account, message.sender.id)
        exhausted = spending.exhausted(db, budgets, sender, payers, arrival.today, messages=True)
        if exhausted is not None:
            return Accepted(receipt=Receipt.REFUSED, exhausted=exhausted)
    queued = 0 if found is None else db.execute(statements.QUEUED, (found[0],)).fetchone()[0]
    bound = _over(db, arrival, quota, queued)
    if bound is not None:
        receipt = Receipt.OVERLOADED if bound is Bound.PENDING else Receipt.REFUSED
        return Accepted(receipt=receipt, bound=bound)
    if found is None:
        conversation, titled = add_conversation(db, arrival.conversation, arrival.now), False
    else:
        conversation, titled = found[0], found[5] is not None
    row = db.execute(
        statements.ADD_INBOX,
        (
            account,
            event,
            channel,
            id,
            conversation,
            user,
            arrival.command,
            arrival.body,
            arrival.bytes,
            arrival.now,
        ),
    ).lastrowid
    if not arrival.command:
        spending.count_message(db, payers, arrival.today)
        if not titled:
            title = storable(" ".join(message.text.split())[:TITLE_LENGTH])
            db.execute(statements.GIVE_TITLE, (title, storable(message.sender.display_name), conversation))
    inbox, turn = InboxId(row or 0), None
    if at_once is not None and not arrival.command and not queued:
        turn = _begin(db, arrival, inbox, found or (conversation, 1, None, 0, None, None, None), payers, at_once)
    return Accepted(receipt=Receipt.ACCEPTED, inbox=inbox, turn=turn)


def lose(db: sqlite3.Connection, message: InboundMessage, body: str | None, reason: str, now: int) -> None:
    """List a message that cannot be taken in; one that is stored already stays as it is."""
    account, event, user = name(message.account), name(message.event), name(message.sender.id)
    channel, id = name(message.channel), name(message.id)
    if db.execute(statements.KNOWN, (account, event, channel, id)).fetchone() is not None:
        return
    key = ConversationKey.of(message, Scope.USER)
    found = db.execute(statements.CONVERSATION, (str(key),)).fetchone()
    conversation = add_conversation(db, key, now) if found is None else found[0]
    bytes = len((body or "").encode())
    values = (account, event, channel, id, conversation, user, False, body, bytes, now)
    row = db.execute(statements.ADD_INBOX, values).lastrowid
    db.execute(statements.ROW_LOST, (storable(reason), now, row))


def _begin(
    db: sqlite3.Connection,
    arrival: Arrival,
    inbox: InboxId,
    found: Conversation,
    payers: Payers,
    beginning: inbound.Beginning,
) -> Turn | None:
    """The turn of the message that was just stored. None where it has to wait for a budget."""
    message, now = arrival.message, arrival.now
    person = Person(message.account, message.sender.id)
    row = (int(inbox), arrival.body, now, 0)
    try:
        begun = inbound.start(db, beginning, found, [row], person, payers, message.sender.display_name)
    except BudgetInUse:
        return None
    rows = (InboxRow(id=inbox, message=message, received_at=moment(now), attempts=1),)
    return begun.turn(rows, arrival.conversation)


def _over(db: sqlite3.Connection, arrival: Arrival, quota: Quota, queued: int) -> Bound | None:
    """The bound that this message runs into, the sender's own before everybody's."""
    if not arrival.command and queued >= quota.queued:
        return Bound.QUEUED
    pending, bytes = db.execute(statements.LOAD).fetchone()
    if pending >= quota.pending or bytes + arrival.bytes > quota.pending_bytes:
        return Bound.PENDING
    return None


def add_conversation(db: sqlite3.Connection, key: ConversationKey, now: int) -> int:
    """A new conversation's id."""
    channel, user = (None if id is None else name(id) for id in (key.channel, key.user))
    added = db.execute(statements.ADD_CONVERSATION, (str(key), name(key.account), channel, user, now))
    return added.lastrowid or 0
