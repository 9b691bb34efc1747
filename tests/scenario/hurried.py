"""The gateway with short pauses between attempts to send: what it does is the same, in seconds instead of minutes."""

from __future__ import annotations

import os
import sys

import core.delivery
from tests.scenario.breaking import ROOT

HURRIED = {
    "command": (sys.executable, "-m", "tests.scenario.hurried"),
    "environ": {"PYTHONPATH": os.fspath(ROOT)},
}
"""Keyword arguments of a GatewayProcess."""


def hurry() -> None:
    """Shorten them in this process."""
    core.delivery.RETRY_AFTER = (0.2, 0.5, 1.0, 3.0, 8.0)
    core.delivery.SEND_TIMEOUT = 3.0


if __name__ == "__main__":
    hurry()
    from gateway.cli import cli

    sys.exit(cli())
