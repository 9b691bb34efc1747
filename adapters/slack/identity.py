"""Who the bot is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What `auth.test` tells about a bot token (https://docs.slack.dev/reference/methods/auth.test)."""

    user: str
    """The bot as a member: what people mention."""
    bot: str
    """The bot as an author: `bot_id` of its messages."""
    team: str
    enterprise: str
    """Of an Enterprise organisation, else empty."""
    name: str = ""
    scopes: frozenset[str] | None = None
    """What the token may do; None where Slack did not say."""

    def may(self, *scopes: str) -> bool:
        """Whether the token has one of `scopes`, as far as is known."""
        return self.scopes is None or not self.scopes.isdisjoint(scopes)

    def is_home(self, team: str) -> bool:
        """Whether `team` is the bot's own workspace or organisation."""
        return team in (self.team, self.enterprise)
