"""Events over HTTP, at /webhooks/<account>: verified before they are parsed, answered after they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import structlog
from aiohttp import web

from adapters.slack.link import Handle
from adapters.slack.signature import Signatures
from core.untrusted import json_of, text_in
from core.webhooks import body_of

log = structlog.get_logger(__name__)


class Webhook:
    """One URL takes events, commands and clicks."""

    def __init__(self, signatures: Signatures, handle: Handle) -> None:
        self._signatures = signatures
        self._handle = handle

    async def serve(self, request: web.Request) -> web.Response:
        """401 without a word for what Slack did not sign; 503 for what could not be stored, so that it comes again."""
        body = await body_of(request)
        signature = self._signatures.verify(request.headers, body) if body is not None else None
        if body is None or signature is None:
            log.info("a request that is not Slack's was refused", address=request.remote)
            return web.Response(status=401)
        kind, payload = _parsed(request.content_type, body)
        if payload is None:
            return web.Response(status=400)
        if kind == "url_verification":
            self._signatures.accepted(signature)
            return web.Response(body=text_in(payload, "challenge").encode(errors="replace"), content_type="text/plain")
        self._signatures.accepted(signature)  # before it is: copies that come at once are no less copies
        verdict = await self._handle(kind, payload)
        if not verdict.acknowledged:
            self._signatures.refused(signature)
            return web.Response(status=503, headers={"Retry-After": "5"})
        return web.json_response(dict(verdict.body)) if verdict.body else web.Response()


def _parsed(content_type: str, body: bytes) -> tuple[str, Mapping[str, Any] | None]:
    """The kind of a request, as Socket Mode calls it, and its payload; None for what cannot be read."""
    try:
        if content_type != "application/x-www-form-urlencoded":
            payload = json_of(body)
            kind = "events_api"
        else:
            form = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=200))
            kind = "slash_commands" if "command" in form else "interactive"
            payload = form if "command" in form else json_of(form.get("payload", "{}"))
    except ValueError:
        return "", None
    if not isinstance(payload, dict):
        return "", None
    return ("url_verification" if payload.get("type") == "url_verification" else kind), payload
