"""The end of a turn, and what a conversation is known by."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from core.adapter import IdempotencyKey
from core.budgets import Spent
from core.chat import Usage
from core.codes import without_codes
from core.journal import (
    ConversationState,
    InboxId,
    InboxState,
    LastTurn,
    OutboxPart,
    OutboxState,
    Outcome,
    PartId,
    Reached,
    Turn,
    TurnId,
    TurnState,
)
from core.messages import (
    AccountId,
    ChannelId,
    ConversationKey,
    EventId,
    InboundMessage,
    MessageId,
    ReplyAddress,
    Sender,
    UserId,
)
from core.storage import spending, statements, summaries
from core.storage.admission import add_conversation
from core.storage.codec import decode, encode, moment, name, storable, when
from core.storage.inbound import payers_from

BETWEEN_QUESTIONS = "\n\n"
"""Between messages that were answered together, where they are read as one question."""


def finish(db: sqlite3.Connection, turn: Turn, outcome: Outcome, now: int, today: int) -> tuple[OutboxPart, ...]:
    """Everything that ends a turn. Does nothing for a turn that has another owner or has ended."""
    found = db.execute(statements.RUNNING_TURN, (turn.id, turn.epoch)).fetchone()
    spent = spent_by(outcome)
    if found is None:
        spending.charge_forgotten(db, turn.id, turn.payers, spent, today)
        return ()
    conversation, generation, preview, *paid = found
    if spent is not None:
        spending.charge(db, payers_from(*paid), spent, today)
    current = turn.generation == generation
    late = not current and outcome.state not in (TurnState.COMMAND, TurnState.STOPPED)
    if late:
        _end(db, turn, outcome, TurnState.EXPIRED, InboxState.EXPIRED, now, "the conversation was begun anew meanwhile")
        return ()
    parts = () if outcome.dead else _add_parts(db, turn, outcome, conversation, preview, now)
    _end(db, turn, outcome, outcome.state, _row_state(outcome, parts), now, storable(outcome.error))
    grown = 0
    if outcome.replaces is not None:
        grown -= db.execute(statements.REMOVE_EXCHANGE, (outcome.replaces, conversation, generation)).rowcount
        db.execute(statements.SUPERSEDE, (outcome.replaces, conversation))
        summaries.turn_replaced(db, conversation, outcome.replaces)
    if outcome.exchange is not None and current:
        question, answer = storable(outcome.exchange.question), storable(outcome.exchange.answer)
        db.execute(statements.ADD_EXCHANGE, (turn.id, conversation, turn.generation, question, answer))
        grown += 1
    if outcome.state is not TurnState.COMMAND:
        db.execute(statements.TURN_ENDED, (grown, now, conversation))
    return parts


def spent_by(outcome: Outcome) -> Spent | None:
    """What is charged for a turn."""
    if outcome.spent is not None or outcome.usage is None:
        return outcome.spent
    return Spent(outcome.usage.input_tokens + outcome.usage.output_tokens)


def _row_state(outcome: Outcome, parts: tuple[OutboxPart, ...]) -> InboxState:
    if outcome.dead:
        return InboxState.DEAD
    if parts:
        return InboxState.DONE if outcome.kept else InboxState.ANSWERED
    return InboxState.EXPIRED if outcome.state is TurnState.EXPIRED else InboxState.DONE


def _end(
    db: sqlite3.Connection, turn: Turn, outcome: Outcome, state: TurnState, row: InboxState, now: int, error: str
) -> None:
    usage = outcome.usage
    db.execute(
        statements.END_TURN,
        (
            state,
            outcome.model,
            usage.input_tokens if usage is not None else None,
            usage.output_tokens if usage is not None else None,
            outcome.spent.money if outcome.spent is not None else None,
            error,
            storable(outcome.failure),
            outcome.replaces,
            now,
            turn.id,
        ),
    )
    if outcome.kept_text:
        kept = replace(turn.last, text=outcome.kept_text, quoted=None)
        db.execute("UPDATE inbox SET body = ? WHERE turn = ?", (encode(kept), turn.id))
    ended = None if row is InboxState.ANSWERED else now
    db.execute(statements.END_ROWS, (row, error if row is not InboxState.DONE else "", ended, turn.id))


def _add_parts(
    db: sqlite3.Connection, turn: Turn, outcome: Outcome, conversation: int, preview: str | None, now: int
) -> tuple[OutboxPart, ...]:
    last = turn.last
    reply_to = storable(last.reply_to)
    state = OutboxState.SENT if outcome.kept else OutboxState.PENDING
    parts = []
    for number, text in enumerate(map(storable, outcome.parts)):
        failure = storable(outcome.failure) if number == 0 else ""
        edits = preview if number == 0 else None
        key = turn.part_key(number)
        tells_code = bool(outcome.kept_text) and without_codes(text) != text
        added = db.execute(
            statements.ADD_PART,
            (
                turn.id,
                number,
                len(outcome.parts),
                conversation,
                name(last.account),
                reply_to,
                text,
                failure,
                key,
                edits,
                state,
                now,
                now,
                now if outcome.kept else None,
                tells_code,
            ),
        )
        parts.append(
            OutboxPart(
                id=PartId(added.lastrowid or 0),
                turn=turn.id,
                number=number,
                of=len(outcome.parts),
                conversation=turn.conversation,
                account=last.account,
                reply_to=ReplyAddress(reply_to),
                text=text,
                failure=failure,
                key=IdempotencyKey(key),
                edits=MessageId(edits) if edits is not None else None,
                state=state,
                attempts=0,
                next_at=moment(now),
                created_at=moment(now),
                tells_code=tells_code,
            )
        )
    return tuple(parts)


def state(db: sqlite3.Connection, key: str) -> ConversationState:
    """A conversation that nobody wrote in is in its first generation."""
    found = db.execute(statements.CONVERSATION, (key,)).fetchone()
    if found is None:
        return ConversationState(generation=1, model=None, persona=None, turns=0, last_active=None)
    conversation, generation, model, exchanges, last_active, _, persona = found
    return ConversationState(
        generation=generation,
        model=model,
        persona=persona,
        turns=exchanges,
        summed_up=summaries.count(db, conversation, generation),
        last_active=when(last_active),
    )


def choose_model(db: sqlite3.Connection, key: str, model: str | None, now: int) -> None:
    """Also for a conversation that nobody wrote in yet."""
    db.execute("UPDATE conversation SET model = ? WHERE id = ?", (model, _known_or_added(db, key, now)))


def choose_persona(db: sqlite3.Connection, key: str, persona: str | None, now: int) -> None:
    """Also for a conversation that nobody wrote in yet."""
    db.execute("UPDATE conversation SET persona = ? WHERE id = ?", (persona, _known_or_added(db, key, now)))


def _known_or_added(db: sqlite3.Connection, key: str, now: int) -> int:
    found = db.execute(statements.CONVERSATION, (key,)).fetchone()
    return int(found[0]) if found is not None else add_conversation(db, ConversationKey.parse(key), now)


def question(db: sqlite3.Connection, turn: int) -> str:
    """What a turn was asked: of a repeated one, what the first was asked; else what its messages say."""
    seen = set()
    while turn not in seen:
        seen.add(turn)
        found = db.execute(
            """
            SELECT exchange.question, turn.replaces FROM turn LEFT JOIN exchange ON exchange.turn = turn.id
            WHERE turn.id = ?
            """,
            (turn,),
        ).fetchone()
        if found is None:
            return ""
        asked, replaces = found
        if asked is not None:
            return str(asked)
        if replaces is None:
            break
        turn = replaces
    rows = db.execute("SELECT body FROM inbox WHERE turn = ? AND body IS NOT NULL ORDER BY id", (turn,)).fetchall()
    return BETWEEN_QUESTIONS.join(decode(body).text for (body,) in rows)


def reply_text(db: sqlite3.Connection, turn: int) -> str:
    """The parts of a turn's reply, joined; of a reply that was shown without parts, the answer in the history."""
    parts = db.execute("SELECT body FROM outbox WHERE turn = ? ORDER BY part", (turn,)).fetchall()
    if parts:
        return "".join(body for (body,) in parts)
    answer = db.execute("SELECT answer FROM exchange WHERE turn = ?", (turn,)).fetchone()
    return str(answer[0]) if answer is not None else ""


