"""Where the long connection is: asked anew for each one, with the app's credentials.

Feishu publishes this as code alone: https://github.com/larksuite/oapi-sdk-python/blob/v2_main/lark_oapi/ws/client.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import structlog
from yarl import URL

from adapters.feishu.api import FeishuApi
from adapters.feishu.config import Config
from core.errors import AuthenticationError, ConnectionLost
from core.untrusted import json_of

log = structlog.get_logger(__name__)

_PATH = "/callback/ws/endpoint"
_TIMEOUT = aiohttp.ClientTimeout(total=10.0, sock_connect=5.0)
_PING_EVERY = 120.0
"""Seconds, where Feishu does not say."""
_SHORTEST, _LONGEST = 1.0, 600.0

WRONG_DOMAIN = 1000040351
_REFUSED = {
    10003: "app_id or app_secret: Feishu does not know them; copy both from Credentials & Basic Info",
    10014: "app_secret: Feishu refuses it; copy it anew from Credentials & Basic Info",
    1000040344: "app_id or app_secret: Feishu misses one of them; copy both from Credentials & Basic Info",
    1000040346: "app_id: Feishu does not know it; copy it from Credentials & Basic Info",
    WRONG_DOMAIN: "api_url: the app belongs to the other one of Feishu and Lark; use https://open.larksuite.com for an "
    "app of Lark's console, https://open.feishu.cn for one of Feishu's",
}
"""Codes for which only a person can help, in words."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address, for one connection."""

    url: URL
    """It holds a ticket: not for the log."""
    ping_every: float
    """Seconds."""

    @property
    def service(self) -> int:
        """What pings are addressed to."""
        id = self.url.query.get("service_id", "")
        number = int(id) if id.isascii() and id.isdigit() and len(id) < 11 else 0
        return number if number < 1 << 31 else 0


async def find_endpoint(api: FeishuApi, config: Config) -> Endpoint:
    """Ask for it. Raises AuthenticationError or ConnectionLost."""
    credentials = {"AppID": config.app_id, "AppSecret": config.app_secret.get_secret_value()}
    try:
        async with api.session.post(
            f"{config.api_url}{_PATH}",
            json=credentials,
            headers={"locale": "zh"},
            proxy=api.proxy,
            timeout=_TIMEOUT,
            allow_redirects=False,
        ) as response:
            status, answer = response.status, _parsed(await response.read())
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ConnectionLost(f"the long connection: no answer from {api.host} ({type(error).__name__})") from None
    code = answer.get("code")
    if code != 0:
        log.info("no long connection is given", status=status, code=code, detail=answer.get("msg"))
        if (reason := _REFUSED.get(code if type(code) is int else -1)) is not None:
            raise AuthenticationError(f"{reason} ({code})")
        what = f"status {status} without JSON" if code is None else f"code {code}"
        raise ConnectionLost(f"the long connection: {api.host} gives no address ({what})")
    data = answer.get("data")
    url = data.get("URL") if isinstance(data, Mapping) else None
    try:
        address = URL(url if isinstance(url, str) else "")
    except ValueError:
        address = URL()
    if address.scheme not in ("ws", "wss") or not address.host:
        raise ConnectionLost(f"the long connection: {api.host} gave no address for it")
    settings = data.get("ClientConfig") if isinstance(data, Mapping) else None
    return Endpoint(address, ping_interval(settings) or _PING_EVERY)


def ping_interval(settings: Any) -> float | None:
    """The seconds between two pings in a `ClientConfig`, within reason. What it says of reconnecting is left to the
    supervisor, whose pauses grow."""
    seconds = settings.get("PingInterval") if isinstance(settings, Mapping) else None
    if not isinstance(seconds, int | float) or not seconds > 0:
        return None
    return float(min(max(seconds, _SHORTEST), _LONGEST))


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json_of(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
