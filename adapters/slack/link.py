"""One Socket Mode connection: one ticket, one client of the SDK, used once.

https://docs.slack.dev/apis/events-api/using-socket-mode. The SDK's client reconnects by itself, with the ticket it has
(a refused handshake is then retried for ever) and after closing the old connection (what comes meanwhile waits for a
redelivery). Here it never does: the adapter opens a fresh one, beside the old where Slack announces the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import structlog
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.socket_mode.response import SocketModeResponse

from adapters.slack.api import CredentialsRefused, SlackApi, SlackError, sign_in_error
from core.clock import Clock
from core.errors import AuthenticationError, ConnectionLost, DeliveryError
from core.untrusted import json_of, part_in

log = structlog.get_logger(__name__)

PING_EVERY = 2.0
"""Seconds. The SDK's default notices a half-open connection after 20 s, this after 4."""
_CONNECT = 8.0
"""Seconds for the handshake, and as many for Slack's hello."""
_LOOK_EVERY = 0.25
_UNDER_WAY = 1_000
"""Envelopes that are worked on at once; more are left for Slack to send again."""
_LEAVE = 1.0
"""Seconds that closing may take."""

OLD = ("warning", "refresh_requested")
"""Reasons of a `disconnect` that leave some seconds to open the next connection first."""

Handle = Callable[[str, Mapping[str, Any]], Awaitable["Verdict"]]
"""Takes the kind and payload of an envelope."""


class Verdict:
    """What Slack is told of a delivery."""

    def __init__(self, *, acknowledged: bool, body: Mapping[str, Any] | None = None) -> None:
        self.acknowledged = acknowledged
        self.body = body


REFUSED = Verdict(acknowledged=False)
TAKEN = Verdict(acknowledged=True)


class _Client(SocketModeClient):
    """The SDK's client, which tells that its connection ends instead of replacing it."""

    ended: Callable[[], None]

    async def connect_to_new_endpoint(self, force: bool = False) -> None:  # noqa: ARG002 - the SDK's signature
        self.ended()


