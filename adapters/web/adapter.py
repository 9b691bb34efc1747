"""The web chat: a page at `/` that talks over one WebSocket. A platform like any other.

A person is a browser, a conversation of the page is a thread of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType

import structlog
from aiohttp import web
from pydantic import Field, field_validator

from adapters.web.connection import Connection
from adapters.web.history import History
from adapters.web.live import Conversations
from adapters.web.page import HEADERS, Page
from adapters.web.protocol import GOING_AWAY, MAX_MESSAGE, SIGNED_OUT, TOO_MANY_TABS, Event
from adapters.web.reply import Address, WebReply
from adapters.web.visitor import Visitor, Visitors, new_token, same_origin
from core.account import AccountConfig
from core.adapter import Adapter, AsksLeave, Hosted, Inbox, Receipt, ReplyChannel, ServesHttp
from core.host import Host
from core.limits import Rates
from core.messages import AccountId, EventId, InboundMessage, MessageId, ReplyAddress, Scope, Sender, ThreadId, UserId
from core.untrusted import json_of

log = structlog.get_logger(__name__)

_TABS = 12
"""Sockets of one browser; one more closes the oldest."""
_SOCKETS = 2000
"""Sockets of all browsers."""
_HEARTBEAT = 25.0
"""Seconds between two pings; half as long for the answer."""
_REQUESTS_PER_MINUTE = 300
"""Messages of one browser over its sockets, whatever they ask for. Questions have limits of their own."""
_LOGINS_PER_MINUTE = 10
"""Attempts from one address. Keys are random, so this only keeps the log readable."""
_LARGEST_BODY = 4096


class Config(AccountConfig):
    """The web chat. On by default."""

    scope: Scope | None = Field(Scope.THREAD, description="Always `thread`: each conversation of the page is one.")

    @field_validator("scope")
    @classmethod
    def _only_threads(cls, scope: Scope | None) -> Scope:
        if scope not in (None, Scope.THREAD):
            raise ValueError("the web chat keeps one session per conversation; leave `scope` out")
        return Scope.THREAD


class WebAdapter(Adapter, AsksLeave, ServesHttp, Hosted):
    """Serves the page, its sockets and its login."""

    def __init__(self, account: AccountId, config: Config) -> None:
        del config  # nothing to set beyond what every account has
        self.account = account
        self.visits = Conversations()
        self._page = Page()
        self.version = self._page.version
        self._host: Host | None = None
        self._inbox: Inbox | None = None
        self._connections: list[Connection] = []
        self._may: Callable[[InboundMessage], bool] = lambda _: False

    def ask_leave(self, may: Callable[[InboundMessage], bool]) -> None:
        self._may = may

    def host(self, host: Host) -> None:
        self._host = host
        self._visitors = Visitors(host.keys, secure=host.secure_cookies)
        self.history = History(host.archive, host.clock)
        self.rates = Rates(_REQUESTS_PER_MINUTE, host.clock)
        self._logins = Rates(_LOGINS_PER_MINUTE, host.clock)

    @property
    def served(self) -> Host:
        """What the gateway lent."""
        if self._host is None:
            raise RuntimeError("the web chat was entered before `host` was called")
        return self._host

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(each.close(GOING_AWAY, "restarting") for each in tuple(self._connections)))

    async def run(self, inbox: Inbox) -> None:
        self._inbox = inbox
        try:
            await asyncio.get_running_loop().create_future()  # until cancelled: pages come to us
        finally:
            self._inbox = None

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        return WebReply(self.visits, Address.load(address))

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        return (
            web.get("/", self._page.index),
            web.post("/web/session", self._own(self._session)),
            web.post("/web/login", self._own(self._login)),
            web.post("/web/logout", self._own(self._logout)),
            web.get("/web/socket", self._own(self._socket)),
            web.get("/web/{version:[0-9a-f]{12}}/{name}", self._page.asset),
        )

    # Pages

    def _own(
        self, handle: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """`handle` for requests of our own page alone."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            if not same_origin(request):
                log.warning("a request of another site was refused", path=request.path)
                return _json({"error": "origin"}, status=403)
            return await handle(request)

        return guarded

    async def _session(self, request: web.Request) -> web.StreamResponse:
        """Who am I? Gives a browser its cookie.

        The page asks each time before it connects. The cookie is not set with the page itself: a browser that follows
        a link from elsewhere does not send it along, and must not be given another.
        """
        token = self._visitors.token(request) or new_token()
        visitor = self._visitors.visitor(request)
        response = _json(
            {
                "csrf": self._visitors.csrf(token),
                "welcome": visitor is not None or not self._visitors.key_required,
                "keys": self._visitors.key_required,
                "version": self.version,
            }
        )
        self._visitors.remember_browser(response, token)
        return response

    async def _login(self, request: web.Request) -> web.StreamResponse:
        """Show a key: `{"key": …}`."""
        token = self._visitors.token(request)
        if token is None:
            return _json({"error": "session"}, status=400)
        wait = self._logins.take(request.remote or "")
        if wait is not None:
            return _json({"error": "too_fast", "retry_after": wait}, status=429)
        if request.content_type != "application/json":
            return _json({"error": "type"}, status=415)
        if (request.content_length or 0) > _LARGEST_BODY:
            return _json({"error": "size"}, status=413)
        try:
            async with asyncio.timeout(10):
                key = json_of(await request.content.read(_LARGEST_BODY))["key"]
        except (ValueError, KeyError, TypeError, TimeoutError):
            return _json({"error": "body"}, status=400)
        login = self._visitors.login(token, key.strip()) if isinstance(key, str) else None
        if login is None:
            log.warning("a sign-in at the web page was refused", address=request.remote)
            return _json({"error": "key"}, status=401)
        response = _json({"welcome": True})
        self._visitors.remember_login(response, login)
        return response

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        """Sign this browser out, all its tabs."""
        visitor = self._visitors.visitor(request)
        response = _json({"welcome": False})
        self._visitors.forget_login(response)
        if visitor is not None:
            for each in self._connections:
                if each.visitor == visitor:
                    each.end(SIGNED_OUT, "signed out")
        return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        visitor = self._visitors.visitor(request)
        if visitor is None:
            return _json({"error": "session"}, status=401)
        if len(self._connections) >= _SOCKETS:
            return _json({"error": "overloaded"}, status=503)
        socket = web.WebSocketResponse(heartbeat=_HEARTBEAT, max_msg_size=MAX_MESSAGE, compress=False, timeout=2.0)
        socket.headers.update(HEADERS)
        if not socket.can_prepare(request):
            return _json({"error": "websocket"}, status=400)
        await socket.prepare(request)
        connection = Connection(self, socket, visitor, _language(request))
        tabs = [each for each in self._connections if each.visitor.id == visitor.id]
        self._connections.append(connection)
        try:
            for oldest in tabs[: max(0, len(tabs) + 1 - _TABS)]:
                oldest.end(TOO_MANY_TABS, "too many tabs")
            await connection.serve()
        finally:
            self._connections.remove(connection)
        return socket

    # What a connected page needs

    def welcome(self, visitor: Visitor) -> bool:
        """Whether a page that came in may stay."""
        return self._visitors.still_welcome(visitor)

    def csrf_matches(self, visitor: Visitor, shown: str) -> bool:
        """Whether a page has read our own token."""
        return self._visitors.csrf_matches(visitor.token, shown)

    @property
    def key_required(self) -> bool:
        """Whether people sign in."""
        return self._visitors.key_required

    async def ask(
        self, visitor: Visitor, conversation: ThreadId, message: MessageId, text: str, language: str | None
    ) -> Receipt:
        """Hand a question to the inbox. Raises StorageUnavailable."""
        if self._inbox is None:
            return Receipt.CLOSED
        return await self._inbox(
            parse_message(self.account, visitor, conversation, message, text, language, self.served)
        )

    def may_stop(self, visitor: Visitor, conversation: ThreadId) -> bool:
        """Whether somebody may still give commands: the stop button is one."""
        return self._may(parse_message(self.account, visitor, conversation, MessageId(""), "/stop", None, self.served))

    def tell(self, visitor: Visitor, event: Event | None) -> None:
        """Tell all tabs of a browser that its list changed, after `event` if there is one."""
        for each in self._connections:
            if each.visitor.id == visitor.id:
                if event is not None:
                    each.post(event)
                each.list_changed()


def parse_message(
    account: AccountId,
    visitor: Visitor,
    conversation: ThreadId,
    message: MessageId,
    text: str,
    language: str | None,
    host: Host,
) -> InboundMessage:
    """A question of the page as a message. The same `message` of one browser is the same event."""
    browser = visitor.id
    event = hashlib.sha256(f"{browser}\0{message}".encode()).hexdigest()[:40]
    return InboundMessage(
        id=message,
        event=EventId(event),
        account=account,
        sender=Sender(id=UserId(browser), locale=language),
        channel=browser,
        thread=conversation,
        is_direct=True,
        mentions_bot=True,
        text=text,
        sent_at=host.clock.now(),
        reply_to=Address(browser, conversation, message).dump(),
    )


def _json(body: Event, *, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, headers={**HEADERS, "Cache-Control": "no-store"})


def _language(request: web.Request) -> str | None:
    """The language a browser likes best."""
    found = re.match(r"\s*([A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,3})", request.headers.get("Accept-Language", ""))
    return found[1] if found else None
