"""DingTalk's HTTP API: one session, one access token for all who wait, typed errors, and the pauses it asks for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import structlog
from yarl import URL

from adapters.dingtalk.failures import CredentialsRefused, DingTalkError, ShutOut, refusal
from core.backoff import retry_after
from core.clock import Clock
from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain, RateLimited
from core.proxy import proxy_for
from core.untrusted import json_of

log = structlog.get_logger(__name__)

CALL_TIMEOUT = 12.0
"""Seconds for one call; with the wait for a sign-in and a token it stays below what the core allows for a send."""
_CONNECT = 5.0
_SIGN_IN = 4.0
"""Seconds that a call waits for the account to be signed in: a process that was killed has replies to send as soon as it
is back, and a first attempt that fails costs them a second, a few of them half a minute."""
_EARLY = 300.0
"""Seconds before its end at which an access token is replaced: 7,200 are given, the clocks may differ."""
_LASTS = 7200.0
"""Seconds that an access token lasts whose end is not told."""
_AT_ONCE, _A_WHILE = 5, 1 / 3
"""So many calls of one kind in so many seconds: 15 in each second. DingTalk takes 20 from an app of a company in the
standard edition, more from others; they are counted when they arrive, closer together than they were sent while
connections are made. So no second's worth goes out at once."""
_LONGEST_WAIT = 3.0
"""Seconds to wait for a slot; beyond that the caller is told to come back later."""
_LONGEST_PAUSE = 30.0
"""Seconds between two calls that a limit per second refuses again and again."""
_ALL = "*"
"""The pause that every call keeps."""

TOKEN = "/v1.0/oauth2/accessToken"  # noqa: S105 - a path


class _Pause:
    """Until when a call may not be made, and how often in a row it was refused."""

    def __init__(self) -> None:
        self.until = 0.0
        self.refusals = 0


