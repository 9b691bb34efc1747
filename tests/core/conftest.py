"""One gateway for a test that needs no special one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.clock import HeldClock
from tests.core.gateway import Gateway


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store is."""
    return tmp_path / "data" / "test.db"


@pytest.fixture
async def gateway(path: Path, clock: HeldClock) -> AsyncIterator[Gateway]:
    """Plain messages, no limits, one queue per person."""
    async with Gateway(path, clock) as gateway:
        yield gateway
