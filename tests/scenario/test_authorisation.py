"""Who may talk, on every platform and with every kind of event: one table for all of them.

`golden/authorisation.txt` says what each person can see when they do something where an account is set up in some way:
`yes` (answered), `no` (told that they may not talk), `code` (told a code that may let them in), `-` (nothing at all).
The same holds on every platform, as far as it has such people and such events; it is shown on the platforms' own wires.
After a change that is meant: CHATGPT_MS_GOLDEN=1 pytest tests/scenario/test_authorisation.py, and read the difference.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from core.access import Verdict
from core.messages import AccountId, Person, UserId
from core.people import People
from core.storage.sqlite import SqliteStore
from tests.contract.platform import Feature, SimulatedPlatform
from tests.contract.suite import hurry
from tests.contract.world import World, until
from tests.scenario.cast import KINDS, LISTED, ROLES, SETTINGS, Cell, Seen, act, cells, person_id
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.discord import DiscordPlatform
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.slack import SimulatedSlack
from tests.simulators.wechat import SimulatedWechat
from tests.simulators.weixin import SimulatedWeixin

GOLDEN = Path(__file__).parent / "golden" / "authorisation.txt"
AT_ONCE = 12
PLATFORMS: dict[str, Callable[[], SimulatedPlatform]] = {
    "slack": SimulatedSlack,
    "discord": DiscordPlatform,
    "feishu": SimulatedFeishu,
    "dingtalk": lambda: SimulatedDingTalk(card=False),
    "wechat": SimulatedWechat,
    "weixin": SimulatedWeixin,
}

Table = dict[Cell, str]


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr("adapters.discord.link.IDENTIFY_EVERY", 0.05)


@pytest.fixture(params=PLATFORMS)
async def world(request: pytest.FixtureRequest, tmp_path: Path, _impatient: None) -> AsyncIterator[World]:
    async with OpenAIServer() as model, PLATFORMS[request.param]() as platform:
        if isinstance(platform, SimulatedSlack):
            platform.api.limits_posts = False
        yield World(platform, model, tmp_path)
        assert list(platform.complaints()) == []


def configure(world: World, everything: Iterable[Cell]) -> None:
    """Accounts for all settings, with the ids of those who are to be in them."""
    ids: dict[str, dict[str, list[str]]] = {setting: {role: [] for role in ROLES} for setting in SETTINGS}
    for cell in everything:
        ids[cell.setting][cell.role].append(person_id(world.platform, cell))
    for setting, access in SETTINGS.items():
        allow = [id for role in sorted(LISTED) for id in ids[setting][role]] if "allow" in access else []
        world.single[setting] = {"access": {**access, "allow": allow, "admins": ids[setting]["admin"]}}
    world.changes = {"stream": False}
    if isinstance(world.platform, DiscordPlatform):
        world.changes["commands"] = False
    if isinstance(world.platform, SimulatedSlack):
        world.changes["prompts"] = ["Write a haiku"]


async def decide(world: World, everything: Iterable[Cell]) -> None:
    """Let those in who were approved, and keep those out who are blocked, before the gateway starts."""
    file = world.folder / "data" / "test.db"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    async with SqliteStore(file, clock=world.clock) as store:
        people = People(store, world.clock, is_admin=lambda _: False)
        for cell in everything:
            person = Person(AccountId(cell.setting), UserId(person_id(world.platform, cell)))
            if cell.role == "approved":
                await people.allow(person, by="the test")
            elif cell.role == "blocked":
                await people.block(person, by="the test")


async def play(world: World) -> Table:
    """Let all of it happen, and look."""
    platform, everything = world.platform, list(cells(world.platform))
    configure(world, everything)
    await decide(world, everything)
    seen: dict[Cell, Seen] = {}
    for cell in everything:
        if cell.kind == "missed":
            _, seen[cell] = await act(platform, cell)
    free = asyncio.Semaphore(AT_ONCE)

    async def happen(cell: Cell) -> None:
        async with free:
            delivery, seen[cell] = await act(platform, cell)
            if delivery is not None and acknowledges(platform, cell):
                await until(lambda: platform.acknowledged(delivery))

    async with world.gateway(*SETTINGS) as gateway:
        await asyncio.gather(*(happen(cell) for cell in everything if cell.kind != "missed"))
        fences = [Cell(setting, "admin", "direct") for setting in SETTINGS]
        for fence in fences:  # whatever came before it on its account has been looked at
            asked = await platform.person_writes("fence", user=fence.user, account=fence.setting)
            await until(lambda: "answer to: fence" in "".join(world.texts(asked)))  # noqa: B023 - awaited here
        if Feature.HISTORY not in platform.lacks:
            await until(lambda: any(_is_read_back(entry) for entry in gateway.logs))
        await until(lambda: gateway.idle and not gateway.app.inbox._notices)
        return {cell: outcome(seen[cell]()) for cell in everything}


def acknowledges(platform: SimulatedPlatform, cell: Cell) -> bool:
    if isinstance(platform, SimulatedDingTalk) and cell.kind == "overheard":
        return False  # it is not even pushed
    return Feature.ACKNOWLEDGEMENT not in platform.lacks


def _is_read_back(entry: Mapping[str, Any]) -> bool:
    return (entry["event"], entry.get("account")) == ("missed messages were read back", "listed")


def outcome(texts: Iterable[str]) -> str:
    shown = "\n".join(texts).replace("answer to: fence", "")
    if any(sign in shown for sign in ("answer to: hello", "What I understand", "suggestions")):
        return "yes"
    return "code" if "/approve" in shown else "no" if "may not talk" in shown else "-"


def written(table: Mapping[Cell, str]) -> str:
    """As it stands in the file."""
    lines = [f"{'account':<10}{'person':<16}" + "".join(f"{kind:<12}" for kind in KINDS).rstrip()]
    for setting in SETTINGS:
        lines.append("")
        for role in ROLES:
            row = [table.get(Cell(setting, role, kind), "") for kind in KINDS]
            lines.append((f"{setting:<10}{role:<16}" + "".join(f"{each:<12}" for each in row)).rstrip())
    return "\n".join(lines) + "\n"


def golden() -> Table:
    """The table in the file."""
    table: Table = {}
    header, *lines = GOLDEN.read_text().splitlines()
    places = {kind: header.index(f" {kind}") + 1 for kind in KINDS}
    for line in filter(None, lines):
        setting, role = line.split()[:2]
        for kind, place in places.items():
            if (value := line[place : place + 12].strip()) != "":
                table[Cell(setting, role, kind)] = value
    return table


def differences(found: Mapping[Cell, str]) -> list[str]:
    """Where a platform is not as the table says."""
    wanted = golden()
    return [
        f"{cell.setting}/{cell.role}/{cell.kind}: {value!r} instead of {wanted.get(cell)!r}"
        for cell, value in found.items()
        if wanted.get(cell) != value
    ]


async def test_who_may_talk_is_the_same_on_every_platform(world: World) -> None:
    found = await play(world)
    if os.environ.get("CHATGPT_MS_GOLDEN"):
        known = golden() if GOLDEN.exists() else {}
        GOLDEN.write_text(written({**known, **found}))
    assert differences(found) == []


async def test_the_table_has_every_kind_of_person_and_event() -> None:
    values = golden()
    assert set(values.values()) == {"yes", "no", "code", "-"}
    for setting in SETTINGS:
        for role in ROLES:
            for kind in KINDS:
                assert (Cell(setting, role, kind) in values) == (kind != "missed" or setting == "listed")
    assert all(value == "-" for cell, value in values.items() if cell.kind in ("overheard", "edited"))
    assert all(value in ("no", "-") for cell, value in values.items() if cell.role == "blocked")


@pytest.mark.parametrize("world", ["slack"], indirect=True)
async def test_a_gateway_that_skips_the_check_does_not_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def admit(*_: Any) -> Verdict:
        return Verdict.ADMIT

    monkeypatch.setattr("core.inbox.judge", admit)
    wrong = {line.split(":")[0].split("/")[2] for line in differences(await play(world))}
    assert wrong >= {"direct", "mention", "overheard", "command", "slash", "slashdirect", "opened", "missed"}


@pytest.mark.parametrize("world", ["slack"], indirect=True)
async def test_an_adapter_that_asks_nobody_does_not_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.inbox.Inbox.may", lambda *_: True)
    wrong = {line.split(":")[0].split("/")[2] for line in differences(await play(world))}
    assert wrong == {"opened"}
