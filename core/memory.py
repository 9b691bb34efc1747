"""What prompts are made from: the newest exchanges of a conversation, and a summary of those before them.

An engine implements this together with core.journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from core.journal import Exchange, TurnId
from core.messages import ConversationKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What is kept of a conversation's older exchanges where prompts have no room for them."""

    text: str
    first: TurnId
    """The oldest turn that is in it; it goes when that turn's texts go."""
    upto: TurnId
    """The newest one; all that a prompt tells beside it is newer."""
    turns: int
    """How many are in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of a conversation: a summary, and the exchanges after it, oldest first."""

    summary: Summary | None = None
    exchanges: tuple[Exchange, ...] = ()


class Memories(Protocol):
    """All methods raise StorageUnavailable when the store cannot be read or written."""

    async def history(self, conversation: ConversationKey, generation: int, *, most: int) -> tuple[Exchange, ...]:
        """The newest exchanges, oldest first, whether they are summed up or not."""
        ...

    async def memory(self, conversation: ConversationKey, generation: int, *, most: int) -> Memory:
        """The summary and the newest exchanges after it. Empty for a generation that is over."""
        ...

    async def sum_up(
        self,
        conversation: ConversationKey,
        generation: int,
        summary: Summary,
        *,
        instead_of: Summary | None,
        of: tuple[TurnId, ...],
    ) -> bool:
        """Store a summary, made from `instead_of` (None: there was none) and from the exchanges of the turns `of`.

        False, with nothing stored, where any of that has changed meanwhile: the generation, the earlier summary, or one
        of the exchanges. A summary goes with the texts it was made of: at `renew` and `forget`, when its first turn is
        swept, and when one of its turns is replaced.
        """
        ...
