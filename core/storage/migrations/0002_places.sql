-- Where an account was written to lately, looked up after a gap: its newest messages, by rowid.

CREATE INDEX inbox_account ON inbox (account);
