"""The block `accounts.feishu`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from yarl import URL

from core.account import AccountConfig


class Config(AccountConfig):
    """An app of Feishu's (or Lark's) developer console. docs/platforms/feishu.md says where the keys are."""

    IDS = "`/whoami` shows a person's own (ou_…), which differs from app to app"
    ID = re.compile(r"ou_.+")

    app_id: str = Field("", description="App ID: Credentials & Basic Info; begins with cli_.")
    app_secret: SecretStr = Field(SecretStr(""), description="App Secret, beside the App ID.")
    mode: Literal["websocket", "webhook"] = Field(
        "websocket",
        description="Events over a connection of our own (long connection), or by HTTP to /webhooks/<account>.",
    )
    encrypt_key: SecretStr = Field(
        SecretStr(""), description="Encrypt Key: signs and encrypts what comes by HTTP; for `mode: webhook`."
    )
    verification_token: SecretStr = Field(
        SecretStr(""), description="Verification Token; compared as well where it is set, in `mode: webhook`."
    )
    api_url: str = Field("https://open.feishu.cn", description="Feishu's API; Lark's is https://open.larksuite.com.")

    @field_validator("app_id")
    @classmethod
    def _without_blanks(cls, app_id: str) -> str:
        return app_id.strip()

    @field_validator("app_secret")
    @classmethod
    def _is_no_id(cls, secret: SecretStr) -> SecretStr:
        plain = secret.get_secret_value().strip()
        if plain.startswith("cli_"):
            raise ValueError("this is an App ID; the App Secret is beside it, under Credentials & Basic Info")
        return SecretStr(plain)

    @field_validator("api_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        parsed = URL(url)
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ValueError("not an address; use https://open.feishu.cn or https://open.larksuite.com")
        return url.rstrip("/").removesuffix("/open-apis")

    def credentials_missing(self) -> tuple[str, ...]:
        needed = {"app_id": self.app_id, "app_secret": self.app_secret.get_secret_value()}
        if self.mode == "webhook":
            needed["encrypt_key"] = self.encrypt_key.get_secret_value()
        return tuple(name for name, value in needed.items() if not value)
