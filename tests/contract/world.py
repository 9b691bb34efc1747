"""A simulated platform, a simulated model and the real gateway between them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from structlog.testing import capture_logs

from core.adapter import Adapter, AnyAdapterSpec, Receipt, ReplyChannel
from core.clock import Clock, SystemClock
from core.errors import StorageUnavailable
from core.journal import Accepted, Quota
from core.markdown.parse import parse
from core.markdown.visible import is_visible, visible
from core.messages import AccountId, ConversationKey, InboundMessage
from core.storage.sqlite import SqliteStore
from gateway import registry
from gateway.app import App
from gateway.config import load
from gateway.supervisor import AccountHealth, AccountState
from tests.contract.platform import Delivery, SimulatedPlatform, Visible
from tests.simulators.openai_server import OpenAIServer

PATIENCE = 30.0
"""Seconds until something that must happen counts as not happening. Nothing waits so long when all is well."""

A_WHILE = 0.3
"""Seconds for which something that must not happen is watched."""


async def until(condition: Callable[[], object], *, seconds: float | None = None) -> None:
    """Wait for what others bring about."""
    try:
        async with asyncio.timeout(PATIENCE if seconds is None else seconds):
            while not condition():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError("what was waited for did not happen") from None


async def holds(condition: Callable[[], object]) -> None:
    """Something stays as it is for a while in which the opposite would happen."""
    loop = asyncio.get_running_loop()
    end = loop.time() + A_WHILE
    while loop.time() < end:
        assert condition(), "what must not happen happened"
        await asyncio.sleep(0.005)


def whole(answer: str) -> str:
    """The visible characters of an answer of the model."""
    return visible(parse(answer))


def missing(answer: str, shown: Sequence[str]) -> str:
    """The end of `answer` that cannot be read, in order, in what is shown; empty when all can."""
    wanted = whole(answer)
    position = 0
    for character in "".join(shown):
        if position < len(wanted) and character == wanted[position]:
            position += 1
    return wanted[position:]


class LaterClock(SystemClock):
    """The machine's clocks, some time later: hours pass at once."""

    def __init__(self) -> None:
        self.passed = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.passed


