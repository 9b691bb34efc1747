"""Builds every object once and owns its lifetime; the order of start and stop lives here."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import structlog

from core.account import AccountConfig
from core.adapter import AsksLeave, HasFolder, Hosted, ReplyChannel
from core.archive import Archive
from core.chat import ChatClient
from core.chatgpt import ChatGPTClient
from core.clock import Clock, SystemClock
from core.compaction import Compactor
from core.delivery import Delivery
from core.dispatcher import Dispatcher
from core.errors import DeliveryError, StorageUnavailable
from core.headroom import Headroom
from core.host import Host
from core.inbox import Inbox
from core.journal import Journal
from core.keys import KeyRing
from core.limits import Limits, MessageRates
from core.links import Links
from core.loop_guard import LoopGuard
from core.memory import Memories
from core.messages import AccountId, ReplyAddress, Scope
from core.paid import PaidCalls
from core.pairing import Pairing
from core.people import People
from core.responder import Responder
from core.sessions import SessionManager
from core.storage.sqlite import SqliteStore
from core.welcome import Welcome
from gateway import registry, translate
from gateway.accounts import FindSpec, folder_of
from gateway.admins import Admins
from gateway.backfill import Backfill
from gateway.chat_commands import chat_commands
from gateway.config import Config
from gateway.control import ControlSocket
from gateway.controls import control_of
from gateway.health import readiness
from gateway.maintenance import Maintenance
from gateway.metrics import Metrics
from gateway.routes import routes_of
from gateway.scanning import scanning_of
from gateway.server import HttpServer
from gateway.supervisor import AccountState, Supervisor
from gateway.timing import Laps

if TYPE_CHECKING:
    from gateway.local_model import LocalModel

log = structlog.get_logger(__name__)

DRAIN_TURNS = 30.0
"""Seconds that running turns get at the end."""

DRAIN_OUTBOX = 5.0
"""Seconds that replies on their way get after that."""


class Store(Journal, Archive, Memories, Protocol):
    """One engine is all of them."""


class App:
    """The gateway. Enter it to start; it receives from then on. Leaving stops it in the right order.

    Raises on entering: ConfigError, StorageError. Nothing is left running then.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock | None = None,
        open_store: Callable[[Path, Clock], Store] = lambda path, clock: SqliteStore(path, clock=clock),
        private: bool = False,
        find_spec: FindSpec = registry.spec,
    ) -> None:
        """`private`: for the person at this terminal alone. Stored keys are not asked for, and what waits for other
        accounts goes on waiting. `find_spec`: as the configuration was read with."""
        self.config = config
        self._private = private
        self._clock = clock or SystemClock()
        self._open_store = open_store
        self._find_spec = find_spec
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Where the page is."""
        return self.server.url

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _start(self, stack: AsyncExitStack) -> None:
        """Storage first, what receives last: nothing is taken in before it can be answered."""
        self.laps = Laps(self._clock)
        self.store = await stack.enter_async_context(self._open_store(self.config.storage.path, self._clock))
        recovery = await self.store.recover(resuming=not self._private)
        self.laps.done("storage")
        self.keys = KeyRing(self.config.server.key_pairs(), required=not self.config.server.is_loopback)
        await self._load_keys()
        await self._start_people(stack)
        self._start_accounts()
        self.metrics = Metrics(lambda: self.inbox.seen, self.supervisors.values, self.store.last_sent)
        self.laps.done("accounts")
        chat = await self._start_chat(stack)
        self.laps.done("model")
        await self._start_answering(stack, chat)
        self._introduce(chat)
        await self._listen(stack)
        self.laps.done("server")
        self._start_receiving(stack)
        if not self._private:
            self.dispatcher.resume(recovery)

    async def _start_people(self, stack: AsyncExitStack) -> None:
        """What was decided about people, read from the store."""
        clock = self._clock
        self.links = Links(self.store, clock)
        self.admins = Admins(lambda: self.config.accounts)
        self.people = People(self.store, clock, is_admin=self.admins.is_admin)
        self.pairing = Pairing(self.store, self.people, clock)
        self.pairing.approved = (await stack.enter_async_context(Welcome(self._reply))).begin
        self.guard = LoopGuard(clock)
        for stored in (self.links, self.people, self.pairing):
            await stored.load()

    def _start_accounts(self) -> None:
        """The adapters, each under its supervisor; none is connected yet."""
        self.supervisors = {AccountId(name): self._supervisor(AccountId(name)) for name in self.config.accounts}
        self._adapters = {name: supervisor.adapter for name, supervisor in self.supervisors.items()}
        self.admins.look_at(self._adapters)

    async def _start_answering(self, stack: AsyncExitStack, chat: ChatClient) -> None:
        """From the inbox to the replies, built from the far end: each part knows those after it."""
        config, clock = self.config, self._clock
        self.sessions = SessionManager(self.store, translate.session_settings(config, self.context))
        settings = translate.limit_settings(config, self.models()[0], embedded=self.local is not None)
        self.limits = Limits(settings, own=self.people.budget, is_admin=self.admins.is_admin)
        self.rates = MessageRates(self.limits, clock)
        headroom = Headroom()
        self.paid = PaidCalls(self.store, self.limits, headroom, clock)
        stack.push_async_callback(self.paid.close)
        self.compactor = await stack.enter_async_context(
            Compactor(
                self.store,
                self.sessions,
                chat,
                self.paid,
                self.limits,
                clock,
                places=lambda: self.chatgpt.settings.concurrency,
            )
        )
        headroom.wanted = self.compactor.give_way
        delivery = Delivery(
            self.store,
            clock,
            ambiguous=lambda account: self._account(account).ambiguous,
            shared=self.links.shared,
            connected=self._is_connected,
        )
        responder = Responder(
            self.store,
            self.sessions,
            chat,
            delivery,
            clock,
            account=self._account,
            models=self.models,
            limits=self.limits,
            stale_after=lambda: self.config.sessions.stale_after,
            outgrown=self.compactor.want,
        )
        commands = chat_commands(self, clock, account=self._account, scope=self._scope)
        self.dispatcher = await stack.enter_async_context(
            Dispatcher(
                self.store,
                responder,
                commands,
                delivery,
                clock,
                translate.dispatch_settings(config),
                budgets=self.limits,
                headroom=headroom,
                reply=self._reply,
            )
        )
        self.inbox = await stack.enter_async_context(
            Inbox(
                self.store,
                self.dispatcher,
                self.rates,
                clock,
                translate.inbox_settings(config),
                limits=self.limits,
                people=self.people,
                pairing=self.pairing,
                guard=self.guard,
                links=self.links,
                account=self._account,
                reply=self._reply,
            )
        )

    def _start_receiving(self, stack: AsyncExitStack) -> None:
        """The accounts connect, and what goes on beside them begins."""
        stack.push_async_callback(self._stop_receiving)
        self._tasks = [asyncio.create_task(one.run(self.inbox.receive)) for one in self.supervisors.values()]
        maintenance = Maintenance(
            self.store, self._clock, retention=lambda: self.config.storage.retention, swept=self.sessions.clear
        )
        self._tasks.append(asyncio.create_task(maintenance.run()))
        if self._scanning is not None:
            self._tasks.append(asyncio.create_task(self._scanning.run(self.server.url)))

    def _supervisor(self, name: AccountId) -> Supervisor:
        account = self._account(name)
        adapter = self._find_spec(account.platform or name).create(name, account)
        if isinstance(adapter, HasFolder):
            adapter.use_folder(folder_of(name, self.config.storage.path))
        if isinstance(adapter, AsksLeave):
            adapter.ask_leave(lambda message: self.inbox.may(message))  # noqa: PLW0108 - there is no inbox yet
        return Supervisor(
            name,
            adapter,
            self._clock,
            Backfill(name, self.store, self._clock, furthest=partial(self._furthest, name)),
            connected=lambda: self.dispatcher.send_held(name),
        )

    def _is_connected(self, name: AccountId) -> bool:
        supervisor = self.supervisors.get(name)
        return supervisor is not None and supervisor.health.state is AccountState.CONNECTED

    def _furthest(self, name: AccountId) -> timedelta | None:
        """How far back to look for what an account missed: never for what would be too old to be answered."""
        configured = self._account(name).backfill
        return None if configured is None else min(configured, self.inbox.settings.oldest)

    async def _start_chat(self, stack: AsyncExitStack) -> ChatClient:
        """The client of the configured server, or of the embedded model in a process of its own."""
        chat = self.config.chat
        self.local: LocalModel | None = None
        self.chatgpt = await stack.enter_async_context(
            ChatGPTClient(
                translate.chat_settings(chat, salt=self.store.instance), clock=self._clock, observe=self.metrics.called
            )
        )
        if not chat.embedded:
            return self.chatgpt
        from gateway.embedded import EmbeddedChat
        from gateway.local_model import LocalModel

        self.local = await stack.enter_async_context(LocalModel(chat.local, clock=self._clock))
        log.warning(
            "answers come from the small embedded model; set OPENAI_API_KEY or chat.base_url for a better one",
            model=self.local.model,
        )
        return EmbeddedChat(self.chatgpt, self.local)

    def _introduce(self, chat: ChatClient) -> None:
        host = Host(
            journal=self.store,
            archive=self.store,
            chat=chat,
            clock=self._clock,
            keys=self.keys,
            rates=self.rates,
            limits=self.limits,
            paid=self.paid,
            models=self.models,
            notice=self.notice,
            wake=self.dispatcher.take_up,
            stop=self.dispatcher.stop,
            longest_input=lambda: self.inbox.settings.max_input_chars,
            secure_cookies=(self.config.server.public_url or "").startswith("https:"),
        )
        for adapter in self._adapters.values():
            if isinstance(adapter, Hosted):
                adapter.host(host)

    async def _listen(self, stack: AsyncExitStack) -> None:
        self._scanning = scanning_of(self._adapters, self.config.server, self.keys, self._clock, terminal=sys.stderr)
        routes = [*routes_of(self._adapters), *(self._scanning.routes() if self._scanning else ())]
        self.server = HttpServer(self.config.server, routes, self.keys, ready=self.readiness, metrics=self._metrics)
        stack.push_async_callback(self.server.close)
        await self.server.start()
        control = control_of(
            self.store,
            self._clock,
            self.people,
            self.pairing,
            self.links,
            lambda: self.config,
            wake=self.dispatcher.take_up,
            supersede=self.dispatcher.supersede,
            forget=self.sessions.drop,
            keys_changed=self._load_keys,
            url=self.server.url,
        )
        socket = ControlSocket(control, self.config.storage.path)
        stack.push_async_callback(socket.close)
        await socket.start()

    async def _stop_receiving(self) -> None:
        """Refuse what is new, finish what runs, send what is written; then leave the adapters."""
        self.inbox.close()
        await self.server.stop_listening()
        log.info("stopping", busy=self.dispatcher.workers)
        if not await self.dispatcher.drain(turns=DRAIN_TURNS, outbox=DRAIN_OUTBOX):
            log.warning("not everything could be finished; the rest is taken up at the next start")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def models(self) -> Sequence[str]:
        """The models a person may choose, the configured one first."""
        if self.local is not None:
            return (self.local.model,)
        chat = self.config.chat
        return tuple(dict.fromkeys((chat.model, *chat.fallback_models, *chat.models)))

    @property
    def context(self) -> int | None:
        """Tokens that the model takes, where that is known."""
        return self.local.context if self.local is not None else None

    def notice(self) -> str:
        """One line for the page."""
        return f"embedded:{self.local.model}" if self.local is not None else ""

    def apply(self, config: Config) -> None:
        """Let a changed configuration take effect, as far as that is possible while running."""
        self.config = config
        self.sessions.settings = translate.session_settings(config, self.context)
        self.inbox.settings = translate.inbox_settings(config)
        self.dispatcher.settings = translate.dispatch_settings(config)
        self.limits.settings = translate.limit_settings(config, self.models()[0], embedded=self.local is not None)
        if self.local is None:
            self.chatgpt.settings = translate.chat_settings(config.chat, salt=self.store.instance)

    async def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether every configured account hears, and how each is."""
        model = self.local.state.value if self.local is not None else "remote"
        return readiness(self.store, model, self.supervisors, self.inbox.seen)

    async def _metrics(self) -> bytes:
        with contextlib.suppress(StorageUnavailable):  # the rest is the more worth knowing then
            self.metrics.figures = await self.store.figures()
        return self.metrics.text(workers=self.dispatcher.workers)

    async def _load_keys(self) -> None:
        if not self._private:
            self.keys.load(await self.store.api_keys())

    def _account(self, account: AccountId) -> AccountConfig:
        return self.config.accounts[account]

    def _scope(self, account: AccountId) -> Scope:
        return self._account(account).scope or self.config.sessions.scope

    def _reply(self, account: AccountId, address: ReplyAddress) -> ReplyChannel:
        supervisor = self.supervisors.get(account)
        if supervisor is None:
            raise DeliveryError(f"account {account!r} is not configured any more; add it to accounts and retry")
        return supervisor.adapter.reply(address)
