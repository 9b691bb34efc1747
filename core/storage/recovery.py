"""What an earlier process left, made ready to begin again: what the connection does for recover."""

from __future__ import annotations

import sqlite3

from core.storage import spending


def recover(db: sqlite3.Connection, *, resuming: bool) -> tuple[list[str], list[tuple[int, str]]]:
    """Running rows wait again, with their turn. The conversations with work, oldest first, and the commands."""
    db.execute("UPDATE turn SET epoch = epoch + 1 WHERE id IN (SELECT turn FROM inbox WHERE state = 'running')")
    db.execute("UPDATE inbox SET state = 'new' WHERE state = 'running'")
    if resuming:
        spending.set_aside_again(db)
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
