-- Who may talk, what each may use, who is whom; what a conversation chose, and what is kept of its older turns.

ALTER TABLE conversation ADD COLUMN persona TEXT;

-- Who pays for a turn: a person, and the account that it came through. NULL: a command, or older than this.
-- What was set aside for it when it began, so that it stays so over a restart.
ALTER TABLE turn ADD COLUMN payer_account TEXT;
ALTER TABLE turn ADD COLUMN payer_user TEXT;
ALTER TABLE turn ADD COLUMN account TEXT;
ALTER TABLE turn ADD COLUMN reserved_tokens INTEGER;
ALTER TABLE turn ADD COLUMN reserved_cost REAL;

-- What was decided about a person on one account: by pairing, by an admin, or on the command line.
CREATE TABLE person (
    account TEXT NOT NULL,
    user TEXT NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    standing TEXT,                          -- allowed | blocked | NULL: as the configuration says
    decided_by TEXT NOT NULL DEFAULT '',
    decided_at INTEGER NOT NULL,
    messages_per_day INTEGER,               -- NULL: as the configuration says
    tokens_per_day INTEGER,
    money_per_month REAL,
    PRIMARY KEY (account, user)
) WITHOUT ROWID;

-- Who waits to be let in. The code itself is not stored, only its SHA-256.
CREATE TABLE pairing (
    account TEXT NOT NULL,
    user TEXT NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (account, user)
) WITHOUT ROWID;

-- Identities of one person: `account, user` is known as `to_account, to_user`, which itself is linked to nobody.
CREATE TABLE link (
    account TEXT NOT NULL,
    user TEXT NOT NULL,
    to_account TEXT NOT NULL,
    to_user TEXT NOT NULL,
    linked_at INTEGER NOT NULL,
    PRIMARY KEY (account, user)
) WITHOUT ROWID;
CREATE INDEX link_to ON link (to_account, to_user);

-- A link on its way: who asked for the code, and who has entered it.
CREATE TABLE link_offer (
    account TEXT NOT NULL,
    user TEXT NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    digest BLOB NOT NULL UNIQUE,
    expires_at INTEGER NOT NULL,
    other_account TEXT,
    other_user TEXT,
    other_name TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (account, user)
) WITHOUT ROWID;

-- What is kept of exchanges that a prompt has no room for.
CREATE TABLE summary (
    conversation INTEGER PRIMARY KEY REFERENCES conversation (id),
    generation INTEGER NOT NULL,
    first INTEGER NOT NULL,                 -- the oldest turn that is in it
    upto INTEGER NOT NULL,                  -- the newest one
    turns INTEGER NOT NULL,                 -- how many are in it
    text TEXT NOT NULL
);

-- Usage by person and day. The person '' stands for everybody on the account, the account '' for everybody.
ALTER TABLE usage RENAME TO usage_by_day;
CREATE TABLE usage (
    account TEXT NOT NULL,
    user TEXT NOT NULL,
    day INTEGER NOT NULL,                   -- days since 1970 in UTC
    requests INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (account, user, day)
) WITHOUT ROWID;
INSERT INTO usage SELECT account, user, day, requests, tokens, cost FROM usage_by_day;
INSERT INTO usage SELECT account, '', day, sum(requests), sum(tokens), sum(cost) FROM usage_by_day GROUP BY account, day;
INSERT INTO usage SELECT '', '', day, sum(requests), sum(tokens), sum(cost) FROM usage_by_day GROUP BY day;
DROP TABLE usage_by_day;
CREATE INDEX usage_day ON usage (day);
