"""Events over HTTP, at /webhooks/<account>: verified before they are decrypted, answered after they are stored.

https://open.feishu.cn/document/ukTMukTMukTM/uYDNxYjL2QTM24iN0EjN/event-subscription-configure-/choose-a-subscription-mode/send-notifications-to-developers-server
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from aiohttp import web

from adapters.feishu.signature import Signatures
from adapters.feishu.verdict import Handle
from core.untrusted import json_of, text_in
from core.webhooks import body_of

log = structlog.get_logger(__name__)


class Webhook:
    """One URL takes events and callbacks, encrypted all of them."""

    def __init__(
        self, signatures: Signatures, decrypt: Callable[[str], str], verification_token: str, handle: Handle
    ) -> None:
        """`decrypt` raises ValueError for what was not encrypted with the app's key. The token is compared where it is
        not empty."""
        self._signatures = signatures
        self._decrypt = decrypt
        self._token = verification_token.encode()
        self._handle = handle

    async def serve(self, request: web.Request) -> web.Response:
        """401 without a word for what is not Feishu's; 503 for what could not be stored, so that it comes again."""
        body = await body_of(request)
        signature = self._signatures.verify(request.headers, body) if body is not None else None
        event = self._event(body) if body is not None else None
        if event is not None and event.get("type") == "url_verification" and self._is_ours(event):
            # Feishu does not sign this one; who can encrypt it knows the key.
            return web.json_response({"challenge": text_in(event, "challenge")})
        if signature is None or (event is not None and not self._is_ours(event)):
            log.info("a request that is not Feishu's was refused", address=request.remote)
            return web.Response(status=401)
        if event is None:
            return web.Response(status=400)
        self._signatures.accepted(signature)  # before it is: copies that come at once are no less copies
        verdict = await self._handle(event)
        if not verdict.acknowledged:
            self._signatures.refused(signature)
            return web.Response(status=503, headers={"Retry-After": "5"})
        return web.json_response(dict(verdict.body or {}))

    def _event(self, body: bytes) -> Mapping[str, Any] | None:
        """What is encrypted in `body`; None where nothing is."""
        try:
            envelope = json_of(body)
            event = json_of(self._decrypt(text_in(envelope, "encrypt")))
        except ValueError:
            return None
        return event if isinstance(event, dict) else None

    def _is_ours(self, event: Mapping[str, Any]) -> bool:
        """Whether the token is the app's; events of version 2.0 have it in their header."""
        header = event.get("header")
        token = text_in(header if isinstance(header, Mapping) else event, "token")
        return not self._token or hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._token)
