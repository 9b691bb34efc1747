"""What keeps the store small and its texts removable: retention, forgetting, backups, figures."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from core.archive import StorageFigures
from core.errors import ConfigError
from core.storage import links, people, spending, statements, summaries
from core.storage.opening import sync

DEDUP_MICROS = 7 * 86_400 * 1_000_000
"""How long the ids of a message are kept: platforms redeliver for hours, and people restore connections after days."""

_MICROS_OF_DAY = 86_400 * 1_000_000

_UNFINISHED = 1_000
"""Old rows that may still be unfinished at the low end of a table; a sweep looks that far past them."""


def sweep(db: sqlite3.Connection, older_than: int, most: int, now: int) -> int:
    """Remove what is finished and older; rows of the inbox lose their text first and their ids after 7 days."""
    links.remove_expired(db, now)
    people.remove_expired(db, now)
    return (
        _sweep_turns(db, older_than, most)
        + _sweep_inbox(db, min(older_than, now - DEDUP_MICROS), most)
        + _sweep_texts(db, older_than, most)
        + _sweep_usage(db, now, most)
    )


def _sweep_turns(db: sqlite3.Connection, older_than: int, most: int) -> int:
    old = db.execute(
        """
        SELECT id, conversation, generation FROM (SELECT * FROM turn ORDER BY id LIMIT ?) AS old
        WHERE ended_at < ? AND state <> 'running'
          AND NOT EXISTS (SELECT 1 FROM outbox WHERE outbox.turn = old.id
                          AND outbox.state IN ('pending', 'sending', 'unknown'))
        LIMIT ?
        """,
        (most + _UNFINISHED, older_than, most),
    ).fetchall()
    for turn, conversation, generation in old:
        db.execute("DELETE FROM outbox WHERE turn = ?", (turn,))
        if db.execute("DELETE FROM exchange WHERE turn = ?", (turn,)).rowcount:
            db.execute(
                "UPDATE conversation SET exchanges = exchanges - 1 WHERE id = ? AND generation = ?",
                (conversation, generation),
            )
            summaries.turn_swept(db, conversation, turn)
        db.execute("UPDATE inbox SET turn = NULL WHERE turn = ?", (turn,))
        db.execute("DELETE FROM turn WHERE id = ?", (turn,))
    return len(old)


def _sweep_inbox(db: sqlite3.Connection, older_than: int, most: int) -> int:
    """Rows whose ids are not needed any more, and the conversations of which they were the last."""
    old = db.execute(
        """
        SELECT id, conversation FROM (SELECT * FROM inbox ORDER BY id LIMIT ?)
        WHERE ended_at < ? AND state IN ('done', 'dead', 'expired') AND turn IS NULL LIMIT ?
        """,
        (most + _UNFINISHED, older_than, most),
    ).fetchall()
    db.executemany("DELETE FROM inbox WHERE id = ?", [(id,) for id, _ in old])
    emptied = 0
    for conversation in {conversation for _, conversation in old}:
        emptied += db.execute(
            """
            DELETE FROM conversation WHERE id = ?
              AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.conversation = conversation.id)
              AND NOT EXISTS (SELECT 1 FROM turn WHERE turn.conversation = conversation.id)
            """,
            (conversation,),
        ).rowcount
    return len(old) + emptied


def _sweep_texts(db: sqlite3.Connection, older_than: int, most: int) -> int:
    return db.execute(
        """
        UPDATE inbox SET body = NULL WHERE id IN (
            SELECT id FROM inbox WHERE ended_at IS NOT NULL AND body IS NOT NULL AND ended_at < ?
            ORDER BY ended_at LIMIT ?)
        """,
        (older_than, most),
    ).rowcount


def _sweep_usage(db: sqlite3.Connection, now: int, most: int) -> int:
    """Rows without texts, kept for longer."""
    return db.execute(
        """
        DELETE FROM usage WHERE (account, user, day) IN (
            SELECT account, user, day FROM usage WHERE day < ? LIMIT ?)
        """,
        (now // _MICROS_OF_DAY - spending.KEPT_DAYS, most),
    ).rowcount


def forget(db: sqlite3.Connection, key: str, now: int) -> int:
    """Remove every text of a conversation and fold the WAL in, so that no file has it. Runs outside a transaction.

    Messages that wait, or that run and are no commands, expire with it: there is nothing left to answer.
    """
    db.execute("BEGIN")
    turns = _forget(db, key, now)
    db.execute("COMMIT")
    truncate(db)
    return turns


def _forget(db: sqlite3.Connection, key: str, now: int) -> int:
    found = db.execute(statements.CONVERSATION, (key,)).fetchone()
    if found is None:
        return 0
    conversation = found[0]
    db.execute("DELETE FROM exchange WHERE conversation = ?", (conversation,))
    summaries.drop(db, conversation)
    db.execute("DELETE FROM outbox WHERE conversation = ?", (conversation,))
    spending.free_waiting(db, conversation)
    # A command that runs keeps its row and its turn: this may be the one that asks to forget.
    db.execute(
        """
        UPDATE inbox SET
            body = NULL, turn = NULL, error = '',
            ended_at = coalesce(ended_at, ?),
            state = CASE WHEN state IN ('new', 'running', 'answered') THEN 'expired' ELSE state END
        WHERE conversation = ? AND NOT (command = 1 AND state IN ('new', 'running'))
        """,
        (now, conversation),
    )
    gone = db.execute(
        """
        DELETE FROM turn WHERE conversation = ?
          AND NOT EXISTS (SELECT 1 FROM inbox WHERE inbox.turn = turn.id)
        RETURNING command
        """,
        (conversation,),
    ).fetchall()
    db.execute(
        """
        UPDATE conversation SET generation = generation + 1, exchanges = 0, title = NULL, person = ''
        WHERE id = ?
        """,
        (conversation,),
    )
    return sum(not command for (command,) in gone)


def truncate(db: sqlite3.Connection) -> None:
    """Fold the WAL into the file and empty it."""
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def figures(db: sqlite3.Connection, path: Path) -> StorageFigures:
    """Kept counts, and counts of small indexes."""
    pending, bytes = db.execute(statements.LOAD).fetchone()
    (running,) = db.execute("SELECT count(*) FROM inbox WHERE state = 'running'").fetchone()
    (unsent,) = db.execute("SELECT count(*) FROM outbox WHERE state IN ('pending', 'sending', 'unknown')").fetchone()
    (dead,) = db.execute("SELECT count(*) FROM inbox WHERE state = 'dead'").fetchone()
    files = (path, path.with_name(path.name + "-wal"))
    return StorageFigures(
        waiting=pending - running,
        running=running,
        unsent=unsent,
        dead=dead,
        pending_bytes=bytes,
        file_bytes=sum(file.stat().st_size for file in files if file.exists()),
    )


def backup(db: sqlite3.Connection, target: Path, between: Callable[[], None], *, pages: int = 256) -> int:
    """Copy the database in steps, with `between` called after each; the target appears whole or not.

    Writes that happen in between are in the copy. Raises ConfigError where the target exists or cannot be made.
    """
    part = target.with_name(target.name + ".part")
    if target.exists():
        raise ConfigError(f"backup: {str(target)!r} exists; name a new file")
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigError(f"backup: cannot create {str(part)!r}: {error.strerror}") from error
    try:
        copy = sqlite3.connect(part, isolation_level=None, check_same_thread=False)
        try:
            copy.execute("PRAGMA synchronous = OFF")  # synced once, below
            db.backup(copy, pages=pages, progress=lambda *_: between(), sleep=0)
        finally:
            copy.close()
        sync(part)
        try:
            os.link(part, target)  # unlike a rename, it never replaces
        except FileExistsError as error:
            raise ConfigError(f"backup: {str(target)!r} exists; name a new file") from error
        sync(target.parent)
    except OSError as error:
        raise ConfigError(f"backup: cannot write {str(part)!r}: {error.strerror}") from error
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise  # it is the database itself
        raise ConfigError(f"backup: cannot write {str(part)!r}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return target.stat().st_size
