"""What Feishu is told of an event."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is not acknowledged within 3 s comes again after 15 s, 5 min, 1 h and 6 h
    (https://open.feishu.cn/document/ukTMukTMukTM/uUTNz4SN1MjL1UzM)."""

    acknowledged: bool
    body: Mapping[str, Any] | None = None
    """The answer to a callback, which is an event that somebody waits for."""


TAKEN = Verdict(acknowledged=True)
REFUSED = Verdict(acknowledged=False)

Handle = Callable[[Mapping[str, Any]], Awaitable[Verdict]]
"""Takes an event as it came, decrypted. Raises nothing."""
