"""The processes of a measurement: the model's server, the gateway, the bare scripts, a platform with its people. Each by
its real command."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Process:
    """A running program that answers over HTTP."""

    child: asyncio.subprocess.Process
    url: str
    ready_after: float
    """Seconds from its start to its first good answer."""
    log: Path
    """What it wrote."""

    @property
    def cpu(self) -> float:
        """Processor seconds used so far."""
        return _cpu(self.child.pid)

    @property
    def memory(self) -> float:
        """Resident memory in MB."""
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("the process has no memory: it has ended")


@asynccontextmanager
async def started(command: Sequence[str], *, url: str, ready: str, cwd: Path, log: Path) -> AsyncIterator[Process]:
    """Run `command` until the context is left; entered once `url` + `ready` answers 200."""
    began = time.perf_counter()
    with log.open("wb") as output:
        child = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=output, stderr=output)
    try:
        while not await asyncio.to_thread(_answers, url + ready):
            if child.returncode is not None or time.perf_counter() - began > 30:
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text()[-2000:]}")
            await asyncio.sleep(0.002)
        yield Process(child, url, time.perf_counter() - began, log)
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


@asynccontextmanager
async def model_server(folder: Path) -> AsyncIterator[Model]:
    """An OpenAI-compatible server that answers at once, unless told otherwise."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = (sys.executable, "-m", "bench.model", str(port))
    async with started(command, url=url, ready="/v1/models", cwd=_ROOT, log=folder / "model.log") as process:
        yield Model(process)


class Model:
    """The model's server."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.url = process.url

    async def pace(self, first: float, every: float) -> None:
        """Seconds before the first word, and between two."""
        body = json.dumps({"first": first, "every": every}).encode()
        await asyncio.to_thread(_fetch, f"{self.url}/_settings", body)

    async def times(self) -> dict[str, tuple[float, float]]:
        """When the first and the last word of each answer left since this was asked last, by the question's last word."""
        times = json.loads(await asyncio.to_thread(_fetch, f"{self.url}/_times", None))
        return {mark: (first, last) for mark, (first, last) in times.items()}


@asynccontextmanager
async def gateway(
    folder: Path,
    model: str,
    *,
    accounts: Mapping[str, Any] | None = None,
    level: str = "warning",
    watched: bool = False,
) -> AsyncIterator[Process]:
    """The gateway as its command starts it, without limits per person; entered once all accounts hear.

    `watched`: with every callback of its loop timed; see bench/watched.py.
    """
    folder.mkdir(exist_ok=True)
    port = free_port()
    config = folder / "config.yaml"
    settings = {
        "chat": {"base_url": f"{model}/v1", "api_key": "bench-key", "model": "gpt-test", "concurrency": 1000},
        "storage": {"url": f"sqlite:{folder}/data/gateway.db"},
        "server": {"port": port},
        "limits": {
            "messages_per_minute": None,
            "messages_per_day": None,
            "tokens_per_day": None,
            "same_text_per_minute": None,
            "channel_messages_per_minute": None,
        },
        "accounts": dict(accounts or {}),
        "log": {"level": level},
    }
    config.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "bench.watched", str(config), str(folder / "report.json")]
    if not watched:
        command = [sys.executable, "-m", "gateway", "run", "--config", str(config)]
    log = folder / "gateway.log"
    cwd = _ROOT if watched else folder
    async with started(command, url=f"http://127.0.0.1:{port}", ready="/readyz", cwd=cwd, log=log) as process:
        yield process


@asynccontextmanager
async def script(name: str, folder: Path, *arguments: str) -> AsyncIterator[Process]:
    """The same without sessions or journal: `bench.<name> PORT …`."""
    port = free_port()
    command = (sys.executable, "-m", f"bench.{name}", str(port), *arguments)
    url = f"http://127.0.0.1:{port}"
    async with started(command, url=url, ready="/healthz", cwd=_ROOT, log=folder / f"{name}.log") as process:
        yield process


class Lines:
    """A process that takes commands and answers them, a JSON object a line."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child

    async def do(self, command: str, /, **arguments: Any) -> Any:
        """One command. Raises RuntimeError if the process has ended."""
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(json.dumps({"do": command, **arguments}).encode() + b"\n")
        line = await self.child.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended during {command!r}; what it wrote on standard error says why")
        return json.loads(line)

    @property
    def cpu(self) -> float:
        """Processor seconds used so far."""
        return _cpu(self.child.pid)


@asynccontextmanager
async def lines(module: str, *arguments: str) -> AsyncIterator[Lines]:
    """`python -m module …`, entered once it has said something."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
        limit=1 << 28,
    )
    try:
        assert child.stdout is not None
        if not await child.stdout.readline():
            raise RuntimeError(f"{module} did not start; what it wrote on standard error says why")
        yield Lines(child)
    finally:
        if child.returncode is None:
            child.terminate()
        await child.wait()


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _fetch(url: str, body: bytes | None) -> bytes:
    with urllib.request.urlopen(url, body, timeout=60) as response:
        return bytes(response.read())


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


_ROOT = Path(__file__).parent.parent
