-- A database as version 1 made it: one answered message, one whose turn a crash broke off, one whose reply is unsent.
-- Kept as it is, so that every later version shows that it can open it.
PRAGMA application_id = 1667722611;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE api_key (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    namespace TEXT NOT NULL,
    scopes TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
);
INSERT INTO "api_key" VALUES('0123abcd','ci','team','chat',X'646967657374',1793610002000000,NULL);
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
INSERT INTO "conversation" VALUES(1,'work/u:ann','work',NULL,'ann',1,NULL,1,'the first question','Ann',1793610000000000,1793610000000000,NULL,0,NULL);
INSERT INTO "conversation" VALUES(2,'work/u:bob','work',NULL,'bob',1,NULL,0,'the second question','Bob',1793610001000000,1793610001000000,NULL,0,NULL);
INSERT INTO "conversation" VALUES(3,'work/u:cy','work',NULL,'cy',1,NULL,1,'the third question','Cy',1793610002000000,1793610002000000,NULL,0,NULL);
CREATE TABLE exchange (
    turn INTEGER PRIMARY KEY REFERENCES turn (id),
    conversation INTEGER NOT NULL REFERENCES conversation (id),
    generation INTEGER NOT NULL,
    question TEXT NOT NULL,
    answer TEXT NOT NULL
);
INSERT INTO "exchange" VALUES(1,1,1,'the first question','the first answer');
INSERT INTO "exchange" VALUES(3,3,1,'the third question','the third answer');
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
INSERT INTO "inbox" VALUES(1,'work','e1','general','m1',1,'ann',0,'{"id":"m1","event":"e1","account":"work","sender":{"id":"ann","name":"Ann"},"channel":"general","text":"the first question","sent_at":"2026-11-02T08:59:00+00:00","reply_to":"{\"to\":\"ann\"}","direct":true}',206,1793610000000000,1793610000000000,'done',1,'',1);
INSERT INTO "inbox" VALUES(2,'work','e2','general','m2',2,'bob',0,'{"id":"m2","event":"e2","account":"work","sender":{"id":"bob","name":"Bob"},"channel":"general","text":"the second question","sent_at":"2026-11-02T08:59:00+00:00","reply_to":"{\"to\":\"bob\"}","direct":true}',207,1793610001000000,NULL,'running',1,'',2);
INSERT INTO "inbox" VALUES(3,'work','e3','general','m3',3,'cy',0,'{"id":"m3","event":"e3","account":"work","sender":{"id":"cy","name":"Cy"},"channel":"general","text":"the third question","sent_at":"2026-11-02T08:59:00+00:00","reply_to":"{\"to\":\"cy\"}","direct":true}',203,1793610002000000,NULL,'answered',1,'',3);
CREATE TABLE leader (
    role TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "meta" VALUES('instance','1e8b628b2026579c76d6fbab172bc5df');
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
INSERT INTO "outbox" VALUES(1,1,0,1,1,'work','{"to":"ann"}','the first answer','','f7bb8b01c039d26f5a98-0',NULL,'sent',0,1793610000000000,1793610000000000,1793610000000000,1793610000000000,'p1','');
INSERT INTO "outbox" VALUES(2,3,0,1,3,'work','{"to":"cy"}','the third answer','','1a025d24830934117f16-0',NULL,'pending',0,1793610002000000,1793610002000000,NULL,NULL,NULL,'');
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
INSERT INTO "turn" VALUES(1,'f7bb8b01c039d26f5a98',1,1,1,0,'complete',NULL,'model-1',9,1,NULL,'','',NULL,0,1793610000000000,1793610000000000);
INSERT INTO "turn" VALUES(2,'60dde9788d72db705e56',2,1,1,0,'running',NULL,NULL,NULL,NULL,NULL,'','',NULL,0,1793610001000000,NULL);
INSERT INTO "turn" VALUES(3,'1a025d24830934117f16',3,1,1,0,'complete',NULL,'model-1',9,1,NULL,'','',NULL,0,1793610002000000,1793610002000000);
CREATE TABLE usage (
    day INTEGER NOT NULL,                   -- days since 1970 in UTC
    account TEXT NOT NULL,
    user TEXT NOT NULL,
    requests INTEGER NOT NULL DEFAULT 0,
    tokens INTEGER NOT NULL DEFAULT 0,
    cost REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (day, account, user)
) WITHOUT ROWID;
INSERT INTO "usage" VALUES(20759,'work','ann',1,10,0.0);
INSERT INTO "usage" VALUES(20759,'work','bob',1,0,0.0);
INSERT INTO "usage" VALUES(20759,'work','cy',1,10,0.0);
CREATE INDEX conversation_recent ON conversation (last_active) WHERE title IS NOT NULL;
CREATE INDEX conversation_channel ON conversation (account, channel) WHERE title IS NOT NULL;
CREATE INDEX conversation_user ON conversation (account, user) WHERE title IS NOT NULL;
CREATE INDEX turn_conversation ON turn (conversation, id);
CREATE INDEX inbox_conversation ON inbox (conversation, id);
CREATE INDEX inbox_waiting ON inbox (conversation, command, turn) WHERE state = 'new';
CREATE INDEX inbox_running ON inbox (id) WHERE state = 'running';
CREATE INDEX inbox_dead ON inbox (ended_at) WHERE state = 'dead';
CREATE INDEX inbox_turn ON inbox (turn) WHERE turn IS NOT NULL;
CREATE INDEX inbox_texts ON inbox (ended_at) WHERE ended_at IS NOT NULL AND body IS NOT NULL;
CREATE INDEX outbox_unsent ON outbox (conversation, turn, part) WHERE state IN ('pending', 'sending', 'unknown');
CREATE INDEX outbox_dead ON outbox (turn, part) WHERE state = 'dead';
CREATE INDEX outbox_conversation ON outbox (conversation);
CREATE INDEX exchange_history ON exchange (conversation, generation, turn);
INSERT INTO "sqlite_sequence" VALUES('conversation',3);
INSERT INTO "sqlite_sequence" VALUES('inbox',3);
INSERT INTO "sqlite_sequence" VALUES('turn',3);
INSERT INTO "sqlite_sequence" VALUES('outbox',2);
COMMIT;
