"""Slash commands: deferred when they are committed, answered in their place, and as messages when it is too late."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapters.discord import InteractionReply
from adapters.discord.slash import changed, offered
from core.adapter import IdempotencyKey, OutboundFile
from core.commands import FOR_ADMINS
from core.commands.names import NAMES
from core.errors import DeliveryError, TargetGone
from tests.contract.suite import long_answer
from tests.contract.world import Gateway, World, missing, once, until
from tests.simulators.discord import DiscordPlatform
from tests.simulators.discord_rest import Fault, Interaction
from tests.simulators.openai_server import OpenAIServer


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.discord.link.IDENTIFY_EVERY", 0.15)
    monkeypatch.setattr("gateway.supervisor.FIRST_PAUSE", 0.05)
    monkeypatch.setattr("gateway.app.DRAIN_TURNS", 0.2)


@pytest.fixture
async def platform() -> AsyncIterator[DiscordPlatform]:
    async with DiscordPlatform() as platform:
        yield platform
        assert list(platform.complaints()) == []


@pytest.fixture
async def world(platform: DiscordPlatform, tmp_path: Path) -> AsyncIterator[World]:
    async with OpenAIServer() as model:
        yield World(platform, model, tmp_path)


async def answered(world: World, gateway: Gateway, interaction: Interaction, answer: str) -> None:
    assert isinstance(world.platform, DiscordPlatform)
    await world.answered(gateway, world.platform.delivery(interaction), answer)


def reply(gateway: Gateway) -> InteractionReply:
    """The way back to the first message that was accepted."""
    channel = gateway.reply(gateway.store.accepted[0])
    assert isinstance(channel, InteractionReply)
    return channel


@pytest.mark.parametrize("direct", [True, False])
async def test_a_question_is_answered_in_the_commands_place(
    world: World, platform: DiscordPlatform, direct: bool
) -> None:
    async with world.gateway() as gateway:
        interaction = await platform.person_commands("chat", "what is it?", direct=direct)
        await answered(world, gateway, interaction, "answer to: what is it?")
        assert interaction.answered == 5, "it was deferred"
        (shown,) = platform.visible(interaction.channel.id)
        assert interaction.original is not None
        assert shown.id == interaction.original.id


async def test_commands_are_carried_out(world: World, platform: DiscordPlatform) -> None:
    async with world.gateway() as gateway:
        first = await platform.person_commands("chat", "remember me")
        await answered(world, gateway, first, "answer to: remember me")
        new = await platform.person_commands("new")
        await until(lambda: new.original and new.original.data["content"].startswith("Started a new"))
        stop = await platform.person_commands("stop", locale="zh-CN")
        await until(lambda: stop.original and "没有" in stop.original.data["content"])
        await until(lambda: gateway.idle)
        last = await platform.person_commands("chat", "and now?")
        await until(lambda: last.original and "and now?" in last.original.data["content"])
        assert len(world.model.requests[-1].messages) == 2, "the conversation was begun anew"


async def test_stop_ends_the_answer_that_is_being_written(world: World, platform: DiscordPlatform) -> None:
    words = " ".join(f"word{number}" for number in range(200))
    world.model.configure(reply=f"={words}", token_delay=0.05, pieces_apart=True)
    async with world.gateway() as gateway:
        asked = await platform.person_commands("chat", "at length")
        await until(lambda: asked.original and "word1" in asked.original.data["content"])
        await platform.person_commands("stop")
        await until(lambda: asked.original and "(stopped)" in asked.original.data["content"])
        await until(lambda: gateway.idle)
        assert asked.original is not None
        assert len(asked.original.versions) > 1, "it was shown while it was written"


async def test_a_long_answer_goes_on_below(world: World, platform: DiscordPlatform) -> None:
    answer = long_answer(6_000)
    world.model.configure(reply=f"={answer}", piece=250)
    async with world.gateway() as gateway:
        interaction = await platform.person_commands("chat", "tell me")
        delivery = platform.delivery(interaction)
        await until(lambda: missing(answer, world.texts(delivery)) == "")
        await until(lambda: gateway.idle)
        posts = interaction.channel.living()
        assert len(posts) > 2
        assert interaction.original is posts[0]
        assert {post.data["message_reference"]["message_id"] for post in posts[1:]} == {posts[0].id}
        key = gateway.store.accepted[0]
        assert key.text == "tell me"
        numbered = [IdempotencyKey(f"any-{number}") for number in range(len(posts) + 1)]
        assert [await reply(gateway).find(each) for each in numbered] == [*(post.id for post in posts), None]


async def test_a_command_that_was_given_twice_by_discord_is_answered_once(
    world: World, platform: DiscordPlatform
) -> None:
    async with world.gateway() as gateway:
        interaction = await platform.person_commands("chat", "once")
        await platform.redeliver(platform.delivery(interaction), times=50)
        await answered(world, gateway, interaction, "answer to: once")
        await world.fence(gateway)
        assert sum(kind == "callback" for kind, _ in platform.rest.calls) == 1


async def test_what_could_not_be_deferred_in_time_is_answered_with_a_message(
    world: World, platform: DiscordPlatform
) -> None:
    platform.rest.answer_within = -1.0
    async with world.gateway() as gateway:
        interaction = await platform.person_commands("chat", "late")
        await answered(world, gateway, interaction, "answer to: late")
        assert interaction.original is None


async def test_after_a_quarter_of_an_hour_the_answer_is_a_message(world: World, platform: DiscordPlatform) -> None:
    world.model.pause()
    async with world.gateway() as gateway:
        interaction = await platform.person_commands("chat", "a hard one")
        await until(lambda: world.model.requests and interaction.original)
        platform.rest.token_lifetime = 0.0
        world.model.resume()
        await answered(world, gateway, interaction, "answer to: a hard one")
        assert interaction.original is not None
        assert interaction.original.data["content"] == ""


async def test_a_preview_is_finished_after_a_quarter_of_an_hour(world: World, platform: DiscordPlatform) -> None:
    words = " ".join(f"word{number}" for number in range(40))
    world.model.configure(reply=f"={words}", token_delay=0.05, pieces_apart=True)
    async with world.gateway() as gateway:
        interaction = await platform.person_commands("chat", "at length")
        await until(lambda: interaction.original and "word1" in interaction.original.data["content"])
        platform.rest.token_lifetime = 0.0
        await answered(world, gateway, interaction, words)
        assert len(platform.visible(interaction.channel.id)) == 1


async def test_an_answer_that_a_crash_broke_off_is_finished_in_its_place(
    world: World, platform: DiscordPlatform
) -> None:
    words = " ".join(f"word{number}" for number in range(40))
    world.model.configure(reply=f"={words}", token_delay=0.05, pieces_apart=True)
    async with world.gateway():
        interaction = await platform.person_commands("chat", "at length")
        await until(lambda: interaction.original and "word1" in interaction.original.data["content"])
    async with world.gateway() as gateway:
        await answered(world, gateway, interaction, words)
        assert len(platform.visible(interaction.channel.id)) == 1


@pytest.mark.parametrize("after", [True, False])
async def test_a_lost_answer_to_a_send_is_settled(world: World, platform: DiscordPlatform, after: bool) -> None:
    world.changes = {"stream": False}
    async with world.gateway() as gateway:
        platform.rest.faults["edit"].append(Fault(after=after))
        interaction = await platform.person_commands("chat", "hello", user="bob")
        await until(lambda: world.told(platform.delivery(interaction), "answer to: hello"))
        await until(lambda: gateway.idle)
        assert once("answer to: hello", world.texts(platform.delivery(interaction)))


async def test_a_command_that_cannot_be_stored_is_told_to_its_person_alone(
    world: World, platform: DiscordPlatform
) -> None:
    async with world.gateway() as gateway:
        gateway.store.failing = True
        interaction = await platform.person_commands("chat", "now?")
        await until(lambda: interaction.ephemeral)
        assert "Please try again" in interaction.ephemeral[0]
        gateway.store.failing = False
        assert not platform.visible(interaction.channel.id)


async def test_who_may_not_talk_is_told_so(world: World, platform: DiscordPlatform) -> None:
    world.changes = {"access": {"direct": "off"}}
    async with world.gateway() as gateway:
        interaction = await platform.person_commands("chat", "may I?", direct=True)
        await until(lambda: interaction.ephemeral)
        assert "I may not talk" in interaction.ephemeral[0]
        assert not platform.visible(interaction.channel.id)
        again = await platform.person_commands("new", direct=True)
        await until(lambda: again.ephemeral)  # it costs nobody a message
        assert not gateway.store.accepted


async def test_what_is_private_is_shown_to_its_person_alone(world: World, platform: DiscordPlatform) -> None:
    async with world.gateway() as gateway:
        asked = await platform.person_commands("chat", "remember me")
        await answered(world, gateway, asked, "answer to: remember me")
        interaction = await platform.person_commands("whoami")
        await until(lambda: interaction.told_alone)
        assert "Your id is" in interaction.told_alone[0]
        export = await platform.person_commands("export")
        await until(lambda: len(export.told_alone) > 2)
        assert any(each.endswith(".md") for each in export.told_alone)
        await until(lambda: gateway.idle)
        assert world.texts(platform.delivery(interaction)) == ["answer to: remember me"]
        direct = await platform.person_commands("whoami", direct=True)
        await until(lambda: direct.original and "Your id is" in direct.original.data["content"])
        assert not direct.told_alone


async def test_what_is_private_is_never_shown_to_all_instead(world: World, platform: DiscordPlatform) -> None:
    platform.rest.answer_within = -1.0
    async with world.gateway() as gateway:
        interaction = await platform.person_commands("whoami")
        await until(lambda: gateway.store.accepted)
        await until(lambda: gateway.idle)
        assert world.texts(platform.delivery(interaction)) == []
        assert len(await gateway.store.dead_letters()) == 1


async def test_where_the_bot_may_not_write_the_rest_follows_the_command(
    world: World, platform: DiscordPlatform
) -> None:
    answer = long_answer(4_000)
    world.model.configure(reply=f"={answer}", piece=250)
    async with world.gateway() as gateway:
        platform.world.channel("general").forbidden = True
        interaction = await platform.person_commands("chat", "tell me")
        delivery = platform.delivery(interaction)
        await until(lambda: missing(answer, world.texts(delivery)) == "")
        await until(lambda: gateway.idle)
        channel = reply(gateway)
        file = OutboundFile(name="a.txt", media_type="text/plain", content=b"a")
        assert await channel.attach(file, key=IdempotencyKey("a-file-99"))
        platform.rest.faults["follow"].append(Fault(after=True))
        with pytest.raises(DeliveryError, match="cannot be sent twice"):
            await channel.send("never twice", key=IdempotencyKey("another-7"))
        platform.rest.token_lifetime = 0.0
        with pytest.raises(TargetGone):
            await channel.send("too late", key=IdempotencyKey("another-8"))


# ---- the menu ----


async def test_commands_are_registered_once_and_anew_when_they_changed(world: World, platform: DiscordPlatform) -> None:
    bot = platform.world.bot("bot")
    bot.commands["launch"] = {"id": "1", "type": 4, "name": "launch"}
    async with world.gateway():
        await until(lambda: bot.command_changes == len(offered()))
    async with world.gateway() as gateway:
        await world.fence(gateway)
        assert bot.command_changes == len(offered())
    bot.commands["new"]["description"] = "what it said before"
    async with world.gateway():
        await until(lambda: bot.command_changes == len(offered()) + 1)
    assert set(bot.commands) == {"launch", *(command["name"] for command in offered())}
    world.changes = {"commands": False}
    bot.commands.clear()
    async with world.gateway() as gateway:
        await world.fence(gateway)
        assert not bot.commands


def test_the_menu_is_as_discord_wants_it() -> None:
    for command in offered():
        assert command["name"] == command["name"].lower()
        texts: list[Any] = [command["description"], *command["description_localizations"].values()]
        for option in command.get("options", []):
            texts += [option["description"], *option["description_localizations"].values()]
        assert all(1 <= len(text) <= 100 for text in texts)
    assert changed(offered()) == []
    names = [command["name"] for command in changed([])]
    assert names[0] == "chat"
    assert set(names) == {"chat", *NAMES}
    hidden = {command["name"] for command in offered() if command.get("default_member_permissions") == "0"}
    assert hidden == FOR_ADMINS


async def test_options_are_the_arguments_of_a_command(world: World, platform: DiscordPlatform) -> None:
    async with world.gateway() as gateway:
        for name, argument in (("forget", "yes"), ("model", "test-model"), ("budget", "42 tokens=5 messages=6")):
            given = len(gateway.store.accepted)
            await platform.person_commands(name, argument, direct=True)
            await until(lambda: len(gateway.store.accepted) > given)  # noqa: B023 - awaited here
            assert gateway.store.accepted[-1].text == f"/{name} {argument}"
        await until(lambda: gateway.idle)
