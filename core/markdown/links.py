"""Which targets may be followed, and whether a link says where it leads."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import urlsplit

_SAFE = re.compile(r"(?:https?://[^/\s]|mailto:[^\s])", re.IGNORECASE)

# Ends before CJK marks and brackets, which follow a URL without a space in Chinese text.
_BARE = re.compile(
    r"(?<![A-Za-z0-9])https?://[^\s<>\"`|\\^{}\[\]\u2018-\u201f\u3000-\u303f\uff00-\uff65\ufe30-\ufe4f]+", re.IGNORECASE
)

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


def url_at(text: str, start: int, end: int) -> str:
    """The URL that begins at `start` and is no longer than to `end`, or an empty string."""
    match = _BARE.match(text, start, end)
    return _trimmed(match[0]) if match else ""


def _trimmed(url: str) -> str:
    while url and (url[-1] in ".,:;!?'*_~…" or (url[-1] == ")" and url.count(")") > url.count("("))):
        url = url[:-1]
    return url


def misleads(text: str, target: str) -> bool:
    """Whether the link's `text` names a host that is neither the target's nor the domain above it.

    Look-alikes are folded by NFKC and characters without width ignored first, so that neither hides a host.
    """
    shown = unicodedata.normalize("NFKC", text).lower()
    shown = "".join(c for c in shown if unicodedata.category(c) not in ("Cf", "Mn") and c != "\u00ad")
    host = _host(target)
    for match in _HOST.finditer(shown):
        name = match[0].removeprefix("www.")
        if "//" not in shown and _is_file(name, target):
            continue
        if host != name and not host.endswith("." + name):
            return True
    return False


def _is_file(name: str, target: str) -> bool:
    suffix = name.rpartition(".")[2]
    return suffix in _FILES or (suffix in ("md", "py", "sh", "rs", "pl") and target.lower().endswith("/" + name))


def _host(target: str) -> str:
    """In ASCII, as the target has it: letters that only look like another host's are shown as what they are."""
    if target.lower().startswith("mailto:"):
        return target.partition("?")[0].rpartition("@")[2].lower()
    try:
        return (urlsplit(target).hostname or "").removeprefix("www.")
    except ValueError:
        return ""
