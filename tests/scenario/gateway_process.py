"""The real gateway as a process: the command, its configuration, its log and its signals, seen from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml

from tests.scenario.warm_start import WarmProcess

COMMAND = (sys.executable, "-m", "gateway")

MODEL_KEY = "sk-canary-0123456789abcdefghij"
"""The key of the model's server in every test: it must never be seen anywhere else."""

PATIENCE = 60.0
"""Seconds after which a test gives up waiting; nothing is asserted of how long anything takes."""

_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT")


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What a command with --json printed."""
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Answered:
    """An HTTP answer."""

    status: int
    text: str
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


class GatewayProcess:
    """One configuration in a folder of its own, and the processes that run with it, one after the other."""

    def __init__(
        self,
        folder: Path,
        *,
        model: str,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        command: Sequence[str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`model` is the URL of the model's server; `config` changes single keys of the sections written here. Without a
        `command` the processes are warm (tests/scenario/warm_start.py)."""
        self.folder = folder
        self.file = folder / "config.yaml"
        self.database = folder / "data" / "chatgpt-ms.db"
        self.environ = {name: os.environ[name] for name in _INHERITED if name in os.environ} | dict(environ or {})
        self.lines: list[str] = []
        """What all processes have written to standard error."""
        self.codes: list[int] = []
        """How each process ended."""
        self.url = ""
        self.process: asyncio.subprocess.Process | WarmProcess | None = None
        self._command = command
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self._seen = 0
        """Lines of earlier processes."""
        self.sections: dict[str, dict[str, Any]] = {
            "chat": {"base_url": model, "api_key": MODEL_KEY, "model": "test-model", "retries": 0},
            "server": {"port": 0},
            "storage": {"url": f"sqlite:{self.database}"},
            "limits": {
                "messages_per_minute": None,
                "messages_per_day": None,
                "tokens_per_day": None,
                "same_text_per_minute": None,
                "channel_messages_per_minute": None,
            },
            "log": {"format": "json"},
        }
        self.configure(config or {})

    def configure(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        """Write config.yaml with `changes` on top of what it said."""
        for section, keys in changes.items():
            self.sections.setdefault(section, {}).update(keys)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(self.sections), encoding="utf-8")
        fresh.replace(self.file)  # at once: a running gateway looks at it

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.running:
            await self.kill()

    @property
    def running(self) -> bool:
        """Whether a process was started that has not been waited for."""
        return self.process is not None

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        return self.process.pid

    # Life

    async def spawn(self, *options: str) -> None:
        """Start `run` and return at once."""
        assert self.process is None, "it runs already"
        self._seen = len(self.lines)
        self.url = ""
        if self._command is None:
            self.process = await WarmProcess.start(("run", *options), cwd=self.folder, env=self.environ)
        else:
            self.process = await asyncio.create_subprocess_exec(
                *self._command,
                "run",
                *options,
                cwd=self.folder,
                env=self.environ,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                limit=16 * 1024 * 1024,
            )
        self._reader = asyncio.create_task(self._read(self.process))

    async def start(self, *options: str) -> None:
        """Start `run` and wait until it is ready."""
        await self.spawn(*options)
        self.url = (await self.logged("ready"))["page"]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the running process."""
        assert self.process is not None
        self.process.send_signal(number)

    def signals_until_ended(self, number: int) -> bool:
        """Send a signal unless the process has ended; whether it has."""
        assert self.process is not None
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)  # send_signal would look first, and take the exit code from asyncio
        return self.process.returncode is not None

    async def kill(self) -> int:
        """kill -9."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        return await self.ended()

    async def stop(self) -> int:
        """SIGTERM, and wait for the end."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        """Wait until the process has ended and all it wrote is read; its exit code."""
        assert self.process is not None
        assert self._reader is not None
        async with asyncio.timeout(PATIENCE):
            code = await self.process.wait()
            await self._reader
        self.process = self._reader = None
        self.codes.append(code)
        return code

    # Log

    async def _read(self, process: asyncio.subprocess.Process | WarmProcess) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self.lines.append(line.decode(errors="replace").rstrip("\n"))
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

    def log(self) -> list[dict[str, Any]]:
        """The log of the present or last process. Raises ValueError for a line that is no JSON object."""
        return [json.loads(line) for line in self.lines[self._seen :]]

    def events(self, *levels: str) -> list[str]:
        """What that process logged at `levels`; all levels without any."""
        return [str(line["event"]) for line in self.log() if not levels or line["level"] in levels]

    async def logged(self, event: str, **fields: Any) -> dict[str, Any]:
        """Wait until the present process has logged this event. Raises AssertionError if it ends before."""
        found: dict[str, Any] = {}

        def look() -> bool:
            for text in self.lines[self._seen :]:
                if event not in text or not text.startswith("{"):
                    continue
                line = json.loads(text)
                if line["event"] == event and all(line.get(name) == value for name, value in fields.items()):
                    found.update(line)
                    return True
            return self._reader is None or self._reader.done()

        async with asyncio.timeout(PATIENCE), self._news:
            await self._news.wait_for(look)
        if not found:
            raise AssertionError(f"the gateway ended before it logged {event!r}:\n" + "\n".join(self.lines))
        return found

    # Commands

    async def command(self, *arguments: str, input: str = "", config: bool = True) -> Finished:
        """Run another command with the same configuration and wait for its end."""
        whole = (*arguments, *(("--config", str(self.file)) if config else ()))
        process = await WarmProcess.start(whole, cwd=self.folder, env=self.environ, stdin=True, stdout=True)
        try:
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate(input.encode())
        except BaseException:
            process.kill()
            await process.communicate()
            raise
        assert process.returncode is not None
        return Finished(process.returncode, out.decode(), err.decode())

    # HTTP

    async def get(self, http: aiohttp.ClientSession, path: str, **options: Any) -> Answered:
        """GET a path of the running gateway."""
        return await self.request(http, "GET", path, **options)

    async def post(self, http: aiohttp.ClientSession, path: str, body: Any, **options: Any) -> Answered:
        """POST JSON."""
        return await self.request(http, "POST", path, json=body, **options)

    async def request(self, http: aiohttp.ClientSession, method: str, path: str, **options: Any) -> Answered:
        """Any request; the whole answer is read."""
        async with http.request(method, self.url + path, **options) as response:
            return Answered(response.status, await response.text(), dict(response.headers))

    async def chat(
        self, http: aiohttp.ClientSession, message: str, user: str = "alice", *, key: str | None = None
    ) -> Answered:
        """POST /chat; `key` is an idempotency key."""
        headers = {"Idempotency-Key": key} if key is not None else {}
        return await self.post(http, "/chat", {"message": message, "user": user}, headers=headers)


@asynccontextmanager
async def client(**options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client without a limit of its own, other than the test's patience."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0), **options) as session:
        yield session


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the test knows will come."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def assert_discreet(gateway: GatewayProcess, *texts: str) -> None:
    """No traceback and no key in the log or in `texts`."""
    for text in (*gateway.lines, *texts):
        assert "Traceback" not in text, text
        assert MODEL_KEY not in text, text
