"""What was decided about people, and who waits to be let in."""

from __future__ import annotations

import sqlite3

from core.access import Standing
from core.archive import KnownPerson, PairingRequest, PersonBudget
from core.messages import AccountId, Person, ReplyAddress, UserId
from core.storage.codec import micros, moment, name, storable


def people(db: sqlite3.Connection) -> list[KnownPerson]:
    """By account and id."""
    rows = db.execute(
        """
        SELECT account, user, name, standing, decided_by, decided_at, messages_per_day, tokens_per_day, money_per_month
        FROM person ORDER BY account, user
        """
    )
    return [
        KnownPerson(
            person=Person(AccountId(account), UserId(user)),
            name=shown,
            standing=Standing(standing) if standing is not None else Standing.UNDECIDED,
            decided_by=by,
            decided_at=moment(at),
            budget=PersonBudget(messages_per_day=messages, tokens_per_day=tokens, money_per_month=money),
        )
        for account, user, shown, standing, by, at, messages, tokens, money in rows
    ]


def keep_person(db: sqlite3.Connection, known: KnownPerson) -> None:
    """All of it, in place of what was there."""
    budget = known.budget
    db.execute(
        """
        INSERT OR REPLACE INTO person (account, user, name, standing, decided_by, decided_at,
                                       messages_per_day, tokens_per_day, money_per_month)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            *_names(known.person),
            storable(known.name),
            None if known.standing is Standing.UNDECIDED else known.standing.value,
            storable(known.decided_by),
            micros(known.decided_at),
            budget.messages_per_day,
            budget.tokens_per_day,
            budget.money_per_month,
        ),
    )


def remove_person(db: sqlite3.Connection, person: Person) -> bool:
    """False where there was nothing."""
    return db.execute("DELETE FROM person WHERE account = ? AND user = ?", _names(person)).rowcount > 0


def pairings(db: sqlite3.Connection) -> list[PairingRequest]:
    """Oldest first."""
    rows = db.execute(
        """
        SELECT account, user, name, digest, created_at, expires_at, reply_to, language FROM pairing
        ORDER BY created_at, account, user
        """
    )
    return [
        PairingRequest(
            person=Person(AccountId(account), UserId(user)),
            name=shown,
            digest=digest,
            created_at=moment(created),
            expires_at=moment(expires),
            reply_to=None if reply_to is None else ReplyAddress(reply_to),
            language=language,
        )
        for account, user, shown, digest, created, expires, reply_to, language in rows
    ]


def add_pairing(db: sqlite3.Connection, request: PairingRequest) -> None:
    """Raises sqlite3.IntegrityError for a digest that somebody else waits with."""
    created = micros(request.created_at)
    remove_expired(db, created)
    db.execute("DELETE FROM pairing WHERE account = ? AND user = ?", _names(request.person))
    db.execute(
        """
        INSERT INTO pairing (account, user, name, digest, created_at, expires_at, reply_to, language)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            *_names(request.person),
            storable(request.name),
            request.digest,
            created,
            micros(request.expires_at),
            None if request.reply_to is None else storable(request.reply_to),
            request.language,
        ),
    )


def remove_expired(db: sqlite3.Connection, now: int) -> None:
    """Whoever waited too long is not kept by name."""
    db.execute("DELETE FROM pairing WHERE expires_at <= ?", (now,))


def remove_pairing(db: sqlite3.Connection, person: Person) -> None:
    """Of no effect where nobody waits."""
    db.execute("DELETE FROM pairing WHERE account = ? AND user = ?", _names(person))


def _names(person: Person) -> tuple[str, str]:
    return name(person.account), name(person.user)
