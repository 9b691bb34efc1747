"""What somebody reads whom the bot turns away: on each platform, word for word, and where.

docs/refusals.md is made of what is collected here; a page that is out of date fails. To write it anew:
CHATGPT_MS_GOLDEN=1 pytest tests/scenario/test_refusals.py
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from core.archive import PersonBudget
from core.messages import AccountId, Person
from core.texts import say
from tests.contract.platform import Delivery, Feature, SimulatedPlatform
from tests.contract.suite import hurry
from tests.contract.world import Gateway, World, until
from tests.scenario.test_authorisation import PLATFORMS
from tests.simulators.discord import DiscordPlatform
from tests.simulators.discord_rest import Interaction
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.slack import SimulatedSlack

PAGE = Path(__file__).parents[2] / "docs" / "refusals.md"
LONGEST, RATE, IN_CHANNEL = 200, 3, 4
ACCOUNTS: dict[str, dict[str, Any]] = {
    "closed": {"direct": "allowlist", "channels": "off"},
    "pairing": {"direct": "pairing"},
    "open": {"direct": "open"},
}
NAMES = {"slack": "Slack", "discord": "Discord", "feishu": "Feishu", "dingtalk": "DingTalk", "weixin": "WeChat (iLink)"}
NAMES |= {"wechat": "WeChat (Wechaty)", "api": "HTTP API", "web": "Web page"}

ALONE, DIRECT, THREAD, CHANNEL = "for its person alone", "in the direct chat", "in the thread", "in the channel"


@dataclass(frozen=True, slots=True)
class Shown:
    """One refusal as it is seen."""

    why: str
    where: str
    text: str

    def line(self) -> str:
        text = self.text.replace("|", "\\|").strip()
        return f"| {self.why} | {self.where} | {'<br>'.join(filter(None, text.splitlines()))} |"


@pytest.fixture(params=PLATFORMS)
async def world(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    hurry(monkeypatch)
    monkeypatch.setattr("adapters.discord.link.IDENTIFY_EVERY", 0.05)
    async with OpenAIServer() as model, PLATFORMS[request.param]() as platform:
        limits = {"messages_per_minute": RATE, "max_input_chars": LONGEST, "channel_messages_per_minute": IN_CHANNEL}
        single = {name: {"access": access} for name, access in ACCOUNTS.items()}
        changes: dict[str, Any] = {"stream": False}
        if isinstance(platform, DiscordPlatform):
            changes["commands"] = False
        if isinstance(platform, SimulatedSlack):
            platform.api.limits_posts = False
        yield World(platform, model, tmp_path, changes=changes, single=single, limits=limits)
        assert list(platform.complaints()) == []
        if Feature.PINGS not in platform.lacks:
            assert list(platform.pings()) == [], "nobody is notified of a refusal"


async def collected(world: World, gateway: Gateway) -> list[Shown]:
    """Every kind of refusal once."""
    platform, found = world.platform, []
    writes = platform.person_writes

    async def refused(why: str, delivery: Delivery, before: int = 0, *, direct: bool = True) -> None:
        await until(lambda: len(world.replies(delivery)) > before)
        found.append(Shown(why, where(platform, delivery, direct=direct), world.texts(delivery)[-1]))

    await refused("not allowed, direct", await writes("hello", account="closed"))
    if Feature.CHANNELS not in platform.lacks:
        gateway.app.inbox._noticed.clear()  # as if an hour had passed
        asked = await writes("hello", account="closed", direct=False, channel="first")
        await refused("not allowed, in a channel", asked, direct=False)
    await refused("not let in yet", await writes("hello", account="pairing"))
    for text in ("one", "two", "three"):
        asked = await writes(text, account="open", user="fast")
        await until(lambda: f"answer to: {text}" in "".join(world.texts(asked)))  # noqa: B023 - awaited here
    await refused("too fast", await writes("four", account="open", user="fast"), before=3)
    asked = await writes("the only one", account="open", user="frugal")
    await until(lambda: world.replies(asked))
    person = next(each for each in gateway.store.accepted if each.text == "the only one").sender.id
    await gateway.app.people.set_budget(Person(AccountId("open"), person), PersonBudget(messages_per_day=1), by="test")
    await refused("over the day's limit", await writes("one more", account="open", user="frugal"), before=1)
    await refused("too long", await writes("x" * (LONGEST + 1), account="open", user="wordy"))
    if Feature.CHANNELS not in platform.lacks:
        for number in range(IN_CHANNEL + 1):
            asked = await writes(f"say {number}", account="open", direct=False, channel="busy", user=f"talker{number}")
        paused = say("channel_paused", "en", minutes=5)
        await until(lambda: any(paused in text for text in world.texts(asked)))
        await until(lambda: gateway.idle)
        text = next(text for text in world.texts(asked) if paused in text)
        found.append(Shown("a storm in a channel", where(platform, asked, direct=False, text=text), text))
    return found


def where(platform: SimulatedPlatform, delivery: Delivery, *, direct: bool, text: str = "") -> str:
    """Where the last message (or the one with this text) is seen."""
    if direct:
        return DIRECT
    shown = [each for each in platform.visible(delivery.room) if not text or each.text == text][-1]
    if isinstance(platform, SimulatedSlack):
        message = platform.state.channels[delivery.room].find(shown.id)
        if message is not None and message.ephemeral:
            return ALONE
    return THREAD if shown.thread else CHANNEL


async def slash(world: World) -> list[Shown]:
    """The same after slash commands, where there are any."""
    platform, found = world.platform, []
    if isinstance(platform, SimulatedSlack):
        given = platform.command("hello", account="closed", channel="other", user="clicker")
        await until(lambda: world.texts(given))
        found.append(Shown("not allowed, slash command", ALONE, world.texts(given)[-1]))
        assert all(message.ephemeral for message in platform.state.channels[given.room].messages)
    if isinstance(platform, DiscordPlatform):
        for why, account, direct in (
            ("not allowed, slash command", "closed", False),
            ("not let in yet, slash command", "pairing", True),
        ):
            interaction: Interaction = await platform.person_commands(
                "chat", "hello", account=account, direct=direct, channel="other", user="clicker"
            )
            await until(lambda: interaction.told_alone)  # noqa: B023 - awaited here
            found.append(Shown(why, ALONE, interaction.told_alone[0]))
            assert not platform.visible(interaction.channel.id)
    return found


def usual(text: str) -> str:
    """What differs each time, always the same."""
    text = re.sub(r"(?<=Your id is )\S+?(?=; )", "ID", text.replace("`", ""))
    text = re.sub(r"\b[A-HJ-NP-Z2-9]{8}\b", "ABCD2345", text)
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "2026-12-01 00:00", text)
    return re.sub(r"again in \d+ s", "again in 42 s", text)


def sections() -> dict[str, str]:
    """The page by platform."""
    text = PAGE.read_text() if PAGE.exists() else ""
    return {part.partition("\n")[0]: part.partition("\n")[2].strip() for part in text.split("\n## ")[1:]}


def check(name: str, found: list[Shown]) -> None:
    """Compare a platform's section with the page, or write it."""
    lines = [Shown(each.why, each.where, usual(each.text)).line() for each in found]
    section = "\n".join(["| why | where | what is read |", "|---|---|---|", *lines])
    known = sections()
    if os.environ.get("CHATGPT_MS_GOLDEN"):
        known[NAMES[name]] = section
        ordered = [title for title in NAMES.values() if title in known]
        PAGE.write_text(HEAD + "".join(f"\n## {title}\n\n{known[title]}\n" for title in ordered))
        return
    assert known.get(NAMES[name]) == section, "docs/refusals.md is out of date; see the top of this file"


