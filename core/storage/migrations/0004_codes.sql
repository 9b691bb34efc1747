-- A part that tells a one-time code: it is hidden in `body` once the part was sent.

ALTER TABLE outbox ADD COLUMN tells_code INTEGER NOT NULL DEFAULT 0;
