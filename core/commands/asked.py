"""A command that somebody gave, and what carrying it out may need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from core.adapter import ReplyChannel
from core.journal import InboxRow, Turn
from core.messages import ConversationKey, InboundMessage, Person
from core.texts import Language


class Running(Protocol):
    """The dispatcher, as commands see it."""

    def stop(self, conversation: ConversationKey) -> bool:
        """Stop the running turn, or the one that waits for a budget; False if there is none."""
        ...

    def supersede(self, conversation: ConversationKey, waiting: Sequence[InboxRow]) -> None:
        """The conversation starts afresh: end the running turn, dismiss what waited."""
        ...

    def busy(self, conversation: ConversationKey) -> bool:
        """Whether a turn runs."""
        ...

    def held_up(self, conversation: ConversationKey) -> bool:
        """Whether the next question waits for a budget."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One command of one person."""

    turn: Turn
    argument: str
    language: Language
    reply: ReplyChannel
    running: Running

    @property
    def message(self) -> InboundMessage:
        """The message that the command is."""
        return self.turn.last

    @property
    def person(self) -> Person:
        """Who gave it, as that account knows them."""
        return Person(self.message.account, self.message.sender.id)

    @property
    def conversation(self) -> ConversationKey:
        """Where it was given."""
        return self.turn.conversation


Handler = Callable[[Asked], Awaitable[str]]
"""Carries a command out and returns what its person reads, in CommonMark."""

Handlers = Mapping[str, Handler]
"""By the command's name."""
