"""How somebody belongs to the workspace, from what Slack says outright; whoever it says nothing of is a member.

Guests: `is_restricted` (several channels) and `is_ultra_restricted` (one) of users.info. People of other organisations:
`is_stranger` there, and in events the author's workspace (`user_team`, `source_team`) beside `is_ext_shared_channel`.
https://docs.slack.dev/reference/objects/user-object, https://docs.slack.dev/apis/slack-connect
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adapters.slack.identity import Identity
from core.messages import Belongs
from core.untrusted import part_in, text_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What users.info (or conversations.info, of a channel: a name alone) once told."""

    name: str | None = None
    guest: bool = False
    stranger: bool = False
    team: str = ""
    """Whose member it is. Empty where the token may not ask."""
    enterprise: str = ""


def known_user(user: Mapping[str, Any]) -> Known:
    """The `user` of users.info."""
    profile = part_in(user, "profile")
    name = text_in(profile, "display_name") or text_in(profile, "real_name") or text_in(user, "name")
    return Known(
        name=name or None,
        guest=user.get("is_restricted") is True or user.get("is_ultra_restricted") is True,
        stranger=user.get("is_stranger") is True,
        team=text_in(user, "team_id"),
        enterprise=text_in(part_in(user, "enterprise_user"), "enterprise_id"),
    )


def author_belongs(payload: Any, event: Mapping[str, Any], identity: Identity, known: Known | None) -> Belongs:
    """Of who wrote the message in `event`; `known` is None where Slack was not asked yet, or did not tell.

    Somebody in a channel that is shared with another organisation counts as external while nothing says whose they are.
    """
    if known is not None and known.stranger:
        return Belongs.EXTERNAL
    shared = payload.get("is_ext_shared_channel")  # histories do not tell
    team = text_in(event, "user_team") or text_in(event, "source_team") or text_in(event, "team")
    if team and identity.is_home(team):
        return Belongs.GUEST if known is not None and known.guest else Belongs.MEMBER
    abroad = shared is True or (shared is None and bool(team))  # in a channel of our own it is a sister workspace
    return _belongs(known, identity, abroad=abroad)


def member_belongs(team: str, enterprise: str, identity: Identity, known: Known | None) -> Belongs:
    """Of somebody whose workspace and organisation are named, as with a slash command."""
    abroad = bool(team) and not identity.is_home(team) and not (enterprise and identity.is_home(enterprise))
    return _belongs(known, identity, abroad=abroad)


def _belongs(known: Known | None, identity: Identity, *, abroad: bool) -> Belongs:
    if known is None or not known.team:  # not asked yet, or the token may not ask
        return Belongs.EXTERNAL if abroad else Belongs.MEMBER
    ours = identity.is_home(known.team) or bool(known.enterprise and known.enterprise == identity.enterprise)
    if known.stranger or (abroad and not ours):
        return Belongs.EXTERNAL
    return Belongs.GUEST if known.guest else Belongs.MEMBER
