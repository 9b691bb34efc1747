"""The adapter `wechat` against the Wechaty project's own server with its mock puppet: `python -m bench.wechaty FOLDER`.

FOLDER gets the server and its packages from npm, which needs Node.js and the network; see README.md. Each line of the
output is one thing that was tried, with the seconds that it took. It ends with status 1 at the first that fails.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
from grpclib.client import Channel
from wechaty_grpc.wechaty import PuppetStub

from adapters.wechat import Config, WechatAdapter, WechatReply
from core.adapter import IdempotencyKey, LoginStep, OutboundFile, Receipt
from core.clock import SystemClock
from core.errors import FileTooLarge
from core.messages import AccountId, InboundMessage
from gateway import supervisor
from gateway.supervisor import AccountState, Supervisor
from tests.simulators.wechat_cable import WechatCable

HERE = Path(__file__).parent
PATIENCE = 60.0
"""Seconds until something counts as not happening."""


class Server:
    """The server's process, and the cable to it."""

    def __init__(self, folder: Path, *, tls: bool) -> None:
        self.folder = folder
        self.tls = tls
        self.token = f"insecure_{secrets.token_hex(8)}"
        self.cable = WechatCable()
        self.seen: list[dict[str, Any]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._process = await asyncio.create_subprocess_exec(
            *("node", "server.mjs", str(port), self.token, *(["tls"] if self.tls else [])),
            cwd=self.folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self.seen.clear()
        self._reader = asyncio.create_task(self._read(self._process))
        await until(lambda: self.told("ready"))
        self.cable.target = port

    async def kill(self) -> None:
        assert self._process is not None
        assert self._reader is not None
        self.cable.target = 0
        self._process.kill()
        await self._process.wait()
        await self._reader

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            with suppress(ValueError):  # a package of the server says something
                self.seen.append(json.loads(line))

    def do(self, command: str, **more: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **more}).encode() + b"\n")

    def told(self, what: str) -> list[dict[str, Any]]:
        return [line for line in self.seen if line["seen"] == what]

    def sent(self) -> list[str]:
        return [line["text"] or f"[{line['file']}]" for line in self.told("sent")]


class Client:
    """The adapter under its supervisor; what people write is answered with `echo: …`."""

    def __init__(self, server: Server) -> None:
        config = Config(
            endpoint=server.cable.endpoint, token=server.token, tls=server.tls, pace=0, access={"channels": "mention"}
        )
        self.adapter = WechatAdapter(AccountId("wechat"), config)
        self.supervisor = Supervisor(AccountId("wechat"), self.adapter, SystemClock())
        self.messages: list[InboundMessage] = []
        self._echoes: set[asyncio.Task[Any]] = set()

    async def take(self, message: InboundMessage) -> Receipt:
        if message.is_direct or message.mentions_bot:
            self.messages.append(message)
            if message.text:
                echo = asyncio.create_task(
                    self.reply(message).send(f"echo: {message.text}", key=IdempotencyKey(secrets.token_hex(8)))
                )
                self._echoes.add(echo)
        return Receipt.ACCEPTED

    def reply(self, message: InboundMessage) -> WechatReply:
        reply = self.adapter.reply(message.reply_to)
        assert isinstance(reply, WechatReply)
        return reply

    @property
    def connected(self) -> bool:
        return self.supervisor.health.state is AccountState.CONNECTED

    def step(self) -> LoginStep | None:
        code = self.adapter.login_code()
        return code.step if code is not None else None


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait for it. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def tried(what: str) -> AsyncIterator[None]:
    """One line of the output."""
    began = time.perf_counter()
    try:
        yield
    except BaseException:
        print(f"FAILED  {what}")
        raise
    print(f"{time.perf_counter() - began:6.2f} s  {what}", flush=True)


async def logs_in(server: Server, client: Client) -> None:
    async with tried("a code is shown, scanned, and gone after the login"):
        server.do("scan", qrcode="https://login.weixin.qq.com/l/one", status=2)
        await until(lambda: client.step() is LoginStep.SCAN)
        server.do("scan", qrcode="https://login.weixin.qq.com/l/one", status=3)
        await until(lambda: client.step() is LoginStep.CONFIRM)
        server.do("login")
        await until(lambda: client.step() is None and client.connected)


async def talks(server: Server, text: str) -> None:
    server.do("say", who="ann", to="robot", text=text)
    await until(lambda: f"echo: {text}" in server.sent())


async def messages(server: Server) -> None:
    async with tried("a direct message is answered"):
        await talks(server, "hello")
    async with tried("in a room: a mention by id and one by name are answered, with the name; other talk is not"):
        for text, mention in (("by id", True), ("@Robot\u2005by name", False), ("not for you", False)):
            server.do("say", who="ann", to="room", text=text, mention=mention)
        await until(lambda: {"@Ann echo: by id", "@Ann echo: by name"} <= set(server.sent()))
    async with tried("an official account is not answered, nor is the bot itself"):
        server.do("say", who="news", to="robot", text="news of the day")
        await talks(server, "after the news")
        assert not [text for text in server.sent() if "not for you" in text or "news of" in text]
    async with tried("another topic of the room does no harm"):
        server.do("topic", text="Something else")
        await talks(server, "after the topic")


