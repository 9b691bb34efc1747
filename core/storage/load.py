"""How much waits and runs, kept exact by triggers in memory: a count of rows would grow with what is stored.

Temporary tables take part in transactions and savepoints, so the figures roll back with what they count.
"""

from __future__ import annotations

import sqlite3

_SETUP = """
CREATE TEMP TABLE load (waiting INTEGER, running INTEGER, bytes INTEGER, unsent INTEGER, dead INTEGER);

INSERT INTO load
SELECT (SELECT count(*) FROM inbox WHERE state = 'new'),
       (SELECT count(*) FROM inbox WHERE state = 'running'),
       (SELECT coalesce(sum(bytes), 0) FROM inbox WHERE state = 'new')
         + (SELECT coalesce(sum(bytes), 0) FROM inbox WHERE state = 'running'),
       (SELECT count(*) FROM outbox WHERE state IN ('pending', 'sending', 'unknown')),
       (SELECT count(*) FROM inbox WHERE state = 'dead');

CREATE TEMP TRIGGER load_accepted AFTER INSERT ON main.inbox BEGIN
    UPDATE load SET waiting = waiting + 1, bytes = bytes + new.bytes;
END;

CREATE TEMP TRIGGER load_moved AFTER UPDATE OF state ON main.inbox WHEN old.state <> new.state BEGIN
    UPDATE load SET
        waiting = waiting + (new.state = 'new') - (old.state = 'new'),
        running = running + (new.state = 'running') - (old.state = 'running'),
        bytes = bytes + new.bytes * (new.state IN ('new', 'running')) - old.bytes * (old.state IN ('new', 'running')),
        dead = dead + (new.state = 'dead') - (old.state = 'dead');
END;

CREATE TEMP TRIGGER load_removed AFTER DELETE ON main.inbox WHEN old.state = 'dead' BEGIN
    UPDATE load SET dead = dead - 1;
END;

CREATE TEMP TRIGGER load_part_added AFTER INSERT ON main.outbox BEGIN
    UPDATE load SET unsent = unsent + 1;
END;

CREATE TEMP TRIGGER load_part_moved AFTER UPDATE OF state ON main.outbox
WHEN (old.state IN ('pending', 'sending', 'unknown')) <> (new.state IN ('pending', 'sending', 'unknown')) BEGIN
    UPDATE load SET unsent = unsent + (new.state IN ('pending', 'sending', 'unknown'))
                                    - (old.state IN ('pending', 'sending', 'unknown'));
END;

CREATE TEMP TRIGGER load_part_removed AFTER DELETE ON main.outbox
WHEN old.state IN ('pending', 'sending', 'unknown') BEGIN
    UPDATE load SET unsent = unsent - 1;
END;
"""


def watch_load(db: sqlite3.Connection) -> None:
    """Count once and keep counting. Called after opening."""
    db.executescript(_SETUP)
