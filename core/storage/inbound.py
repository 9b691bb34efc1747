"""From an accepted message to a turn: what the connection does for accept, begin, release and their like."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from itertools import takewhile

from core.adapter import Receipt
from core.journal import Accepted, Bound, InboxId, InboxRow, Quota, Turn, TurnId
from core.messages import ConversationKey, InboundMessage, MessageId
from core.storage import statements
from core.storage.codec import decode, moment, name, storable

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


Chosen = tuple[str | None, str | None]
"""The model and the persona that a conversation chose."""

RawRow = tuple[int, str, int, int]
"""An inbox row as it is read: id, body, received, attempts."""


def to_row(raw: RawRow, *, begun: int = 0) -> InboxRow:
    """`begun` is 1 where the beginning that is under way is not in `attempts` yet."""
    id, body, received, attempts = raw
    return InboxRow(id=InboxId(id), message=decode(body), received_at=moment(received), attempts=attempts + begun)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A turn as the writer's thread hands it over; decoded by the caller."""

    id: int
    key: str
    epoch: int
    conversation: str
    generation: int
    model: str | None
    persona: str | None
    rows: list[RawRow]
    preview: str | None

    def turn(self) -> Turn:
        """The same, decoded."""
        return Turn(
            id=TurnId(self.id),
            key=self.key,
            epoch=self.epoch,
            conversation=ConversationKey.parse(self.conversation),
            generation=self.generation,
            model=self.model,
            persona=self.persona,
            rows=tuple(to_row(row, begun=1) for row in self.rows),
            preview=MessageId(self.preview) if self.preview is not None else None,
        )


def accept(db: sqlite3.Connection, arrival: Arrival, quota: Quota) -> Accepted:
    """Duplicate, refused, overloaded or stored."""
    message = arrival.message
    account, event, user = name(message.account), name(message.event), name(message.sender.id)
    channel, id = name(message.channel), name(message.id)
    known = (
        db.execute(statements.KNOWN_EVENT, (account, event)).fetchone()
        or db.execute(statements.KNOWN_MESSAGE, (account, channel, id)).fetchone()
    )
    if known is not None:
        return Accepted(receipt=Receipt.DUPLICATE, inbox=InboxId(known[0]))
    key = str(arrival.conversation)
    found = db.execute(statements.CONVERSATION, (key,)).fetchone()
    bound = _over(db, arrival, quota, account, user, found)
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
        db.execute(statements.COUNT_REQUEST, (account, user, arrival.today))
        if not titled:
            title = storable(" ".join(message.text.split())[:TITLE_LENGTH])
            db.execute(statements.GIVE_TITLE, (title, storable(message.sender.display_name), conversation))
    return Accepted(receipt=Receipt.ACCEPTED, inbox=InboxId(row or 0))


def _over(
    db: sqlite3.Connection, arrival: Arrival, quota: Quota, account: str, user: str, found: tuple[int, ...] | None
) -> Bound | None:
    """The bound that this message runs into, the sender's own before everybody's."""
    if not arrival.command:
        if quota.messages_per_day is not None or quota.tokens_per_day is not None:
            used = db.execute(statements.USED_TODAY, (account, user, arrival.today)).fetchone()
            requests, tokens = used if used is not None else (0, 0)
            if quota.messages_per_day is not None and requests >= quota.messages_per_day:
                return Bound.MESSAGES_PER_DAY
            if quota.tokens_per_day is not None and tokens >= quota.tokens_per_day:
                return Bound.TOKENS_PER_DAY
        queued = 0 if found is None else db.execute(statements.QUEUED, (found[0],)).fetchone()[0]
        if queued >= quota.queued:
            return Bound.QUEUED
    pending, bytes = db.execute(statements.LOAD).fetchone()
    if pending >= quota.pending or bytes + arrival.bytes > quota.pending_bytes:
        return Bound.PENDING
    return None


def add_conversation(db: sqlite3.Connection, key: ConversationKey, now: int) -> int:
    """A new conversation's id."""
    added = db.execute(statements.ADD_CONVERSATION, (str(key), key.account, key.channel, key.user, now))
    return added.lastrowid or 0


