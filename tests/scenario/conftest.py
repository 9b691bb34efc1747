"""What the scenarios share: a model's server, and gateways to start."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest

from tests.scenario.gateway_process import GatewayProcess, client
from tests.simulators.openai_server import OpenAIServer

pytest.register_assert_rewrite("tests.scenario.process_scenarios")  # so that what fails there shows its values


class MakeGateway(Protocol):
    """Makes a gateway that asks the test's model; keyword arguments are GatewayProcess's."""

    async def __call__(self, name: str = "gateway", **options: Any) -> GatewayProcess: ...


@pytest.fixture
async def model() -> AsyncIterator[OpenAIServer]:
    """The model's server, in the test's own process."""
    async with OpenAIServer() as server:
        server.configure(reply="count")
        yield server


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client."""
    async with client() as session:
        yield session


@pytest.fixture
async def make_gateway(tmp_path: Path, model: OpenAIServer) -> AsyncIterator[MakeGateway]:
    """Gateways in folders of their own; none outlives the test."""
    async with AsyncExitStack() as stack:

        async def make(name: str = "gateway", **options: Any) -> GatewayProcess:
            folder = tmp_path / name
            folder.mkdir()
            options.setdefault("model", model.url)
            return await stack.enter_async_context(GatewayProcess(folder, **options))

        yield make


@pytest.fixture
async def gateway(make_gateway: MakeGateway) -> GatewayProcess:
    """A gateway that runs and is ready."""
    made = await make_gateway()
    await made.start()
    return made
