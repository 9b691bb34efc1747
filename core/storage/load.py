"""How much is pending, kept exact by triggers in memory: counting rows would cost more the more waits.

Temporary tables take part in transactions and savepoints, so the figures roll back with what they count.
"""

from __future__ import annotations

import sqlite3

_SETUP = """
CREATE TEMP TABLE load (pending INTEGER, bytes INTEGER);

INSERT INTO load
SELECT (SELECT count(*) FROM inbox WHERE state = 'new') + (SELECT count(*) FROM inbox WHERE state = 'running'),
       (SELECT coalesce(sum(bytes), 0) FROM inbox WHERE state = 'new')
         + (SELECT coalesce(sum(bytes), 0) FROM inbox WHERE state = 'running');

CREATE TEMP TRIGGER load_accepted AFTER INSERT ON main.inbox BEGIN
    UPDATE load SET pending = pending + 1, bytes = bytes + new.bytes;
END;

CREATE TEMP TRIGGER load_ended AFTER UPDATE OF state ON main.inbox
WHEN old.state IN ('new', 'running') AND new.state NOT IN ('new', 'running') BEGIN
    UPDATE load SET pending = pending - 1, bytes = bytes - old.bytes;
END;

CREATE TEMP TRIGGER load_reopened AFTER UPDATE OF state ON main.inbox
WHEN old.state NOT IN ('new', 'running') AND new.state IN ('new', 'running') BEGIN
    UPDATE load SET pending = pending + 1, bytes = bytes + new.bytes;
END;
"""


def watch_load(db: sqlite3.Connection) -> None:
    """Count once and keep counting. Called after opening."""
    db.executescript(_SETUP)