HEAD = f"""# What people read when they are turned away

Made by `tests/scenario/test_refusals.py` from what the adapters showed on each platform's wire; `ID`, codes, times and
seconds are examples, as are the limits. Whoever writes Chinese, or has set their client to it, reads the same in Chinese, such as
“{say("not_allowed", "zh", person="ID")}” Nobody is notified of a refusal, and no link in it is unfurled. A person who may
not talk is told so once an hour at most (after a slash command: each time, since it costs nobody a message), one who is
over a limit once a minute. With `access.refusals: silent` those who may not talk read nothing; Discord itself tells
whoever gave a slash command that the application did not respond.
"""


async def test_refusals_are_short_and_in_their_place(world: World, request: pytest.FixtureRequest) -> None:
    async with world.gateway(*ACCOUNTS) as gateway:
        found = await collected(world, gateway) + await slash(world)
    assert all(len(each.text) < 200 for each in found)
    assert all(each.where == ALONE for each in found if "slash" in each.why)
    (name,) = (name for name in PLATFORMS if f"[{name}]" in request.node.name)
    check(name, found)


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    hurry(monkeypatch)
    async with OpenAIServer() as model, PLATFORMS["weixin"]() as platform:
        limits = {"messages_per_minute": RATE, "max_input_chars": LONGEST}
        yield World(platform, model, tmp_path, limits=limits)


