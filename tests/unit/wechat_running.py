"""One adapter for a puppet service, without the gateway, or calls without an adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from adapters.wechat import Config, WechatAdapter, WechatReply
from adapters.wechat.service import PuppetService
from core.clock import SystemClock
from core.messages import AccountId
from gateway.supervisor import Supervisor
from tests.contract.world import until
from tests.simulators.wechat import SimulatedWechat
from tests.unit.adapter_running import AdapterRunning


class Running(AdapterRunning[WechatAdapter, WechatReply]):
    """See the module's text."""

    def __init__(self, platform: SimulatedWechat, **changes: Any) -> None:
        adapter = WechatAdapter(AccountId("bot"), Config(**{**platform.account(), **changes}))
        super().__init__(platform, adapter, WechatReply)
        self.robot = platform.puppet()

    async def asked(self, text: str = "hello", **fields: Any) -> WechatReply:
        """A message that comes before anybody listens would be lost."""
        await until(self.adapter.last_heard)
        return await super().asked(text, **fields)

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[Supervisor]:
        """Kept connected."""
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