async def files(server: Server, client: Client) -> None:
    for name, size in (("small.jpg", 10_000), ("large.mp4", 5_000_000)):
        async with tried(f"a file of {size:,} bytes is fetched"):
            before = len(client.messages)
            server.do("file", name=name, bytes=size)
            await until(lambda before=before: len(client.messages) > before)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            content = await client.adapter.fetch(client.messages[-1].attachments[0], most_bytes=size)
            assert content == b"x" * size
    async with tried("a fetch that is broken off for its size leaves the server well"):
        with suppress(FileTooLarge):
            await client.adapter.fetch(client.messages[-1].attachments[0], most_bytes=1_000_000)
            raise AssertionError("a file was fetched that is too large")
        await talks(server, "after the large file")
    for name, size in (("a.txt", 10_000), ("a.png", 3_000_000)):
        async with tried(f"a file of {size:,} bytes is sent"):
            file = OutboundFile(name=name, media_type="application/octet-stream", content=b"y" * size)
            await client.reply(client.messages[0]).attach(file, key=IdempotencyKey(f"file-{size}"))
            await until(lambda name=name: f"[{name}]" in server.sent())  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            assert server.told("sent")[-1]["bytes"] == size


async def faults(server: Server, client: Client) -> None:
    async def recovers(what: str, text: str) -> None:
        async with tried(f"{what}: heard again"):
            await until(lambda: client.connected)
            await talks(server, text)

    server.cable.cut()
    await until(lambda: not client.connected)
    await recovers("the connection is cut", "after the cut")
    server.cable.refuse = 3
    server.cable.cut()
    await until(lambda: not client.connected)
    await recovers("and refused three times", "after the refusals")
    async with tried("a half-open connection is noticed"):
        for line in server.cable.lines:
            line.silent = True
        await until(lambda: not client.connected)
    await recovers("a half-open connection", "after the silence")
    await server.kill()
    await until(lambda: not client.connected)
    await server.start()
    server.do("login")
    await recovers("the server is killed and started again", "after the restart")
    host, _, port = server.cable.endpoint.partition(":")
    if not server.tls:
        other = Channel(host, int(port))
        await PuppetStub(other, metadata={"authorization": f"Wechaty {server.token}"}).stop()
        other.close()
        await until(lambda: server.told("the puppet was stopped") and not client.connected)
        await until(lambda: server.told("the puppet was started"))
        server.do("login")
        await recovers("somebody else stops the puppet, and it is started again", "after the stop")
        server.seen.clear()
    async with tried("a logout, and a new code"):
        server.do("logout")
        await until(lambda: client.adapter.last_heard() is None)
        server.do("scan", qrcode="https://login.weixin.qq.com/l/two", status=2)
        await until(lambda: client.step() is LoginStep.SCAN)
        server.do("login")
        await until(lambda: client.connected)
        await talks(server, "after the login")


async def check(folder: Path, *, tls: bool) -> None:
    print("\nover TLS" if tls else "\nplain")
    server = Server(folder, tls=tls)
    async with server.cable:
        await server.start()
        client = Client(server)
        try:
            await lives(server, client)
            await outlives(server, client)
        finally:
            await server.kill()


async def lives(server: Server, client: Client) -> None:
    life = asyncio.create_task(client.supervisor.run(client.take))
    try:
        await logs_in(server, client)
        await messages(server)
        await files(server, client)
        await faults(server, client)
    finally:
        async with tried("the end, within 2 s"):
            life.cancel()
            _, alive = await asyncio.wait({life}, timeout=2)
            assert not alive


async def outlives(server: Server, client: Client) -> None:
    async with tried("and the puppet runs on"):
        await asyncio.sleep(1)
        assert not server.told("the puppet was stopped"), "the end of the program stopped the WeChat client"
    async with tried("another token fails the account for good"):
        server.token = "insecure_another"
        await server.kill()
        await server.start()
        await client.supervisor.run(client.take)
        assert client.supervisor.health.state is AccountState.FAILED
        assert "insecure" not in client.supervisor.health.reason


async def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1:
        sys.exit(__doc__)
    supervisor.FIRST_PAUSE, supervisor.LONGEST_PAUSE = 0.2, 1.0  # faults come closer than in life
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "server.mjs"):
        shutil.copy(HERE / name, folder / name)
    if not (folder / "node_modules").exists():
        npm = await asyncio.create_subprocess_exec("npm", "install", "--no-audit", "--no-fund", cwd=folder)
        assert await npm.wait() == 0
    for tls in (False, True):
        await check(folder, tls=tls)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
