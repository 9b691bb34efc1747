"""The gateway as a process on a simulated Feishu, also with many questions at once."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from core.markdown.visible import is_visible
from tests.scenario.breaking import broken
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import until
from tests.scenario.process_scenarios import ProcessScenarios, what_a_dead_process_left
from tests.scenario.stage import Asked, Stage
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.openai_server import OpenAIServer


class FeishuStage(Stage[SimulatedFeishu]):
    places = ("group", "topic", "direct")

    def died(self) -> None:
        self.platform.api.forget_pauses()

    def deliver_again(self) -> int:
        """Now instead of after 15 s, 5 min, 1 h and 6 h. Who has never written directly is heard by this alone: their chat
        is in no list that could be read back."""
        return self.platform.delivery.bring_again()

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

    @pytest.mark.parametrize(("count", "direct"), [(200, True), (100, False)], ids=["200 people", "100 in a group"])
    async def test_a_burst_is_answered_without_a_refusal(self, stage: FeishuStage, count: int, direct: bool) -> None:
        """Feishu takes 50 calls of one API a second, and 5 messages to one chat."""
        platform = stage.platform
        stage.answers(lasting=5.0)
        gateway = await stage.gateway()
        since = time.monotonic()
        asked = []
        for number in range(count):
            question = f"question {number}"
            user = question.replace(" ", "")
            asked.append(Asked(question, await platform.person_writes(question, user=user, direct=direct)))
        wanted = Counter(map(stage.whole, asked))
        rooms = {each.delivery.room for each in asked}

        def answers() -> Counter[str]:
            shown = (each for room in rooms for each in platform.visible(room) if not each.growing)
            return Counter("".join(filter(is_visible, each.text)) for each in shown)

        async with asyncio.timeout(120):
            while wanted - answers():
                await asyncio.sleep(0.05)
        took = time.monotonic() - since
        await until(lambda: not any(message.reactions for message in platform.state.messages.values()))
        await gateway.stop()
        print(
            f"\nFeishu: {count} people ask at once {stage.way('direct' if direct else 'group')}: the last answer is there "
            f"after {took:.1f} s; calls that were refused as too many: {dict(platform.api.limits)}"
        )
        assert answers() == wanted
        assert platform.api.limits == {}
        assert platform.complaints() == []

    async def test_the_harness_notices_what_a_dead_process_left(self, stage: FeishuStage) -> None:
        left = await what_a_dead_process_left(stage, broken("broken_feishu", "leftovers"), messages=2)
        assert left == ["long question"]
