"""Feishu against the contract, over the long connection and by webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from tests.contract.platform import Feature, SimulatedPlatform
from tests.contract.suite import AdapterContract
from tests.simulators.feishu import SimulatedFeishu


class FeishuByWebhook(SimulatedFeishu):
    lacks: ClassVar[Mapping[Feature, str]] = {
        **SimulatedFeishu.lacks,
        Feature.LINK: "Feishu connects to us",
        Feature.SILENCE: "there is no connection that could fall silent",
    }


class TestFeishuLongConnection(AdapterContract):
    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return SimulatedFeishu()


class TestFeishuWebhook(AdapterContract):
    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return FeishuByWebhook(mode="webhook")


class TestFeishuInTopics(AdapterContract):
    """Every group is one where each message begins a topic."""

    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return SimulatedFeishu(topics=True)
