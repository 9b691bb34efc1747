"""The adapter: sign in, receive by a connection of our own or by HTTP, answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import structlog
from aiohttp import web

from adapters.slack.address import Address
from adapters.slack.api import SlackApi, SlackError, sign_in_error
from adapters.slack.config import Config
from adapters.slack.history import missed
from adapters.slack.identity import Identity
from adapters.slack.link import OLD, REFUSED, Link, Verdict
from adapters.slack.reception import Reception
from adapters.slack.reply import FoundThreadReply, reply_to
from adapters.slack.signature import Signatures
from adapters.slack.webhook import Webhook
from adapters.slack.workspace import Workspace
from core.adapter import (
    Adapter,
    AdapterSpec,
    AsksLeave,
    CatchesUp,
    Diagnoses,
    FetchesFiles,
    Heard,
    Inbox,
    Place,
    ReplyChannel,
    ServesHttp,
)
from core.clock import Clock, SystemClock
from core.ending import run_until
from core.errors import (
    AuthenticationError,
    ConnectionLost,
    DeliveryError,
    FileRefused,
    FileUnavailable,
)
from core.fetching import Files
from core.limits import Rates
from core.messages import AccountId, Attachment, InboundMessage, ReplyAddress

log = structlog.get_logger(__name__)

_RECONNECTS_PER_MINUTE = 20
"""Broken connections that are replaced at once; more are the supervisor's, with its growing pauses. Slack allows 50."""
_RETIRE = 10.0
"""Seconds that an announced end leaves the old connection to acknowledge what it brought."""
_FILE_HOSTS = (".slack.com", ".slack-edge.com", ".slack-files.com", ".slack-gov.com")

SCOPES = {
    "app_mentions:read": "mentions in channels are not delivered",
    "chat:write": "nothing can be answered",
    "im:history": "direct messages are not delivered",
    "channels:history": "an answer whose sending is in doubt cannot be looked up in public channels, nor can missed questions",
    "groups:history": "the same in private channels",
    "channels:read": "channels are known by their ids alone, and missed questions are looked for in fewer places",
    "groups:read": "the same in private channels",
    "im:read": "first questions that were missed in direct chats are not looked for",
    "users:read": "people are known by their ids alone, and guests of the workspace count as members",
    "files:read": "files cannot be fetched",
    "assistant:write": "the assistant pane has no titles and suggestions, and no sign of writing",
}
"""What each scope of the app manifest (docs/platforms/slack.md) is for: what happens without it."""


