"""Whether a request is Slack's: https://docs.slack.dev/authentication/verifying-requests-from-slack.

Our own check, since the SDK's raises on headers that are no numbers, and remembers nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from core.clock import Clock
from core.webhooks import WINDOW, Replays

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"v0=[0-9a-f]{64}")


class Signatures:
    """Checks requests, and knows those that were accepted within the window."""

    def __init__(self, secret: str, clock: Clock) -> None:
        self._secret = secret.encode()
        self._clock = clock
        self._replays = Replays(clock)

    def verify(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """The signature, if it is Slack's, of now, and was not accepted before."""
        timestamp = headers.get("X-Slack-Request-Timestamp", "")
        signature = headers.get("X-Slack-Signature", "")
        if not _TIMESTAMP.fullmatch(timestamp) or not _SIGNATURE.fullmatch(signature):
            return None
        if abs(self._clock.now().timestamp() - int(timestamp)) > WINDOW:
            return None
        signed = b"v0:" + timestamp.encode() + b":" + body
        expected = "v0=" + hmac.new(self._secret, signed, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            return None
        return None if signature in self._replays else signature

    def accepted(self, signature: str) -> None:
        """A copy of this request is a replay from now on."""
        self._replays.add(signature)

    def refused(self, signature: str) -> None:
        """It was not taken in after all: a copy may be."""
        self._replays.forget(signature)
