"""Takes secrets out of what is written: those it was told, and whatever has the shape of one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

MASK = "[redacted]"

_SHORTEST = 6
"""A shorter value is not looked for: it would occur by chance in every other line."""

_DEEPEST = 8
"""Containers nested deeper are written by `repr` and masked as text."""

_SHAPES = re.compile(
    r"(?P<bearer>\bbearer\s+)[a-z0-9._~+/=-]{8,}"  # an Authorization header
    r"|\bsk-[a-z0-9_-]{12,}"  # OpenAI and many that imitate it
    r"|\bxox[a-z](?:\.xox[a-z])?-[a-z0-9-]{8,}"  # Slack bot, user and refresh tokens
    r"|\bxapp-[a-z0-9-]{8,}"  # Slack app-level tokens
    r"|\bcms-[a-z0-9_-]{20,}"  # this gateway's own keys
    r"|(?P<query>[?&](?:access_token|ticket|token|secret|key|signature)=)[^&\s\\'\"<>#]{6,}"  # a right to call, in a URL
    r"|(?P<command>(?:/|pairing )(?:link|approve|reject) |your code is |(?:码是|\\u7801\\u662f) )[A-HJ-NP-Z2-9]{8}\b"
    r"|(?-i:(?<=`)[A-HJ-NP-Z2-9]{8}(?=`))"  # one-time codes, as people read and type them
    r"|(?P<scheme>\b[a-z][a-z0-9+.-]{0,30}://)[^/\s@'\"<>?#]{1,500}@",  # user and password in a URL
    re.IGNORECASE,
)

_SECRET_NAMES = frozenset(
    {"api-key", "api_key", "authorization", "cookie", "password", "secret", "set-cookie", "token", "x-api-key"}
)


def _mask_shape(found: re.Match[str]) -> str:
    if prefix := found["bearer"] or found["query"] or found["command"]:
        return prefix + MASK
    if prefix := found["scheme"]:
        return f"{prefix}{MASK}@"
    return MASK


class Redactor:
    """Masks secrets in text and in nested values."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def register(self, value: str) -> None:
        """Mask `value` from now on, also as it looks in a URL or in JSON. Values under six characters are ignored."""
        if len(value) < _SHORTEST or value in self._values:
            return
        self._values |= {
            value,
            quote(value, safe=""),
            json.dumps(value)[1:-1],
            json.dumps(value, ensure_ascii=False)[1:-1],
        }
        # the longest first, so that no secret hides the rest of another one
        self._pattern = re.compile("|".join(map(re.escape, sorted(self._values, key=len, reverse=True))))

    def text(self, text: str) -> str:
        """`text` with every known or secret-looking part masked."""
        if self._pattern is not None:
            text = self._pattern.sub(MASK, text)
        return _SHAPES.sub(_mask_shape, text)

    def value(self, value: Any, *, depth: int = 0) -> Any:
        """The same for anything that is logged. Objects of other types become their masked `repr`."""
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if depth < _DEEPEST:
            if isinstance(value, Mapping):
                return {self._key(key): self._item(key, item, depth) for key, item in value.items()}
            if isinstance(value, (list, tuple, set, frozenset)):
                return [self.value(item, depth=depth + 1) for item in value]
        return self.text(repr(value))

    def _key(self, key: Any) -> str:
        return self.text(key if isinstance(key, str) else repr(key))

    def _item(self, key: Any, item: Any, depth: int) -> Any:
        if item and isinstance(key, str) and key.lower() in _SECRET_NAMES:
            return MASK
        return self.value(item, depth=depth + 1)


_known = Redactor()
register_secret = _known.register
redact = _known.text
redact_value = _known.value
