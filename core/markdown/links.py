"""Which targets may be followed, and whether a link says where it leads."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from urllib.parse import urlsplit

_SAFE = re.compile(r"(?:https?://[^/\s]|mailto:[^\s])", re.IGNORECASE)

# Ends before CJK marks and brackets, which follow a URL without a space in Chinese text.
_BARE = re.compile(r"\bhttps?://[^\s<>\"`|\\^{}\u2018-\u201f\u3000-\u303f\uff00-\uff65\ufe30-\ufe4f]+", re.IGNORECASE)

_HOST = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,63}(?![\w.-]*\w)|\d{1,3}(?:\.\d{1,3}){3}")

# Names of files, and no top-level domains (IANA's list of 2026). `.md`, `.py`, `.sh`, `.rs` and `.zip` are domains.
_FILES = frozenset(
    [
        "cfg",
        "conf",
        "cpp",
        "csv",
        "css",
        "env",
        "exe",
        "gz",
        "html",
        "ini",
        "ipynb",
        "java",
        "js",
        "json",
        "jsx",
        "lock",
        "log",
        "pdf",
        "php",
        "png",
        "rb",
        "sql",
        "svg",
        "toml",
        "ts",
        "tsx",
        "txt",
        "xml",
        "yaml",
        "yml",
    ]
)


def safe(target: str) -> bool:
    """Whether `target` is of a scheme that does nothing but open a page or a letter: http, https, mailto."""
    return _SAFE.match(target) is not None


def bare_urls(text: str) -> list[tuple[int, int]]:
    """Where `text` holds URLs of http or https, without the punctuation that ends the sentence around them."""
    return [(match.start(), match.start() + len(_trimmed(match[0]))) for match in _BARE.finditer(text)]


def _trimmed(url: str) -> str:
    while url:
        last = url[-1]
        unpaired = last in _OPENER and url.count(last) > url.count(_OPENER[last])
        if not (unpaired or last in ".,:;!?'*_~…"):
            break
        url = url[:-1]
    return url


_OPENER = {")": "(", "]": "["}


def misleads(text: str, target: str) -> bool:
    """Whether the link's `text` names a host that is neither the target's nor the domain above it.

    Look-alikes are folded by NFKC and characters without width ignored first, so that neither hides a host.
    """
    shown = unicodedata.normalize("NFKC", text).lower()
    shown = "".join(c for c in shown if unicodedata.category(c) not in ("Cf", "Mn") and c != "\u00ad")
    host = _host(target)
    for match in _HOST.finditer(shown):
        name = match[0].removeprefix("www.")
        if name.rpartition(".")[2] in _FILES and "//" not in shown:
            continue
        if host != name and not host.endswith("." + name):
            return True
    return False


def _host(target: str) -> str:
    if target.lower().startswith("mailto:"):
        return target.partition("?")[0].rpartition("@")[2].lower()
    try:
        host = urlsplit(target).hostname or ""
    except ValueError:
        return ""
    with suppress(UnicodeError):
        host = host.encode("ascii").decode("idna")
    return host.lower().removeprefix("www.")
