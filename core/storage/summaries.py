"""Summaries of conversations: read with the exchanges after them, written only while they are still true."""

from __future__ import annotations

import sqlite3

from core.journal import Exchange, TurnId
from core.memory import Memory, Summary
from core.storage.codec import storable

_CURRENT = "SELECT id FROM conversation WHERE key = ? AND generation = ?"

_SUMMARY = "SELECT text, first, upto, turns FROM summary WHERE conversation = ? AND generation = ?"

_AFTER = """
SELECT turn, question, answer FROM exchange
WHERE conversation = ? AND generation = ? AND turn > ? ORDER BY turn DESC LIMIT ?"""

_BETWEEN = """
SELECT turn FROM exchange WHERE conversation = ? AND generation = ? AND turn BETWEEN ? AND ? ORDER BY turn"""


def memory(db: sqlite3.Connection, key: str, generation: int, most: int) -> Memory:
    """See core.memory.Memories."""
    found = db.execute(_CURRENT, (key, generation)).fetchone()
    if found is None:
        return Memory()
    (conversation,) = found
    summary = _summary(db, conversation, generation)
    after = 0 if summary is None else summary.upto
    rows = db.execute(_AFTER, (conversation, generation, after, most)).fetchall()
    exchanges = [Exchange(question=asked, answer=answer, turn=TurnId(turn)) for turn, asked, answer in reversed(rows)]
    return Memory(summary=summary, exchanges=tuple(exchanges))


def sum_up(
    db: sqlite3.Connection,
    key: str,
    generation: int,
    summary: Summary,
    instead_of: Summary | None,
    of: tuple[TurnId, ...],
) -> bool:
    """See core.memory.Memories."""
    found = db.execute(_CURRENT, (key, generation)).fetchone()
    if found is None or not of:
        return False
    (conversation,) = found
    if _summary(db, conversation, generation) != instead_of:
        return False
    if [turn for (turn,) in db.execute(_BETWEEN, (conversation, generation, of[0], of[-1]))] != list(of):
        return False
    drop(db, conversation)
    db.execute(
        "INSERT INTO summary (conversation, generation, first, upto, turns, text) VALUES (?, ?, ?, ?, ?, ?)",
        (conversation, generation, summary.first, summary.upto, summary.turns, storable(summary.text)),
    )
    return True


def count(db: sqlite3.Connection, conversation: int, generation: int) -> int:
    """How many turns are summed up."""
    summary = _summary(db, conversation, generation)
    return 0 if summary is None else summary.turns


def drop(db: sqlite3.Connection, conversation: int) -> None:
    """The conversation starts afresh, or is forgotten."""
    db.execute("DELETE FROM summary WHERE conversation = ?", (conversation,))


def turn_swept(db: sqlite3.Connection, conversation: int, turn: int) -> None:
    """Texts of that age go, and what was made of them."""
    db.execute("DELETE FROM summary WHERE conversation = ? AND first <= ?", (conversation, turn))


def turn_replaced(db: sqlite3.Connection, conversation: int, turn: int) -> None:
    """Its exchange was answered anew: what was said before must not live on in a summary."""
    db.execute("DELETE FROM summary WHERE conversation = ? AND upto >= ?", (conversation, turn))


def _summary(db: sqlite3.Connection, conversation: int, generation: int) -> Summary | None:
    found = db.execute(_SUMMARY, (conversation, generation)).fetchone()
    if found is None:
        return None
    text, first, upto, turns = found
    return Summary(text=text, first=TurnId(first), upto=TurnId(upto), turns=turns)
