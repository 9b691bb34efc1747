"""Getting a file that somebody attached: from the platform's own hosts alone, bounded in size and time.

An event names the file's address, and events can be forged or forwarded, so the address is not trusted: its host must
be one of the platform's, at every redirect, and must not lead into a private network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from core.errors import FileRefused, FileTooLarge, FileUnavailable

_REDIRECTS = 5
_CONNECT = 10.0
_IDLE = 30.0
"""Seconds until the next bytes."""
_WHOLE = 120.0
"""Seconds for a whole file, redirects included."""
_PIECE = 64 * 1024


class Files:
    """Fetches files of one platform. Enter it, and leave it when the adapter is left.

    It has a session of its own: no header or cookie meant for the platform's API goes with a request by accident.
    """

    def __init__(
        self,
        *,
        hosts: Iterable[str],
        api_url: str = "",
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
    ) -> None:
        """`hosts`: `files.example.com` is that host, `.example.com` every host under it; https only.

        `api_url`: the origin (scheme, host and port) of the configured API, which is allowed as it is, in a private
        network too. `headers` (credentials) go with every request, so `hosts` must be the platform's alone. With a
        `proxy` it is the proxy that looks names up; what it reaches is its own business.
        """
        self._hosts = tuple(host.lower() for host in hosts)
        self._api = _origin(URL(api_url)) if api_url else None
        self._headers = {"Accept-Encoding": "identity", **(headers or {})}
        self._proxy = proxy
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        exempt = self._api[1] if self._api is not None else ""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=8, resolver=ThreadedResolver() if self._proxy else _PublicResolver(exempt)
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_IDLE),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(
        self,
        url: str,
        *,
        most_bytes: int,
        accepts: Callable[[str], bool] = bool,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The content of `url`. `accepts` judges the media type of the answer (by default there must be one): some
        platforms show a login page with status 200 to those who may not have the file. `headers` go with this request
        besides those that go with every one: credentials that change.

        Raises FileTooLarge, FileRefused (not an address to fetch from, or not accepted), FileUnavailable.
        """
        if self._session is None:
            raise FileUnavailable("files cannot be fetched while the account is not signed in")
        try:
            async with asyncio.timeout(_WHOLE):
                return await self._follow(
                    self._session, _parsed(url), most_bytes, accepts, {**self._headers, **(headers or {})}
                )
        except aiohttp.ClientConnectorDNSError as error:
            if isinstance(error.os_error, _PrivateAddress):
                raise FileRefused(f"the host {error.host!r} leads into a private network") from error
            raise FileUnavailable(f"the host {error.host!r} is not known") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise FileUnavailable(f"a file could not be fetched: {type(error).__name__}") from error

    async def _follow(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        most_bytes: int,
        accepts: Callable[[str], bool],
        headers: Mapping[str, str],
    ) -> bytes:
        for _ in range(_REDIRECTS + 1):
            self._check(url)
            async with session.get(url, headers=headers, proxy=self._proxy, allow_redirects=False) as response:
                if response.status in (301, 302, 303, 307, 308):
                    url = url.join(_parsed(response.headers.get("Location", "")))
                    continue
                if response.status != 200:
                    raise FileUnavailable(f"a file could not be fetched: status {response.status} of {url.host!r}")
                if not accepts(response.content_type):
                    raise FileRefused(f"a file came as {response.content_type!r}, which is not what it should be")
                if response.headers.get("Content-Encoding", "identity").lower() != "identity":
                    raise FileRefused("a file came compressed, though that was not asked for")
                return await _content(response, most_bytes)
        raise FileRefused(f"a file is behind more than {_REDIRECTS} redirects")

    def _check(self, url: URL) -> None:
        if self._api is not None and _origin(url) == self._api:
            return
        host = (url.host or "").lower().rstrip(".")
        if url.scheme != "https" or url.explicit_port not in (None, 443) or url.user is not None:
            raise FileRefused(f"a file is at {url.scheme}://{host}, which is not a plain https address")
        if not any(host == each or (each.startswith(".") and host.endswith(each)) for each in self._hosts):
            raise FileRefused(f"a file is at {host!r}, which is not a host of the platform")
        if _is_address(host) and not _is_public(host):
            raise FileRefused(f"a file is at {host!r}, in a private network")


async def _content(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    if (response.content_length or 0) > most_bytes:
        raise FileTooLarge(f"a file has {response.content_length} bytes, at most {most_bytes} are fetched")
    content = bytearray()
    async for piece in response.content.iter_chunked(_PIECE):
        content += piece
        if len(content) > most_bytes:
            raise FileTooLarge(f"a file has more than {most_bytes} bytes")
    return bytes(content)


def _parsed(text: str) -> URL:
    try:
        return URL(text)
    except ValueError:
        raise FileRefused("a file has no address that could be fetched") from None


def _origin(url: URL) -> tuple[str, str, int | None]:
    return url.scheme, (url.host or "").lower(), url.port


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_public(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in ipaddress.ip_network("64:ff9b::/96"):  # RFC 6052: an IPv4 address behind a translator
            return _is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFF_FFFF)))
        inner = parsed.ipv4_mapped or parsed.sixtofour
        if inner is not None:
            return _is_public(str(inner))
    return parsed.is_global and not parsed.is_multicast


class _PrivateAddress(OSError):
    """A name of the platform leads to this machine or a private network."""


class _PublicResolver(ThreadedResolver):
    """Looks names up as usual, and refuses those that lead into a private network. What it returns is what is
    connected to, so a name that changes its mind in between gains nothing."""

    def __init__(self, exempt: str) -> None:
        super().__init__()
        self._exempt = exempt

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        if host.lower() != self._exempt and not all(_is_public(each["host"]) for each in found):
            raise _PrivateAddress(f"{host} leads into a private network")
        return found
