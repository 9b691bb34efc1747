"""The way back to where a message was written, as it is stored with the message."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from core.errors import TargetGone
from core.messages import ReplyAddress

if TYPE_CHECKING:
    from dataclasses import Field

_ENCODER = json.JSONEncoder(separators=(",", ":"))


class StoredAddress:
    """What an adapter's `Address` derives from: a frozen dataclass of texts, numbers and truth values.

    A field is not stored where it has its default. So one that is added later needs a default: addresses that were
    stored before are read back with it.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def dump(self) -> ReplyAddress:
        """As it is stored."""
        values = ((field, getattr(self, field.name)) for field in fields(self))
        return ReplyAddress(
            _ENCODER.encode(
                {field.name: value for field, value in values if field.default is MISSING or value != field.default}
            )
        )

    @classmethod
    def load(cls, address: ReplyAddress) -> Self:
        """Read back `dump`. Raises TargetGone for anything else; what it says does not show the address, which may hold
        a key to the conversation."""
        try:
            return cls(**json.loads(address))
        except (ValueError, TypeError):
            raise TargetGone("not an address of this platform") from None
