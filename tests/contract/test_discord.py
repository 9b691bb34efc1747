"""What every adapter must do, shown for Discord on its wire."""

from __future__ import annotations

import pytest

from tests.contract.platform import SimulatedPlatform
from tests.contract.suite import AdapterContract
from tests.simulators.discord import DiscordPlatform


@pytest.fixture(autouse=True)
def _impatient_with_discord(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Discord asks for between two sessions; the simulator asks for less."""
    monkeypatch.setattr("adapters.discord.link.IDENTIFY_EVERY", 0.15)
    monkeypatch.setattr("adapters.discord.adapter._HOLD", 0.05)


class TestDiscord(AdapterContract):
    """Answers stand in the channel."""

    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return DiscordPlatform()


@pytest.mark.slow
class TestDiscordWithThreads(AdapterContract):
    """Each mention gets a thread."""

    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return DiscordPlatform(threads=True)
