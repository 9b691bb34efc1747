"""The cable between an adapter and a simulated server: it can break, refuse, and carry nothing while it looks whole."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self


def listening_socket() -> socket.socket:
    """On a free port of loopback. Unlike with sockets that it makes itself, asyncio would let small answers wait."""
    made = socket.create_server(("127.0.0.1", 0))
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


@dataclass(eq=False)
class WechatLine:
    """One TCP connection through the cable."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    silent: bool = False
    """It takes everything and says nothing."""

    @property
    def port(self) -> int:
        """By which the server knows it."""
        return int(self.server.get_extra_info("sockname")[1])

    @property
    def whole(self) -> bool:
        return not self.client.transport.is_closing() and not self.server.transport.is_closing()

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class WechatCable:
    """Enter it to relay what comes to `endpoint` to the local port `target` (0: nobody is there)."""

    def __init__(self) -> None:
        self._socket = listening_socket()
        self.endpoint = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.target = 0
        self.refuse = 0
        """The next connections that break at once."""
        self.lines: list[WechatLine] = []
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, sock=self._socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Every connection breaks now."""
        for line in list(self.lines):
            line.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse or not self.target:
            self.refuse = max(0, self.refuse - 1)
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._relay(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # the end of the test: nothing more is to be told
        finally:
            self._tasks.discard(task)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answers, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        line = WechatLine(writer, upstream)
        self.lines.append(line)
        pumps = [
            asyncio.create_task(_pump(line, reader, upstream)),
            asyncio.create_task(_pump(line, answers, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            line.abort()
            self.lines.remove(line)


async def _pump(line: WechatLine, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(64 * 1024):
            if not line.silent:
                target.write(piece)
                await target.drain()
        target.write_eof() if target.can_write_eof() else target.close()
        await asyncio.sleep(0)
    except OSError:
        pass  # it broke; the other direction ends with it
