"""Links between identities, and those on their way."""

from __future__ import annotations

import sqlite3

from core.archive import Link, LinkOffer
from core.messages import AccountId, Person, UserId
from core.storage.codec import micros, moment, name, storable


def _ids(person: Person) -> tuple[str, str]:
    return name(person.account), name(person.user)


def _person(account: str, user: str) -> Person:
    return Person(AccountId(account), UserId(user))


def links(db: sqlite3.Connection) -> list[Link]:
    """All of them, the oldest first."""
    rows = db.execute(
        "SELECT account, user, to_account, to_user, linked_at FROM link ORDER BY linked_at, account, user"
    ).fetchall()
    return [
        Link(person=_person(account, user), to=_person(to_account, to_user), linked_at=moment(at))
        for account, user, to_account, to_user, at in rows
    ]


def add(db: sqlite3.Connection, link: Link) -> None:
    """Raises sqlite3.IntegrityError for an identity that is linked already."""
    person, to = _ids(link.person), _ids(link.to)
    db.execute(
        "INSERT INTO link (account, user, to_account, to_user, linked_at) VALUES (?, ?, ?, ?, ?)",
        (*person, *to, micros(link.linked_at)),
    )
    db.execute("DELETE FROM link_offer WHERE account = ? AND user = ?", to)
    db.execute("DELETE FROM link_offer WHERE account = ? AND user = ?", person)
    db.execute("DELETE FROM link_offer WHERE other_account = ? AND other_user = ?", person)


def remove(db: sqlite3.Connection, person: Person) -> int:
    """Its own link and those that lead to it."""
    own = db.execute("DELETE FROM link WHERE account = ? AND user = ?", _ids(person)).rowcount
    return own + db.execute("DELETE FROM link WHERE to_account = ? AND to_user = ?", _ids(person)).rowcount


def offers(db: sqlite3.Connection, now: int) -> list[LinkOffer]:
    """Those that have not expired, in the order in which they will."""
    rows = db.execute(
        """
        SELECT account, user, name, digest, expires_at, other_account, other_user, other_name FROM link_offer
        WHERE expires_at > ? ORDER BY expires_at, account, user
        """,
        (now,),
    ).fetchall()
    return [
        LinkOffer(
            person=_person(account, user),
            name=shown,
            digest=digest,
            expires_at=moment(expires),
            other=_person(other_account, other_user) if other_account is not None else None,
            other_name=other_name,
        )
        for account, user, shown, digest, expires, other_account, other_user, other_name in rows
    ]


def put_offer(db: sqlite3.Connection, offer: LinkOffer, now: int) -> None:
    """In the place of an earlier one of the same person; expired ones go."""
    remove_expired(db, now)
    remove_offer(db, offer.person)
    db.execute(
        """
        INSERT INTO link_offer (account, user, name, digest, expires_at, other_account, other_user, other_name)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            *_ids(offer.person),
            storable(offer.name),
            offer.digest,
            micros(offer.expires_at),
            *(_ids(offer.other) if offer.other is not None else (None, None)),
            storable(offer.other_name),
        ),
    )


def remove_offer(db: sqlite3.Connection, person: Person) -> None:
    """Does nothing where there is none."""
    db.execute("DELETE FROM link_offer WHERE account = ? AND user = ?", _ids(person))


def remove_expired(db: sqlite3.Connection, now: int) -> None:
    """Offers hold names: none stays longer than it is needed."""
    db.execute("DELETE FROM link_offer WHERE expires_at <= ?", (now,))
