"""Keys of the HTTP API: random, stored as SHA-256, each with a namespace of its own."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from core.archive import ApiKey
from core.clock import Clock
from core.errors import ConfigError

SCOPES = ("chat", "admin")
"""`chat`: the API and the web page. `admin`: metrics and status pages."""

LOCAL_NAMESPACE = "local"
"""Where requests belong when no key is asked for (loopback only)."""

_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, as far as its key tells."""

    namespace: str
    scopes: frozenset[str]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # headers may hold bytes that are no UTF-8: no key, and no error


def digest(secret: str) -> bytes:
    """SHA-256 of a key. Keys are random, so a slow hash would protect nothing."""
    return hashlib.sha256(_bytes(secret)).digest()


def proof(secret: str, purpose: str) -> str:
    """Shows that somebody held `secret`, for one purpose; useless for another and no way back to the key."""
    return hmac.new(digest(secret), purpose.encode(), hashlib.sha256).hexdigest()


def new_key(name: str, *, namespace: str | None, scopes: Iterable[str], clock: Clock) -> tuple[ApiKey, str]:
    """A new key and its secret, which is to be shown once. Raises ConfigError on a bad namespace or scope."""
    secret = "cms-" + secrets.token_urlsafe(32)
    id = digest(secret).hex()[:8]
    namespace = namespace or f"key-{id}"
    if not _NAMESPACE.fullmatch(namespace):
        raise ConfigError(f"namespace {namespace!r}: use up to 63 of a-z 0-9 . _ -, starting with a letter or digit")
    chosen = tuple(scopes)
    if unknown := [scope for scope in chosen if scope not in SCOPES]:
        raise ConfigError(f"scope {unknown[0]!r} does not exist; there are {', '.join(SCOPES)}")
    return (
        ApiKey(id=id, name=name, namespace=namespace, scopes=chosen, created_at=clock.now(), revoked_at=None),
        secret,
    )


class KeyRing:
    """The keys that are valid now. Looked up by digest, compared in constant time."""

    def __init__(self, configured: Iterable[tuple[str, str]], *, required: bool) -> None:
        """`configured` has (secret, namespace) pairs from the configuration; they have every scope."""
        self._configured = {digest(secret): Caller(namespace, frozenset(SCOPES)) for secret, namespace in configured}
        self._stored: dict[bytes, Caller] = {}
        self._must = required

    @property
    def required(self) -> bool:
        """Whether requests need a key: a public address, or at least one key exists."""
        return self._must or bool(self._configured) or bool(self._stored)

    def load(self, stored: Iterable[tuple[ApiKey, bytes]]) -> None:
        """Replace the stored keys; called at start and when one is created or revoked."""
        self._stored = {
            hashed: Caller(key.namespace, frozenset(key.scopes)) for key, hashed in stored if key.revoked_at is None
        }

    def caller(self, secret: str | None) -> Caller | None:
        """Who holds `secret`; None if nobody does. Without required keys everybody is the local caller."""
        if not self.required:
            return Caller(LOCAL_NAMESPACE, frozenset(SCOPES))
        if not secret:
            return None
        wanted = digest(secret)
        for ring in (self._configured, self._stored):
            for known, caller in ring.items():
                if hmac.compare_digest(known, wanted):
                    return caller
        return None

    def prover(self, shown: str, purpose: str) -> Caller | None:
        """Who holds the key that `proof` was made with; None if nobody does, or the key was revoked since."""
        given = _bytes(shown)
        for ring in (self._configured, self._stored):
            for known, caller in ring.items():
                expected = hmac.new(known, purpose.encode(), hashlib.sha256).hexdigest()
                if hmac.compare_digest(expected.encode(), given):
                    return caller
        return None
