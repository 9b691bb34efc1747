"""The way back to where a message was written, as it is stored with the message."""

from __future__ import annotations

import json
from dataclasses import MISSING, dataclass, fields
from typing import Self

from core.errors import TargetGone
from core.messages import ReplyAddress

_ENCODER = json.JSONEncoder(separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class StoredAddress:
    """What an adapter's `Address` derives from: a frozen dataclass too, of texts, numbers and truth values.

    A field is not stored where it has its default. So one that is added later needs a default: addresses that were
    stored before are read back with it.
    """

    def dump(self) -> ReplyAddress:
        """As it is stored."""
        values = {field: getattr(self, field.name) for field in fields(self)}
        stored = {
            field.name: value for field, value in values.items() if field.default is MISSING or value != field.default
        }
        return ReplyAddress(_ENCODER.encode(stored))

    @classmethod
    def load(cls, address: ReplyAddress) -> Self:
        """Read back `dump`. Raises TargetGone for anything else; what it says does not show the address, which may hold
        a key to the conversation."""
        try:
            return cls(**json.loads(address))
        except (ValueError, TypeError):
            raise TargetGone("not an address of this platform") from None
