"""A bad network between a gateway and any server on loopback: TCP, and HTTP/1.1 where it is spoken.

A request of HTTP goes through alone on its connection (the proxy asks both sides to close it), so that each can meet a
fault of its own. What lasts (a WebSocket, a long poll, or anything that is not HTTP/1.1) is a link, which can be cut, held
up, or refused. What kinds of faults there are: tests/simulators/wire_faults.py.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tests.simulators.wire_faults import Fault, befallen

_CHUNK = 64 * 1024
_RST = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST."""
_REQUEST = re.compile(rb"[A-Z]+ /[^ ]* HTTP/1\.[01]\r\n")


@dataclass(eq=False)
class Wire:
    """One connection through the proxy."""

    reader: asyncio.StreamReader
    """From the client."""
    writer: asyncio.StreamWriter
    """To the client."""
    server: asyncio.StreamWriter | None = None
    lasts: bool = False
    """It is a link."""
    flows: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self) -> None:
        """RST to both."""
        for writer in (self.writer, self.server):
            if writer is not None:
                _reset(writer)


@dataclass(frozen=True, slots=True)
class _Opening:
    """What a client says first."""

    data: bytes
    is_request: bool
    """Of HTTP/1.1, and not the beginning of a WebSocket."""


class FaultProxy:
    """Enter it to listen; `url` stands for `target`'s. Whatever `faults` says holds for what comes from now on."""

    def __init__(self, target: str, *, polls: str = "", seed: int = 1) -> None:
        """`target` is an http URL, or host:port. Requests whose first line matches the regular expression `polls` are
        links too."""
        scheme, _, rest = target.rpartition("://")
        address, slash, path = rest.partition("/")
        host, _, port = address.rpartition(":")
        self._target = host, int(port)
        self._form = f"{scheme}://{{}}{slash}{path}" if scheme else "{}"
        self.faults: Sequence[Fault] = ()
        self.hits = Counter[str]()
        """Faults that really hit, by name; `cut link`, `held` and `refused` for what the switches did to links."""
        self.requests = 0
        """Of HTTP."""
        self.tried: list[float] = []
        """When links were opened, in seconds of time.monotonic(); not those that found nobody listening."""
        self._polls = re.compile(polls.encode()) if polls else None
        self._dice = random.Random(seed)
        self._address: tuple[str, int] = ("127.0.0.1", 0)
        self._keeper: socket.socket | None = None
        self._listener: asyncio.Server | None = None
        self._wires: set[Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        # Bound, never listening: while nobody listens, connections are refused and nobody else gets the port.
        self._keeper = _bound(self._address)
        self._address = self._keeper.getsockname()
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._keeper is not None
        self._keeper.close()

    @property
    def host(self) -> str:
        """host:port."""
        return f"{self._address[0]}:{self._address[1]}"

    @property
    def url(self) -> str:
        """The target's, through the proxy."""
        return self._form.format(self.host)

    # Switches

    async def refuse(self) -> None:
        """Nobody listens from now on; what is open stays."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
            await asyncio.sleep(0)  # closed in the loop's next round

    async def accept(self) -> None:
        """Listen (again)."""
        if self._listener is None:
            self._listener = await asyncio.start_server(self._met, sock=_bound(self._address), backlog=1024)

    def cut(self) -> int:
        """Every link breaks now; how many there were."""
        links = self._links()
        for wire in links:
            wire.reset()
        self.hits["cut link"] += len(links)
        return len(links)

    def hold(self) -> int:
        """The links that are open look whole and carry nothing, until `release`; how many there were."""
        links = self._links()
        for wire in links:
            wire.flows.clear()
        self.hits["held"] += len(links)
        return len(links)

    def release(self) -> None:
        """What was held up arrives."""
        for wire in self._wires:
            wire.flows.set()

    @property
    def links(self) -> int:
        """Those that are open."""
        return len(self._links())

    def _links(self) -> list[Wire]:
        return [wire for wire in self._wires if wire.lasts]

    # Connections

    def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(Wire(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, wire: Wire) -> None:
        wire.flows.set()
        self._wires.add(wire)
        try:
            opening = await _opening(wire.reader)
            if opening.data and self._lasts(opening):
                wire.lasts = True
                self.tried.append(time.monotonic())
            self.requests += opening.is_request
            fault = befallen(self.faults, opening.data, self._dice) if opening.data else None
            await self._carry(wire, opening, fault)
        except OSError:
            wire.reset()  # one side broke; so does the other
        except asyncio.CancelledError:
            wire.reset()  # the end of the test
            raise
        finally:
            self._wires.discard(wire)
            for writer in (wire.writer, wire.server):
                if writer is not None:
                    writer.close()

    def _lasts(self, opening: _Opening) -> bool:
        if not opening.is_request:
            return True
        return self._polls is not None and self._polls.search(opening.data.partition(b"\r\n")[0]) is not None

    async def _carry(self, wire: Wire, opening: _Opening, fault: Fault | None) -> None:
        if fault is None:
            await self._relay(wire, opening.data)
            return
        if fault.carried_out and opening.is_request:
            await self._whole_answer(wire, opening.data)
        match fault.kind:
            case "latency":
                self.hits[fault.name] += 1
                await asyncio.sleep(fault.seconds)
                await self._relay(wire, opening.data)
            case "stall" if not fault.after:
                self.hits[fault.name] += 1
                while await wire.reader.read(_CHUNK):
                    pass
            case "answer":
                self.hits[fault.name] += 1
                wire.writer.write(fault.answer)
                await wire.writer.drain()
            case "reset" if not fault.after:
                self.hits[fault.name] += 1
                wire.reset()
            case _:
                await self._relay(wire, opening.data, fault)

    async def _connect(self, wire: Wire, data: bytes) -> asyncio.StreamReader:
        answers, wire.server = await asyncio.open_connection(*self._target)
        wire.server.write(data)
        return answers

    async def _whole_answer(self, wire: Wire, data: bytes) -> bytes:
        answers = await self._connect(wire, data)
        return await answers.read(-1)

    async def _relay(self, wire: Wire, data: bytes, fault: Fault | None = None) -> None:
        answers = await self._connect(wire, data)
        assert wire.server is not None
        pumps = {
            asyncio.create_task(_pump(wire, wire.reader, wire.server)),
            asyncio.create_task(self._answer(wire, answers, fault)),
        }
        try:
            ended, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        for pump in ended:
            pump.result()

    async def _answer(self, wire: Wire, answers: asyncio.StreamReader, fault: Fault | None) -> None:
        if fault is None:
            await _pump(wire, answers, wire.writer)
        elif fault.kind == "drip":
            self.hits[fault.name] += 1
            while piece := await answers.read(fault.after):
                wire.writer.write(piece)
                await wire.writer.drain()
                await asyncio.sleep(fault.seconds)
        else:
            left = fault.after
            while left and (piece := await answers.read(min(left, _CHUNK))):
                left -= len(piece)
                wire.writer.write(piece)
                await wire.writer.drain()
            if await answers.read(1):  # else it was shorter than that, and is whole
                self.hits[fault.name] += 1
                if fault.kind == "reset":
                    await asyncio.sleep(0.01)  # it would overtake what was sent before it
                    wire.reset()
                elif fault.kind == "stall":
                    await asyncio.Event().wait()  # until the client leaves


async def _opening(reader: asyncio.StreamReader) -> _Opening:
    """The first bytes; of an HTTP/1.1 request the whole, unless its length is not told before."""
    data = await reader.read(_CHUNK)
    if _REQUEST.match(data) is None:
        return _Opening(data, is_request=False)
    while b"\r\n\r\n" not in data:
        if not (more := await reader.read(_CHUNK)):
            return _Opening(b"", is_request=False)
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    headers = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    if any(line.lower().startswith(b"upgrade:") for line in headers):
        return _Opening(data, is_request=False)
    lengths = [int(line[15:]) for line in headers if line.lower().startswith(b"content-length:")]
    while lengths and len(body) < lengths[0] and (more := await reader.read(_CHUNK)):
        body += more
    return _Opening(b"\r\n".join([*headers, b"Connection: close", b"", b""]) + body, is_request=True)


async def _pump(wire: Wire, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while piece := await source.read(_CHUNK):
        await wire.flows.wait()
        target.write(piece)
        await target.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    found = writer.get_extra_info("socket")
    if found is not None and not writer.transport.is_closing():
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        writer.transport.abort()


def _bound(address: tuple[str, int]) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setblocking(False)
    made.bind(address)
    return made
