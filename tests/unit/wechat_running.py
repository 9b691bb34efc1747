"""One adapter for a puppet service on the simulated wire, with an inbox that remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from adapters.wechat import Config, WechatAdapter, WechatReply
from adapters.wechat.service import PuppetService
from core.adapter import Receipt
from core.clock import SystemClock
from core.messages import AccountId, InboundMessage
from gateway.supervisor import Supervisor
from tests.contract.world import until
from tests.simulators.wechat import SimulatedWechat


class Running:
    """See the module's text."""

    def __init__(self, platform: SimulatedWechat, **changes: Any) -> None:
        self.platform = platform
        self.robot = platform.puppet()
        self.adapter = WechatAdapter(AccountId("bot"), Config(**{**platform.account(), **changes}))
        self.messages: list[InboundMessage] = []
        self.receipts: list[Receipt | Exception] = []
        """What the next messages get, instead of being accepted."""

    async def take(self, message: InboundMessage) -> Receipt:
        said = self.receipts.pop(0) if self.receipts else Receipt.ACCEPTED
        if isinstance(said, Exception):
            raise said
        if said is Receipt.ACCEPTED:
            self.messages.append(message)
        return said

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.messages]

    async def asked(self, text: str = "hello", **fields: Any) -> WechatReply:
        """Somebody writes; the way back."""
        await until(self.adapter.last_heard)
        number = len(self.messages)
        await self.platform.person_writes(text, **fields)
        await until(lambda: len(self.messages) > number)
        reply = self.adapter.reply(self.messages[-1].reply_to)
        assert isinstance(reply, WechatReply)
        return reply

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """Entered, and receiving; leaving takes less than the supervisor grants."""
        async with self.adapter:
            task = asyncio.create_task(self.adapter.run(self.take))
            try:
                yield task
            finally:
                task.cancel()
                _, alive = await asyncio.wait({task}, timeout=2.0)
                assert not alive

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[Supervisor]:
        """The same, kept connected."""
        supervisor = Supervisor(AccountId("bot"), self.adapter, SystemClock())
        life = asyncio.create_task(supervisor.run(self.take))
        try:
            yield supervisor
        finally:
            life.cancel()
            _, alive = await asyncio.wait({life}, timeout=2.0)
            assert not alive


@asynccontextmanager
async def service(platform: SimulatedWechat) -> AsyncIterator[PuppetService]:
    """Calls without an adapter."""
    service = PuppetService(Config(**platform.account()), heard=lambda: None)
    try:
        yield service
    finally:
        await service.close()