class HeldStore(SqliteStore):
    """The real store, whose commits can be held up or fail."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        super().__init__(path, clock=clock)
        self.gate: asyncio.Event | None = None
        """While it is there and not set, nothing is accepted."""
        self.failing = False
        self.asked = 0
        self.accepted: list[InboundMessage] = []

    async def accept(
        self,
        message: InboundMessage,
        conversation: ConversationKey,
        quota: Quota,
        **options: Any,
    ) -> Accepted:
        self.asked += 1
        if self.failing:
            raise StorageUnavailable("storage: the test says that the disk is full")
        if self.gate is not None:
            await self.gate.wait()
        accepted = await super().accept(message, conversation, quota, **options)
        if accepted.receipt is Receipt.ACCEPTED:
            self.accepted.append(message)
        return accepted


@dataclass
class Gateway:
    """The program while it runs."""

    app: App
    store: HeldStore
    logs: list[Any]

    def adapter(self, name: str = "bot") -> Adapter:
        """The adapter of an account."""
        return self.app.supervisors[AccountId(name)].adapter

    def reply(self, message: InboundMessage) -> ReplyChannel:
        """The way back to a message."""
        return self.adapter(message.account).reply(message.reply_to)

    def health(self, name: str = "bot") -> AccountHealth:
        """How an account is."""
        return self.app.supervisors[AccountId(name)].health

    def state(self, name: str = "bot") -> AccountState:
        """Asked anew each time."""
        return self.health(name).state

    @property
    def idle(self) -> bool:
        """Nobody is being answered."""
        return not self.app.dispatcher.workers and not self.app.dispatcher._errands


@dataclass
class World:
    """What a check of the suite plays in."""

    platform: SimulatedPlatform
    model: OpenAIServer
    folder: Path
    changes: dict[str, Any] = field(default_factory=dict)
    """Keys that every account of the next gateway gets."""
    single: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further ones, by account."""
    others: dict[str, Any] = field(default_factory=dict)
    """Accounts of other platforms: the HTTP API and the web page are off by themselves."""
    limits: dict[str, Any] = field(default_factory=dict)
    """Those of the next gateway, which has none by itself."""
    clock: LaterClock = field(default_factory=LaterClock)
    """That of the gateway; adapters have the machine's."""

    def _find_spec(self, name: str) -> AnyAdapterSpec:
        return self.platform.spec if name == self.platform.spec.platform else registry.spec(name)

    @asynccontextmanager
    async def gateway(self, *names: str, listening: bool = True) -> AsyncIterator[Gateway]:
        """Start the program with these accounts (`bot` if none is named), on the same database as the one before.

        When it is left, nothing of it may stay behind: no task, thread or connection, and no adapter that had to be
        waited for.
        """
        names = names or ("bot",)
        written = {name: {"platform": self.platform.spec.platform, **self.platform.account(name)} for name in names}
        config = self.folder / "config.yaml"
        document = {
            "chat": {"base_url": self.model.url, "api_key": "sk-of-the-test", "model": "test-model"},
            "storage": {"url": f"sqlite:{self.folder / 'data' / 'test.db'}"},
            "server": {"port": 0},
            "limits": {
                "messages_per_minute": None,
                "same_text_per_minute": None,
                "channel_messages_per_minute": None,
                "messages_per_day": None,
                "tokens_per_day": None,
                "queued": 1000,
                **self.limits,
            },
            "accounts": {
                "api": "off",
                "web": "off",
                **self.others,
                **{name: {**block, **self.changes, **self.single.get(name, {})} for name, block in written.items()},
            },
        }
        config.write_text(json.dumps(document), encoding="utf-8")
        stores: list[HeldStore] = []

        def open_store(path: Path, clock: Clock) -> HeldStore:
            stores.append(HeldStore(path, clock=clock))
            return stores[-1]

        tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
        with capture_logs() as logs:
            loaded = load(config, {}, find_spec=self._find_spec)
            app = App(loaded, clock=self.clock, open_store=open_store, find_spec=self._find_spec)
            async with app:
                self.platform.gateway_listens(app.url)
                if listening:
                    async with asyncio.timeout(PATIENCE):
                        for name in names:
                            await self.platform.listening(name)
                yield Gateway(app, stores[0], logs)
        await until(lambda: not {task for task in asyncio.all_tasks() - tasks if not task.done()}, seconds=5)
        await until(lambda: not _lasting(set(threading.enumerate()) - threads), seconds=5)
        assert [entry for entry in logs if "did not end" in entry["event"]] == []
        structlog.get_logger(__name__).debug("the gateway has stopped", logs=len(logs))

    def replies(self, delivery: Delivery) -> list[Visible]:
        """What is to be read where something was written."""
        return list(self.platform.visible(delivery.room))

    def texts(self, delivery: Delivery) -> list[str]:
        """The same, texts alone."""
        return [message.text for message in self.replies(delivery)]

    def told(self, delivery: Delivery, answer: str) -> bool:
        """Whether all of `answer` can be read there, and nothing is still growing."""
        replies = self.replies(delivery)
        return not missing(answer, self.texts(delivery)) and not any(reply.growing for reply in replies)

    async def answered(self, gateway: Gateway, delivery: Delivery, answer: str) -> None:
        """Wait for the whole answer and for the gateway to come to rest; it is there once."""
        await until(lambda: self.told(delivery, answer))
        await until(lambda: gateway.idle)
        assert once(answer, self.texts(delivery)), self.texts(delivery)

    async def fence(self, gateway: Gateway, *, account: str = "bot") -> None:
        """Somebody else writes after all that, and is answered: what was delivered before has been looked at."""
        number = len(self.model.requests)
        asked = await self.platform.person_writes(f"fence {number}", user="zoe", account=account)
        await self.answered(gateway, asked, f"answer to: fence {number}")


def once(answer: str, shown: Sequence[str]) -> bool:
    """Whether the visible characters of `answer` stand in `shown` exactly once."""
    ink = "".join(filter(is_visible, "".join(shown)))
    return ink.count(whole(answer)) == 1


def _lasting(threads: set[threading.Thread]) -> set[threading.Thread]:
    """Threads that should be gone; those of the loop's own pool stay until the loop is closed."""
    return {thread for thread in threads if not thread.name.startswith("asyncio_")}
