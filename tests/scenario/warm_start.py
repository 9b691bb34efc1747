"""The gateway as a process of its own that need not import the program first: most of what a start costs on two cores.

`python -m tests.scenario.warm_start` imports it once and forks a process for each start. From there on that is the same as
`python -m gateway`: its own folder, environment, files, signals and exit code. Python itself is not started anew, so what
depends on that (PYTHON…, LANG, what the imports do) is for tests that give a command of their own; so do those of kill -9
during the start.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_IMPORTED = ("gateway.cli", "gateway.app", "markdown_it", "aiohttp.web")
"""No adapters: that of the API names its process when it is imported, and some SDKs make an event loop then, which two
processes must not share."""

_LIMIT = 16 * 1024 * 1024
"""Bytes of a line that a process may write."""


class WarmProcess:
    """What asyncio.subprocess.Process is, for a process that was started here. Standard output goes nowhere unless asked
    for."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._over = asyncio.Event()
        self._watched = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._watched, self._ended)

    @classmethod
    async def start(
        cls, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bool = False, stdout: bool = False
    ) -> WarmProcess:
        """`python -m gateway` with these arguments; pipes for standard error, and for the others where they are asked
        for."""
        source, into = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), -1)
        out_of, sink = os.pipe() if stdout else (-1, os.open(os.devnull, os.O_WRONLY))
        errors, error_sink = os.pipe()
        given = (source, sink, error_sink)
        try:
            pid = _ask({"arguments": arguments, "cwd": os.fspath(cwd), "env": dict(env)}, given)
        finally:
            for descriptor in given:
                os.close(descriptor)
        process = cls(pid)
        process.stderr = await _reader(errors)
        process.stdout = await _reader(out_of) if stdout else None
        process.stdin = await _writer(into) if stdin else None
        return process

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._watched)
        os.close(self._watched)
        self.returncode = _ask({"ended": self.pid})
        self._over.set()

    def send_signal(self, number: int) -> None:
        """Raises ProcessLookupError if it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """The exit code; negative for the signal that ended it."""
        await self._over.wait()
        assert self.returncode is not None
        return self.returncode

    async def communicate(self, input: bytes = b"") -> tuple[bytes, bytes]:
        """Write, and read all that comes until the end."""
        assert self.stdin is not None
        assert self.stdout is not None
        assert self.stderr is not None
        self.stdin.write(input)
        self.stdin.close()
        out, errors, _ = await asyncio.gather(self.stdout.read(), self.stderr.read(), self.wait())
        return out, errors


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=_LIMIT)
    pipe = open(descriptor, "rb", buffering=0)  # noqa: SIM115  # the transport closes it
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    pipe = open(descriptor, "wb", buffering=0)  # noqa: SIM115  # the transport closes it
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, pipe)
    return asyncio.StreamWriter(transport, protocol, None, loop)


# The process that starts the others


@functools.cache
def _server() -> socket.socket:
    """One for each process that runs tests; it ends with that."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        root = Path(__file__).parents[2]
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.scenario.warm_start", str(theirs.fileno())],
            cwd=root,
            env=os.environ | {"PYTHONPATH": os.fspath(root)},
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    def leave() -> None:
        ours.close()
        server.wait()

    atexit.register(leave)
    return ours


def _ask(request: Mapping[str, Any], descriptors: Sequence[int] = ()) -> int:
    server = _server()
    socket.send_fds(server, [json.dumps(request).encode()], descriptors)
    return int(server.recv(64))


def _serve(tests: socket.socket) -> None:
    while True:
        data, descriptors, *_ = socket.recv_fds(tests, 1 << 16, 3)
        if not data:
            return
        request = json.loads(data)
        if "ended" in request:
            _, status = os.waitpid(request["ended"], 0)
            tests.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if not pid:
            tests.close()
            _become(request, descriptors)
        tests.send(str(pid).encode())
        for descriptor in descriptors:
            os.close(descriptor)


def _become(request: Mapping[str, Any], descriptors: Sequence[int]) -> NoReturn:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["gateway", *request["arguments"]]
    runpy.run_module("gateway", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    for name in _IMPORTED:
        __import__(name)
    _serve(socket.socket(fileno=int(sys.argv[1])))
