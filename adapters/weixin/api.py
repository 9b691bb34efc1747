"""Calls of the iLink API: HTTP with JSON, where a failure is `ret` or `errcode` in an answer with status 200.

The wire: https://github.com/Tencent/openclaw-weixin (README.md, src/api/api.ts), the vendor's own client.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog
from yarl import URL

from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain
from core.proxy import proxy_for
from core.untrusted import json_of

log = structlog.get_logger(__name__)

STALE = -14
THROTTLED = -2
"""Also what is said when the person has to write again first."""

_VERSION = "2.4.3"
"""Of the vendor's client whose protocol this is."""
_BOT_AGENT = "chatgpt-ms/0.1.0"
"""Who we are: `name/version`, for the platform's logs."""

_CONNECT = 10.0
_CALL = 15.0
"""Seconds."""
_MUTE = ("sendtyping",)
"""Calls whose answer the vendor's client does not read. That to a send has no field that must be there, but is an object:
nothing at all comes from a machine in between, and does not say that anything was sent."""
_LARGEST = 32 * 1024 * 1024
"""Bytes of an answer."""


class Refused(DeliveryError):
    """The platform answered, and did not do it."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code
        """`ret` or `errcode`, or the HTTP status of an answer that has neither."""


class SignInExpired(DeliveryUnavailable):
    """The token is stale: a new code is to be scanned."""


class IlinkApi:
    """Every call raises DeliveryUnavailable (it did not get there), DeliveryUncertain (nobody knows) or Refused."""

    def __init__(self, url: str, *, proxy: str | None, account: str) -> None:
        self._home = url
        self._proxy = proxy
        self._setting = f"accounts.{account}.proxy"
        self._session: aiohttp.ClientSession | None = None
        self._token = ""
        self.url = url
        """Where calls go: as configured, or as the sign-in said."""

    async def open(self) -> None:
        """Begin. A connection serves one call: the platform may close a resting one at any time, and a message that was
        sent into that moment would be in doubt."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True), cookie_jar=aiohttp.DummyCookieJar()
        )

    async def close(self) -> None:
        """End every call."""
        session, self._session = self._session, None  # at once: who asks meanwhile finds none
        if session is not None:
            await session.close()

    def sign_in(self, token: str, url: str) -> None:
        """Use these from now on; without a token those of an account that is not signed in.

        A sign-in over https is not followed to where anybody could listen.
        """
        self._token = token
        schemes = ("https:",) if self._home.startswith("https:") else ("https:", "http:")
        self.url = url.rstrip("/") if url.startswith(schemes) else self._home

    def at(self, host: str) -> str:
        """The address of the API at another host that the platform named, spoken to as the configured one."""
        return host.rstrip("/") if "://" in host else f"{URL(self._home).scheme}://{host}"

    async def call(self, endpoint: str, body: Mapping[str, Any], *, seconds: float = _CALL) -> dict[str, Any]:
        """POST, with the token if there is one. Returns the answer."""
        headers = {
            "AuthorizationType": "ilink_bot_token",
            "X-WECHAT-UIN": base64.b64encode(str(secrets.randbits(32)).encode()).decode(),
            **_common_headers(),
        }
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        content = {**body, "base_info": {"channel_version": _VERSION, "bot_agent": _BOT_AGENT}}
        return await self._ask("POST", f"{self.url}/ilink/bot/{endpoint}", headers, seconds, json=content)

    async def ask(self, url: str, endpoint: str, query: Mapping[str, str], *, seconds: float = _CALL) -> dict[str, Any]:
        """GET, without the token."""
        return await self._ask("GET", f"{url}/ilink/bot/{endpoint}", _common_headers(), seconds, params=query)

    async def upload(self, url: str, content: bytes, *, seconds: float) -> Mapping[str, str]:
        """POST bytes to the CDN, which gets no credentials. Returns the headers of the answer."""
        headers = {"Content-Type": "application/octet-stream"}
        answer_headers, _ = await self._send("POST", url, headers, seconds, data=content)
        return answer_headers

    async def _ask(
        self, method: str, url: str, headers: Mapping[str, str], seconds: float, **content: Any
    ) -> dict[str, Any]:
        _, text = await self._send(method, url, headers, seconds, **content)
        endpoint = url.rpartition("/ilink/bot/")[2].partition("?")[0]
        if not text and endpoint in _MUTE:
            return {}
        try:
            answer = json_of(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise DeliveryUncertain(f"{endpoint}: the answer is no JSON object")
        codes = [_number(answer[name]) for name in ("ret", "errcode") if answer.get(name) not in (None, 0, "0")]
        if codes:
            # one may be general, and the other say what it is
            code = next((code for code in codes if code in (STALE, THROTTLED)), codes[0])
            if code == STALE:
                raise SignInExpired("the sign-in has expired")
            reason = answer.get("errmsg")
            if isinstance(reason, str) and reason:
                reason = reason.replace(self._token, "…") if self._token else reason
                log.info("iLink refuses", endpoint=endpoint, ret=code, reason=reason[:100])
            raise Refused(f"{endpoint}: ret {code}", code)
        return answer

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], seconds: float, **content: Any
    ) -> tuple[Mapping[str, str], bytes]:
        if self._session is None:
            raise DeliveryUnavailable("the account is not connected")
        where = URL(url)
        proxy = proxy_for(where, self._proxy, setting=self._setting)
        place = where.path.rpartition("/ilink/bot/")[2] or "the CDN"
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT)
        try:
            async with self._session.request(
                method, where, headers=headers, timeout=timeout, proxy=proxy, allow_redirects=False, **content
            ) as response:
                text = await _bounded(response)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise DeliveryUnavailable(f"{place}: no connection ({type(error).__name__})") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DeliveryUncertain(f"{place}: no answer ({type(error).__name__})") from None
        if response.status == 401:
            raise SignInExpired("the sign-in is not accepted any more (HTTP 401)")
        if response.status >= 500:
            raise DeliveryUncertain(f"{place}: HTTP {response.status}")
        if not 200 <= response.status < 300:
            raise Refused(f"{place}: HTTP {response.status}", response.status)
        return response.headers, text


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    text = bytearray()
    async for piece in response.content.iter_any():
        text += piece
        if len(text) > _LARGEST:
            raise aiohttp.ClientPayloadError("the answer is too large")
    return bytes(text)


def _common_headers() -> dict[str, str]:
    major, minor, patch = (int(number) for number in _VERSION.split("."))
    return {"iLink-App-Id": "bot", "iLink-App-ClientVersion": str(major << 16 | minor << 8 | patch)}


def _number(code: Any) -> int:
    try:
        return int(code)
    except (ValueError, TypeError, OverflowError):
        return -1
