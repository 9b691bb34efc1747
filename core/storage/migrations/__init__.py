"""Numbered SQL files and the code that applies them. The version of a database is its `PRAGMA user_version`."""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path


@cache
def scripts() -> tuple[str, ...]:
    """The SQL of every version, the first first. Raises RuntimeError where a number is missing."""
    files = sorted(Path(__file__).parent.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    if [int(file.name[:4]) for file in files] != list(range(1, len(files) + 1)):
        raise RuntimeError(f"migrations are not numbered without gaps: {[file.name for file in files]}")
    return tuple(file.read_text(encoding="utf-8") for file in files)


def newest() -> int:
    """The version that this program works with."""
    return len(scripts())


def migrate(db: sqlite3.Connection) -> None:
    """Bring a database to the newest version in one transaction: all of it or nothing. Raises sqlite3.Error."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version >= newest():
        return
    steps = "\n".join(scripts()[version:])
    try:
        db.executescript(f"BEGIN IMMEDIATE;\n{steps}\nPRAGMA user_version = {newest()};\nCOMMIT;")
    except sqlite3.Error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
