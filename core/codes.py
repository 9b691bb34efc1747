"""One-time codes that people read in one place and type in another."""

from __future__ import annotations

import hashlib
import re
import secrets

LENGTH = 8

ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Without 0, O, 1 and I, which are taken for each other: 32 letters, so a code is one of 2^40."""

HIDDEN = "*" * LENGTH
"""What stands in the place of a code that is not to be read any more."""

_CODE = re.compile(rf"\b[{ALPHABET}]{{{LENGTH}}}\b")


def new_code() -> str:
    """A code that nobody can guess."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


def without_codes(text: str) -> str:
    """`text` with its codes hidden, and whatever else looks like one."""
    return _CODE.sub(HIDDEN, text)


def code_digest(typed: str) -> bytes:
    """SHA-256 of a code, whatever its case, blanks and hyphens: what is stored in its place."""
    code = "".join(typed.split()).replace("-", "").upper()
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()
