"""Text that would call people, made harmless without a visible change."""

from __future__ import annotations

import re
import unicodedata

BREAK = "\u200b"
"""A zero-width space: no platform reads a mention across it, and nobody sees it."""

_AT = re.compile("[@＠﹫]")
_IGNORED = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_ALL = re.compile(
    "everyone|here|channel|group|team|subteam|(?:all|online)(?![a-z])|所有人|全体|全體|全員|在线", re.IGNORECASE
)


def _calls_all(text: str, at: int) -> bool:
    """Whether a name of everybody begins at `at`, also in full-width letters or with characters of no width in it."""
    name = unicodedata.normalize("NFKC", _IGNORED.sub("", text[at : at + 40]))
    return _ALL.match(name) is not None


def defuse(text: str, tags: re.Pattern[str] | None = None) -> str:
    """Break what calls everybody, and the first character of what `tags` matches from the rest.

    For a whole rendered message, its code and tables too: what a client does not treat as code today is covered.
    """
    text = _AT.sub(lambda match: match[0] + BREAK if _calls_all(text, match.end()) else match[0], text)
    return tags.sub(lambda match: match[0][0] + BREAK + match[0][1:], text) if tags else text


def harmless_target(target: str) -> str:
    """A URL in which no at sign calls anybody: it is percent-encoded, which means the same."""
    return _AT.sub(lambda match: "%40" if _calls_all(target, match.end()) else match[0], target)
