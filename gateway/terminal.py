"""`chatgpt-ms chat`: a conversation in the terminal, through the HTTP API of a gateway."""

from __future__ import annotations

import asyncio
import getpass
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import click
from aiohttp import ClientError, ClientSession, ClientTimeout

from core.errors import GatewayError
from gateway import log as logging
from gateway.app import App
from gateway.config import Config
from gateway.control import running_gateway


class NoAnswer(GatewayError):
    """The gateway refused or broke off."""


async def talk(config: Config, *, user: str | None, key: str | None) -> int:
    """Read lines until the end of input; print the answers as they come."""
    user = user or f"terminal-{getpass.getuser()}"
    async with _gateway(config) as url:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with ClientSession(url, headers=headers, timeout=ClientTimeout(total=None, sock_connect=5)) as session:
            interactive = sys.stdin.isatty()
            if interactive:
                click.echo("Type a message; /help shows commands, Ctrl-C stops an answer, Ctrl-D ends.\n")
            while (line := await _read(interactive)) is not None:
                if line.strip():
                    await _turn(session, line, user)
    return 0


@asynccontextmanager
async def _gateway(config: Config) -> AsyncIterator[str]:
    """The running gateway of this configuration, or one that lives as long as the conversation."""
    async with running_gateway(config.storage.path) as running:
        if running is not None:
            host = config.server.host if config.server.is_loopback else "127.0.0.1"
            yield f"http://{f'[{host}]' if ':' in host else host}:{config.server.port}"
            return
    logging.configure(level="error")
    server = config.server.model_copy(update={"host": "127.0.0.1", "port": 0, "api_keys": ()})
    accounts = {name: account for name, account in config.accounts.items() if (account.platform or name) == "api"}
    async with App(config.model_copy(update={"server": server, "accounts": accounts})) as app:
        yield app.url


async def _read(interactive: bool) -> str | None:
    """A line, or None at the end of input."""
    if interactive:
        click.echo(click.style("you> ", fg="cyan"), nl=False)
    line = await asyncio.to_thread(sys.stdin.readline)
    return line.rstrip("\n") if line else None


async def _turn(session: ClientSession, text: str, user: str) -> None:
    """One question; Ctrl-C ends the answer, not the conversation."""
    loop, stopping = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    def on_interrupt() -> None:
        stopping.add(loop.create_task(_stop(session, user)))

    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    try:
        await _ask(session, text, user)
    except (NoAnswer, ClientError, TimeoutError) as error:
        click.echo(click.style(str(error) or "the gateway did not answer", fg="red"), err=True)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        await asyncio.gather(*stopping, return_exceptions=True)


async def _stop(session: ClientSession, user: str) -> None:
    async with session.post("/chat", json={"message": "/stop", "user": user}) as response:
        await response.read()


async def _ask(session: ClientSession, text: str, user: str) -> None:
    shown = ""
    async with session.post("/chat-stream", json={"message": text, "user": user}) as response:
        if response.status != 200:
            raise NoAnswer(_message(await response.text()))
        async for line in response.content:
            piece: dict[str, Any] = json.loads(line)
            if "error" in piece:
                raise NoAnswer(str(piece["error"]["message"]))
            if piece["response"] != "[DONE]":
                click.echo(piece["response"][len(shown) :], nl=False)
                shown = piece["response"]
    click.echo("\n")


def _message(body: str) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "the gateway did not answer"
