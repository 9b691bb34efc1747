"""The core path with a real store, a platform in memory and a scripted model."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from core.account import AccountConfig
from core.adapter import Receipt, ReplyChannel
from core.admission import InboxSettings
from core.chat import ChatClient
from core.commands import Commands
from core.commands.admin import AdminCommands
from core.commands.conversation import ConversationCommands
from core.commands.linking import LinkingCommands
from core.commands.person import PersonCommands
from core.commands.usage import UsageCommands
from core.compaction import Compactor
from core.delivery import Delivery
from core.dispatcher import Busy, Dispatcher, DispatchSettings
from core.errors import DeliveryError
from core.headroom import Headroom
from core.inbox import Inbox
from core.journal import Quota
from core.limits import Limits, LimitSettings, MessageRates
from core.links import Links
from core.loop_guard import LoopGuard
from core.messages import (
    AccountId,
    ChannelId,
    ConversationKey,
    EventId,
    InboundMessage,
    MessageId,
    Person,
    ReplyAddress,
    Scope,
    Sender,
    ThreadId,
    UserId,
)
from core.paid import PaidCalls
from core.pairing import Pairing
from core.people import People, sender_of
from core.responder import Responder
from core.sessions import SessionManager, SessionSettings
from core.storage.sqlite import SqliteStore
from core.welcome import Welcome
from tests.clock import HeldClock
from tests.core.scripted_chat import ScriptedChat
from tests.simulators.pager import Pager, PagerAdapter, address

WORK = AccountId("work")
MODELS = ("test-model", "other-model")
SESSION = SessionSettings(system_prompt="Be brief.", max_turns=20, max_tokens=8000, idle_after=timedelta(hours=24))


_ids = itertools.count(1)


async def until(condition: Callable[[], object], *, seconds: float = 20.0) -> None:
    """Wait for something that other tasks and the store's thread bring about."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