async def test_a_program_reads_a_status_and_json(served: World) -> None:
    found = []
    for access in ("allowlist", "pairing", "open"):
        served.others = {"api": {"access": {"direct": access}}}
        async with served.gateway() as gateway, aiohttp.ClientSession() as http:

            async def asked(text: str, user: str) -> str:
                body = {"message": text, "user": user}
                async with http.post(f"{gateway.app.url}/chat", json=body) as response:
                    answer = await response.json()
                    if "error" in answer:
                        answer["error"]["id"] = "0a1b2c3d"
                    return f"{response.status} {json.dumps(answer, ensure_ascii=False)}"

            if access != "open":
                why = "not allowed" if access == "allowlist" else "not let in yet"
                found.append(Shown(why, "the response", await asked("hello", "bob")))
                assert found[-1].text.startswith("403 ")
                continue
            for text in ("one", "two", "three"):
                assert (await asked(text, "fast")).startswith("200 ")
            found.append(Shown("too fast", "the response", await asked("four", "fast")))
            assert found[-1].text.startswith("429 ")
            found.append(Shown("too long", "the response", await asked("x" * (LONGEST + 1), "wordy")))
            assert (await asked("the only one", "frugal")).startswith("200 ")
            person = Person(AccountId("api"), gateway.store.accepted[-1].sender.id)
            await gateway.app.people.set_budget(person, PersonBudget(messages_per_day=1), by="test")
            found.append(Shown("over the day's limit", "the response", await asked("one more", "frugal")))
            assert found[-1].text.startswith("429 ")
    check("api", found)


async def test_a_page_shows_a_red_line(served: World) -> None:
    served.others = {"web": {"access": {"direct": "allowlist"}}}
    async with served.gateway() as gateway, aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        failure = await _said_on_the_page(http, gateway.app.url, "hello")
    assert failure["code"] == "not_allowed"
    check("web", [Shown("not allowed", "a red line below the question", str(failure["text"]))])


async def _said_on_the_page(http: aiohttp.ClientSession, url: str, text: str) -> dict[str, Any]:
    """The failure that the page is told."""
    headers = {"Origin": url}
    async with http.post(f"{url}/web/session", headers=headers) as response:
        csrf = (await response.json())["csrf"]
    async with http.ws_connect(f"{url}/web/socket", headers=headers) as socket:
        await socket.send_json({"type": "hello", "csrf": csrf})
        await socket.send_json({"type": "open", "conversation": "conversation-1"})
        await socket.send_json(
            {"type": "send", "conversation": "conversation-1", "client_id": "question-000001", "text": text}
        )
        async for received in socket:
            event = json.loads(received.data)
            if event["type"] == "answer" and event.get("failure"):
                failure: dict[str, Any] = event["failure"]
                return failure
    raise AssertionError("the page was told of no failure")
