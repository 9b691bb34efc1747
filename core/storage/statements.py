"""The SQL of the hot path: what runs for every message. A test asks SQLite's planner that each is a lookup.

The states are written out where a partial index is meant: the planner uses it only for the same words.
"""

from __future__ import annotations

# Admission

KNOWN = """
SELECT id FROM inbox WHERE account = ?1 AND event = ?2 UNION ALL
SELECT id FROM inbox WHERE account = ?1 AND channel = ?3 AND message = ?4 LIMIT 1"""

CONVERSATION = """
SELECT id, generation, model, exchanges, last_active, title, persona FROM conversation WHERE key = ?"""

ADD_CONVERSATION = "INSERT INTO conversation (key, account, channel, user, created_at) VALUES (?, ?, ?, ?, ?)"

GIVE_TITLE = "UPDATE conversation SET title = ?, person = ? WHERE id = ?"

QUEUED = "SELECT count(*) FROM inbox WHERE conversation = ? AND command = 0 AND state = 'new'"

LOAD = "SELECT pending, bytes FROM load"

ADD_INBOX = """
INSERT INTO inbox (account, event, channel, message, conversation, user, command, body, bytes, received_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

ROW_LOST = "UPDATE inbox SET state = 'dead', error = ?, ended_at = ? WHERE id = ?"

# Turns

BROKEN_OFF = """
SELECT min(turn) FROM inbox WHERE conversation = ? AND command = 0 AND turn > 0 AND state = 'new'"""

WAITING = """
SELECT id, body, received_at, attempts, account, user FROM inbox
WHERE conversation = ? AND command = 0 AND turn IS NULL AND state = 'new' ORDER BY id LIMIT ?"""

ROWS_OF_TURN = """
SELECT id, body, received_at, attempts FROM inbox WHERE turn = ? AND state = 'new' ORDER BY id"""

COMMAND = """
SELECT inbox.id, inbox.body, inbox.received_at, inbox.attempts, inbox.turn,
       conversation.id, conversation.key, conversation.generation, conversation.model, conversation.persona
FROM inbox JOIN conversation ON conversation.id = inbox.conversation
WHERE inbox.id = ? AND inbox.state = 'new' AND inbox.command = 1"""

ADD_TURN = """
INSERT INTO turn (key, conversation, generation, command, started_at, payer_account, payer_user, account,
                  reserved_tokens, reserved_cost)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

NEXT_OWNER = "UPDATE turn SET epoch = epoch + 1 WHERE id = ?"

TURN_TO_RESUME = "SELECT key, epoch, generation, preview, payer_account, payer_user, account FROM turn WHERE id = ?"

RUN_ROW = "UPDATE inbox SET state = 'running', attempts = attempts + 1, turn = ? WHERE id = ?"

TURN_BEGAN = "UPDATE conversation SET generation = ?, exchanges = ?, last_active = ?, person = ? WHERE id = ?"

PREVIEW = "UPDATE turn SET preview = ? WHERE id = ? AND epoch = ? AND state = 'running'"

RUNNING_TURN = """
SELECT conversation.id, conversation.generation, turn.preview, turn.payer_account, turn.payer_user, turn.account
FROM turn JOIN conversation ON conversation.id = turn.conversation
WHERE turn.id = ? AND turn.epoch = ? AND turn.state = 'running'"""

END_TURN = """
UPDATE turn SET state = ?, model = ?, input_tokens = ?, output_tokens = ?, cost = ?, error = ?, failure = ?, replaces = ?,
                ended_at = ?
WHERE id = ?"""

END_ROWS = "UPDATE inbox SET state = ?, error = ?, ended_at = ? WHERE turn = ? AND state = 'running'"

ADD_EXCHANGE = "INSERT INTO exchange (turn, conversation, generation, question, answer) VALUES (?, ?, ?, ?, ?)"

REMOVE_EXCHANGE = "DELETE FROM exchange WHERE turn = ? AND conversation = ? AND generation = ?"

SUPERSEDE = "UPDATE turn SET superseded = 1 WHERE id = ? AND conversation = ?"

TURN_ENDED = "UPDATE conversation SET exchanges = exchanges + ?, last_active = ? WHERE id = ?"

