"""DingTalk against the contract: answers in Markdown, and in AI cards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from core.adapter import FetchesFiles
from core.errors import FileTooLarge
from tests.contract.platform import Feature, File, SimulatedPlatform
from tests.contract.suite import AdapterContract, needs
from tests.contract.world import World, once, until
from tests.simulators.dingtalk import SimulatedDingTalk


class DingTalkWithoutCards(SimulatedDingTalk):
    lacks: ClassVar[Mapping[Feature, str]] = {
        **SimulatedDingTalk.lacks,
        Feature.GROWTH: "a robot's message cannot be changed; only cards can",
    }


class DingTalkContract(AdapterContract):
    """What holds for both."""

    @needs(Feature.FILES)
    async def test_files_are_described_and_fetched_within_the_cap(self, world: World) -> None:
        """With a text come pictures alone, which have no name; a file comes alone. Neither has a size."""
        pictures = [File(media_type="image/png", content=bytes(range(256)) * size) for size in (100, 3)]
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("look at this", files=pictures)
            await world.answered(gateway, asked, "answer to: look at this")
            await world.platform.person_writes("", files=[File(name="a.bin", content=b"bin")])
            await until(lambda: len(gateway.store.accepted) == 2)
            first, second = gateway.store.accepted[0].attachments
            (file,) = gateway.store.accepted[1].attachments
            assert [each.size for each in (first, second, file)] == [None] * 3
            assert {each.media_type.partition("/")[0] for each in (first, second)} == {"image"}
            assert file.name == "a.bin"
            adapter = gateway.adapter()
            assert isinstance(adapter, FetchesFiles)
            assert await adapter.fetch(second, most_bytes=256 * 3) == pictures[1].content
            assert await adapter.fetch(file, most_bytes=3) == b"bin"
            with pytest.raises(FileTooLarge):
                await adapter.fetch(first, most_bytes=256 * 100 - 1)
            await until(lambda: gateway.idle)


class TestDingTalkMarkdown(DingTalkContract):
    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return DingTalkWithoutCards(card=False)


class TestDingTalkCards(DingTalkContract):
    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return SimulatedDingTalk(card=True)

    @pytest.mark.parametrize("after", [True, False])
    async def test_a_send_in_doubt_is_settled_where_a_repeated_card_is_refused(
        self, world: World, after: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("core.delivery.SEND_TIMEOUT", 1.5)
        assert isinstance(world.platform, SimulatedDingTalk)
        world.platform.cards.refuses_repetition = True
        world.changes = {"stream": False}
        async with world.gateway() as gateway:
            world.platform.break_send(after=after)
            asked = await world.platform.person_writes("hello")
            await until(lambda: gateway.store.accepted)
            await until(lambda: gateway.idle and world.told(asked, "answer to: hello"))
            assert once("answer to: hello", world.texts(asked)), world.texts(asked)
