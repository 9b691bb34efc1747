"""One adapter on a simulated wire, without the gateway: with an inbox that remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from core.adapter import Adapter, Receipt, ReplyChannel
from core.messages import InboundMessage
from tests.contract.platform import SimulatedPlatform
from tests.contract.world import until

A = TypeVar("A", bound=Adapter)
R = TypeVar("R", bound=ReplyChannel)


class AdapterRunning(Generic[A, R]):
    """See the module's text."""

    def __init__(self, platform: SimulatedPlatform, adapter: A, reply: type[R]) -> None:
        """`reply` is the type of the adapter's ways back."""
        self.platform = platform
        self.adapter = adapter
        self.messages: list[InboundMessage] = []
        self.receipts: list[Receipt | Exception] = []
        """What the next messages get, instead of being accepted."""
        self._reply = reply

    async def take(self, message: InboundMessage) -> Receipt:
        """The inbox."""
        said = self.receipts.pop(0) if self.receipts else Receipt.ACCEPTED
        if isinstance(said, Exception):
            raise said
        if said is Receipt.ACCEPTED:
            self.messages.append(message)
        return said

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.messages]

    async def asked(self, text: str = "hello", **fields: Any) -> R:
        """Somebody writes; the way back."""
        number = len(self.messages)
        await self.platform.person_writes(text, **fields)
        await until(lambda: len(self.messages) > number)
        reply = self.adapter.reply(self.messages[-1].reply_to)
        assert isinstance(reply, self._reply)
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
