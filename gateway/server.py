"""One HTTP server: health, metrics, and the routes that adapters bring."""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from core.errors import ConfigError
from core.keys import KeyRing
from core.webhooks import BROKEN_BODY
from gateway.settings import Server as ServerSettings

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class HttpServer:
    """Listens while it is entered. `port` is the one that was taken."""

    def __init__(
        self,
        settings: ServerSettings,
        routes: Iterable[web.AbstractRouteDef],
        keys: KeyRing,
        *,
        ready: Callable[[], Awaitable[tuple[bool, dict[str, Any]]]],
        metrics: Callable[[], Awaitable[bytes]],
    ) -> None:
        self.port = 0
        self._settings = settings
        self._routes = list(routes)
        self._keys = keys
        self._ready = ready
        self._metrics = metrics
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._names = _names(settings)

    @property
    def url(self) -> str:
        """Where a person on this machine opens the page."""
        host = self._settings.host
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        return f"http://{shown}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises ConfigError when the address cannot be used."""
        app = web.Application(middlewares=[self._guard], client_max_size=self._settings.max_body)
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._serve_metrics),
            ]
        )
        app.add_routes(self._routes)
        self._runner = web.AppRunner(
            app, access_log=None, logger=_logger(), shutdown_timeout=5.0, keepalive_timeout=75.0
        )
        await self._runner.setup()
        settings = self._settings
        self._site = web.TCPSite(self._runner, settings.host, settings.port, backlog=1024, reuse_address=True)
        try:
            await self._site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigError(_explain(error, settings)) from error
        self.port = self._runner.addresses[0][1]

    async def stop_listening(self) -> None:
        """Take no new connections; those that wait for an answer stay open."""
        if self._site is not None:
            await self._site.stop()
            self._site = None

    async def close(self) -> None:
        """Close every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A page of another site that points its own name at this machine gets nothing (DNS rebinding)."""
        host = request.headers.get("Host", "")  # request.host would look a missing one up, and block meanwhile
        if self._names is not None and _hostname(host) not in self._names:
            message = f"this server is not known as {host[:100]!r}; add the name to server.allowed_hosts"
            return _problem(421, "unknown_host", message)
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return _problem(404, "not_found", f"there is nothing at {request.path!r}")
        except web.HTTPMethodNotAllowed as error:
            response = _problem(405, "method_not_allowed", f"{request.method} is not possible at {request.path!r}")
            response.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            return response
        except web.HTTPRequestEntityTooLarge:
            return _problem(413, "too_large", f"the body is larger than {self._settings.max_body} bytes")
        except BROKEN_BODY:
            request.content.feed_eof()  # else aiohttp would go on reading it after the answer
            return _problem(400, "invalid_body", "the body is cut short or wrongly encoded")

    async def _healthz(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.Request) -> web.Response:
        del request
        ready, details = await self._ready()
        return web.json_response({"ready": ready, **details}, status=200 if ready else 503)

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        if not self._settings.is_loopback:
            secret = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
            caller = self._keys.caller(secret)
            if caller is None or "admin" not in caller.scopes:
                response = _problem(401, "unauthorized", "metrics need a key with the scope admin")
                response.headers["WWW-Authenticate"] = "Bearer"
                return response
        return web.Response(
            body=await self._metrics(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )


def _logger() -> logging.Logger:
    """aiohttp's reports of its own. What is no HTTP is the sender's mistake, and nobody may fill the log with it."""
    logger = logging.getLogger("gateway.http")
    if not logger.filters:
        logger.addFilter(_is_ours)
    return logger


def _is_ours(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError) or logging.getLogger().isEnabledFor(logging.DEBUG)


def _problem(status: int, code: str, message: str) -> web.Response:
    body = json.dumps({"error": {"code": code, "message": message}})
    return web.Response(text=body, status=status, content_type="application/json")


def _names(settings: ServerSettings) -> frozenset[str] | None:
    """The names this server answers to; None is any (a public address: every request needs a key there)."""
    named = {name.lower() for name in settings.allowed_hosts}
    if settings.public_url:
        named.add((urlsplit(settings.public_url).hostname or "").lower())
    if settings.is_loopback:
        return frozenset(named | _LOOPBACK_NAMES | {settings.host.lower()})
    return frozenset(named | {settings.host.lower()} | _LOOPBACK_NAMES) if named else None


def _hostname(host: str) -> str:
    """The name in a Host header, without the port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if ":" in host else host.lower()


def _explain(error: OSError, settings: ServerSettings) -> str:
    place = f"server: {settings.host}:{settings.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{place}: the port is in use by another program; stop it or choose another server.port"
        case errno.EACCES:
            return f"{place}: this user may not listen there; ports below 1024 are reserved, choose another server.port"
        case errno.EADDRNOTAVAIL:
            return f"{place}: this machine does not have that address; use 127.0.0.1 or 0.0.0.0 as server.host"
        case _:
            return f"{place}: cannot listen: {error.strerror or error}"
