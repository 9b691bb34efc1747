"""`chatgpt-ms chat`: a conversation in the terminal, through the HTTP API of a gateway."""

from __future__ import annotations

import asyncio
import codecs
import getpass
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

import click
from aiohttp import ClientError, ClientSession, ClientTimeout

from core.account import AccountConfig
from core.errors import GatewayError
from gateway import garbage, registry
from gateway import log as logging
from gateway.app import App
from gateway.config import Config
from gateway.control import ask, running_gateway

_INTERRUPTED = 130
_IDLE = 600.0
"""Seconds without a byte after which a gateway counts as gone; it has a time limit of its own for each answer."""

_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""What a model writes must not reach the terminal as a command."""


class NoAnswer(GatewayError):
    """The gateway refused or broke off."""


async def talk(config: Config, *, user: str | None, key: str | None) -> int:
    """Read lines until the end of input; print the answers as they come."""
    user = user or f"terminal-{getpass.getuser()}"
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = ClientTimeout(total=None, sock_connect=5, sock_read=_IDLE)
    async with (
        _gateway(config) as url,
        ClientSession(url, headers=headers, timeout=timeout, read_bufsize=4 * 1024 * 1024) as session,
        Lines(sys.stdin.fileno()) as lines,
    ):
        garbage.started()
        return await Conversation(session, lines, user, interactive=sys.stdin.isatty()).run()


@asynccontextmanager
async def _gateway(config: Config) -> AsyncIterator[str]:
    """The running gateway of this configuration, or one that lives as long as the conversation."""
    async with running_gateway(config.storage.path) as running:
        if running is not None:
            yield (await ask(running, "where", {}))["url"]
            return
    logging.configure(level="error")
    server = config.server.model_copy(update={"host": "127.0.0.1", "port": 0, "api_keys": ()})
    accounts: dict[str, AccountConfig] = {
        name: account for name, account in config.accounts.items() if (account.platform or name) == "api"
    }
    accounts = accounts or {"api": registry.spec("api").config()}
    async with App(config.model_copy(update={"server": server, "accounts": accounts}), private=True) as app:
        yield app.url


class Lines:
    """Lines of a file descriptor without a thread, which could not be interrupted. Entered once."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._ended = False
        self._news = asyncio.Event()
        self._watched = False

    async def __aenter__(self) -> Self:
        try:
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
            self._watched = True
        except PermissionError:  # a plain file, which is always readable
            while not self._ended:
                self._read()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    async def next(self) -> str | None:
        """The next line, or None at the end."""
        while "\n" not in self._text and not self._ended:
            self._news.clear()
            await self._news.wait()
        line, newline, rest = self._text.partition("\n")
        self._text = rest
        return line if newline or line else None

    def end(self) -> None:
        """Read nothing more."""
        self._ended = True
        self._news.set()
        if self._watched:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._watched = False

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # the terminal is gone
            data = b""
        self._text += self._decoder.decode(data, final=not data)
        if not data:
            self.end()
        self._news.set()


class Conversation:
    """Question after question. Ctrl-C ends an answer; a second one, or one at the prompt, the conversation."""

    def __init__(self, session: ClientSession, lines: Lines, user: str, *, interactive: bool) -> None:
        self._session = session
        self._lines = lines
        self._user = user
        self._interactive = interactive
        self._asking: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._code = 0

    async def run(self) -> int:
        """Until the end of input. Returns the exit code: 1 where a script's question was not answered."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        try:
            if self._interactive:
                click.echo("Type a message; /help shows commands, Ctrl-C stops an answer, Ctrl-D ends.\n")
            while self._code != _INTERRUPTED and (line := await self._read()) is not None:
                if line.strip():
                    await self._turn(line)
        finally:
            loop.remove_signal_handler(signal.SIGINT)
        return self._code

    async def _read(self) -> str | None:
        if self._interactive:
            click.echo(click.style("you> ", fg="cyan"), nl=False)
        return await self._lines.next()

    def _interrupt(self) -> None:
        if self._asking is not None and self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
            click.echo(click.style("\nstopping; Ctrl-C again to leave", dim=True), err=True)
            return
        self._code = _INTERRUPTED
        self._lines.end()
        for task in (self._asking, self._stopping):
            if task is not None:
                task.cancel()

    async def _turn(self, text: str) -> None:
        self._asking = asyncio.create_task(self._ask(text))
        try:
            await self._asking
        except asyncio.CancelledError:
            if self._code != _INTERRUPTED:
                raise
        except (NoAnswer, ClientError, TimeoutError, ValueError) as error:
            told = str(error) if isinstance(error, NoAnswer) else "the gateway did not answer"
            click.echo(click.style(told, fg="red"), err=True)
            if not self._interactive:
                self._code = 1
        finally:
            self._asking.cancel()
            self._asking = None
            if self._stopping is not None:
                await asyncio.gather(self._stopping, return_exceptions=True)
                self._stopping = None

    async def _stop(self) -> None:
        timeout = ClientTimeout(total=10)
        body = {"message": "/stop", "user": self._user}
        async with self._session.post("/chat", json=body, timeout=timeout) as response:
            await response.read()

    async def _ask(self, text: str) -> None:
        shown = ""
        async with self._session.post("/chat-stream", json={"message": text, "user": self._user}) as response:
            if response.status == 401:
                raise NoAnswer("this gateway asks for a key: give it with --key or CHATGPT_MS_KEY")
            if response.status != 200:
                raise NoAnswer(_message(await response.text()))
            async for line in response.content:
                piece: dict[str, Any] = json.loads(line)
                if "error" in piece:
                    raise NoAnswer(str(piece["error"]["message"]))
                if piece["response"] != "[DONE]":
                    click.echo(piece["response"][len(shown) :].translate(_CONTROLS), nl=False)
                    shown = piece["response"]
        click.echo("\n")


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "the gateway did not answer"
