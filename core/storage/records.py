"""What people look up: sessions, turns, traces, dead letters, keys."""

from __future__ import annotations

import sqlite3
from typing import Literal

from core.adapter import Place
from core.archive import ApiKey, DeadLetter, SessionInfo, StoredTurn, TraceStep, Waiting
from core.journal import InboxId, TurnId, TurnState
from core.messages import AccountId, ConversationKey, MessageId
from core.storage.codec import decode, micros, moment, when
from core.storage.turns import question, reply_text

LETTER_LENGTH = 200

PLACES = "SELECT body, received_at FROM inbox WHERE account = ? ORDER BY id DESC LIMIT 1000"


def sessions(
    db: sqlite3.Connection, account: str | None, channel: str | None, user: str | None, limit: int
) -> list[SessionInfo]:
    """Sessions that match everything that is given."""
    wanted = [
        (column, value) for column, value in (("account", account), ("channel", channel), ("user", user)) if value
    ]
    where = "".join(f" AND {column} = ?" for column, _ in wanted)
    rows = db.execute(
        f"""
        SELECT key, title, person, model, exchanges, created_at, last_active FROM conversation
        WHERE title IS NOT NULL{where} ORDER BY last_active DESC, id DESC LIMIT ?
        """,  # noqa: S608 - column names of our own
        (*(value for _, value in wanted), limit),
    ).fetchall()
    return [
        SessionInfo(
            key=ConversationKey.parse(key),
            title=title,
            person=person,
            model=model,
            turns=exchanges,
            created_at=moment(created),
            last_active=moment(active if active is not None else created),
        )
        for key, title, person, model, exchanges, created, active in rows
    ]


def turns(db: sqlite3.Connection, key: str, limit: int) -> list[StoredTurn]:
    """Not those that a later one answers again."""
    rows = db.execute(
        """
        SELECT turn.id, turn.generation, turn.state, turn.failure, turn.model, turn.started_at, turn.ended_at,
               exchange.answer
        FROM turn LEFT JOIN exchange ON exchange.turn = turn.id
        WHERE turn.conversation = (SELECT id FROM conversation WHERE key = ?) AND turn.superseded = 0
          AND turn.state <> 'command' AND NOT (turn.command = 1 AND turn.state = 'running')
        ORDER BY turn.id DESC LIMIT ?
        """,
        (key, limit),
    ).fetchall()
    return [
        StoredTurn(
            id=TurnId(id),
            generation=generation,
            state=TurnState(state),
            question=question(db, id),
            answer=answer if answer is not None else reply_text(db, id),
            failure=failure,
            model=model,
            started_at=moment(started),
            ended_at=when(ended),
            messages=_messages(db, id),
        )
        for id, generation, state, failure, model, started, ended, answer in reversed(rows)
    ]


def _messages(db: sqlite3.Connection, turn: int) -> tuple[MessageId, ...]:
    rows = db.execute("SELECT message FROM inbox WHERE turn = ? ORDER BY id", (turn,))
    return tuple(MessageId(message) for (message,) in rows)


def waiting(db: sqlite3.Connection, key: str) -> list[Waiting]:
    """No commands."""
    rows = db.execute(
        """
        SELECT id, body, received_at FROM inbox
        WHERE conversation = (SELECT id FROM conversation WHERE key = ?) AND command = 0 AND state = 'new' ORDER BY id
        """,
        (key,),
    ).fetchall()
    return [Waiting(id=InboxId(id), message=decode(body), received_at=moment(at)) for id, body, at in rows]


def places(db: sqlite3.Connection, account: str, since: int, limit: int) -> list[Place]:
    """Each with its newest message."""
    found: dict[tuple[str, str | None], Place] = {}
    for body, received in db.execute(PLACES, (account,)):
        if body is None or received < since:
            continue
        message = decode(body)
        where = (message.channel, message.thread)
        if where not in found:
            found[where] = Place(
                channel=message.channel,
                thread=message.thread,
                is_direct=message.is_direct,
                reply_to=message.reply_to,
                last=moment(received),
            )
            if len(found) == limit:
                break
    return list(found.values())


_What = Literal["received", "turn started", "model done", "sending", "sent", "waiting", "dead", "expired", "failed"]


def trace(db: sqlite3.Connection, inbox: int) -> list[TraceStep]:
    """In the order of time; empty for a row that does not exist."""
    found = db.execute(
        """
        SELECT inbox.received_at, inbox.state, inbox.attempts, inbox.error, inbox.ended_at,
               turn.id, turn.started_at, turn.ended_at, turn.state, turn.model, turn.input_tokens, turn.output_tokens,
               turn.error
        FROM inbox LEFT JOIN turn ON turn.id = inbox.turn WHERE inbox.id = ?
        """,
        (inbox,),
    ).fetchone()
    if found is None:
        return []
    received, state, attempts, error, ended, turn, started, finished, turn_state, model, tokens_in, tokens_out, why = (
        found
    )
    steps = [_step(received, "received")]
    if turn is not None:
        steps.append(_step(started, "turn started", f"attempt {attempts}" if attempts > 1 else ""))
        if finished is not None:
            if turn_state == "failed":
                steps.append(_step(finished, "failed", why))
            elif turn_state != "expired":
                spent = f"{tokens_in} + {tokens_out} tokens" if tokens_in is not None else ""
                steps.append(_step(finished, "model done", ", ".join(filter(None, (model, spent)))))
        steps += _parts(db, turn, ended)
    if state == "expired":
        steps.append(_step(ended, "expired", error))
    elif state == "dead":
        steps.append(_step(ended, "dead", error))
    return sorted(steps, key=lambda step: step.at)


