"""`accounts.wechat`."""

from __future__ import annotations

import re

from pydantic import Field, SecretStr, field_validator

from core.account import AccountConfig, PersonalAccess

_ENDPOINT = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:/@\[\]]+)):(?P<port>\d{1,5})")
_TOKEN = re.compile(r"[\x21-\x7e]*")
"""What fits into the metadata of a call."""


class Config(AccountConfig):
    """A Wechaty puppet service, which is logged in to a WeChat account. See docs/platforms/wechat.md."""

    IDS = "`/whoami` shows a person's own (wxid_…)"

    access: PersonalAccess = Field(
        PersonalAccess(),
        description="Who may talk to the bot: strangers need a code that you approve, unless you say so.",
    )
    endpoint: str = Field("127.0.0.1:8788", description="Where the puppet service is: host:port.")
    token: SecretStr = Field(SecretStr(""), description="The token that the puppet service was started with.")
    tls: bool = Field(False, description="Whether the puppet service speaks TLS.")
    pace: float = Field(
        1.0,
        ge=0,
        le=60,
        description="How slowly the bot writes: 1 to 3 s and the time to write it, times this; 0 is no pause.",
    )

    @field_validator("endpoint")
    @classmethod
    def _host_and_port(cls, endpoint: str) -> str:
        match = _ENDPOINT.fullmatch(endpoint)
        if match is None or not 0 < int(match["port"]) < 65536:
            raise ValueError("expected host:port, such as 127.0.0.1:8788")
        return endpoint

    @field_validator("token")
    @classmethod
    def _printable(cls, token: SecretStr) -> SecretStr:
        if not _TOKEN.fullmatch(token.get_secret_value()):
            raise ValueError("a token has no spaces, and only letters, digits and signs of ASCII")
        return token

    @property
    def host(self) -> str:
        """Of the endpoint."""
        match = _ENDPOINT.fullmatch(self.endpoint)
        return str(match["address"] or match["host"]) if match else ""

    @property
    def port(self) -> int:
        """Of the endpoint."""
        return int(self.endpoint.rpartition(":")[2])

    def credentials_missing(self) -> tuple[str, ...]:
        return () if self.token.get_secret_value() else ("token",)
