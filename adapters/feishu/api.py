"""Feishu's HTTP API over connections of our own: token, pace, typed errors.

https://open.feishu.cn/document/server-docs/api-call-guide/frequency-control: who calls too often gets HTTP 429, from old
APIs 400, with code 99991400 and `x-ogw-ratelimit-reset`; for messages to one chat code 230020. The SDK is not used for
calls: it opens a new TLS context for each one and fetches its token with a blocking request
(https://github.com/larksuite/oapi-sdk-python).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
from yarl import URL

from adapters.feishu.calls import Answer, Calls
from adapters.feishu.errors import (
    CLOSED_APP,
    DOUBTFUL,
    GONE,
    LATER,
    LIMITED_APP,
    LIMITED_CHAT,
    NO_SUCH_API,
    REASONS,
    STALE_TOKEN,
    WRONG_APP,
    CredentialsRefused,
    FeishuError,
    Gone,
    sign_in_error,
)
from adapters.feishu.pace import Pace
from adapters.feishu.token import TOKEN_LASTS, Token
from core.backoff import retry_after
from core.clock import Clock
from core.errors import ConnectionLost, DeliveryError, DeliveryUnavailable, DeliveryUncertain, RateLimited
from core.http_client import NotConnected
from core.proxy import proxy_for

CALL_TIMEOUT = 15.0
"""Seconds for one call; with the wait for its turn it stays below what the core allows for a send."""

_SIGNED_OUT = "the account is not signed in at the moment"
_TOKEN_PATH = "/open-apis/auth/v3/tenant_access_token/internal"  # noqa: S105 - where it is fetched
_CHAT_PAUSE = 1.0
"""Seconds, where Feishu says wait and not how long."""

_ID = re.compile(r"/(?!v\d+(?:/|$))(?=[^/]*[A-Z\d]|o[mc]_)[^/]+")
"""A part of a path that names a thing, not a kind of things."""


class FeishuApi:
    """Open it first; calls raise DeliveryUnavailable before. A later `open` begins anew."""

    def __init__(self, app_id: str, app_secret: str, *, url: str, proxy: str | None, clock: Clock) -> None:
        self.app_id = app_id
        self._app_secret = app_secret
        self._url = url.rstrip("/")
        self._proxy = proxy
        self._clock = clock
        self._calls: Calls | None = None
        self._session: aiohttp.ClientSession | None = None
        self._token = Token(self._fetch_token, clock)
        self._pace = Pace(clock)
        self.refused = asyncio.Event()
        """Set by the first call that says that the app's credentials are wrong, or the app is closed."""

    async def open(self) -> None:
        """Open what is used until `close`."""
        self._calls = Calls(proxy_for(URL(self._url), self._proxy))
        connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=15.0)  # shorter than servers keep an idle one
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT, sock_connect=5.0)
        jar = aiohttp.DummyCookieJar()
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar)
        self._token.drop()
        self.refused.clear()

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        calls, self._calls = self._calls, None
        await self._token.close()
        if session is not None:
            await session.close()
        if calls is not None:
            await calls.__aexit__(None, None, None)

    @property
    def proxy(self) -> str | None:
        """The proxy that these connections take."""
        proxy = proxy_for(URL(self._url), self._proxy)
        return None if proxy is None else str(proxy)

    @property
    def host(self) -> str:
        """Where the API is."""
        return URL(self._url).host or ""

    @property
    def session(self) -> aiohttp.ClientSession:
        """The shared HTTP session. Raises DeliveryUnavailable while the account is not signed in."""
        if self._session is None:
            raise DeliveryUnavailable(_SIGNED_OUT)
        return self._session

    async def sign_in(self) -> None:
        """Prove the credentials. Raises AuthenticationError or ConnectionLost."""
        self._token.drop()
        try:
            await self._token.get()
        except CredentialsRefused as error:
            raise sign_in_error(error) from None
        except DeliveryError as error:
            raise ConnectionLost(str(error)) from None

    async def token(self) -> str:
        """A token that is good, for requests that `call` is not made for. Raises as `call`."""
        return await self._token.get()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        form: Callable[[], aiohttp.FormData] | None = None,
        pace: str = "",
    ) -> Mapping[str, Any]:
        """Call an API; returns the whole JSON answer. `path` begins with /open-apis/. `pace` is the chat that a new
        message goes to; `form` makes a body of files, anew for each attempt.

        Raises RateLimited, Gone, DeliveryUnavailable, DeliveryUncertain, CredentialsRefused or FeishuError.
        """
        api = f"{method} {_ID.sub('/:id', path)}"
        place = pace or f"{method} {path}"
        self._pace.check(api, place)
        await self._pace.turn(api, pace)
        token = await self._token.get()
        self._pace.check(api, place)  # Feishu may have asked for a pause meanwhile
        answer = await self._request(api, method, path, token, params=params, body=body, form=form)
        if answer.code in STALE_TOKEN:  # it took no effect
            self._token.drop(token)
            token = await self._token.get()
            answer = await self._request(api, method, path, token, params=params, body=body, form=form)
        if answer.code == 0 and answer.status < 400:
            return answer.data
        raise self._explained(api, place, answer)

    async def _fetch_token(self) -> tuple[str, float]:
        """Raises as `call`."""
        api = f"POST {_TOKEN_PATH}"
        body = {"app_id": self.app_id, "app_secret": self._app_secret}
        answer = await self._request(api, "POST", _TOKEN_PATH, "", body=body)
        token, lasts = answer.data.get("tenant_access_token"), answer.data.get("expire")
        if answer.code in WRONG_APP:
            self.refused.set()
            raise CredentialsRefused(api, answer.code, "there is no such app, or its secret is another one")
        if answer.code == 0 and isinstance(token, str) and token:
            return token, float(lasts) if isinstance(lasts, int | float) else TOKEN_LASTS
        error = self._explained(api, api, answer)
        if isinstance(error, CredentialsRefused | RateLimited):
            raise error
        raise DeliveryUnavailable(str(error))  # no message was on its way

    async def _request(
        self,
        api: str,
        method: str,
        path: str,
        token: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        form: Callable[[], aiohttp.FormData] | None = None,
    ) -> Answer:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = URL(self._url + path, encoded="%" in path)
        if params:
            url = url.with_query(params)
        try:
            if form is not None:
                return await self._upload(method, url, headers, form())
            if self._calls is None:
                raise DeliveryUnavailable(_SIGNED_OUT)
            async with asyncio.timeout(CALL_TIMEOUT):
                return await self._calls.call(method, url, headers, body)
        except (aiohttp.ClientConnectorError, NotConnected) as error:
            raise DeliveryUnavailable(f"{api}: no connection to {self.host} ({type(error).__name__})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise DeliveryUncertain(f"{api}: no answer from {self.host} ({type(error).__name__})") from None
        except RuntimeError as error:  # the session is closed meanwhile
            raise DeliveryUncertain(f"{api}: the account signs out ({error})") from None

    async def _upload(self, method: str, url: URL, headers: Mapping[str, str], form: aiohttp.FormData) -> Answer:
        async with self.session.request(
            method, url, data=form, headers=headers, proxy=self.proxy, allow_redirects=False
        ) as response:
            return Answer.of(response.status, response.headers, await response.read())

    def _limited(self, api: str, limited: str, seconds: float) -> RateLimited:
        self._pace.pause(limited, seconds)
        return RateLimited(f"{api}: Feishu asks to wait", retry_after=seconds)

    def _explained(self, api: str, place: str, answer: Answer) -> DeliveryError:
        """What an answer that is no success means."""
        code = answer.code
        detail = REASONS.get(code or 0) or str(answer.data.get("msg", ""))[:300]
        if answer.status == 429 or code == LIMITED_APP:
            return self._limited(api, api, self._reset_after(answer.headers))
        if code is None and answer.status == NO_SUCH_API:
            return FeishuError(api, NO_SUCH_API, "there is no such API")
        if code is None:
            # An error page of whatever stands in between: below 500 it passed nothing on.
            kind = DeliveryUnavailable if 300 <= answer.status < 500 else DeliveryUncertain
            return kind(f"{api}: status {answer.status} without JSON")
        if code in LIMITED_CHAT:
            return self._limited(api, place, _CHAT_PAUSE)
        if code in CLOSED_APP:
            self.refused.set()
            return CredentialsRefused(api, code, CLOSED_APP[code])
        if code in GONE:
            return Gone(api, code, detail)
        if code in LATER or code in STALE_TOKEN:
            return DeliveryUnavailable(f"{api}: {code} {detail}")
        if code in DOUBTFUL or answer.status >= 500:
            return DeliveryUncertain(f"{api}: {code} {detail}")
        return FeishuError(api, code, detail)

    def _reset_after(self, headers: Mapping[str, str]) -> float:
        told = headers.get("x-ogw-ratelimit-reset", "")
        seconds = float(told) if told.isdecimal() else retry_after(headers, self._clock)
        return max(seconds or _CHAT_PAUSE, 0.1)
