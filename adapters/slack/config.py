"""The block `accounts.slack`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from yarl import URL

from core.account import AccountConfig


class Config(AccountConfig):
    """A Slack app that is installed in one workspace or organisation. docs/platforms/slack.md says where the keys are."""

    IDS = "`/whoami` shows a person's own; in a profile it is under ⋮ › Copy member ID (U… or W…)"
    ID = re.compile(r"([A-Z0-9]+/)?[A-Z0-9]+")

    bot_token: SecretStr = Field(SecretStr(""), description="Bot User OAuth Token, begins with xoxb-.")
    app_token: SecretStr = Field(
        SecretStr(""), description="App-Level Token with connections:write, begins with xapp-; for `mode: socket`."
    )
    signing_secret: SecretStr = Field(SecretStr(""), description="Proves that a request is Slack's; for `mode: http`.")
    mode: Literal["socket", "http"] = Field(
        "socket",
        description="Events over a connection of our own (Socket Mode), or by HTTP to /webhooks/<account>.",
    )
    api_url: str = Field("https://slack.com/api/", description="Slack's Web API; GovSlack has another one.")
    prompts: tuple[str, ...] = Field(
        (),
        max_length=4,
        description="Suggestions that a new conversation in the assistant pane begins with, at most 4.",
    )

    @field_validator("bot_token")
    @classmethod
    def _is_bot_token(cls, token: SecretStr) -> SecretStr:
        if token.get_secret_value().startswith("xapp-"):
            raise ValueError("this is an app-level token; it belongs in app_token, bot_token begins with xoxb-")
        return token

    @field_validator("app_token")
    @classmethod
    def _is_app_token(cls, token: SecretStr) -> SecretStr:
        if token.get_secret_value().startswith("xox"):
            raise ValueError(
                "this is a bot or user token; app_token begins with xapp- (Basic Information, App-Level Tokens)"
            )
        return token

    @field_validator("api_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        parsed = URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("not an address; use https://slack.com/api/")
        return url if url.endswith("/") else f"{url}/"

    def credentials_missing(self) -> tuple[str, ...]:
        needed = ("bot_token", "app_token" if self.mode == "socket" else "signing_secret")
        return tuple(name for name in needed if not getattr(self, name).get_secret_value())
