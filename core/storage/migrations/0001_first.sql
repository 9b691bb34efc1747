-- Times are microseconds since 1970 in UTC. States are the words of core/journal.py.
-- PostgreSQL uses the same tables and columns.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE conversation (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL,
    channel TEXT,
    user TEXT,
    generation INTEGER NOT NULL DEFAULT 1,
    model TEXT,
    exchanges INTEGER NOT NULL DEFAULT 0,   -- of this generation
    title TEXT,                             -- NULL: not a session that is listed
    person TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    last_active INTEGER,                    -- a turn began or ended; commands do not count
    owner TEXT,                             -- owner, epoch and lease: for engines with several nodes
    epoch INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER
);
CREATE INDEX conversation_recent ON conversation (last_active) WHERE title IS NOT NULL;
CREATE INDEX conversation_channel ON conversation (account, channel) WHERE title IS NOT NULL;
CREATE INDEX conversation_user ON conversation (account, user) WHERE title IS NOT NULL;

CREATE TABLE turn (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    conversation INTEGER NOT NULL REFERENCES conversation (id),
    generation INTEGER NOT NULL,
    epoch INTEGER NOT NULL DEFAULT 1,
    command INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'running',
    preview TEXT,
    model TEXT,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cost REAL,
    error TEXT NOT NULL DEFAULT '',
    failure TEXT NOT NULL DEFAULT '',
    replaces INTEGER,                       -- the turn whose question this one answers again
    superseded INTEGER NOT NULL DEFAULT 0,  -- a later turn answers its question
    started_at INTEGER NOT NULL,
    ended_at INTEGER
);
CREATE INDEX turn_conversation ON turn (conversation, id);

CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    event TEXT NOT NULL,
    channel TEXT NOT NULL,
    message TEXT NOT NULL,
    conversation INTEGER NOT NULL REFERENCES conversation (id),
    user TEXT NOT NULL,
    command INTEGER NOT NULL DEFAULT 0,
    body TEXT,                              -- JSON of the message; NULL once its text was removed
    bytes INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    ended_at INTEGER,
    state TEXT NOT NULL DEFAULT 'new',
    attempts INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    turn INTEGER REFERENCES turn (id),
    UNIQUE (account, event),
    UNIQUE (account, channel, message)
);
CREATE INDEX inbox_conversation ON inbox (conversation, id);
CREATE INDEX inbox_waiting ON inbox (conversation, command, turn) WHERE state = 'new';
CREATE INDEX inbox_running ON inbox (id) WHERE state = 'running';
CREATE INDEX inbox_dead ON inbox (ended_at) WHERE state = 'dead';
CREATE INDEX inbox_turn ON inbox (turn) WHERE turn IS NOT NULL;
CREATE INDEX inbox_texts ON inbox (ended_at) WHERE ended_at IS NOT NULL AND body IS NOT NULL;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    turn INTEGER NOT NULL REFERENCES turn (id),
    part INTEGER NOT NULL,
    parts INTEGER NOT NULL,
    conversation INTEGER NOT NULL REFERENCES conversation (id),
    account TEXT NOT NULL,
    reply_to TEXT NOT NULL,
    body TEXT NOT NULL,
    failure TEXT NOT NULL DEFAULT '',
    key TEXT NOT NULL UNIQUE,
    edits TEXT,
    state TEXT NOT NULL DEFAULT 'pending',
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    sending_at INTEGER,
    sent_at INTEGER,
    platform_message TEXT,
    error TEXT NOT NULL DEFAULT '',
    UNIQUE (turn, part)
);
CREATE INDEX outbox_unsent ON outbox (conversation, turn, part) WHERE state IN ('pending', 'sending', 'unknown');
CREATE INDEX outbox_dead ON outbox (turn, part) WHERE state = 'dead';
CREATE INDEX outbox_conversation ON outbox (conversation);

-- What the model is told of earlier turns: one row holds a whole exchange, so history cannot hold half of one.
CREATE TABLE exchange (
    turn INTEGER PRIMARY KEY REFERENCES turn (id),
    conversation INTEGER NOT NULL REFERENCES conversation (id),
    generation INTEGER NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL
);
CREATE INDEX exchange_history ON exchange (conversation, generation, turn);

CREATE TABLE usage (
    day INTEGER NOT NULL,                   -- days since 1970 in UTC
    account TEXT NOT NULL,
    user TEXT NOT NULL,
    requests INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (day, account, user)
) WITHOUT ROWID;

CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    namespace TEXT NOT NULL,
    scopes TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
);

-- One owner for a role among several nodes; a single node needs none.
CREATE TABLE leader (
    role TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
