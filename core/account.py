"""What every configured account has, whatever its platform. Adapters extend `AccountConfig` with keys of their own."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from core.messages import Scope
from core.quantities import Duration


class Ambiguous(StrEnum):
    """What to do with a reply of which nobody can tell whether it arrived."""

    MARK = "mark"
    """Send it again with a short mark that it may be repeated. The default."""
    RESEND = "resend"
    """Send it again as it is."""
    DROP = "drop"
    """Leave it; it is listed as a dead letter."""


def _is_id(written: str) -> str:
    if not written or written != written.strip() or not written.isprintable() or written == "*" or written[:2] == "<@":
        raise ValueError("expected an id, just as `/whoami` shows it")
    return written


Id = Annotated[str, AfterValidator(_is_id)]
"""Of a person or channel. What cannot be one would match nobody in silence, and in `allow` close every channel."""


class Access(BaseModel):
    """Who may talk to the bot. An empty list means nobody."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    direct: Literal["open", "allowlist", "pairing", "off"] = Field(
        "open",
        description="Direct messages: from anyone, from those in `allow`, from those who were let in by a code, or not at all.",
    )
    channels: Literal["mention", "always", "off"] = Field(
        "mention", description="In channels: when mentioned, always, or never."
    )
    always: tuple[Id, ...] = Field((), description="Ids of channels where no mention is needed.")
    guests: Literal["open", "allowlist", "off"] = Field(
        "allowlist",
        description="Guests and people of other organisations: like members, only those in `allow`, or never.",
    )
    allow: tuple[Id, ...] = Field(
        (),
        description="Ids of people and of channels; `/whoami` shows a person's id. Channels: none named means all.",
    )
    admins: tuple[Id, ...] = Field(
        (), description="Ids of people who may always talk and may give the admin commands, such as `/approve`."
    )
    refusals: Literal["notice", "silent"] = Field(
        "notice", description="Those who may not talk: told so, at most once an hour, or not answered at all."
    )

    def listens_in(self, channel: str) -> bool:
        """Whether messages in a channel are for the bot although they do not mention it."""
        return self.channels == "always" or (self.channels != "off" and channel in self.always)

    @property
    def listens_somewhere(self) -> bool:
        """Whether there may be such a channel."""
        return self.channels == "always" or (self.channels != "off" and bool(self.always))

    @model_validator(mode="after")
    def _codes_are_told(self) -> Self:
        if self.direct == "pairing" and self.refusals == "silent":
            raise ValueError(
                "direct: pairing tells people a code, which refusals: silent forbids; "
                "write refusals: notice, or direct: allowlist"
            )
        return self


class PersonalAccess(Access):
    """Of an account that anybody who knows it can write to, such as a person's own."""

    direct: Literal["open", "allowlist", "pairing", "off"] = Field(
        "pairing",
        description="Direct messages: from those who were let in by a code, from those in `allow`, from anyone, or not at all.",
    )


class Budget(BaseModel):
    """What may be used together. null is unlimited."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    messages_per_minute: int | None = Field(None, ge=1, description="Of all of them.")
    messages_per_day: int | None = Field(None, ge=1, description="Of all of them, by UTC days.")
    tokens_per_day: int | None = Field(None, ge=1, description="In and out.")
    money_per_month: float | None = Field(None, gt=0, description="In the currency of `chat.prices`.")


def _off_is_none(written: Any) -> Any:
    return None if written is False or written == "off" else written


class AccountConfig(BaseModel):
    """The keys that every account takes. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    IDS: ClassVar[str] = "`/whoami` shows a person's own"
    """Where somebody finds the ids of people on this platform, for who runs the gateway."""

    ID: ClassVar[re.Pattern[str]] = re.compile(r".+")
    """What such an id looks like, where one can tell: a name that is taken for one lets nobody in and keeps nobody out."""

    platform: str = Field("", description="Which platform; defaults to the account's name.")
    access: Access = Field(Access(), description="Who may talk to the bot.")
    budget: Budget = Field(Budget(), description="What all people of this account may use together.")
    scope: Scope | None = Field(None, description="Overrides `sessions.scope` for this account.")
    ambiguous: Ambiguous = Field(
        Ambiguous.MARK, description="A reply that may or may not have arrived: mark, resend or drop."
    )
    stream: bool = Field(True, description="Show answers while they are written.")
    backfill: Annotated[Annotated[Duration, Field(gt=timedelta(0))] | None, BeforeValidator(_off_is_none)] = Field(
        timedelta(hours=1),
        description="How far back to look for messages that were missed during a gap or a restart; off: not at all.",
    )
    proxy: str | None = Field(None, description="Proxy of this account's connections, such as http://proxy:3128.")

    def credentials_missing(self) -> tuple[str, ...]:
        """The keys without which this account cannot sign in and that are empty: the account is then left out."""
        return ()
