"""`accounts.weixin`."""

from __future__ import annotations

from pydantic import Field, field_validator
from yarl import URL

from core.account import AccountConfig, PersonalAccess

API_URL = "https://ilinkai.weixin.qq.com"
CDN_URL = "https://novac2c.cdn.weixin.qq.com/c2c"


class Config(AccountConfig):
    """A bot that belongs to whoever scans its code with WeChat. There are no keys. See docs/platforms/weixin.md."""

    IDS = "`/whoami` shows a person's own (…@im.wechat)"

    access: PersonalAccess = Field(
        PersonalAccess(),
        description="Who may talk to the bot: strangers need a code that you approve, unless you say so.",
    )
    api_url: str = Field(API_URL, description="Where iLink is; the sign-in may name another host for what follows.")
    cdn_url: str = Field(CDN_URL, description="Where files are.")
    pace: float = Field(
        1.0,
        ge=0,
        le=60,
        description="How slowly the bot writes: 1.5 s between two messages, times this; 0 is no pause.",
    )

    @field_validator("api_url", "cdn_url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        parsed = URL(url)
        if url and (parsed.scheme not in ("http", "https") or not parsed.host):
            raise ValueError(f"expected an address such as {API_URL}")
        return url.rstrip("/")

    @field_validator("cdn_url")
    @classmethod
    def _the_usual_one(cls, url: str) -> str:
        return url or CDN_URL

    def credentials_missing(self) -> tuple[str, ...]:
        """Credentials come by the scan. An empty address is how the example leaves the account off."""
        return () if self.api_url else ("api_url",)
