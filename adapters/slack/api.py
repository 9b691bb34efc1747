"""Slack's Web API: typed errors, and the pauses that Slack asks for.

Limits per method and channel: https://docs.slack.dev/apis/web-api/rate-limits. Nothing is sent twice by itself: it would
be posted twice where Slack stored a message and the answer was lost. For the same reason the retries of the SDK, which
shares files and holds the socket, are off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog
from slack_sdk.errors import SlackClientError
from slack_sdk.web.async_client import AsyncWebClient
from yarl import URL

from adapters.slack.methods import Methods
from core.backoff import retry_after
from core.clock import Clock
from core.errors import (
    AuthenticationError,
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    RateLimited,
    TargetGone,
)
from core.http_client import NotConnected
from core.latest import Latest
from core.proxy import proxy_for
from core.untrusted import text_in

log = structlog.get_logger(__name__)

CALL_TIMEOUT = 18.0
"""Seconds for one call; with the wait for a slot it stays below what the core allows for a send."""

_SLOT = 1.0
"""Seconds between two new messages in one channel: "1 per second per channel"."""
_LONGEST_WAIT = 8.0
"""Seconds to wait for a slot; beyond that the caller is told to come back later."""
_REMEMBERED = 5_000

_REFUSED = frozenset(
    (
        "invalid_auth",
        "not_authed",
        "account_inactive",
        "token_revoked",
        "token_expired",
        "org_login_required",
        "ekm_access_denied",
        "user_removed_from_team",
    )
)
"""The credentials are wrong, whatever is asked."""
_GONE = frozenset(
    (
        "cannot_reply_to_message",
        "cant_update_message",
        "channel_not_found",
        "edit_window_closed",
        "is_archived",
        "message_not_found",
        "messages_tab_disabled",
        "not_in_channel",
        "thread_not_found",
        "user_disabled",
        "user_not_found",
    )
)
_LATER = frozenset(("service_unavailable", "request_timeout", "accesslimited", "team_added_to_org"))
_DOUBTFUL = frozenset(("internal_error", "fatal_error"))
"""Slack: "it's possible some aspect of the operation succeeded before the error was raised"."""


class SlackError(DeliveryError):
    """Slack will not do this; `code` is its name for the reason."""

    def __init__(self, method: str, code: str) -> None:
        super().__init__(f"{method}: {code}")
        self.code = code


class CredentialsRefused(DeliveryUnavailable):
    """The token is not valid (any more). A reply waits; the account is what has failed."""

    def __init__(self, method: str, code: str) -> None:
        super().__init__(f"Slack refuses the token ({method}: {code})")
        self.code = code


class SlackApi:
    """Calls methods by the SDK's names for them (`chat_postMessage`). Open it first; calls raise DeliveryUnavailable before.

    Every call raises RateLimited, TargetGone, DeliveryUnavailable, DeliveryUncertain, CredentialsRefused or SlackError.
    """

    def __init__(self, token: str, *, url: str, proxy: str | None, clock: Clock) -> None:
        self._token = token.strip()
        self._url = URL(url)
        self._proxy = proxy
        self._clock = clock
        self._methods: Methods | None = None
        self._client: AsyncWebClient | None = None
        self._session: aiohttp.ClientSession | None = None
        self._pauses: Latest[str, float] = Latest(_REMEMBERED)
        self._slots: Latest[str, float] = Latest(_REMEMBERED)
        self.refused = asyncio.Event()
        """Set by the first call whose token Slack refused."""

    async def open(self) -> None:
        """Open what is used until `close`."""
        self._methods = Methods(self._token, url=self._url, proxy=proxy_for(self._url, self._proxy))
        connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=15.0)  # shorter than servers keep an idle one
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT, sock_connect=5.0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        self._client = AsyncWebClient(
            self._token, base_url=str(self._url), session=self._session, retry_handlers=[], timeout=int(CALL_TIMEOUT)
        )
        self._client.proxy = self.proxy  # the constructor would take one from the environment, whatever NO_PROXY says
        self.refused.clear()

    async def close(self) -> None:
        """Close every connection."""
        session, self._session, self._client = self._session, None, None
        methods, self._methods = self._methods, None
        if session is not None:
            await session.close()
        if methods is not None:
            await methods.__aexit__(None, None, None)

    @property
    def proxy(self) -> str | None:
        """The proxy that these connections take."""
        proxy = proxy_for(self._url, self._proxy)
        return None if proxy is None else str(proxy)

    @property
    def host(self) -> str:
        """Where the API is."""
        return self._url.host or ""

    @property
    def client(self) -> AsyncWebClient:
        """The SDK's client. Raises DeliveryUnavailable while the account is not signed in."""
        if self._client is None:
            raise DeliveryUnavailable("the account is not signed in at the moment")
        return self._client

    @property
    def session(self) -> aiohttp.ClientSession:
        """The shared HTTP session. Raises DeliveryUnavailable while the account is not signed in."""
        if self._session is None:
            raise DeliveryUnavailable("the account is not signed in at the moment")
        return self._session

    async def call(self, method: str, *, slot: bool = False, token: str = "", **arguments: Any) -> Mapping[str, Any]:
        """Call a method. `slot`: it puts a new message up, which Slack allows once a second in each channel. `token`: to
        be used instead of the bot's."""
        channel = str(arguments.get("channel") or "")
        limited = f"{method} {channel}" if slot else method
        self._check_pause(method, limited)
        if slot:
            await self._await_slot(method, channel)
        if self._methods is None:
            raise DeliveryUnavailable("the account is not signed in at the moment")
        try:
            async with asyncio.timeout(CALL_TIMEOUT):
                status, headers, data = await self._methods.call(method, arguments, token=token.strip())
        except NotConnected as error:
            raise DeliveryUnavailable(f"{method}: no connection to {self.host} ({error})") from None
        except OSError as error:
            raise self._broken(method, error) from None
        except ValueError:
            raise CredentialsRefused(method, "it has a line break in it") from None
        if status != 200 or not isinstance(data, dict) or not data.get("ok"):
            raise self._explained(method, limited, status, headers, data)
        return {**data, "_headers": headers} if method == "auth_test" else data

    async def upload(self, **arguments: Any) -> None:
        """Share a file: three calls, which the SDK knows (`files_upload_v2`). Raises as `call`."""
        method = "files_upload_v2"
        self._check_pause(method, method)
        client = self.client
        try:
            await client.files_upload_v2(**arguments)
        except SlackClientError as error:
            answer: Any = getattr(error, "response", None)
            status = getattr(answer, "status_code", None) or getattr(answer, "status", None) or 0
            headers, data = getattr(answer, "headers", None), getattr(answer, "data", None)
            raise self._explained(method, method, status, headers or {}, data) from None
        except aiohttp.ClientConnectorError as error:
            raise DeliveryUnavailable(f"{method}: no connection to {self.host} ({type(error).__name__})") from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(method, error) from None
        except (AttributeError, TypeError, ValueError):  # the SDK, of JSON that is no object: a machine in between
            raise DeliveryUncertain(f"{method}: {self.host} answered with something else than Slack's JSON") from None

    def _broken(self, method: str, error: Exception) -> DeliveryUncertain:
        return DeliveryUncertain(f"{method}: no answer from {self.host} ({type(error).__name__})")

    def _check_pause(self, method: str, limited: str) -> None:
        now = self._clock.monotonic()
        wait = self._pauses.get(limited, now) - now
        if wait > 0:
            raise RateLimited(f"{method}: Slack asked to wait", retry_after=wait)
        self._pauses.pop(limited, None)

    async def _await_slot(self, method: str, channel: str) -> None:
        now = self._clock.monotonic()
        at = max(now, self._slots.get(channel, now))
        if at - now > _LONGEST_WAIT:
            raise RateLimited(f"{method}: many messages wait for channel {channel!r}", retry_after=at - now)
        self._slots[channel] = at + _SLOT
        if at > now:
            await self._clock.sleep(at - now)

    def _explained(
        self, method: str, limited: str, status: int, headers: Mapping[str, str], data: Any
    ) -> DeliveryError:
        """What an answer that is no success means."""
        code = text_in(data, "error")
        if status == 429 or code in ("ratelimited", "rate_limited"):
            seconds = max(retry_after(headers, self._clock) or 1.0, 0.1)
            self._pauses[limited] = self._clock.monotonic() + seconds
            return RateLimited(f"{method}: Slack asks to wait", retry_after=seconds)
        if code in _REFUSED:
            self.refused.set()
            return CredentialsRefused(method, code)
        if code in _GONE:
            return TargetGone(f"{method}: {code}")
        if code in _LATER:
            return DeliveryUnavailable(f"{method}: {code}")
        if code in _DOUBTFUL or not code:
            return DeliveryUncertain(f"{method}: {code or f'status {status} without JSON'}")
        return SlackError(method, code)


def sign_in_error(error: DeliveryError, setting: str) -> AuthenticationError | None:
    """What a refused token is at sign-in; None where the error is of another kind."""
    if isinstance(error, CredentialsRefused):
        return AuthenticationError(f"{setting}: Slack refuses it ({error.code}); copy it anew from the app's settings")
    return None
