"""From an accepted message to a turn: what the connection does for begin, release and their like."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass, replace

from core.budgets import NOBODY, Ahead, Budgets, Exhausted, Payers, Spent
from core.journal import InboxId, InboxRow, Turn, TurnId
from core.messages import AccountId, ConversationKey, MessageId, Person, UserId
from core.storage import spending, statements, summaries
from core.storage.codec import decode, moment, name, storable

Chosen = tuple[str | None, str | None]
"""The model and the persona that a conversation chose."""

Conversation = tuple[int, int, str | None, int, int | None, str | None, str | None]
"""As statements.CONVERSATION finds one: id, generation, model, exchanges, last_active, title, persona."""

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
    payers: Payers = NOBODY
    exhausted: Exhausted | None = None

    def turn(self, rows: tuple[InboxRow, ...] | None = None, conversation: ConversationKey | None = None) -> Turn:
        """The same, decoded; `rows` and `conversation` where they are decoded already."""
        return Turn(
            id=TurnId(self.id),
            key=self.key,
            epoch=self.epoch,
            conversation=conversation or ConversationKey.parse(self.conversation),
            generation=self.generation,
            model=self.model,
            persona=self.persona,
            rows=tuple(to_row(row, begun=1) for row in self.rows) if rows is None else rows,
            preview=MessageId(self.preview) if self.preview is not None else None,
            payers=self.payers,
            exhausted=self.exhausted,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """How a turn is to be begun."""

    key: str
    """Of the conversation."""
    most: int
    idle: int | None
    """Microseconds."""
    budgets: Budgets
    ahead: Ahead
    now: int
    today: int
    instance: str
    """Names the database."""


def begin(db: sqlite3.Connection, beginning: Beginning) -> Begun | None:
    """The next turn of a conversation. Raises BudgetInUse."""
    found: Conversation | None = db.execute(statements.CONVERSATION, (beginning.key,)).fetchone()
    if found is None:
        return None
    conversation, generation, model, exchanges, _, _, persona = found
    (broken,) = db.execute(statements.BROKEN_OFF, (conversation,)).fetchone()
    if broken is not None:
        rows = db.execute(statements.ROWS_OF_TURN, (broken,)).fetchall()
        begun = _resume(db, broken, beginning.key, (model, persona), rows)
        if not spending.is_set_aside(db, broken):
            begun = _afford_again(db, beginning, begun)
        return _mark_running(db, begun, conversation, generation, exchanges, beginning.now)
    waiting = db.execute(statements.WAITING, (conversation, beginning.most)).fetchall()
    if not waiting:
        return None
    account, user = waiting[0][4:]
    payers = spending.payers_of(db, account, user)
    rows = [row[:4] for row in _of_one_person(db, waiting, payers)]
    return start(db, beginning, found, rows, Person(AccountId(account), UserId(user)), payers)


def start(
    db: sqlite3.Connection,
    beginning: Beginning,
    found: Conversation,
    rows: list[RawRow],
    person: Person,
    payers: Payers,
    display_name: str | None = None,
) -> Begun:
    """A new turn for these rows of one person. Raises BudgetInUse, before anything is written."""
    conversation, generation, model, exchanges, last_active, _, persona = found
    reserve, exhausted = _afford(db, beginning, person, payers, model, rows)
    if beginning.idle is not None and last_active is not None and rows[0][2] - last_active > beginning.idle:
        generation, exchanges = generation + 1, 0
        summaries.drop(db, conversation)
    begun = _start(
        db,
        conversation,
        beginning.key,
        generation,
        (model, persona),
        rows,
        beginning.now,
        beginning.instance,
        payers=payers,
        exhausted=exhausted,
        reserve=None if exhausted is not None else reserve,
    )
    if exhausted is None:
        spending.set_aside(db, begun.id, payers, reserve)
    return _mark_running(db, begun, conversation, generation, exchanges, beginning.now, display_name)


def _of_one_person(
    db: sqlite3.Connection, waiting: list[tuple[int, str, int, int, str, str]], payers: Payers
) -> list[tuple[int, str, int, int, str, str]]:
    """As many of the oldest as one person wrote: in a shared conversation nobody pays for what others ask."""
    first = waiting[0][4:]
    for number, row in enumerate(waiting):
        if row[4:] != first and spending.payers_of(db, *row[4:]) != payers:
            return waiting[:number]
    return waiting


def _afford(
    db: sqlite3.Connection,
    beginning: Beginning,
    person: Person,
    payers: Payers,
    model: str | None,
    rows: list[RawRow],
) -> tuple[Spent, Exhausted | None]:
    """What is to be set aside, or the budget of which nothing is left. Raises BudgetInUse."""
    budgets = beginning.budgets
    exhausted = spending.exhausted(db, budgets, person, payers, beginning.today, messages=False)
    reserve = budgets.reserve(model, sum(len(row[1]) for row in rows))
    if exhausted is None:
        spending.check_room(db, budgets, person, payers, reserve, beginning.today, beginning.ahead)
    return reserve, exhausted


def _afford_again(db: sqlite3.Connection, beginning: Beginning, begun: Begun) -> Begun:
    """A turn that was put back, or for which nothing was left, is begun again like a new one. Raises BudgetInUse."""
    sender = decode(begun.rows[-1][1])
    person = Person(sender.account, sender.sender.id)
    payers = begun.payers
    if payers is NOBODY:  # of an older version
        payers = spending.payers_of(db, name(person.account), name(person.user))
    reserve, exhausted = _afford(db, beginning, person, payers, begun.model, begun.rows)
    if exhausted is None:
        spending.set_aside(db, begun.id, payers, reserve)
        db.execute(statements.SET_ASIDE_ANEW, (*payers.person, payers.account, reserve.tokens, reserve.money, begun.id))
    return replace(begun, payers=payers, exhausted=exhausted)


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
        begun = _start(db, conversation, key, generation, (model, persona), rows, now, instance, payers=None)
    db.execute(statements.RUN_ROW, (begun.id, id))
    return begun


def turn_key(instance: str, first: RawRow) -> str:
    """The key of the turn that begins with row `first`: 20 hexadecimal digits.

    Made from the row, so that a beginning that a power failure took back gets the same key again; and from the time
    it was received, so that neither a reopened row nor a restored backup repeats a key that a platform has seen.
    It begins with the row's id: keys that grow go to the end of their indexes, random ones would touch a page each.
    """
    id, _, received, _ = first
    return f"{id:010x}{hashlib.blake2b(f'{instance}/{id}/{received}'.encode(), digest_size=5).hexdigest()}"


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
    payers: Payers | None,
    exhausted: Exhausted | None = None,
    reserve: Spent | None = None,
) -> Begun:
    """`payers` is None for a command."""
    name = turn_key(instance, rows[0])
    paid = (None, None, None) if payers is None else (*payers.person, payers.account)
    aside = (None, None) if reserve is None else (reserve.tokens, reserve.money)
    values = (name, conversation, generation, payers is None, now, *paid, *aside)
    turn = db.execute(statements.ADD_TURN, values).lastrowid or 0
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
        payers=payers or NOBODY,
        exhausted=exhausted,
    )


def _resume(db: sqlite3.Connection, turn: int, key: str, chosen: Chosen, rows: list[RawRow]) -> Begun:
    db.execute(statements.NEXT_OWNER, (turn,))
    name, epoch, generation, preview, *paid = db.execute(statements.TURN_TO_RESUME, (turn,)).fetchone()
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
        payers=payers_from(*paid),
    )


def payers_from(payer_account: str | None, payer_user: str | None, account: str | None) -> Payers:
    """As a turn has them."""
    if payer_account is None or payer_user is None or account is None:
        return NOBODY
    return Payers(person=Person(AccountId(payer_account), UserId(payer_user)), account=AccountId(account))


def _mark_running(
    db: sqlite3.Connection,
    begun: Begun,
    conversation: int,
    generation: int,
    exchanges: int,
    now: int,
    display_name: str | None = None,
) -> Begun:
    db.executemany(statements.RUN_ROW, [(begun.id, row[0]) for row in begun.rows])
    person = decode(begun.rows[-1][1]).sender.display_name if display_name is None else display_name
    db.execute(statements.TURN_BEGAN, (generation, exchanges, now, storable(person), conversation))
    return begun


def release(
    db: sqlite3.Connection, turn: int, epoch: int, *, payers: Payers, spent: Spent | None = None, today: int = 0
) -> None:
    """The rows of a turn wait again. A turn that was begun before, or shows something, keeps its identity."""
    found = db.execute(statements.RUNNING_TURN, (turn, epoch)).fetchone()
    if found is None:
        spending.charge_forgotten(db, turn, payers, spent, today)
        return
    if spent is not None:
        spending.charge(db, payers, spent, today)
    spending.free(db, turn)
    shown = epoch > 1 or found[2] is not None
    db.execute(
        "UPDATE inbox SET state = 'new', attempts = attempts - 1, turn = ? WHERE turn = ? AND state = 'running'",
        (turn if shown else None, turn),
    )
    if shown:
        db.execute(statements.NEXT_OWNER, (turn,))  # the one that gave it back does not own it any more
        db.execute(statements.NOTHING_ASIDE, (turn,))  # nor over a restart: it is begun again like a new one
    else:
        db.execute("DELETE FROM turn WHERE id = ?", (turn,))


def renew(db: sqlite3.Connection, key: str, before: int | None, now: int) -> list[RawRow]:
    """A new generation; the rows that expired."""
    found = db.execute(statements.CONVERSATION, (key,)).fetchone()
    if found is None:
        return []
    db.execute("UPDATE conversation SET generation = generation + 1, exchanges = 0 WHERE id = ?", (found[0],))
    summaries.drop(db, found[0])
    rows = _waiting(db, found[0])
    return _expire(
        db, [row for row in rows if before is None or row[0] < before], now, "superseded by a new conversation"
    )


def expire(db: sqlite3.Connection, key: str, received_before: int, account: str, now: int) -> list[RawRow]:
    """The rows of this account that were too old."""
    found = db.execute(statements.CONVERSATION, (key,)).fetchone()
    if found is None:
        return []
    rows = _waiting(db, found[0])
    late = [row for row in rows if row[2] < received_before and decode(row[1]).account == account]
    return _expire(db, late, now, "too old when its turn came")


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
