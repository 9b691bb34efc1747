"""The block `accounts.dingtalk`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import Field, SecretStr, field_validator
from yarl import URL

from core.account import AccountConfig

READY_MADE = "ready-made"
"""In the place of a template's id: the first of those that need not be built."""


@dataclass(frozen=True, slots=True)
class Template:
    """An AI card template."""

    id: str
    variable: str
    """Its Markdown variable that gets the text."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further variables that a card is made with."""


_SHOWS_TEXT = {"config": '{"autoLayout": true}', "sys_full_json_obj": '{"order": ["msgContent"]}'}
_READY_MADE = (
    # AIMarkdownCardInstance of https://github.com/open-dingtalk/dingtalk-stream-sdk-python
    Template("382e4302-551d-4880-bf29-a30acfab2e71.schema", "msgContent", _SHOWS_TEXT),
    # that of https://github.com/DingTalk-Real-AI/dingtalk-openclaw-connector
    Template("02fcf2f4-5e02-4a85-b672-46d1f715543e.schema", "msgContent", _SHOWS_TEXT),
)
"""Templates that every app may use."""


class Config(AccountConfig):
    """A robot of an app of one's own company, in stream mode. docs/platforms/dingtalk.md says where the keys are."""

    IDS = "`/whoami` shows a person's own; it is the UserID (员工 UserID) in the admin console"

    client_id: str = Field("", description="Client ID (AppKey) of the app: Credentials and Basic Information.")
    client_secret: SecretStr = Field(SecretStr(""), description="Client Secret (AppSecret) of the app.")
    robot_code: str = Field(
        "", description="The robot's code; empty: the client id, as for every robot of one's own app."
    )
    card_template: str = Field(
        "",
        description="Id of an AI card template to answer with, or ready-made; empty: answer with Markdown messages.",
    )
    card_key: str = Field("content", min_length=1, description="The template's Markdown variable that gets the text.")
    api_url: str = Field("https://api.dingtalk.com", description="DingTalk's API; the stream's address is asked there.")
    oapi_url: str = Field(
        "https://oapi.dingtalk.com", description="DingTalk's old API: session webhooks there are answered by."
    )

    @field_validator("client_id", "robot_code", "card_template")
    @classmethod
    def _without_blanks(cls, value: str) -> str:
        return value.strip()

    @field_validator("client_secret")
    @classmethod
    def _secret_without_blanks(cls, secret: SecretStr) -> SecretStr:
        return SecretStr(secret.get_secret_value().strip())

    @field_validator("api_url", "oapi_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        parsed = URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("not an address; use https://api.dingtalk.com, or https://oapi.dingtalk.com for oapi_url")
        return url.rstrip("/")

    def credentials_missing(self) -> tuple[str, ...]:
        missing = () if self.client_id else ("client_id",)
        return missing if self.client_secret.get_secret_value() else (*missing, "client_secret")

    @property
    def robot(self) -> str:
        """The robot's code."""
        return self.robot_code or self.client_id

    @property
    def template(self) -> Template | None:
        """The card template; None: no cards."""
        if self.card_template == READY_MADE:
            return _READY_MADE[0]
        known = (template for template in _READY_MADE if template.id == self.card_template)
        return next(known, Template(self.card_template, self.card_key) if self.card_template else None)
