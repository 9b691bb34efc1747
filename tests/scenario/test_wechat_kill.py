"""The gateway as a process on a simulated puppet service.

A puppet service keeps nothing for who is not there: nobody asks while no gateway runs, since that is lost. It tells of
everything once more after each login, as some do. Of a send that was broken off nobody knows whether it arrived.
"""

from __future__ import annotations

import pytest

from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import until
from tests.scenario.process_scenarios import DoubtScenarios
from tests.scenario.stage import Asked, Stage
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.wechat import SimulatedWechat

SEND = 0.1
"""Seconds of a send while answers last, so that kills hit sends too."""


class WechatStage(Stage[SimulatedWechat]):
    places = ("room", "room", "direct")
    long = 8_000  # more than one message holds
    marks = True

    def taken(self, asked: Asked) -> bool:
        """The platform is told nothing; what the model is asked is committed."""
        return any(request.last == asked.question for request in self.model.requests)

    def shown(self, asked: Asked) -> list[str]:
        """Without the name of who asked, which begins each message in a room."""
        name = f"@{asked.question.replace(' ', '').title()} "
        return [text.removeprefix(name) for text in super().shown(asked)]

    def answers(self, *, lasting: float = 0.0) -> None:
        """The model takes most of the time; sends take the rest."""
        super().answers(lasting=lasting * 0.7)
        self.sends_take(SEND if lasting else 0.0)

    def sends_take(self, seconds: float) -> None:
        self.platform.puppet().outbox.answers_after = seconds


class TestWechat(DoubtScenarios):
    @pytest.fixture
    def stage(self, model: OpenAIServer, make_gateway: MakeGateway) -> WechatStage:
        return WechatStage("WeChat", SimulatedWechat(replays=True), model, make_gateway)

    async def test_the_harness_notices_messages_that_nobody_recognises(self, stage: WechatStage) -> None:
        stage.answers()
        gateway = await stage.gateway(**broken("broken_wechat", "forgetful"))
        asked = await stage.ask("question", "direct")
        await stage.come_right(asked)
        await stage.kill(gateway)
        await gateway.start()
        await until(lambda: bool(stage.wrong([asked])))  # beside a repetition that says so: it was killed on its way
        await gateway.stop()
        assert stage.wrong([asked]) == ["question"]
