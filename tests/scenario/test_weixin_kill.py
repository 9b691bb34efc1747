"""The gateway as a process on a simulated iLink, which signs it in by a scan once.

The platform has a cursor: what was not committed comes again by itself, also what was written while nobody ran. Of a send
that was broken off nobody knows whether it arrived.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.process_scenarios import DoubtScenarios, what_a_hasty_process_lost
from tests.scenario.stage import Stage
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.weixin import SimulatedWeixin

SEND = 0.2
"""Seconds of a send while answers last, so that kills hit sends too."""


class WeixinStage(Stage[SimulatedWeixin]):
    places = ("direct", "direct", "direct")
    long = 3_000  # two messages; the platform takes no third one within a second
    comes_again = True
    marks = True
    _waited = 0

    def deliver_again(self) -> int:
        """The cursor has brought them; how many there were."""
        before, self._waited = self._waited, self.platform.state.bot("bot").waited
        return self._waited - before

    def answers(self, *, lasting: float = 0.0) -> None:
        """The model takes most of the time; sends take the rest."""
        super().answers(lasting=lasting * 0.7)
        self.sends_take(SEND if lasting else 0.0)

    def sends_take(self, seconds: float) -> None:
        self.platform.outbox.answers_after = seconds


class TestWeixin(DoubtScenarios):
    @pytest.fixture
    def stage(self, model: OpenAIServer, make_gateway: MakeGateway) -> Iterator[WeixinStage]:
        stage = WeixinStage("Weixin", SimulatedWeixin(), model, make_gateway)
        yield stage
        assert len(stage.platform.login.codes) <= 1  # what the scan brought outlives every process

    async def test_the_harness_notices_a_cursor_that_moves_on_before_the_commit(self, stage: WeixinStage) -> None:
        assert await what_a_hasty_process_lost(stage, broken("broken_weixin", "hasty")) == ["question"]
