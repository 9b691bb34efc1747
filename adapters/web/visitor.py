"""Who looks at the page: a browser by its cookie, signed in where the gateway asks for a key.

A browser is a random token of 256 bits in a cookie that scripts cannot read and other sites cannot send. What is
stored is a hash of it, with the namespace of the key: whoever signs in with a key of another namespace on the same
machine meets none of these conversations. There is no way to name another browser's.

Signing in leaves a second cookie: a proof made with the key (an HMAC under the SHA-256 that the key ring keeps, over
the browser's token). It survives a restart, needs no table, is worthless in another browser, and ends when the key is
revoked. Whoever can read the database could make one; such a person reads the conversations there anyway.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from core.keys import LOCAL_NAMESPACE, Caller, KeyRing, proof
from core.messages import ChannelId

_BROWSER = "chatgpt_ms_browser"
_LOGIN = "chatgpt_ms_login"
_MAX_AGE = 400 * 24 * 3600
"""Seconds; browsers keep no cookie longer (RFC 6265bis, 5.5)."""
_TOKEN_LENGTH = 43
"""Characters of 32 bytes in URL-safe base64."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A browser that may chat."""

    token: str
    """Its cookie; never stored, never logged."""
    login: str
    """Its proof of a key; empty where none is asked for."""
    caller: Caller

    def __repr__(self) -> str:
        return f"Visitor({self.id!r})"

    @property
    def id(self) -> ChannelId:
        """What the store knows it by: 128 bits of a hash."""
        return ChannelId(hashlib.sha256(f"{self.caller.namespace}\0{self.token}".encode()).hexdigest()[:32])


class Visitors:
    """Reads and writes the cookies, and says who may come in."""

    def __init__(self, keys: KeyRing, *, secure: bool) -> None:
        self._keys = keys
        self._secure = secure
        self._csrf = secrets.token_bytes(32)
        """Of this process; a page asks for a token each time it connects."""
        prefix = "__Host-" if secure else ""
        self._browser_cookie = prefix + _BROWSER
        self._login_cookie = prefix + _LOGIN

    @property
    def key_required(self) -> bool:
        """Whether a person has to sign in."""
        return self._keys.required

    def token(self, request: web.Request) -> str | None:
        """The browser's token, if it has sent one that could be ours."""
        token = request.cookies.get(self._browser_cookie, "")
        usable = len(token) == _TOKEN_LENGTH and token.isascii() and token.replace("-", "").replace("_", "").isalnum()
        return token if usable else None

    def visitor(self, request: web.Request) -> Visitor | None:
        """Who makes this request, if they may chat."""
        token = self.token(request)
        login = request.cookies.get(self._login_cookie, "")
        caller = self._caller(token, login) if token else None
        return Visitor(token, login, caller) if token and caller else None

    def still_welcome(self, visitor: Visitor) -> bool:
        """False once the key was revoked, or one is asked for now."""
        return self._caller(visitor.token, visitor.login) == visitor.caller

    def _caller(self, token: str, login: str) -> Caller | None:
        if not self._keys.required:
            return Caller(LOCAL_NAMESPACE, frozenset({"chat"}))
        caller = self._keys.prover(login, _purpose(token)) if login else None
        return caller if caller and "chat" in caller.scopes else None

    def login(self, token: str, key: str) -> str | None:
        """The proof for this browser that `key` was shown; None if the key is not valid for chatting."""
        caller = self._keys.caller(key)
        return proof(key, _purpose(token)) if caller and "chat" in caller.scopes else None

    def csrf(self, token: str) -> str:
        """What a page has to show with its first message: a page of another site cannot have read it."""
        return hmac.new(self._csrf, token.encode(), hashlib.sha256).hexdigest()

    def csrf_matches(self, token: str, shown: str) -> bool:
        """Compared in constant time."""
        return hmac.compare_digest(self.csrf(token).encode(), shown.encode())

    def remember_browser(self, response: web.StreamResponse, token: str) -> None:
        """Set the browser's cookie, also to prolong it."""
        self._set(response, self._browser_cookie, token)

    def remember_login(self, response: web.StreamResponse, login: str) -> None:
        """Set the proof."""
        self._set(response, self._login_cookie, login)

    def forget_login(self, response: web.StreamResponse) -> None:
        """Sign out. The conversations stay the browser's own."""
        response.del_cookie(self._login_cookie, path="/", secure=self._secure, httponly=True, samesite="Strict")

    def _set(self, response: web.StreamResponse, name: str, value: str) -> None:
        response.set_cookie(
            name, value, max_age=_MAX_AGE, path="/", secure=self._secure, httponly=True, samesite="Strict"
        )


def new_token() -> str:
    """A browser's token."""
    return secrets.token_urlsafe(32)


def same_origin(request: web.Request) -> bool:
    """Whether the request comes from a page of this very server.

    `Origin` has to be there and to name the `Host` of the request. The scheme is not compared: behind a proxy that
    ends TLS the page is https and the request http. Which hosts are ours is the server's business.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return False
    try:
        origin = urlsplit(request.headers.get("Origin", ""))
        host = urlsplit(f"{origin.scheme}://{request.host}")
        if origin.scheme not in ("http", "https") or not origin.hostname:
            return False
        default = {"http": 80, "https": 443}[origin.scheme]
        return (origin.hostname, origin.port or default) == (host.hostname, host.port or default)
    except ValueError:
        return False


def _purpose(token: str) -> str:
    return f"web login {token}"
