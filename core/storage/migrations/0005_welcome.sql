-- Where somebody who waits to be let in is told that they were, and in which language.

ALTER TABLE pairing ADD COLUMN reply_to TEXT;
ALTER TABLE pairing ADD COLUMN language TEXT NOT NULL DEFAULT 'en';
