"""The gateway as a process on a simulated DingTalk, with cards and with Markdown messages.

DingTalk has no history to read back: what was not acknowledged is pushed again a minute later, which the tests bring
about when it is due.
"""

from __future__ import annotations

import pytest

from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.process_scenarios import ProcessScenarios, what_a_dead_process_left, what_a_hasty_process_lost
from tests.scenario.stage import Stage
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.openai_server import OpenAIServer


class DingTalkStage(Stage[SimulatedDingTalk]):
    places = ("group", "group", "direct")
    long = 8_000  # more than one card holds
    together = 1
    comes_again = True

    def deliver_again(self) -> int:
        return self.platform.gateway.after_a_minute()

    @property
    def grows(self) -> bool:
        return self.platform.card  # a Markdown message is there at once

    @property
    def marks(self) -> bool:
        return not self.platform.card


class DingTalkScenarios(ProcessScenarios):
    """What holds for both."""

    async def test_the_harness_notices_an_acknowledgement_before_the_commit(self, stage: DingTalkStage) -> None:
        assert await what_a_hasty_process_lost(stage, broken("broken_dingtalk", "hasty")) == ["question"]


class TestDingTalkCards(DingTalkScenarios):
    @pytest.fixture
    def stage(self, model: OpenAIServer, make_gateway: MakeGateway) -> DingTalkStage:
        return DingTalkStage("DingTalk, cards", SimulatedDingTalk(card=True), model, make_gateway)

    async def test_the_harness_notices_cards_that_nobody_finds_again(self, stage: DingTalkStage) -> None:
        left = await what_a_dead_process_left(stage, broken("broken_dingtalk", "strangers"))
        assert left == ["long question"]


class TestDingTalkMarkdown(DingTalkScenarios):
    @pytest.fixture
    def stage(self, model: OpenAIServer, make_gateway: MakeGateway) -> DingTalkStage:
        return DingTalkStage("DingTalk, Markdown", SimulatedDingTalk(card=False), model, make_gateway)
