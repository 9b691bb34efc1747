"""Rules of the core broken on purpose (tests/scenario/breaking.py)."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from core.adapter import Receipt
from core.clock import Clock, SystemClock
from core.journal import Accepted, Quota
from core.keys import SCOPES, Caller, KeyRing
from core.links import Links
from core.messages import AccountId, ConversationKey, EventId, InboundMessage, MessageId, Person, Scope, UserId
from core.storage import statements
from core.storage.sqlite import SqliteStore
from gateway import running
from gateway.app import App
from gateway.config import Config
from tests.scenario.breaking import run

LATE = 0.05
"""Seconds between the receipt and the commit."""


class EarlyStore(SqliteStore):
    """Says that a message is accepted, and writes it a moment later."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        super().__init__(path, clock=clock)
        self.stored: Callable[[ConversationKey], None] = lambda _: None
        self._writing: set[asyncio.Task[None]] = set()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*self._writing)
        await super().__aexit__(kind, error, trace)

    async def accept(
        self,
        message: InboundMessage,
        conversation: ConversationKey,
        quota: Quota,
        **options: Any,
    ) -> Accepted:
        options = {name: options[name] for name in ("budgets", "command") if name in options}
        if await self.reached(message.account, message.event) is not None:
            return Accepted(receipt=Receipt.DUPLICATE)
        task = asyncio.create_task(self._accept(message, conversation, quota, options))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return Accepted(receipt=Receipt.ACCEPTED)

    async def _accept(
        self, message: InboundMessage, conversation: ConversationKey, quota: Quota, options: dict[str, Any]
    ) -> None:
        await asyncio.sleep(LATE)
        await super().accept(message, conversation, quota, **options)
        self.stored(conversation)


class ForgetfulStore(SqliteStore):
    """Takes every delivery for a new message."""

    async def accept(
        self,
        message: InboundMessage,
        conversation: ConversationKey,
        quota: Quota,
        **options: Any,
    ) -> Accepted:
        id = secrets.token_hex(16)
        fresh = replace(message, id=MessageId(id), event=EventId(id))
        return await super().accept(fresh, conversation, quota, **options)


def early() -> None:
    """Accepted before it is committed."""

    class EarlyApp(App):
        def __init__(self, config: Config, *, clock: Clock | None = None) -> None:
            def open_store(path: Path, clock: Clock) -> EarlyStore:
                store = EarlyStore(path, clock=clock)
                store.stored = lambda conversation: self.dispatcher.wake(conversation)  # noqa: PLW0108 - there is none yet
                return store

            super().__init__(config, clock=clock or SystemClock(), open_store=open_store)

    setattr(running, "App", EarlyApp)  # noqa: B010 - mypy would not let it be assigned


def forgetful() -> None:
    """A delivery that is repeated is answered again."""

    class ForgetfulApp(App):
        def __init__(self, config: Config, *, clock: Clock | None = None) -> None:
            super().__init__(config, clock=clock, open_store=lambda path, clock: ForgetfulStore(path, clock=clock))

    setattr(running, "App", ForgetfulApp)  # noqa: B010 - as above


def disordered() -> None:
    """The newest message of a conversation is answered first."""
    statements.WAITING = statements.WAITING.replace("ORDER BY id LIMIT", "ORDER BY id DESC LIMIT")


def shared() -> None:
    """All users of an account are in one conversation."""

    def of(cls: type[ConversationKey], message: InboundMessage, scope: Scope) -> ConversationKey:
        return cls(message.account)

    setattr(ConversationKey, "of", classmethod(of))  # noqa: B010 - as above


def astray() -> None:
    """Whoever is linked is taken for the first one who ever was."""
    right = Links.person

    def of_the_first(self: Links, account: AccountId, user: UserId) -> Person:
        person = right(self, account, user)
        return person if person == (account, user) else self.all()[0].to

    setattr(Links, "person", of_the_first)  # noqa: B010 - as above


def unlocked() -> None:
    """Every key is a right one, and none is needed."""

    def caller(self: KeyRing, secret: str) -> Caller:
        return Caller("red", frozenset(SCOPES))

    setattr(KeyRing, "caller", caller)  # noqa: B010 - as above
    setattr(KeyRing, "required", False)  # noqa: B010 - as above


if __name__ == "__main__":
    run(early, forgetful, disordered, shared, astray, unlocked)
