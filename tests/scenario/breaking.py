"""The gateway with one rule broken on purpose: what a harness that judges the rule must notice.

`python -m tests.scenario.broken_… FAULT run --config F`, with the name of a function there.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]

LATE = 2.0
"""Seconds that `late` waits."""


def broken(module: str, fault: str) -> dict[str, Any]:
    """Keyword arguments of a GatewayProcess that is broken so; `module` is one of this folder."""
    command = (sys.executable, "-m", f"tests.scenario.{module}", fault)
    return {"command": command, "environ": {"PYTHONPATH": os.fspath(ROOT)}}


def late(work: Callable[[], Awaitable[object]]) -> None:
    """Do it, but not yet."""
    asyncio.get_running_loop().call_later(LATE, lambda: asyncio.ensure_future(work()))


def run(*faults: Callable[[], None]) -> NoReturn:
    """Break what the first argument names, and run the gateway with the others. Raises KeyError for any other name."""
    fault, *arguments = sys.argv[1:]
    {function.__name__: function for function in faults}[fault]()
    from gateway.cli import cli

    sys.exit(cli(arguments))
