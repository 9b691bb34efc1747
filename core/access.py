"""Who may talk to the bot: one check for every kind of event, before anything is stored. Pure; no I/O.

for the bot at all → standing → class → place. What each key means stands in core.account.Access.
"""

from __future__ import annotations

from enum import Enum, StrEnum

from core.account import Access
from core.messages import Belongs, InboundMessage


class Standing(StrEnum):
    """What was decided about one person on one account."""

    ADMIN = "admin"
    """Named in the configuration, or the account's owner. Nothing that is decided elsewhere changes that."""
    ALLOWED = "allowed"
    """Let in by a code, by an admin or on the command line: as good as an id in `allow`."""
    BLOCKED = "blocked"
    """Kept out, also where `allow` has the id or the place is open to all."""
    UNDECIDED = "undecided"
    """As the configuration says."""


class Verdict(Enum):
    """What becomes of a message."""

    ADMIT = "admit"
    IGNORE = "ignore"
    """Not for the bot: nobody is told anything."""
    REFUSE = "refuse"
    """For the bot, by somebody who may not talk to it here."""
    PAIR = "pair"
    """Refused, but a code may let this person in."""


def judge(message: InboundMessage, access: Access, standing: Standing) -> Verdict:
    """Whether `message` may reach the journal; `standing` is its sender's."""
    if message.sender.is_bot or not _addressed(message, access):
        return Verdict.IGNORE
    if standing is Standing.ADMIN:
        return Verdict.ADMIT
    verdict = _direct(message, access, standing) if message.is_direct else _in_channel(message, access, standing)
    if verdict is Verdict.REFUSE and not message.is_direct and not message.mentions_bot:
        return Verdict.IGNORE  # people talking among themselves, where the bot has nothing to say to them
    return verdict


def _addressed(message: InboundMessage, access: Access) -> bool:
    return message.is_direct or message.mentions_bot or access.listens_in(message.channel)


def _direct(message: InboundMessage, access: Access, standing: Standing) -> Verdict:
    listed = _listed(message, access, standing)
    if access.direct == "off" or not _class_may(message, access, standing, listed=listed):
        return Verdict.REFUSE
    if listed or access.direct == "open":
        return Verdict.ADMIT
    return Verdict.PAIR if access.direct == "pairing" else Verdict.REFUSE


def _in_channel(message: InboundMessage, access: Access, standing: Standing) -> Verdict:
    listed = _listed(message, access, standing)
    if access.channels == "off" or not _class_may(message, access, standing, listed=listed):
        return Verdict.REFUSE
    if listed or not access.allow or message.channel in access.allow:
        return Verdict.ADMIT
    return Verdict.REFUSE


def _listed(message: InboundMessage, access: Access, standing: Standing) -> bool:
    return standing is Standing.ALLOWED or message.sender.id in access.allow


def _class_may(message: InboundMessage, access: Access, standing: Standing, *, listed: bool) -> bool:
    """Whether somebody like the sender may talk at all: not blocked, and as `guests` says if they are one."""
    if standing is Standing.BLOCKED:
        return False
    if message.sender.belongs is Belongs.MEMBER or access.guests == "open":
        return True
    return listed and access.guests == "allowlist"
