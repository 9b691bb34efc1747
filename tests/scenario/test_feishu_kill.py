"""The gateway as a process on a simulated Feishu."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.process_scenarios import ProcessScenarios, what_a_dead_process_left
from tests.scenario.stage import Asked, Stage
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.openai_server import OpenAIServer


class FeishuStage(Stage[SimulatedFeishu]):
    places = ("group", "topic", "direct")

    def died(self) -> None:
        self.platform.api.forget_pauses()

    async def ask(self, question: str, place: str) -> Asked:
        if place == "topic":
            self.platform.state.group(question.replace(" ", ""), topics=True)
        return await super().ask(question, place)

    def about_kills(self, asked: Sequence[Asked]) -> str:
        return f"; too many calls: {dict(self.platform.api.limits)}"


class TestFeishu(ProcessScenarios):
    @pytest.fixture
    def stage(self, model: OpenAIServer, make_gateway: MakeGateway) -> FeishuStage:
        return FeishuStage("Feishu", SimulatedFeishu(), model, make_gateway)

    async def test_the_harness_notices_what_a_dead_process_left(self, stage: FeishuStage) -> None:
        left = await what_a_dead_process_left(stage, broken("broken_feishu", "leftovers"), messages=2)
        assert left == ["long question"]