def last_turn(db: sqlite3.Connection, key: str) -> LastTurn | None:
    """The newest turn that ended; no commands; a repeated question counts as one."""
    found = db.execute(
        """
        SELECT turn.id, turn.state FROM turn JOIN conversation ON conversation.id = turn.conversation
        WHERE conversation.key = ? AND turn.generation = conversation.generation AND turn.superseded = 0
          AND turn.state NOT IN ('command', 'running')
        ORDER BY turn.id DESC LIMIT 1
        """,
        (key,),
    ).fetchone()
    if found is None:
        return None
    id, state = found
    return LastTurn(id=TurnId(id), state=TurnState(state), question=question(db, id))


def reached(db: sqlite3.Connection, account: str, event: str) -> Reached | None:
    """How far a message has come; of one whose text was removed, its ids alone."""
    found = db.execute(
        """
        SELECT inbox.id, inbox.state, inbox.body, inbox.channel, inbox.message, inbox.user, inbox.received_at,
               turn.id, turn.state, turn.failure, turn.model, turn.input_tokens, turn.output_tokens
        FROM inbox LEFT JOIN turn ON turn.id = inbox.turn
        WHERE inbox.account = ? AND inbox.event = ?
        """,
        (account, event),
    ).fetchone()
    if found is None:
        return None
    id, state, body, channel, message, user, received, turn, turn_state, failure, model, tokens_in, tokens_out = found
    if body is not None:
        inbound = decode(body)
    else:
        inbound = InboundMessage(
            id=MessageId(message),
            event=EventId(event),
            account=AccountId(account),
            sender=Sender(id=UserId(user)),
            channel=ChannelId(channel),
            is_direct=False,
            mentions_bot=False,
            text="",
            sent_at=moment(received),
            reply_to=ReplyAddress(""),
        )
    return Reached(
        inbox=InboxId(id),
        state=InboxState(state),
        turn_state=TurnState(turn_state) if turn_state is not None else None,
        body=inbound,
        text=reply_text(db, turn) if turn is not None else "",
        failure=failure or "",
        usage=Usage(tokens_in, tokens_out) if tokens_in is not None else None,
        model=model,
    )