class Journal:
    """The store, with places where it can be held up: the program dies there, or the disk is full."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.calls: list[str] = []
        self.hold_before: str = ""
        self.hold_after: str = ""
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()
        self.errors: dict[str, list[Exception]] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not callable(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self.errors.get(name):
                raise self.errors[name].pop(0)
            if name == self.hold_before:
                self.held.set()
                await self.go_on.wait()
            result = await method(*args, **kwargs)
            if name == self.hold_after:
                self.held.set()
                await self.go_on.wait()
            return result

        return call


class Gateway:
    """Enter it to start, leave it to stop; `crash` ends it as kill -9 would."""

    def __init__(
        self,
        path: Path,
        clock: HeldClock,
        pager: Pager | None = None,
        chat: ChatClient | None = None,
        *,
        session: SessionSettings = SESSION,
        scope: Scope = Scope.USER,
        busy: Busy = "queue",
        quota: Quota = Quota(),  # noqa: B008 - frozen
        per_minute: int | None = None,
        limits: LimitSettings | None = None,
        stale_after: timedelta = timedelta(minutes=15),
        accounts: dict[str, AccountConfig] | None = None,
        hold_before: str = "",
        places: int = 64,
        inbox: dict[str, Any] | None = None,
        journal_of: Callable[[SqliteStore], Any] | None = None,
    ) -> None:
        """`inbox`: fields of InboxSettings. `journal_of`: what stands between the conversation and the store."""
        self.path = path
        self.clock = clock
        self.pager = pager or Pager()
        self.chat = ScriptedChat() if chat is None else chat
        self.accounts = accounts if accounts is not None else {"work": AccountConfig()}
        self.owners: dict[AccountId, UserId] = {}
        self.adapter = PagerAdapter(self.pager)
        self.store = SqliteStore(path, clock=clock)
        journal: Any = (journal_of or Journal)(self.store)  # what it passes on has the types of the store
        self.journal: Journal = journal
        self.journal.hold_before = hold_before
        self.people = People(journal, clock, is_admin=self._is_admin)
        self.pairing = Pairing(journal, self.people, clock)
        self.welcome = Welcome(self.reply)
        self.pairing.approved = self.welcome.begin
        self.guard = LoopGuard(clock)
        self.links = Links(journal, clock)
        self.limits = Limits(
            limits or LimitSettings(per_minute=per_minute), own=self.people.budget, is_admin=self._is_admin
        )
        self.headroom = Headroom()
        self.sessions = SessionManager(journal, session)
        self.paid = PaidCalls(journal, self.limits, self.headroom, clock)
        self.compactor = Compactor(
            journal, self.sessions, self.chat, self.paid, self.limits, clock, places=lambda: places
        )
        self.headroom.wanted = self.compactor.give_way
        self.away: set[AccountId] = set()
        """Accounts that are not connected."""
        self.delivery = Delivery(
            journal,
            clock,
            ambiguous=lambda account: self.accounts[account].ambiguous,
            shared=self.links.shared,
            connected=lambda account: account not in self.away,
        )
        self.responder = Responder(
            journal,
            self.sessions,
            self.chat,
            self.delivery,
            clock,
            account=lambda account: self.accounts[account],
            models=lambda: MODELS,
            limits=self.limits,
            stale_after=lambda: stale_after,
            outgrown=self.compactor.want,
        )
        commands = Commands(
            ConversationCommands(
                journal, journal, self.sessions, clock, models=lambda: MODELS, personas=lambda: session.personas
            ).handlers(),
            PersonCommands(self.links, self.people, account=lambda account: self.accounts[account]).handlers(),
            UsageCommands(
                journal,
                self.limits,
                clock,
                payer=self.links.person,
                is_admin=lambda message: self.people.is_admin(sender_of(message)),
            ).handlers(),
            LinkingCommands(self.links, scope=lambda account: self.accounts[account].scope or scope).handlers(),
            AdminCommands(
                self.people,
                self.pairing,
                self.guard,
                self.links,
                self.limits,
                clock,
                account=lambda account: self.accounts[account],
                owner=self.owners.get,
            ).handlers(),
            is_admin=lambda message: self.people.is_admin(sender_of(message)),
        )
        self.dispatcher = Dispatcher(
            journal,
            self.responder,
            commands,
            self.delivery,
            clock,
            DispatchSettings(busy=busy, idle_after=session.idle_after),
            budgets=self.limits,
            headroom=self.headroom,
            reply=self.reply,
        )
        self.rates = MessageRates(self.limits, clock)
        self.inbox = Inbox(
            journal,
            self.dispatcher,
            self.rates,
            clock,
            replace(InboxSettings(scope=scope, quota=quota), **(inbox or {})),
            limits=self.limits,
            people=self.people,
            pairing=self.pairing,
            guard=self.guard,
            links=self.links,
            account=lambda account: self.accounts[account],
            reply=self.reply,
        )
        self._stack = AsyncExitStack()

    def reply(self, account: AccountId, address: ReplyAddress) -> ReplyChannel:
        if account not in self.accounts:
            raise DeliveryError(f"account {account!r} is not configured any more")
        return self.adapter.reply(address)

    def _is_admin(self, person: Person) -> bool:
        named = person.user in self.accounts[person.account].access.admins
        return named or person.user == self.owners.get(person.account)

    @property
    def model(self) -> ScriptedChat:
        """The scripted model."""
        assert isinstance(self.chat, ScriptedChat)
        return self.chat

    async def __aenter__(self) -> Self:
        await self.store.__aenter__()
        await self.people.load()
        await self.pairing.load()
        recovery = await self.journal.recover()
        await self.links.load()
        self._stack.push_async_callback(self.paid.close)
        await self._stack.enter_async_context(self.welcome)
        await self._stack.enter_async_context(self.compactor)
        await self._stack.enter_async_context(self.dispatcher)
        await self._stack.enter_async_context(self.inbox)
        self.dispatcher.resume(recovery)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        await self.store.__aexit__(None, None, None)

    async def crash(self) -> None:
        """Nothing more is written down; what was being done is lost."""
        await self.store.__aexit__(None, None, None)
        await self._stack.aclose()

    def again(self, **changes: Any) -> Gateway:
        """The next process: the same file, platform and clock, a fresh model unless given."""
        known: dict[str, Any] = {"accounts": self.accounts, "chat": self.chat}
        return Gateway(self.path, self.clock, self.pager, **{**known, **changes})

    def message(
        self, text: str, *, user: str = "ann", place: str = "home", account: str = "work", **fields: Any
    ) -> InboundMessage:
        """A direct message, unless `fields` says otherwise."""
        number = next(_ids)
        fields.setdefault("sender", Sender(id=UserId(user), display_name=user.title()))
        defaults: dict[str, Any] = {
            "id": MessageId(f"in{number}"),
            "event": EventId(f"e{number}"),
            "account": AccountId(account),
            "channel": ChannelId(place),
            "thread": None,
            "is_direct": True,
            "mentions_bot": False,
            "text": text,
            "sent_at": self.clock.now(),
            "reply_to": address(place),
        }
        return InboundMessage(**{**defaults, **fields})

    async def hear(self, text: str, **fields: Any) -> Receipt:
        """Somebody writes."""
        return await self.inbox.receive(self.message(text, **fields))

    async def ask(self, text: str, **fields: Any) -> list[str]:
        """Somebody writes, and everything that follows has happened; what is to be read in that place."""
        assert await self.hear(text, **fields) is Receipt.ACCEPTED
        await self.idle()
        return self.pager.texts(fields.get("place", "home"))

    async def idle(self) -> None:
        """Nobody works any more."""
        await until(lambda: not self.dispatcher.workers and not self.dispatcher._errands and not self.compactor.running)
        await asyncio.gather(*self.inbox._notices, *self.welcome._telling)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass once somebody waits for it."""
        await until(lambda: self.clock.sleeping)
        await self.clock.advance(seconds)

    def key(self, user: str = "ann", account: str = "work") -> ConversationKey:
        """The conversation of a person."""
        return ConversationKey(AccountId(account), user=UserId(user))

    def in_channel(self, text: str, *, user: str, channel: str, thread: str | None = None, **fields: Any) -> Any:
        """A message in a channel that mentions the bot."""
        message = self.message(text, user=user, place=channel, is_direct=False, mentions_bot=True, **fields)
        return replace(message, thread=None if thread is None else ThreadId(thread))