HISTORY = """
SELECT exchange.question, exchange.answer
FROM exchange JOIN conversation ON conversation.id = exchange.conversation
WHERE conversation.key = ? AND exchange.generation = ? ORDER BY exchange.turn DESC LIMIT ?"""

# Budgets: a person, an account (without a user), everybody (without both)

PAYER = "SELECT to_account, to_user FROM link WHERE account = ? AND user = ?"

USED_TODAY = "SELECT requests, tokens FROM usage WHERE account = ? AND user = ? AND day = ?"

USED_SINCE = """
SELECT coalesce(sum(requests), 0), coalesce(sum(tokens), 0), coalesce(sum(cost), 0.0) FROM usage
WHERE account = ? AND user = ? AND day >= ?"""

IN_FLIGHT = "SELECT calls, tokens, cost FROM in_flight WHERE account = ? AND user = ?"

USE = """
INSERT INTO usage (day, requests, tokens, cost, account, user)
VALUES (?1, ?2, ?3, ?4, ?5, ?6), (?1, ?2, ?3, ?4, ?7, ?8), (?1, ?2, ?3, ?4, ?9, ?10)
ON CONFLICT (account, user, day) DO UPDATE SET
    requests = requests + excluded.requests, tokens = tokens + excluded.tokens, cost = cost + excluded.cost"""

RESERVE = "INSERT INTO reserved (id, payer_account, payer_user, account, tokens, cost) VALUES (?, ?, ?, ?, ?, ?)"

RESERVED = "SELECT 1 FROM reserved WHERE id = ?"

SET_ASIDE_ANEW = """
UPDATE turn SET payer_account = ?, payer_user = ?, account = ?, reserved_tokens = ?, reserved_cost = ? WHERE id = ?"""

NOTHING_ASIDE = "UPDATE turn SET reserved_tokens = NULL, reserved_cost = NULL WHERE id = ?"

UNRESERVE = "DELETE FROM reserved WHERE id = ?"

# Parts of replies

ADD_PART = """
INSERT INTO outbox (turn, part, parts, conversation, account, reply_to, body, failure, key, edits, state, next_at,
                    created_at, sent_at, tells_code)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

UNSENT = """
SELECT outbox.id, outbox.turn, outbox.part, outbox.parts, outbox.account, outbox.reply_to, outbox.body, outbox.failure,
       outbox.key, outbox.edits, outbox.state, outbox.attempts, outbox.next_at, outbox.created_at, outbox.sending_at,
       outbox.error, outbox.tells_code
FROM outbox
WHERE outbox.conversation = (SELECT id FROM conversation WHERE key = ?)
  AND outbox.state IN ('pending', 'sending', 'unknown')
ORDER BY outbox.turn, outbox.part"""

SENDING = """
UPDATE outbox SET state = 'sending', sending_at = ? WHERE id = ? AND state IN ('pending', 'sending', 'unknown')"""

SENT = """
UPDATE outbox SET state = 'sent', sent_at = ?, platform_message = ?
WHERE id = ? AND state IN ('pending', 'sending', 'unknown')"""

HIDE_CODE = "UPDATE outbox SET body = ? WHERE id = ?"

NOT_SENT = "SELECT 1 FROM outbox WHERE turn = ? AND state <> 'sent' LIMIT 1"

ROWS_DONE = "UPDATE inbox SET state = 'done', ended_at = ? WHERE turn = ? AND state = 'answered'"

POSTPONE = """
UPDATE outbox SET state = ?, attempts = attempts + 1, next_at = ?, error = ?
WHERE id = ? AND state IN ('pending', 'sending', 'unknown')"""

HOLD = """
UPDATE outbox SET state = ?, attempts = 0, error = ?
WHERE id = ? AND state IN ('pending', 'sending', 'unknown')"""

BURY = """
UPDATE outbox SET state = 'dead', error = ?
WHERE turn = ? AND part >= ? AND state IN ('pending', 'sending', 'unknown')"""

ROWS_DEAD = "UPDATE inbox SET state = 'dead', error = ?, ended_at = ? WHERE turn = ? AND state = 'answered'"
