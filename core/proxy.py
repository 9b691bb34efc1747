"""Which proxy a connection takes."""

from __future__ import annotations

import ipaddress
from urllib.request import getproxies_environment, proxy_bypass

from yarl import URL

from core.errors import ConfigError


def is_loopback(host: str | None) -> bool:
    """Whether `host` names this machine."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(url: URL, configured: str | None, *, setting: str = "proxy") -> URL | None:
    """`configured`, else HTTP_PROXY or HTTPS_PROXY (by the scheme of `url`) unless NO_PROXY names the host.

    Never one for this machine itself. NO_PROXY is read as Python's urllib reads it: host names with everything below
    them, `host:port`, `*`; no address ranges. The environment is read at the call. Raises ConfigError for a proxy that
    is not http:// or https://, naming `setting` or the variable.
    """
    if is_loopback(url.host):
        return None
    where, value = setting, configured
    if not value:
        if proxy_bypass(f"{url.host}:{url.port}"):
            return None
        where, value = f"{url.scheme.upper()}_PROXY", getproxies_environment().get(url.scheme)
    if not value:
        return None
    try:
        proxy = URL(value if "://" in value else f"http://{value}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        # The value may hold a password: it is not repeated.
        raise ConfigError(f"{where}: not a proxy address; use http://host:port or https://host:port")
    return proxy
