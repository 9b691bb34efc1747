"""Whether a request is Feishu's: https://open.feishu.cn/document/ukTMukTMukTM/uYDNxYjL2QTM24iN0EjN/event-subscription-configure-/encrypt-key-encryption-configuration-case

Our own check, since the SDK's raises on headers that it misses, and takes a request of any age.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping

from core.clock import Clock
from core.webhooks import WINDOW, Replays

_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_NONCE = re.compile(r"[!-~]{1,256}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")


class Signatures:
    """Checks requests, and knows those that were accepted within the window."""

    def __init__(self, encrypt_key: str, clock: Clock) -> None:
        self._key = encrypt_key.encode()
        self._clock = clock
        self._replays = Replays(clock)

    def verify(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """The signature, if it is Feishu's, of now, and was not accepted before.

        It is a plain hash: whoever saw a request can sign it with something appended. What is appended is no text, so
        the body is no JSON then.
        """
        timestamp = headers.get("X-Lark-Request-Timestamp", "")
        nonce = headers.get("X-Lark-Request-Nonce", "")
        signature = headers.get("X-Lark-Signature", "")
        if not _TIMESTAMP.fullmatch(timestamp) or not _NONCE.fullmatch(nonce) or not _SIGNATURE.fullmatch(signature):
            return None
        if abs(self._clock.now().timestamp() - int(timestamp)) > WINDOW:
            return None
        expected = hashlib.sha256(timestamp.encode() + nonce.encode() + self._key + body).hexdigest()
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            return None
        return None if signature in self._replays else signature

    def accepted(self, signature: str) -> None:
        """A copy of this request is a replay from now on."""
        self._replays.add(signature)

    def refused(self, signature: str) -> None:
        """It was not taken in after all: a copy may be."""
        self._replays.forget(signature)