class DingTalkApi:
    """Open it first; calls wait a little for that, and raise DeliveryUnavailable.

    Every call raises RateLimited, TargetGone, DeliveryUnavailable, DeliveryUncertain, CredentialsRefused or
    DingTalkError. DingTalk names no pause when a limit is hit (something in between may): one second, more if that was
    not enough
    (https://open.dingtalk.com/document/development/how-to-process-api-throttling-on-the-dingtalk-server).
    """

    def __init__(self, client_id: str, client_secret: str, *, url: str, proxy: str | None, clock: Clock) -> None:
        self._client_id = client_id
        self._client_secret = client_secret
        self._url = url
        self._proxy = proxy
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._opened = asyncio.Event()
        self._token = ""
        self._token_until = 0.0
        self._renewal: asyncio.Task[str] | None = None
        """Under way for all who wait."""
        self._pauses: dict[str, _Pause] = {}
        self._slots: dict[str, deque[float]] = {}
        """When each call was made lately, or will be."""
        self.refused = asyncio.Event()
        """Set when DingTalk no longer takes the app's credentials."""

    async def open(self) -> None:
        """Open what is used until `close`. No token of an earlier sign-in is used again."""
        connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=15.0)  # shorter than servers keep an idle one
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT, sock_connect=_CONNECT)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        self._token = ""
        self._pauses.clear()
        self._slots.clear()
        self.refused.clear()
        self._opened.set()

    async def close(self) -> None:
        """Close every connection."""
        session, self._session, self._token = self._session, None, ""
        renewal, self._renewal = self._renewal, None
        self._opened.clear()
        if renewal is not None:
            renewal.cancel()
            await asyncio.wait({renewal})
        if session is not None:
            await session.close()

    def proxy_of(self, url: URL) -> str | None:
        """The proxy that a connection to `url` takes."""
        proxy = proxy_for(url, self._proxy)
        return None if proxy is None else str(proxy)

    async def call(self, method: str, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """A call with the access token. A token that is refused is replaced once."""
        await self._signed_in()
        token = await self.token()
        try:
            return await self._call(method, path, body, token=token)
        except CredentialsRefused:
            self._token = "" if self._token == token else self._token  # somebody else may have a new one already
        return await self._call(method, path, body, token=await self.token())

    async def token(self) -> str:
        """The access token. Raises CredentialsRefused, RateLimited, or DeliveryUnavailable: nothing was sent yet."""
        if self._token and self._clock.monotonic() < self._token_until:
            return self._token
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew())
            self._renewal.add_done_callback(lambda task: task.cancelled() or task.exception())  # whoever waits has it
        return await asyncio.shield(self._renewal)

    async def _renew(self) -> str:
        """https://open.dingtalk.com/document/development/obtain-the-access-token-of-an-internal-app"""
        body = {"appKey": self._client_id, "appSecret": self._client_secret}
        try:
            data = await self._call("POST", TOKEN, body)
        except CredentialsRefused:
            self.refused.set()
            raise
        except RateLimited:
            raise
        except DeliveryError as error:
            raise DeliveryUnavailable(str(error)) from None
        except asyncio.CancelledError:  # by `close` alone: whoever waits is not cancelled
            raise DeliveryUnavailable("the account is not signed in at the moment") from None
        token, lasts = data.get("accessToken"), str(data.get("expireIn"))
        if not isinstance(token, str) or not token:
            raise DeliveryUnavailable(f"{TOKEN}: no accessToken in the answer")
        seconds = float(lasts) if lasts.isdecimal() else _LASTS
        self._token, self._token_until = token, self._clock.monotonic() + max(seconds - _EARLY, seconds / 2)
        return token

    async def ticket(self, subscriptions: list[dict[str, str]], agent: str) -> tuple[str, str]:
        """Where to connect to for pushes, and the ticket for one connection within 90 s
        (https://opensource.dingtalk.com/developerpedia/docs/learn/stream/protocol)."""
        path = "/v1.0/gateway/connections/open"
        body = {
            "clientId": self._client_id,
            "clientSecret": self._client_secret,
            "subscriptions": subscriptions,
            "ua": agent,
        }
        try:
            data = await self._call("POST", path, body)
        except CredentialsRefused:
            self.refused.set()
            raise
        endpoint, ticket = data.get("endpoint"), data.get("ticket")
        if not isinstance(endpoint, str) or not endpoint.startswith(("ws://", "wss://")) or not isinstance(ticket, str):
            raise DingTalkError(path, "no endpoint in the answer")
        return endpoint, ticket

    async def _call(self, method: str, path: str, body: Mapping[str, Any], *, token: str = "") -> Mapping[str, Any]:
        limit = f"{method} {path}"
        self._check_pause(limit)
        if await self._await_slot(limit):
            self._check_pause(limit)
        headers = {"x-acs-dingtalk-access-token": token} if token else {}
        try:
            data = await self._exchange(method, URL(self._url + path), body, name=path, headers=headers)
        except RateLimited as limited:
            raise self._longer(limit, limited) from None
        self._pauses.pop(limit, None)
        return data

    def _check_pause(self, limit: str) -> None:
        now = self._clock.monotonic()
        until = max((self._pauses[each].until for each in (limit, _ALL) if each in self._pauses), default=now)
        if until > now:
            raise RateLimited(f"{limit}: DingTalk asked to wait", retry_after=until - now)

    async def _await_slot(self, limit: str) -> bool:
        """Whether it was waited, so that many calls at once do not run into the limit per second."""
        now = self._clock.monotonic()
        slots = self._slots.setdefault(limit, deque(maxlen=_AT_ONCE))
        at = max(now, slots[0] + _A_WHILE) if len(slots) == _AT_ONCE else now
        if at - now > _LONGEST_WAIT:
            raise RateLimited(f"{limit}: many calls wait", retry_after=at - now)
        slots.append(at)
        if at > now:
            await self._clock.sleep(at - now)
        return at > now

    def _longer(self, limit: str, limited: RateLimited) -> RateLimited:
        """A pause doubles while it is not enough. Each call has its own, but for that of the machine's address."""
        pause = self._pauses.setdefault(_ALL if isinstance(limited, ShutOut) else limit, _Pause())
        now = self._clock.monotonic()
        if pause.until <= now:  # else it was refused together with others
            seconds = max(limited.retry_after, min(limited.retry_after * 2.0**pause.refusals, _LONGEST_PAUSE))
            pause.refusals = min(pause.refusals + 1, 10)
            pause.until = now + seconds
        return RateLimited(str(limited), retry_after=pause.until - now)

    async def post(self, url: URL, body: Mapping[str, Any], *, name: str) -> Mapping[str, Any]:
        """A call without the access token, of an address that is not the API's; `name` is what errors call it."""
        await self._signed_in()
        return await self._exchange("POST", url, body, name=name, headers={})

    async def _signed_in(self) -> None:
        """Waits a little; what finds no session then says so."""
        if not self._opened.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_SIGN_IN):
                    await self._opened.wait()

    async def _exchange(
        self, method: str, url: URL, body: Mapping[str, Any], *, name: str, headers: Mapping[str, str]
    ) -> Mapping[str, Any]:
        session = self._session
        if session is None:
            raise DeliveryUnavailable("the account is not signed in at the moment")
        try:
            async with session.request(
                method,
                url,
                json=body,
                headers={"Accept": "application/json", **headers},  # XML otherwise
                proxy=self.proxy_of(url),
                allow_redirects=False,
            ) as response:
                status, answered, text = response.status, response.headers, await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise DeliveryUnavailable(f"{name}: no connection to {url.host} ({type(error).__name__})") from None
        except RuntimeError:  # the session was closed meanwhile
            raise DeliveryUnavailable("the account is not signed in at the moment") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DeliveryUncertain(f"{name}: no answer from {url.host} ({type(error).__name__})") from None
        data = _json(text)
        if (refused := refusal(name, status, data, pause=retry_after(answered, self._clock))) is not None:
            log.debug("DingTalk refuses", call=name, status=status, detail=getattr(refused, "detail", ""))
            raise refused
        assert isinstance(data, dict)
        return data


def _json(text: bytes) -> Any:
    """None where it is none: every call is documented to answer with an object, so an empty body says nothing either."""
    try:
        return json_of(text)
    except ValueError:  # also of text that is no text
        return None
