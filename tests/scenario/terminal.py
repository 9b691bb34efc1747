"""A command in a terminal of its own: what a person sees, types and interrupts."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.scenario.gateway_process import COMMAND, PATIENCE

CTRL_C, CTRL_D = "\x03", "\x04"

_BECOME = "import os, sys; os.login_tty(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
"""Makes the terminal the controlling one, so that Ctrl-C reaches the command as a signal."""

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Enter it to start `chatgpt-ms` with `arguments`; leaving kills what still runs."""

    def __init__(self, *arguments: str, folder: Path, environ: Mapping[str, str]) -> None:
        self._arguments = arguments
        self._folder = folder
        self._environ = {**environ, "TERM": "xterm", "COLUMNS": "200"}
        self._shown = ""
        self._from = 0
        self._news = asyncio.Condition()
        self._notes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._master, slave = pty.openpty()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _BECOME,
            str(slave),
            *COMMAND,
            *self._arguments,
            cwd=self._folder,
            env=self._environ,
            pass_fds=(slave,),
        )
        os.close(slave)
        asyncio.get_running_loop().add_reader(self._master, self._read)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        await asyncio.gather(*self._notes)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other side is closed
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._master)
        self._shown += _ESCAPE.sub("", data.decode(errors="replace").replace("\r\n", "\n"))
        note = asyncio.get_running_loop().create_task(self._tell())
        self._notes.add(note)
        note.add_done_callback(self._notes.discard)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def shows(self, text: str) -> str:
        """Wait until `text` appears after what was waited for before; what came before it since then."""
        async with self._news:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._news.wait_for(lambda: text in self._shown[self._from :])
            except TimeoutError:
                raise AssertionError(f"{text!r} was not shown, but:\n{self._shown}") from None
        begin, self._from = self._from, self._shown.index(text, self._from) + len(text)
        return self._shown[begin : self._from - len(text)]

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._master, text.encode())

    async def ended(self) -> int:
        """Wait for the end; the exit code."""
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()

    @property
    def shown(self) -> str:
        """All of it."""
        return self._shown