def recover(db: sqlite3.Connection) -> tuple[list[str], list[tuple[int, str]]]:
    """Running rows wait again, with their turn. The conversations with work, oldest first, and the commands."""
    db.execute("UPDATE turn SET epoch = epoch + 1 WHERE id IN (SELECT turn FROM inbox WHERE state = 'running')")
    db.execute("UPDATE inbox SET state = 'new' WHERE state = 'running'")
    conversations = db.execute(
        """
        SELECT conversation.key FROM (
            SELECT conversation, min(received_at) AS since FROM inbox
            WHERE state = 'new' AND command = 0 GROUP BY conversation
            UNION ALL
            SELECT conversation, min(created_at) FROM outbox
            WHERE state IN ('pending', 'sending', 'unknown') GROUP BY conversation
        ) AS work JOIN conversation ON conversation.id = work.conversation
        GROUP BY conversation.id ORDER BY min(work.since), conversation.id
        """
    ).fetchall()
    commands = db.execute(
        """
        SELECT inbox.id, conversation.key FROM inbox JOIN conversation ON conversation.id = inbox.conversation
        WHERE inbox.state = 'new' AND inbox.command = 1 ORDER BY inbox.id
        """
    ).fetchall()
    return [key for (key,) in conversations], commands


def begin(db: sqlite3.Connection, key: str, most: int, idle: int | None, now: int, instance: str) -> Begun | None:
    """The next turn of a conversation; `idle` in microseconds, `instance` names the database."""
    found = db.execute(statements.CONVERSATION, (key,)).fetchone()
    if found is None:
        return None
    conversation, generation, model, exchanges, last_active, _, persona = found
    (broken,) = db.execute(statements.BROKEN_OFF, (conversation,)).fetchone()
    if broken is not None:
        rows = db.execute(statements.ROWS_OF_TURN, (broken,)).fetchall()
        begun = _resume(db, broken, key, (model, persona), rows)
    else:
        rows = _of_one_account(db.execute(statements.WAITING, (conversation, most)).fetchall())
        if not rows:
            return None
        if idle is not None and last_active is not None and rows[0][2] - last_active > idle:
            generation, exchanges = generation + 1, 0
        begun = _start(db, conversation, key, generation, (model, persona), rows, now, instance, command=False)
    _mark_running(db, begun)
    person = storable(decode(rows[-1][1]).sender.display_name)
    db.execute(statements.TURN_BEGAN, (generation, exchanges, now, person, conversation))
    return begun


def _of_one_account(rows: list[RawRow]) -> list[RawRow]:
    """Those up to the first that came another way: a linked person is answered where each question was asked."""
    if len(rows) < 2:
        return rows
    account = decode(rows[0][1]).account
    return list(takewhile(lambda row: decode(row[1]).account == account, rows))


def begin_command(db: sqlite3.Connection, inbox: int, now: int, instance: str) -> Begun | None:
    """The turn of one command."""
    found = db.execute(statements.COMMAND, (inbox,)).fetchone()
    if found is None:
        return None
    id, body, received, attempts, turn, conversation, key, generation, model, persona = found
    rows = [(id, body, received, attempts)]
    if turn is not None:
        begun = _resume(db, turn, key, (model, persona), rows)
    else:
        begun = _start(db, conversation, key, generation, (model, persona), rows, now, instance, command=True)
    _mark_running(db, begun)
    return begun


def turn_key(instance: str, first: RawRow) -> str:
    """The key of the turn that begins with row `first`: 20 hexadecimal digits.

    Made from the row, so that a beginning that a power failure took back gets the same key again; and from the time
    it was received, so that neither a reopened row nor a restored backup repeats a key that a platform has seen.
    """
    id, _, received, _ = first
    return hashlib.blake2b(f"{instance}/{id}/{received}".encode(), digest_size=10).hexdigest()


def _start(
    db: sqlite3.Connection,
    conversation: int,
    key: str,
    generation: int,
    chosen: Chosen,
    rows: list[RawRow],
    now: int,
    instance: str,
    *,
    command: bool,
) -> Begun:
    name = turn_key(instance, rows[0])
    turn = db.execute(statements.ADD_TURN, (name, conversation, generation, command, now)).lastrowid or 0
    return Begun(
        id=turn,
        key=name,
        epoch=1,
        conversation=key,
        generation=generation,
        model=chosen[0],
        persona=chosen[1],
        rows=rows,
        preview=None,
    )


