"""The gateway as a process on a simulated DingTalk, with cards and with Markdown messages.

DingTalk has no history to read back: what was not acknowledged is pushed again a minute later, which the tests bring
about when it is due.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import until
from tests.scenario.process_scenarios import ProcessScenarios, what_a_dead_process_left
from tests.scenario.stage import Asked, Stage
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.openai_server import OpenAIServer

MARK = "may be repeated"
"""What stands on an answer that the gateway had to send again without knowing whether the first one arrived."""


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

    def right(self, asked: Asked) -> bool:
        """Without cards a second answer is allowed that says that it may be one."""
        return super().right(asked) or self._marked(asked)

    def _marked(self, asked: Asked) -> bool:
        shown = self.shown(asked)
        if self.platform.card or len(shown) != 2 or MARK not in shown[1]:
            return False
        return self.seen(asked).count(self.whole(asked)) == 2

    def about_kills(self, asked: Sequence[Asked]) -> str:
        return f", {sum(map(self._marked, asked))} answers with one more that says that it may be a repetition"


class DingTalkScenarios(ProcessScenarios):
    """What holds for both."""

    async def test_the_harness_notices_an_acknowledgement_before_the_commit(self, stage: DingTalkStage) -> None:
        stage.answers()
        gateway = await stage.gateway(**broken("broken_dingtalk", "hasty"))
        asked = [await stage.ask("question", "direct")]
        await until(lambda: stage.platform.acknowledged(asked[0].delivery) == 1)
        await gateway.kill()
        await gateway.start()
        await stage.platform.listening()
        assert stage.deliver_again() == 0
        asked.append(await stage.ask("another question", "direct"))
        await stage.come_right(asked[1])
        await gateway.stop()
        assert stage.wrong(asked) == ["question"]


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
