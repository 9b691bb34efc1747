"""Slack against the contract, over Socket Mode and over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from tests.contract.platform import Feature, SimulatedPlatform
from tests.contract.suite import AdapterContract
from tests.simulators.slack import SimulatedSlack


class SlackByHttp(SimulatedSlack):
    lacks: ClassVar[Mapping[Feature, str]] = {
        Feature.LINK: "Slack connects to us",
        Feature.SILENCE: "there is no connection that could fall silent",
    }


class TestSlackSocketMode(AdapterContract):
    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return SimulatedSlack()


class TestSlackHttpEvents(AdapterContract):
    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return SlackByHttp(mode="http")