def _resume(db: sqlite3.Connection, turn: int, key: str, chosen: Chosen, rows: list[RawRow]) -> Begun:
    db.execute(statements.NEXT_OWNER, (turn,))
    name, epoch, generation, preview = db.execute(statements.TURN_TO_RESUME, (turn,)).fetchone()
    return Begun(
        id=turn,
        key=name,
        epoch=epoch,
        conversation=key,
        generation=generation,
        model=chosen[0],
        persona=chosen[1],
        rows=rows,
        preview=preview,
    )


def _mark_running(db: sqlite3.Connection, begun: Begun) -> None:
    db.executemany(statements.RUN_ROW, [(begun.id, row[0]) for row in begun.rows])


def release(db: sqlite3.Connection, turn: int, epoch: int) -> None:
    """The rows of a turn wait again. A turn that was begun before, or shows something, keeps its identity."""
    found = db.execute(statements.RUNNING_TURN, (turn, epoch)).fetchone()
    if found is None:
        return
    shown = epoch > 1 or found[2] is not None
    db.execute(
        "UPDATE inbox SET state = 'new', attempts = attempts - 1, turn = ? WHERE turn = ? AND state = 'running'",
        (turn if shown else None, turn),
    )
    if shown:
        db.execute(statements.NEXT_OWNER, (turn,))  # the one that gave it back does not own it any more
    else:
        db.execute("DELETE FROM turn WHERE id = ?", (turn,))


def renew(db: sqlite3.Connection, key: str, before: int | None, now: int) -> list[RawRow]:
    """A new generation; the rows that expired."""
    found = db.execute(statements.CONVERSATION, (key,)).fetchone()
    if found is None:
        return []
    db.execute("UPDATE conversation SET generation = generation + 1, exchanges = 0 WHERE id = ?", (found[0],))
    rows = _waiting(db, found[0])
    return _expire(
        db, [row for row in rows if before is None or row[0] < before], now, "superseded by a new conversation"
    )


def expire(db: sqlite3.Connection, key: str, received_before: int, now: int) -> list[RawRow]:
    """The rows that were too old."""
    found = db.execute(statements.CONVERSATION, (key,)).fetchone()
    if found is None:
        return []
    rows = _waiting(db, found[0])
    return _expire(db, [row for row in rows if row[2] < received_before], now, "too old when its turn came")


def _waiting(db: sqlite3.Connection, conversation: int) -> list[RawRow]:
    return db.execute(
        """
        SELECT id, body, received_at, attempts FROM inbox
        WHERE conversation = ? AND command = 0 AND state = 'new' ORDER BY id
        """,
        (conversation,),
    ).fetchall()


def _expire(db: sqlite3.Connection, rows: list[RawRow], now: int, reason: str) -> list[RawRow]:
    for row in rows:
        db.execute(
            "UPDATE inbox SET state = 'expired', error = ?, ended_at = ? WHERE id = ?",
            (reason, now, row[0]),
        )
        db.execute(
            """
            UPDATE turn SET state = 'expired', error = ?, ended_at = ?
            WHERE id = (SELECT turn FROM inbox WHERE id = ?) AND state = 'running'
              AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.turn = turn.id AND inbox.state IN ('new', 'running'))
            """,
            (reason, now, row[0]),
        )
    return rows


def reopen(db: sqlite3.Connection, inbox: int, now: int) -> bool:
    """A message that got no answer waits again, and those that were to be answered with it."""
    found = db.execute(
        """
        SELECT inbox.turn FROM inbox LEFT JOIN turn ON turn.id = inbox.turn
        WHERE inbox.id = ? AND inbox.body IS NOT NULL
          AND (inbox.state IN ('dead', 'expired')
               OR (inbox.state IN ('answered', 'done') AND turn.state IN ('failed', 'expired')))
        """,
        (inbox,),
    ).fetchone()
    if found is None:
        return False
    (turn,) = found
    if turn is not None:
        db.execute("DELETE FROM outbox WHERE turn = ? AND state <> 'sent'", (turn,))
        db.execute("UPDATE turn SET superseded = 1 WHERE id = ?", (turn,))
    db.execute(
        """
        UPDATE inbox SET state = 'new', attempts = 0, turn = NULL, error = '', received_at = max(?, received_at + 1),
                         ended_at = NULL
        WHERE id = ? OR (turn = ? AND body IS NOT NULL)
        """,
        (now, inbox, turn),
    )
    return True
