"""The gateway as a process on a simulated Discord.

Beside what all platforms have, people who go on talking in the same places are answered across kills, also what they
write while nobody runs.
"""

from __future__ import annotations

import random

import pytest

from tests.contract.platform import Delivery
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import assert_discreet, until
from tests.scenario.process_scenarios import KILLS, ProcessScenarios
from tests.scenario.stage import Stage
from tests.simulators.discord import DiscordPlatform
from tests.simulators.openai_server import OpenAIServer

pytestmark = [pytest.mark.process, pytest.mark.slow]

PEOPLE = ("ann", "bob", "zoe")
WORDS = 24
"""Of a question; its answer takes about a second."""


class DiscordStage(Stage[DiscordPlatform]):
    long = 5_000  # more than one message holds


class TestDiscord(ProcessScenarios):
    @pytest.fixture
    def stage(self, model: OpenAIServer, make_gateway: MakeGateway) -> DiscordStage:
        platform = DiscordPlatform()
        platform.gateway.identify_interval = 0.0
        return DiscordStage("Discord", platform, model, make_gateway)


class Conversation:
    """What was asked, and what is to be read now."""

    def __init__(self, platform: DiscordPlatform) -> None:
        self.platform = platform
        self.asked: dict[str, Delivery] = {}

    async def ask(self, user: str, *, direct: bool) -> str:
        text = " ".join(f"{user}{len(self.asked)}w{number}" for number in range(WORDS))
        self.asked[text] = await self.platform.person_writes(text, user=user, direct=direct)
        return text

    def shown(self) -> list[str]:
        rooms = {delivery.room for delivery in self.asked.values()}
        return [message.text for room in rooms for message in self.platform.visible(room)]

    def halves(self) -> int:
        """Answers that are shown and not whole."""
        return len([text for text in self.shown() if text.removeprefix("answer to: ") not in self.asked])

    def unanswered(self) -> list[str]:
        shown = set(self.shown())  # once: the platform runs in this very loop
        return [text for text in self.asked if f"answer to: {text}" not in shown]


async def test_every_question_has_one_whole_answer_after_kills(make_gateway: MakeGateway, model: OpenAIServer) -> None:
    model.configure(reply="echo", token_delay=0.04, pieces_apart=True)
    dice = random.Random(4)
    in_the_middle = 0
    async with DiscordPlatform() as platform:
        platform.gateway.identify_interval = 0.0
        talk = Conversation(platform)
        gateway = await make_gateway(config={"accounts": {"bot": {"platform": "discord", **platform.account()}}})
        await gateway.start()
        await until(lambda: bool(platform.gateway.ready("bot")))
        for user in PEOPLE:  # a direct chat that the bot has never heard of cannot be found in any history
            for direct in (True, False):
                await talk.ask(user, direct=direct)
        await until(lambda: not talk.unanswered())
        await gateway.kill()
        for kill in range(KILLS):
            await gateway.start()
            await until(lambda: bool(platform.gateway.ready("bot")))
            for user in PEOPLE:
                await talk.ask(user, direct=user != "zoe")
            if kill % 4 == 0:
                await until(lambda: bool(platform.rest.calls))  # at once: some are not even committed
            else:
                pieces = dice.randrange(1, len(PEOPLE) + 1)
                await until(lambda pieces=pieces: talk.halves() >= pieces or not talk.unanswered())  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            in_the_middle += bool(talk.unanswered())
            await gateway.kill()
            await talk.ask(dice.choice(PEOPLE), direct=bool(dice.randrange(2)))
            await gateway.start()
            await until(lambda: not talk.unanswered() and not talk.halves())
            await gateway.kill()
        await gateway.start()
        await until(lambda: bool(platform.gateway.ready("bot")))
        await talk.ask("ann", direct=True)
        await until(lambda: not talk.unanswered())
        shown = talk.shown()
        doubled = len(shown) - len(set(shown))
        print(
            f"\nR1 Discord: {2 * KILLS} kills, {in_the_middle} in the middle of answers; {len(talk.asked)} questions, "
            f"{len(talk.unanswered())} lost, {doubled} doubled, {talk.halves()} half"
        )
        assert in_the_middle > KILLS / 2
        assert (talk.unanswered(), doubled, talk.halves()) == ([], 0, 0)
        assert list(platform.complaints()) == []
        assert await gateway.stop() == 0
        assert_discreet(gateway)


async def test_check_signs_in_and_tells_what_is_missing(make_gateway: MakeGateway) -> None:
    async with DiscordPlatform() as platform:
        block = {"platform": "discord", **platform.account()}
        gateway = await make_gateway(config={"accounts": {"bot": block}})
        sound = await gateway.command("check", "--connect")
        assert "account bot: signed in" in sound.out + sound.err
        assert sound.code == 0
        platform.world.bot("bot").in_guild = False
        alone = await gateway.command("check", "--connect")
        assert "invite it with https://discord.com/oauth2/authorize?client_id=" in alone.out + alone.err
        gateway.configure({"accounts": {"bot": {**block, "message_content": True}}})
        intent = await gateway.command("check", "--connect")
        assert intent.code != 0
        assert "Message Content Intent" in intent.out + intent.err
        platform.refuse_credentials()
        token = await gateway.command("check", "--connect")
        assert token.code != 0
        assert "does not accept it" in token.out + token.err
        assert block["token"] not in "".join((*gateway.lines, token.out, token.err))
