"""The gateway as a process on a simulated Slack."""

from __future__ import annotations

import pytest

from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.process_scenarios import ProcessScenarios, what_a_dead_process_left
from tests.scenario.stage import Stage
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.slack import SimulatedSlack


class SlackStage(Stage[SimulatedSlack]):
    places = ("thread", "thread", "direct")


class TestSlack(ProcessScenarios):
    @pytest.fixture
    def stage(self, model: OpenAIServer, make_gateway: MakeGateway) -> SlackStage:
        return SlackStage("Slack", SimulatedSlack(), model, make_gateway)

    async def test_the_harness_notices_what_a_dead_process_left(self, stage: SlackStage) -> None:
        left = await what_a_dead_process_left(stage, broken("broken_slack", "leftovers"), messages=2)
        assert left == ["long question"]
