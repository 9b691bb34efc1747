"""One busy conversation, and the claim to be the one who makes it busy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from core.budgets import Ahead
from core.journal import Turn
from core.stopper import Stopper


@dataclass(slots=True)
class Worker:
    """One busy conversation."""

    task: asyncio.Task[None] | None = None
    waiting: int = 0
    """Messages that were accepted and not begun, at most: some may have expired meanwhile."""
    left: bool = False
    """Work of an earlier process, or reopened, may wait in the journal: how much is not known here."""
    answering: bool = False
    held_up: bool = False
    """Its next question waits for a budget."""
    stopper: Stopper = field(default_factory=Stopper)
    """Of the turn that runs, or is about to be begun: what ends it may come while the journal still looks for it."""


class Claim:
    """A conversation that nobody works on waits to hear what became of a message that is being accepted."""

    def __init__(
        self, settle: Callable[[Turn | None, bool], None], *, ahead: Ahead, idle_after: timedelta | None
    ) -> None:
        """`ahead` and `idle_after` are for Journal.accept."""
        self.ahead = ahead
        self.idle_after = idle_after
        self._settle = settle

    def settle(self, turn: Turn | None = None, *, waits: bool = False) -> None:
        """The turn that was begun with it; or whether it was accepted all the same, and `waits` for its turn."""
        self._settle(turn, waits)
