"""The parts of a reply on their way to the platform."""

from __future__ import annotations

import sqlite3

from core.adapter import IdempotencyKey
from core.codes import without_codes
from core.journal import OutboxPart, OutboxState, PartId, TurnId
from core.messages import AccountId, ConversationKey, MessageId, ReplyAddress
from core.storage import statements
from core.storage.codec import moment, when


def unsent(db: sqlite3.Connection, conversation: ConversationKey) -> tuple[OutboxPart, ...]:
    """Oldest turn first, part by part."""
    return tuple(
        OutboxPart(
            id=PartId(id),
            turn=TurnId(turn),
            number=number,
            of=of,
            conversation=conversation,
            account=AccountId(account),
            reply_to=ReplyAddress(reply_to),
            text=text,
            failure=failure,
            key=IdempotencyKey(key),
            edits=MessageId(edits) if edits is not None else None,
            state=OutboxState(state),
            attempts=attempts,
            next_at=moment(next_at),
            created_at=moment(created_at),
            sending_at=when(sending_at),
            error=error,
            tells_code=bool(tells_code),
        )
        for (
            id,
            turn,
            number,
            of,
            account,
            reply_to,
            text,
            failure,
            key,
            edits,
            state,
            attempts,
            next_at,
            created_at,
            sending_at,
            error,
            tells_code,
        ) in db.execute(statements.UNSENT, (str(conversation),))
    )


def sending(db: sqlite3.Connection, part: int, now: int) -> None:
    """A part that is settled stays settled."""
    db.execute(statements.SENDING, (now, part))


def sent(db: sqlite3.Connection, part: OutboxPart, message: str | None, now: int) -> None:
    """With the last part the messages are done."""
    if not db.execute(statements.SENT, (now, message, part.id)).rowcount:
        return
    if part.tells_code:
        db.execute(statements.HIDE_CODE, (without_codes(part.text), part.id))
    if db.execute(statements.NOT_SENT, (part.turn,)).fetchone() is None:
        db.execute(statements.ROWS_DONE, (now, part.turn))


def postpone(db: sqlite3.Connection, part: int, state: OutboxState, until: int, error: str) -> None:
    """One more failed attempt."""
    db.execute(statements.POSTPONE, (state, until, error, part))


def hold(db: sqlite3.Connection, part: int, state: OutboxState, error: str) -> None:
    """No attempts are counted against it."""
    db.execute(statements.HOLD, (state, error, part))


def bury(db: sqlite3.Connection, turn: int, number: int, error: str, now: int) -> None:
    """This part, the ones after it, and the messages."""
    if db.execute(statements.BURY, (error, turn, number)).rowcount:
        db.execute(statements.ROWS_DEAD, (error, now, turn))


def retry_part(db: sqlite3.Connection, part: int, now: int) -> str | None:
    """The conversation that has work again."""
    found = db.execute(
        """
        SELECT outbox.turn, outbox.part, conversation.key
        FROM outbox JOIN conversation ON conversation.id = outbox.conversation
        WHERE outbox.id = ? AND outbox.state = 'dead'
        """,
        (part,),
    ).fetchone()
    if found is None:
        return None
    turn, number, key = found
    db.execute(
        """
        UPDATE outbox SET state = 'pending', attempts = 0, next_at = ?, error = ''
        WHERE turn = ? AND part >= ? AND state = 'dead'
        """,
        (now, turn, number),
    )
    db.execute(
        "UPDATE inbox SET state = 'answered', error = '', ended_at = NULL WHERE turn = ? AND state = 'dead'", (turn,)
    )
    return str(key)
