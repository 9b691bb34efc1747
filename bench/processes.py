"""The processes of a measurement: the model's server, the gateway, the bare script. Each by its real command."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Process:
    """A running program that answers over HTTP."""

    child: asyncio.subprocess.Process
    url: str
    ready_after: float
    """Seconds from its start to its first good answer."""

    @property
    def cpu(self) -> float:
        """Processor seconds used so far."""
        fields = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

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
        yield Process(child, url, time.perf_counter() - began)
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
async def model_server(folder: Path, port: int) -> AsyncIterator[Process]:
    """The OpenAI-compatible test server, answering at once."""
    command = (sys.executable, "-m", "tests.simulators.openai_server", "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    async with started(command, url=url, ready="/v1/models", cwd=_ROOT, log=folder / "model.log") as process:
        yield process


@asynccontextmanager
async def gateway(folder: Path, port: int, model: str) -> AsyncIterator[Process]:
    """The gateway as its command starts it, without limits per person."""
    folder.mkdir(exist_ok=True)
    config = folder / "config.yaml"
    settings = {
        "chat": {"base_url": f"{model}/v1", "api_key": "bench-key", "model": "gpt-test", "concurrency": 1000},
        "server": {"port": port},
        "limits": {"messages_per_minute": None, "messages_per_day": None, "tokens_per_day": None},
        "log": {"level": "warning"},
    }
    config.write_text(json.dumps(settings))
    command = (sys.executable, "-m", "gateway", "run", "--config", str(config))
    log = folder / "gateway.log"
    async with started(command, url=f"http://127.0.0.1:{port}", ready="/readyz", cwd=folder, log=log) as process:
        yield process


@asynccontextmanager
async def bare_script(folder: Path, port: int, model: str) -> AsyncIterator[Process]:
    """The same model call without sessions or journal."""
    command = (sys.executable, "-m", "bench.bare", str(port), model)
    url = f"http://127.0.0.1:{port}"
    async with started(command, url=url, ready="/healthz", cwd=_ROOT, log=folder / "bare.log") as process:
        yield process


_ROOT = Path(__file__).parent.parent