def _parts(db: sqlite3.Connection, turn: int, ended: int | None) -> list[TraceStep]:
    steps = []
    for part, of, state, attempts, next_at, sending_at, sent_at, message, error in db.execute(
        """
        SELECT part, parts, state, attempts, next_at, sending_at, sent_at, platform_message, error
        FROM outbox WHERE turn = ? ORDER BY part
        """,
        (turn,),
    ):
        number = f"part {part + 1} of {of}"
        if sending_at is not None:
            steps.append(_step(sending_at, "sending", number))
        if state == "sent":
            steps.append(_step(sent_at, "sent", f"{number}, message {message}" if message is not None else number))
        elif state == "dead":
            steps.append(_step(ended if ended is not None else next_at, "dead", f"{number}: {error}"))
        elif attempts:
            steps.append(_step(next_at, "waiting", f"{number}, after attempt {attempts}: {error}"))
    return steps


def _step(at: int, what: _What, detail: str = "") -> TraceStep:
    return TraceStep(at=moment(at), what=what, detail=detail)


def dead_letters(db: sqlite3.Connection, limit: int) -> list[DeadLetter]:
    """Messages without a reply, and the first dead part of each reply: retrying it takes the later ones along."""
    rows = db.execute(
        """
        SELECT 'in-' || inbox.id, inbox.account, conversation.key, inbox.body, inbox.error, inbox.ended_at AS at
        FROM inbox JOIN conversation ON conversation.id = inbox.conversation
        WHERE inbox.state = 'dead'
          AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.turn = inbox.turn AND outbox.state = 'dead')
        ORDER BY inbox.ended_at DESC, inbox.id DESC LIMIT ?
        """,
        (limit,),
    ).fetchall()
    parts = db.execute(
        """
        SELECT 'out-' || outbox.id, outbox.account, conversation.key, outbox.body, outbox.error,
               coalesce((SELECT max(ended_at) FROM inbox WHERE inbox.turn = outbox.turn), outbox.next_at) AS at
        FROM outbox JOIN conversation ON conversation.id = outbox.conversation
        WHERE outbox.state = 'dead'
          AND outbox.part = (SELECT min(part) FROM outbox AS o WHERE o.turn = outbox.turn AND o.state = 'dead')
        ORDER BY outbox.turn DESC LIMIT ?
        """,
        (limit,),
    ).fetchall()
    letters = [
        (at, id, account, key, decode(text).text if id.startswith("in-") and text else text or "", reason)
        for id, account, key, text, reason, at in rows + parts
    ]
    letters.sort(key=lambda letter: letter[0], reverse=True)
    return [
        DeadLetter(
            id=id,
            account=AccountId(account),
            conversation=ConversationKey.parse(key),
            text=text[:LETTER_LENGTH],
            reason=reason,
            at=moment(at),
        )
        for at, id, account, key, text, reason in letters[:limit]
    ]


def conversation_of(db: sqlite3.Connection, inbox: int) -> ConversationKey | None:
    """Whose message this is."""
    found = db.execute(
        """
        SELECT conversation.key FROM inbox JOIN conversation ON conversation.id = inbox.conversation
        WHERE inbox.id = ?
        """,
        (inbox,),
    ).fetchone()
    return ConversationKey.parse(found[0]) if found is not None else None


def api_keys(db: sqlite3.Connection) -> list[tuple[ApiKey, bytes]]:
    """In the order they were made."""
    rows = db.execute(
        "SELECT id, name, namespace, scopes, created_at, revoked_at, digest FROM api_key ORDER BY created_at, id"
    ).fetchall()
    return [
        (
            ApiKey(
                id=id,
                name=name,
                namespace=namespace,
                scopes=tuple(scopes.split()),
                created_at=moment(created),
                revoked_at=when(revoked),
            ),
            digest,
        )
        for id, name, namespace, scopes, created, revoked, digest in rows
    ]


def add_api_key(db: sqlite3.Connection, key: ApiKey, digest: bytes) -> None:
    """Raises sqlite3.IntegrityError for an id or a digest that is there already."""
    db.execute(
        "INSERT INTO api_key (id, name, namespace, scopes, digest, created_at, revoked_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            key.id,
            key.name,
            key.namespace,
            " ".join(key.scopes),
            digest,
            micros(key.created_at),
            micros(key.revoked_at) if key.revoked_at is not None else None,
        ),
    )


def revoke_api_key(db: sqlite3.Connection, id: str, now: int) -> bool:
    """False where there is none to revoke."""
    return db.execute("UPDATE api_key SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (now, id)).rowcount > 0
