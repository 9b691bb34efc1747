"""What the command line does with the store, beside a running server or without one.

A running gateway owns the database, so commands reach it over a Unix socket in the folder of the database (which only
its owner may enter). Without a running gateway a command opens the database itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector, web

from core.archive import Archive
from core.clock import Clock
from core.errors import GatewayError, StorageError
from core.journal import InboxId, InboxRow, Journal, PartId
from core.keys import SCOPES, digest, new_key
from core.messages import AccountId, ConversationKey
from gateway.faults import nearest

T = TypeVar("T")

log = structlog.get_logger(__name__)

_LONGEST_SOCKET_PATH = 100
"""Bytes; Linux takes 107, macOS 103."""

_TIMEOUT = 600.0
"""Seconds; a backup of a large store takes a while."""


class Refused(GatewayError):
    """A command asked for something that does not exist."""

    exit_code = 1


def of_account(account: str | None, found: Sequence[T], configured: Collection[str]) -> Sequence[T]:
    """What was found of one account, or of all. Raises Refused where there is no such account: neither in the
    configuration, nor in the store, which may know one that was taken out."""
    if account is not None and not found and account not in configured:
        raise Refused(f"there is no account {account!r} in the configuration{nearest(account, configured)}")
    return found


class Control:
    """The commands, by name. Arguments and results are JSON."""

    def __init__(
        self,
        journal: Journal,
        archive: Archive,
        clock: Clock,
        *,
        accounts: Callable[[], Collection[str]],
        wake: Callable[[ConversationKey], None] = lambda _: None,
        supersede: Callable[[ConversationKey, tuple[InboxRow, ...]], None] = lambda *_: None,
        forget: Callable[[ConversationKey], None] = lambda _: None,
        keys_changed: Callable[[], Awaitable[None]] | None = None,
        url: str = "",
        further: Mapping[str, Callable[..., Awaitable[Any]]] | None = None,
    ) -> None:
        """`accounts`: the names in the configuration. The other callables tell a running gateway what changed; `url` is
        where it serves HTTP; `further` are commands that stand elsewhere."""
        self._journal = journal
        self._archive = archive
        self._clock = clock
        self._accounts = accounts
        self._wake = wake
        self._supersede = supersede
        self._forget = forget
        self._keys_changed = keys_changed
        self._url = url
        self._commands: dict[str, Callable[..., Awaitable[Any]]] = {
            "sessions.list": self.sessions_list,
            "sessions.show": self.sessions_show,
            "sessions.clear": self.sessions_clear,
            "sessions.forget": self.sessions_forget,
            "keys.create": self.keys_create,
            "keys.list": self.keys_list,
            "keys.revoke": self.keys_revoke,
            "deadletters.list": self.deadletters_list,
            "deadletters.retry": self.deadletters_retry,
            "trace": self.trace,
            "backup": self.backup,
            "usage": self.usage,
            "where": self.where,
            **(further or {}),
        }

    async def call(self, command: str, arguments: dict[str, Any]) -> Any:
        """Carry out `command`. Raises Refused, ConfigError or StorageError with a text for the operator."""
        if command not in self._commands:
            raise Refused(f"this gateway does not know the command {command!r}; it may be of another version")
        return await self._commands[command](**arguments)

    async def sessions_list(self, account: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        found = await self._archive.sessions(account=_named(account), limit=limit)
        return [_plain(info) for info in of_account(account, found, self._accounts())]

    async def sessions_show(self, key: str, limit: int = 200) -> dict[str, Any]:
        conversation = await self._existing(key)
        turns = await self._archive.turns(conversation, limit=limit)
        waiting = await self._archive.waiting(conversation)
        return {
            "key": key,
            "turns": [_plain(turn) for turn in turns],
            "waiting": [{"received_at": row.received_at.isoformat(), "text": row.message.text} for row in waiting],
        }

    async def sessions_clear(self, key: str) -> dict[str, Any]:
        conversation = await self._existing(key)
        await self._renew(conversation)
        return {"cleared": key}

    async def sessions_forget(self, key: str) -> dict[str, Any]:
        conversation = await self._existing(key)
        await self._renew(conversation)
        return {"forgotten": key, "turns": await self._journal.forget(conversation)}

    async def keys_create(
        self, name: str, namespace: str | None = None, scopes: tuple[str, ...] = ("chat",)
    ) -> dict[str, Any]:
        key, secret = new_key(name, namespace=namespace, scopes=scopes or SCOPES[:1], clock=self._clock)
        await self._archive.add_api_key(key, digest(secret))
        await self._tell_keys_changed()
        return {**_plain(key), "secret": secret}

    async def keys_list(self) -> list[dict[str, Any]]:
        return [_plain(key) for key, _ in await self._archive.api_keys()]

    async def keys_revoke(self, id: str) -> dict[str, Any]:
        if not await self._archive.revoke_api_key(id):
            raise Refused(f"there is no valid key with the id {id!r}; `chatgpt-ms keys list` shows them")
        await self._tell_keys_changed()
        return {"revoked": id}

    async def deadletters_list(self, limit: int = 100) -> list[dict[str, Any]]:
        return [_plain(letter) for letter in await self._archive.dead_letters(limit=limit)]

    async def deadletters_retry(self, id: str) -> dict[str, Any]:
        kind, _, number = id.partition("-")
        conversation: ConversationKey | None = None
        if number.isdecimal() and kind == "in":
            if await self._journal.reopen(InboxId(int(number))):
                conversation = await self._archive.conversation_of(InboxId(int(number)))
        elif number.isdecimal() and kind == "out":
            conversation = await self._archive.retry_part(PartId(int(number)))
        if conversation is None:
            raise Refused(f"there is no dead letter {id!r}; `chatgpt-ms deadletters list` shows them")
        self._wake(conversation)
        return {"retried": id}

    async def trace(self, id: int) -> list[dict[str, Any]]:
        steps = await self._archive.trace(InboxId(id))
        if not steps:
            raise Refused(f"there is no message {id}; the log names their numbers, as `inbox`")
        return [_plain(step) for step in steps]

    async def usage(self, account: str | None = None, month: bool = False, limit: int = 100) -> list[dict[str, Any]]:
        found = await self._archive.used_by_person(account=_named(account), month=month, limit=limit)
        return [{**person._asdict(), **_plain(used)} for person, used in of_account(account, found, self._accounts())]

    async def backup(self, target: str) -> dict[str, Any]:
        size = await self._archive.backup(Path(target))
        return {"backup": target, "bytes": size}

    async def where(self) -> dict[str, Any]:
        return {"url": self._url}

    async def _tell_keys_changed(self) -> None:
        if self._keys_changed is not None:
            await self._keys_changed()

    async def _existing(self, key: str) -> ConversationKey:
        try:
            conversation = ConversationKey.parse(key)
        except ValueError as error:
            raise Refused(f"{error}; `chatgpt-ms sessions list` shows the keys") from None
        state = await self._journal.state(conversation)
        if state.last_active is None:
            raise Refused(f"there is no session {key!r}; `chatgpt-ms sessions list` shows the keys")
        return conversation

    async def _renew(self, conversation: ConversationKey) -> None:
        dropped = await self._journal.renew(conversation, before=None)
        self._forget(conversation)
        self._supersede(conversation, dropped)


class ControlSocket:
    """Serves a Control on a Unix socket, and tells where in a file beside the database."""

    def __init__(self, control: Control, database: Path) -> None:
        self._control = control
        self._note = _note(database)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. The socket is only for the user who runs the gateway."""
        path = self._note.with_suffix(".sock")
        if len(bytes(path.absolute())) > _LONGEST_SOCKET_PATH:
            self._folder = tempfile.TemporaryDirectory(prefix="chatgpt-ms-")  # 0700
            path = Path(self._folder.name) / "control.sock"
        path.unlink(missing_ok=True)
        app = web.Application()
        app.router.add_post("/{command}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(path.absolute())).start()
        path.chmod(0o600)
        self._write_note(str(path.absolute()))

    def _write_note(self, path: str) -> None:
        """The note appears whole, and for its owner alone."""
        fresh = self._note.with_name(self._note.name + ".new")
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(path)
        fresh.replace(self._note)

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._runner is None:
            return
        self._note.unlink(missing_ok=True)
        await self._runner.cleanup()
        self._note.with_suffix(".sock").unlink(missing_ok=True)
        if self._folder is not None:
            self._folder.cleanup()
        self._runner = None

    async def _serve(self, request: web.Request) -> web.Response:
        try:
            result = await self._control.call(request.match_info["command"], await request.json())
        except GatewayError as error:
            return web.json_response({"error": str(error), "exit_code": error.exit_code}, status=400)
        except (TypeError, ValueError) as error:
            log.warning("a command did not fit", error=str(error))
            return web.json_response({"error": "the command did not fit this version", "exit_code": 1}, status=400)
        return web.json_response(result)


@asynccontextmanager
async def running_gateway(database: Path) -> AsyncIterator[ClientSession | None]:
    """A connection to the gateway that owns `database`, or None if none runs."""
    try:
        path = _note(database).read_text(encoding="utf-8").strip()
    except OSError:
        yield None
        return
    timeout = ClientTimeout(total=_TIMEOUT, sock_connect=2.0)
    async with ClientSession(connector=UnixConnector(path), timeout=timeout, base_url="http://gateway") as session:
        if await asyncio.to_thread(_answers, path):
            yield session
        else:
            yield None  # a note that a killed gateway left


async def ask(session: ClientSession, command: str, arguments: dict[str, Any]) -> Any:
    """Have the running gateway carry out a command. Raises Refused or StorageError."""
    try:
        async with session.post(f"/{command}", json=arguments) as response:
            answer = await response.json()
    except (ClientError, TimeoutError, json.JSONDecodeError) as error:
        raise StorageError(f"the running gateway did not answer: {error}") from error
    if response.status != 200:
        refused = Refused(answer["error"])
        refused.exit_code = answer["exit_code"]
        raise refused
    return answer


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            return probe.connect_ex(path) == 0
        except (OSError, ValueError):  # the note does not hold a path
            return False


def _note(database: Path) -> Path:
    return database.with_name(database.name + ".control")


def _named(account: str | None) -> AccountId | None:
    return None if account is None else AccountId(account)


def _plain(record: Any) -> dict[str, Any]:
    """A record as JSON can hold it."""
    return {field.name: _value(getattr(record, field.name)) for field in fields(record)}


def _value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, ConversationKey) else value
