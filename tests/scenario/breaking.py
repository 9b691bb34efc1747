"""The gateway with one rule broken on purpose: what a harness that judges the rule must notice.

`python -m tests.scenario.broken_… FAULT run --config F`, with the name of a function there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parents[2]


def broken(module: str, fault: str) -> dict[str, Any]:
    """Keyword arguments of a GatewayProcess that is broken so; `module` is one of this folder."""
    command = (sys.executable, "-m", f"tests.scenario.{module}", fault)
    return {"command": command, "environ": {"PYTHONPATH": os.fspath(ROOT)}}


def run(*faults: Callable[[], None]) -> NoReturn:
    """Break what the first argument names, and run the gateway with the others. Raises KeyError for any other name."""
    fault, *arguments = sys.argv[1:]
    {function.__name__: function for function in faults}[fault]()
    from gateway.cli import cli

    sys.exit(cli(arguments))
