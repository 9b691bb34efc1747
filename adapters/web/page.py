"""The page and its assets, read once and served from memory, each answer with the headers that keep it safe.

Assets lie under a folder named by a hash of all of them: a browser keeps them for ever, and a new version is a new
folder.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import web

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""On everything the adapter serves."""

_UNCHANGING = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _Asset:
    body: bytes
    packed: bytes
    media_type: str

    def response(self, request: web.Request, cache: str) -> web.Response:
        headers = {**HEADERS, "Cache-Control": cache, "Vary": "Accept-Encoding"}
        packed = "gzip" in request.headers.get("Accept-Encoding", "")
        if packed:
            headers["Content-Encoding"] = "gzip"
        return web.Response(
            body=self.packed if packed else self.body,
            content_type=self.media_type,
            charset="utf-8",
            headers=headers,
        )


class Page:
    """`version` is the hash; a page that was loaded earlier compares it with its own."""

    def __init__(self) -> None:
        """Read the assets; some milliseconds."""
        bodies = {
            item.name: item.read_bytes()
            for item in sorted((files(__package__) / "static").iterdir(), key=lambda item: item.name)
            if item.name[item.name.rfind(".") :] in _TYPES
        }
        whole = hashlib.sha256()
        for name, body in bodies.items():
            whole.update(f"{name} {len(body)}\n".encode() + body)
        self.version = whole.hexdigest()[:12]
        bodies["index.html"] = bodies["index.html"].replace(b"{{version}}", self.version.encode())
        self._assets = {name: _asset(name, body) for name, body in bodies.items()}
        self._index = self._assets.pop("index.html")

    async def index(self, request: web.Request) -> web.Response:
        """The page itself. The same for everybody, so it holds no secret."""
        return self._index.response(request, "no-cache")

    async def asset(self, request: web.Request) -> web.Response:
        """One of its files."""
        asset = self._assets.get(request.match_info["name"])
        if asset is None or request.match_info["version"] != self.version:
            raise web.HTTPNotFound(headers=HEADERS)
        return asset.response(request, _UNCHANGING)


def _asset(name: str, body: bytes) -> _Asset:
    return _Asset(body, gzip.compress(body, mtime=0), _TYPES[name[name.rfind(".") :]])