class SlackAdapter(Adapter, AsksLeave, CatchesUp, FetchesFiles, Diagnoses):
    """What both ways of receiving have in common."""

    def __init__(self, account: AccountId, config: Config, *, clock: Clock | None = None) -> None:
        self._account = account
        self._config = config
        self._clock = clock or SystemClock()
        self._api = SlackApi(
            config.bot_token.get_secret_value(), url=config.api_url, proxy=config.proxy, clock=self._clock
        )
        self._workspace = Workspace(self._api, self._clock, stopped=self._stopped)
        self._files: Files | None = None
        self._reception: Reception | None = None
        self._gaps = 0
        self._may: Callable[[InboundMessage], bool] = _nobody

    def ask_leave(self, may: Callable[[InboundMessage], bool]) -> None:
        self._may = may

    async def __aenter__(self) -> Self:
        self._gaps = 0
        async with AsyncExitStack() as stack:
            await self._api.open()
            stack.push_async_callback(self._api.close)
            self._workspace.identity = await self._sign_in()
            token = self._config.bot_token.get_secret_value()
            self._files = await stack.enter_async_context(
                Files(
                    hosts=_FILE_HOSTS,
                    api_url=self._config.api_url,
                    headers={"Authorization": f"Bearer {token}"},
                    proxy=self._api.proxy,
                )
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        self._files = None

    async def _sign_in(self) -> Identity:
        try:
            data = await self._api.call("auth_test")
        except DeliveryError as error:
            if (refused := sign_in_error(error, "bot_token")) is not None:
                raise refused from None
            if isinstance(error, SlackError):
                raise AuthenticationError(f"bot_token: Slack refuses it ({error.code})") from None
            raise ConnectionLost(f"Slack: {error}") from None
        scopes = data["_headers"].get("x-oauth-scopes")
        return Identity(
            user=str(data.get("user_id") or ""),
            bot=str(data.get("bot_id") or ""),
            team=str(data.get("team_id") or ""),
            enterprise=str(data.get("enterprise_id") or ""),
            name=str(data.get("user") or ""),
            scopes=frozenset(scope.strip() for scope in scopes.split(",")) if scopes else None,
        )

    @property
    def _identity(self) -> Identity:
        if self._workspace.identity is None:
            raise RuntimeError("the adapter was used before it was entered")
        return self._workspace.identity

    async def run(self, inbox: Inbox) -> None:
        reception = Reception(
            self._account,
            self._identity,
            self._api,
            self._clock,
            inbox,
            prompts=self._config.prompts,
            may=self._may,
        )
        async with reception:
            self._reception = reception
            try:
                if await run_until(self._api.refused, self._receive(reception)):
                    raise AuthenticationError("Slack refuses the token; the app was removed, or the token replaced")
            finally:
                self._reception = None

    async def _receive(self, reception: Reception) -> None:
        raise NotImplementedError

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        return reply_to(self._workspace, Address.load(address))

    def _stopped(self, address: Address, ts: str) -> None:
        if self._reception is not None:
            self._reception.stopped(address, ts)

    # Gaps

    def gaps(self) -> int:
        return self._gaps

    async def missed(self, since: datetime, places: Sequence[Place]) -> AsyncGenerator[InboundMessage, None]:
        if self._reception is None:
            raise ConnectionLost("the account is not receiving")
        async with aclosing(missed(self._workspace, self._reception, since, places)) as messages:
            async for message in messages:
                yield message

    # Files

    async def fetch(self, attachment: Attachment, *, most_bytes: int) -> bytes:
        if self._files is None:
            raise FileUnavailable("files cannot be fetched while the account is not signed in")
        try:
            source = json.loads(attachment.source)
            id, url = str(source["id"]), str(source["url"])
        except (ValueError, TypeError, KeyError):
            raise FileRefused(f"not a file of this platform: {attachment.source!r}") from None
        return await self._files.get(
            url or await self._url_of(id),
            most_bytes=most_bytes,
            # Without files:read Slack answers 200 with a page to log in.
            accepts=lambda found: found != "text/html" or attachment.media_type == "text/html",
        )

    async def _url_of(self, id: str) -> str:
        """A file of another organisation comes as a stub."""
        try:
            file = (await self._api.call("files_info", file=id)).get("file") or {}
        except DeliveryError as error:
            raise FileUnavailable(f"a file could not be looked up: {error}") from None
        url = file.get("url_private_download") or file.get("url_private")
        if not url:
            raise FileUnavailable(f"Slack names no address for the file {id!r}")
        return str(url)

    # What is missing

    async def diagnose(self) -> Sequence[str]:
        scopes = self._identity.scopes
        if scopes is None:
            return ["Slack does not tell which scopes the bot token has; compare them with docs/platforms/slack.md"]
        return [
            f"the bot token lacks the scope {scope}: {without}; add it under OAuth & Permissions and reinstall the app"
            for scope, without in SCOPES.items()
            if scope not in scopes
        ]


class SocketAdapter(SlackAdapter, Heard):
    """Receives over Socket Mode. Two connections overlap where Slack announces that one is to be replaced."""

    deaf_after = timedelta(seconds=20)

    def __init__(self, account: AccountId, config: Config, *, clock: Clock | None = None) -> None:
        super().__init__(account, config, clock=clock)
        self._links: list[Link] = []
        self._heard: datetime | None = None

    async def __aenter__(self) -> Self:
        self._heard = None
        return await super().__aenter__()

    def last_heard(self) -> datetime | None:
        self._heard = max((link.heard for link in self._links if link.heard), default=self._heard)
        return self._heard

    def _link(self, reception: Reception) -> Link:
        return Link(self._api, self._config.app_token.get_secret_value(), self._clock, reception.take)

    async def _receive(self, reception: Reception) -> None:
        quick = Rates(_RECONNECTS_PER_MINUTE, self._clock)
        retiring: set[asyncio.Task[None]] = set()
        link = await self._opened(reception)
        self._gaps += 1
        try:
            while True:
                reason = await asyncio.shield(link.over)
                log.info("a connection ends", account=self._account, reason=reason)
                if reason in OLD:
                    old, link = link, await self._opened(reception)
                    task = asyncio.create_task(self._retire(old))
                    retiring.add(task)
                    task.add_done_callback(retiring.discard)
                elif reason in _NO_USE or quick.take("") is not None:
                    raise ConnectionLost(_NO_USE.get(reason, f"Socket Mode: {reason}"))
                else:
                    await self._closed(link)
                    link = await self._opened(reception)
                    self._gaps += 1
        finally:
            for task in retiring:
                task.cancel()
            closing = (self._closed(each) for each in tuple(self._links))
            await asyncio.gather(*retiring, *closing, return_exceptions=True)

    async def _opened(self, reception: Reception) -> Link:
        link = await self._link(reception).__aenter__()
        self._links.append(link)
        return link

    async def _closed(self, link: Link) -> None:
        if link in self._links:
            self.last_heard()
            self._links.remove(link)
            await link.__aexit__(None, None, None)

    async def _retire(self, link: Link) -> None:
        """The old connection still takes acknowledgements for what it brought."""
        try:
            async with asyncio.timeout(_RETIRE):
                await link.drain()
        except TimeoutError:
            log.info("an old connection is closed with work under way", account=self._account)
        await self._closed(link)

    async def diagnose(self) -> Sequence[str]:
        findings = list(await super().diagnose())
        link = Link(self._api, self._config.app_token.get_secret_value(), self._clock, _take_nothing)
        async with link:  # raises where the app token is wrong or Socket Mode is off
            others = link.connections - 1 - len(self._links)
            if others > 0:
                findings.append(
                    f"another program is connected with this app token ({others} connections): "
                    "Slack gives each event to only one of them"
                )
        return findings


_NO_USE = {
    "link_disabled": "Socket Mode is turned off for this app; turn it on in the app's settings, or use `mode: http`",
    "too_many_websockets": "the app has more than ten connections; another program uses its app token",
}
"""Reasons for which trying again at once is of no use, in words."""


def _nobody(message: InboundMessage) -> bool:
    del message
    return False


async def _take_nothing(kind: str, payload: Mapping[str, Any]) -> Verdict:
    """A look at the connection must not swallow events."""
    del kind, payload
    return REFUSED


class WebhookAdapter(SlackAdapter, ServesHttp):
    """Receives events by HTTP. Requests get 503 while it does not run: Slack sends them again."""

    def __init__(self, account: AccountId, config: Config, *, clock: Clock | None = None) -> None:
        super().__init__(account, config, clock=clock)
        self._signatures = Signatures(config.signing_secret.get_secret_value(), self._clock)

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        if not self._config.signing_secret.get_secret_value():
            return []  # nothing could be verified
        return [web.post(f"/webhooks/{self._account}", Webhook(self._signatures, self._take).serve)]

    async def _take(self, kind: str, payload: Mapping[str, Any]) -> Verdict:
        reception = self._reception
        return REFUSED if reception is None else await reception.take(kind, payload)

    async def _receive(self, reception: Reception) -> None:
        del reception
        self._gaps += 1
        await asyncio.get_running_loop().create_future()  # until cancelled: requests come to us


def create(account: AccountId, config: Config) -> SlackAdapter:
    """The adapter for the configured way of receiving."""
    return SocketAdapter(account, config) if config.mode == "socket" else WebhookAdapter(account, config)


SPEC = AdapterSpec("slack", Config, create, reply=FoundThreadReply)
