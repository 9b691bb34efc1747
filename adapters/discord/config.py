"""`accounts.discord`."""

from __future__ import annotations

import re

from pydantic import Field, SecretStr, field_validator
from yarl import URL

from core.account import AccountConfig


class Config(AccountConfig):
    """A bot of Discord's developer portal. See docs/platforms/discord.md."""

    IDS = "`/whoami` shows a person's own; with Developer Mode on, a right click on somebody has Copy User ID"
    ID = re.compile(r"[0-9]+")

    token: SecretStr = Field(SecretStr(""), description="The bot's token: developer portal, Bot, Reset Token.")
    api_url: str = Field(
        "https://discord.com/api/v10", description="Where Discord's HTTP API is; the gateway's address is asked there."
    )
    threads: bool = Field(False, description="Answer a mention in a thread of its own, opened on the message.")
    message_content: bool = Field(
        False,
        description="Ask for the privileged Message Content Intent: needed to follow threads that the bot opened "
        "without being mentioned each time, and by `access.channels: always` and `access.always`.",
    )
    commands: bool = Field(True, description="Offer /chat, /new, /stop … as slash commands.")

    @field_validator("token")
    @classmethod
    def _without_prefix(cls, token: SecretStr) -> SecretStr:
        """Pasted tokens bring blanks, and the prefix that requests carry."""
        plain = token.get_secret_value().strip().removeprefix("Bot ").strip()
        if not re.fullmatch(r"[!-~]*", plain):
            raise ValueError("a token has no blanks and no special characters in it; copy it again")
        return SecretStr(plain)

    @field_validator("api_url")
    @classmethod
    def _an_address(cls, api_url: str) -> str:
        url = URL(api_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError("expected an address such as https://discord.com/api/v10")
        return api_url.rstrip("/")

    def credentials_missing(self) -> tuple[str, ...]:
        return () if self.token.get_secret_value() else ("token",)

    @property
    def reads_everything(self) -> bool:
        """Whether messages are needed that do not mention the bot."""
        return self.message_content or self.access.listens_somewhere