class Link:
    """Enter it to connect, leave it to close. `over` is set with the reason once nothing more will come."""

    def __init__(self, api: SlackApi, app_token: str, clock: Clock, handle: Handle) -> None:
        self._api = api
        self._app_token = app_token
        self._clock = clock
        self._handle = handle
        self._client: _Client | None = None
        self._watch: asyncio.Task[None] | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._hello: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reason = "the connection is to be replaced"
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.heard: datetime | None = None
        """When the last frame came."""
        self.connections = 0
        """How many connections the app has, by Slack's hello."""

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def drain(self) -> None:
        """Returns when the envelopes that came are dealt with."""
        if self._work:
            await asyncio.wait(self._work)

    async def _open(self) -> None:
        url = await self._ticket()
        client = self._client = _Client(
            self._app_token,
            logger=_quiet(),
            web_client=self._api.client,
            auto_reconnect_enabled=False,
            ping_interval=PING_EVERY,
            on_message_listeners=[self._on_frame],
            on_close_listeners=[self._on_close],
        )
        client.ended = lambda: self._end(self._reason)
        await self._try_once(client)
        client.proxy = self._api.proxy  # see SlackApi.open
        client.wss_uri = url
        client.message_listeners.append(self._on_message)
        try:
            async with asyncio.timeout(_CONNECT):
                await client.connect()  # type: ignore[no-untyped-call]  # the SDK has no type for it
                if client.current_session is None:
                    raise ConnectionLost("Socket Mode: the connection was refused")
            self._watch = asyncio.create_task(self._keep_watch(client))
            async with asyncio.timeout(_CONNECT):
                await asyncio.wait({self._hello, self.over}, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise ConnectionLost(f"Socket Mode: no connection within {_CONNECT:g} s") from None
        if not self._hello.done():
            raise ConnectionLost(f"Socket Mode: {self.over.result()}")

    async def _try_once(self, client: _Client) -> None:
        """A ticket is good for one handshake, and the SDK would try it for ever: the first that fails closes it."""

        async def ended(session: object, context: object, params: aiohttp.TraceRequestEndParams) -> None:
            del session, context
            client.closed = client.closed or params.response.status != 101

        async def failed(session: object, context: object, params: aiohttp.TraceRequestExceptionParams) -> None:
            del session, context, params
            client.closed = True

        trace = aiohttp.TraceConfig()
        trace.on_request_end.append(ended)
        trace.on_request_exception.append(failed)
        await client.aiohttp_client_session.close()
        client.aiohttp_client_session = aiohttp.ClientSession(trace_configs=[trace])

    async def _ticket(self) -> str:
        try:
            data = await self._api.call("apps_connections_open", token=self._app_token)
        except CredentialsRefused as error:
            raise sign_in_error(error, "app_token") or error from None
        except SlackError as error:
            if error.code in ("missing_scope", "no_permission", "forbidden_team", "not_allowed_token_type"):
                wanted = "it must be an app-level token (xapp-…) with the scope connections:write"
                text = f"app_token: Slack refuses a connection ({error.code}); {wanted}"
                raise AuthenticationError(text) from None
            raise ConnectionLost(f"Socket Mode: {error}") from None
        except DeliveryError as error:
            raise ConnectionLost(f"Socket Mode: {error}") from None
        return str(data.get("url") or "")

    def _end(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_result(reason)

    async def _on_frame(self, frame: aiohttp.WSMessage) -> None:
        self.heard = self._clock.now()
        if '"disconnect"' in frame.data:
            try:
                message = json_of(frame.data)
            except ValueError:
                return
            if isinstance(message, dict) and message.get("type") == "disconnect":
                self._reason = str(message.get("reason") or "disconnect")
                self._end(self._reason)

    async def _on_close(self, frame: aiohttp.WSMessage) -> None:
        self._end(f"Slack closed the connection ({frame.data})")

    async def _on_message(self, client: Any, message: Any, raw: Any = None) -> None:
        del client, raw
        if message.get("type") == "hello":
            count = message.get("num_connections")
            self.connections = count if isinstance(count, int) else 0
            if not self._hello.done():
                self._hello.set_result("hello")
        elif isinstance(message.get("envelope_id"), str):
            if len(self._work) >= _UNDER_WAY:
                log.warning("too many events at once; Slack will send the rest again")
                return
            task = asyncio.create_task(self._take(message))
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _take(self, envelope: Mapping[str, Any]) -> None:
        verdict = await self._handle(str(envelope.get("type")), part_in(envelope, "payload"))
        if not verdict.acknowledged or self._client is None:
            return
        body = dict(verdict.body) if verdict.body and envelope.get("accepts_response_payload") else None
        response = SocketModeResponse(envelope_id=envelope["envelope_id"], payload=body)
        try:
            await self._client.send_socket_mode_response(response)
        except (aiohttp.ClientError, OSError, AttributeError) as error:
            log.debug("an acknowledgement did not go out; Slack will send the event again", error=str(error))

    async def _keep_watch(self, client: _Client) -> None:
        """Notice what nobody tells: a connection that broke, and pongs that do not come."""
        pong = client.last_ping_pong_time
        while not self.over.done():
            await self._clock.sleep(_LOOK_EVERY)
            if client.last_ping_pong_time != pong:
                pong = client.last_ping_pong_time
                self.heard = self._clock.now()
            try:
                connected = await client.is_connected()
            except (ValueError, OverflowError):
                self._end("a pong came that is none")  # the SDK reckons with the time in it
            else:
                if not connected:
                    self._end("the connection broke")

    async def _close(self) -> None:
        client, self._client = self._client, None
        tasks: list[asyncio.Future[Any]] = [*self._work]
        if self._watch is not None:
            tasks.append(self._watch)
        if client is not None:
            try:
                async with asyncio.timeout(_LEAVE):
                    await client.close()  # type: ignore[no-untyped-call]  # the SDK has no type for it
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                log.debug("a connection did not close well", error=repr(error))
                await client.aiohttp_client_session.close()
            started = (client.message_processor, client.current_session_monitor, client.message_receiver)
            tasks += [task for task in started if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._end("closed")


def _quiet() -> logging.Logger:
    """The SDK logs whole frames at debug, and every failed attempt as an error: this module says what matters."""
    logger = logging.getLogger("slack_sdk.socket_mode")
    logger.setLevel(logging.CRITICAL)
    return logger
