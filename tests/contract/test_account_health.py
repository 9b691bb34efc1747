"""What an operator can ask about accounts: /readyz, /metrics and `check --connect`, on the reference platform."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from core.errors import ConnectionLost
from gateway.checking import check_connections
from gateway.config import Config, load
from gateway.supervisor import AccountState
from tests.contract.suite import hurry
from tests.contract.telegraph import SimulatedTelegraph, TelegraphAdapter
from tests.contract.world import World, until
from tests.simulators.openai_server import OpenAIServer


class Incomplete(TelegraphAdapter):
    """An account that lacks something."""

    async def diagnose(self) -> Sequence[str]:
        return ("the bot may not read channels; allow it on Telegraph's bot page",)


class Unlucky(TelegraphAdapter):
    """The platform goes away while it is asked."""

    async def diagnose(self) -> Sequence[str]:
        raise ConnectionLost("Telegraph went away")


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    hurry(monkeypatch)
    async with OpenAIServer() as model, SimulatedTelegraph() as platform:
        yield World(platform, model, tmp_path)


async def test_readiness_tells_how_every_account_is(world: World) -> None:
    async with world.gateway() as gateway, aiohttp.ClientSession() as session:

        async def ready() -> tuple[int, dict[str, Any]]:
            async with session.get(f"{gateway.app.url}/readyz") as response:
                return response.status, (await response.json())["accounts"]["bot"]

        await until(lambda: gateway.state() is AccountState.CONNECTED)
        status, account = await ready()
        assert (status, account["state"], account["reason"], account["reconnects"]) == (200, "connected", "", 0)
        assert account["last_reply"] is None
        asked = await world.platform.person_writes("hello")
        await world.answered(gateway, asked, "answer to: hello")
        _, account = await ready()
        now = datetime.now(UTC)
        for moment in ("since", "last_heard", "last_inbound", "last_reply"):
            assert abs((now - datetime.fromisoformat(account[moment])).total_seconds()) < 60, moment
        world.platform.refuse_links(1_000_000)
        await world.platform.drop()
        await until(lambda: gateway.state() is not AccountState.CONNECTED and gateway.health().reason)
        await until(lambda: gateway.health().reconnects >= 3)
        status, account = await ready()
        assert status == 503
        assert account["reconnects"] >= 3


async def test_metrics_tell_how_every_account_is(world: World) -> None:
    async with world.gateway() as gateway, aiohttp.ClientSession() as session:
        asked = await world.platform.person_writes("hello")
        await world.answered(gateway, asked, "answer to: hello")
        await until(lambda: gateway.state() is AccountState.CONNECTED)
        async with session.get(f"{gateway.app.url}/metrics") as response:
            lines = (await response.text()).splitlines()
    assert 'chatgpt_ms_account_connected{account="bot"} 1.0' in lines
    assert 'chatgpt_ms_account_state{account="bot",state="connected"} 1.0' in lines
    assert 'chatgpt_ms_account_state{account="bot",state="failed"} 0.0' in lines
    assert 'chatgpt_ms_account_reconnects_total{account="bot"} 0.0' in lines
    for name in ("last_frame", "last_inbound", "last_reply"):
        (line,) = [line for line in lines if line.startswith(f"chatgpt_ms_{name}_timestamp_seconds{{")]
        assert abs(float(line.split()[-1]) - datetime.now(UTC).timestamp()) < 60


async def checked(
    adapter: type[TelegraphAdapter], folder: Path, *, refused: bool = False
) -> tuple[list[str], list[str]]:
    """The faults, and what was told."""
    async with OpenAIServer() as model, SimulatedTelegraph(adapter) as platform:
        if refused:
            platform.refuse_credentials()
        account = {"platform": "telegraph", **platform.account()}
        document = {
            "chat": {"base_url": model.url, "api_key": "sk-of-the-test"},
            "server": {"port": 0},
            "accounts": {"api": "off", "web": "off", "bot": account},
        }
        (folder / "config.yaml").write_text(json.dumps(document), encoding="utf-8")
        config: Config = load(folder / "config.yaml", {}, find_spec=lambda name: platform.spec)
        told: list[str] = []
        faults = await check_connections(config, tell=told.append, find_spec=lambda name: platform.spec)
        assert platform.links() == 0
        return faults, told


async def test_a_sound_account_signs_in_and_lacks_nothing(tmp_path: Path) -> None:
    faults, told = await checked(TelegraphAdapter, tmp_path)
    assert faults == []
    assert "account bot: signed in" in told


async def test_what_an_account_lacks_is_a_fault_with_the_way_out(tmp_path: Path) -> None:
    faults, told = await checked(Incomplete, tmp_path)
    assert faults == ["accounts.bot: the bot may not read channels; allow it on Telegraph's bot page"]
    assert "account bot: signed in" in told


async def test_a_platform_that_goes_away_while_it_is_asked_is_a_fault(tmp_path: Path) -> None:
    assert (await checked(Unlucky, tmp_path))[0] == ["accounts.bot: Telegraph went away"]


async def test_refused_credentials_are_a_fault(tmp_path: Path) -> None:
    faults, _ = await checked(TelegraphAdapter, tmp_path, refused=True)
    (fault,) = faults
    assert fault.startswith("accounts.bot: the token is refused")
