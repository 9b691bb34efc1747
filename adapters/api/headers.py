"""What the headers of a request say: whose it is, where it comes from, and how to know it again."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from aiohttp import web

from adapters.api.faults import Refusal
from core.host import Host
from core.keys import Caller

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}")


def check_origin(request: web.Request) -> None:
    """Raise Refusal (403) for pages of other sites: without a key, any page could else use an API on loopback."""
    for origin in request.headers.getall("Origin", ()):
        try:
            own = urlsplit(origin).netloc.lower() == request.headers.get("Host", "").lower() != ""
        except ValueError:
            own = False
        if not own:
            raise Refusal(403, "foreign_origin", "Requests from pages of other sites are refused.", field="Origin")


def authenticate(request: web.Request, host: Host) -> Caller:
    """Whose request this is. Raises Refusal: 401 without a valid key, 403 without the scope `chat`."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    secret = secret.strip()
    caller = host.keys.caller(secret if scheme.lower() == "bearer" else None)
    if caller is None:
        raise Refusal(
            401,
            "invalid_api_key",
            "Send a valid key as 'Authorization: Bearer <key>'.",
            headers={"WWW-Authenticate": 'Bearer realm="chatgpt-ms"'},
        )
    if "chat" not in caller.scopes:
        raise Refusal(403, "missing_scope", "This key has not the scope 'chat'.")
    return caller


def idempotency_key(request: web.Request) -> str | None:
    """The header of that name. Raises Refusal (400) when it is no single key."""
    given = request.headers.getall("Idempotency-Key", [])
    if not given:
        return None
    if len(given) > 1 or not _IDEMPOTENCY_KEY.fullmatch(given[0]):
        raise Refusal(
            400,
            "invalid_header",
            "Idempotency-Key: send it once, with 1 to 255 visible ASCII characters.",
            field="Idempotency-Key",
        )
    return given[0]


def locale(request: web.Request) -> str | None:
    """The first language of Accept-Language."""
    first = request.headers.get("Accept-Language", "").split(",")[0].split(";")[0].strip()
    return first if _LANGUAGE.fullmatch(first) else None
