"""Feishu against the contract, over the long connection and by webhooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from core.adapter import FetchesFiles
from core.errors import FileTooLarge
from tests.contract.platform import Feature, File, SimulatedPlatform
from tests.contract.suite import AdapterContract, needs
from tests.contract.world import World, once, until
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_rest import Fault


class FeishuByWebhook(SimulatedFeishu):
    lacks: ClassVar[Mapping[Feature, str]] = {
        **SimulatedFeishu.lacks,
        Feature.LINK: "Feishu connects to us",
        Feature.SILENCE: "there is no connection that could fall silent",
    }


class FeishuContract(AdapterContract):
    """What holds for all of them."""

    @needs(Feature.FILES)
    async def test_files_are_described_and_fetched_within_the_cap(self, world: World) -> None:
        """With a text come pictures and videos alone, and pictures have no name; a file comes alone. None has a size."""
        picture = File(media_type="image/png", content=bytes(range(256)) * 100)
        video = File(name="walk.mp4", media_type="video/mp4", content=b"moving")
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("look at this", files=(picture, video))
            await world.answered(gateway, asked, "answer to: look at this")
            sent = [File(name="a.bin", content=b"bin"), File(media_type="audio/ogg", content=b"spoken")]
            for number, each in enumerate(sent, start=2):
                await world.platform.person_writes("", files=(each,))
                await until(lambda number=number: len(gateway.store.accepted) == number)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            found = [each for message in gateway.store.accepted for each in message.attachments]
            assert [each.size for each in found] == [None] * 4
            assert [each.media_type.partition("/")[0] for each in (*found[:2], found[3])] == ["image", "video", "audio"]
            assert found[2].name == "a.bin"
            adapter = gateway.adapter()
            assert isinstance(adapter, FetchesFiles)
            for attachment, file in zip(found, (picture, video, *sent), strict=True):
                assert await adapter.fetch(attachment, most_bytes=len(file.content)) == file.content
            with pytest.raises(FileTooLarge):
                await adapter.fetch(found[0], most_bytes=256 * 100 - 1)
            await until(lambda: gateway.idle)

    async def test_an_answer_whose_card_cannot_be_changed_any_more_is_sent_anew(self, world: World) -> None:
        """CardKit goes on taking changes of cards that are recalled; nobody would see them."""
        assert isinstance(world.platform, SimulatedFeishu)
        words = " ".join(f"word{number}" for number in range(40))
        world.model.configure(reply=f"={words}", token_delay=0.02, pieces_apart=True)
        async with world.gateway():
            asked = await world.platform.person_writes("hello")
            await until(lambda: world.texts(asked))
        world.platform.api.faults.append(Fault(("cardkit.v1.card.update",), "code", code=200750))
        async with world.gateway() as gateway:
            await until(lambda: world.told(asked, words))
            await until(lambda: gateway.idle)
            assert once(words, world.texts(asked))


class TestFeishuLongConnection(FeishuContract):
    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return SimulatedFeishu()


class TestFeishuWebhook(FeishuContract):
    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return FeishuByWebhook(mode="webhook")


class TestFeishuInTopics(FeishuContract):
    """Every group is one where each message begins a topic."""

    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return SimulatedFeishu(topics=True)
