"""What the pages tell can be done as it is written: links lead somewhere, commands and configuration keys exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from core.account import AccountConfig
from gateway import registry
from gateway.cli import commands
from gateway.manual import describe
from tests.unit.test_platform_docs import anchor, prose_of, text_of

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
GUIDES = [page for page in PAGES if page.parent.name != "adr" and page.name != "CHANGELOG.md"]
"""What holds today; the others tell what was decided, and what was."""

_CODE = re.compile(r"`[^`\n]*`")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def links_of(page: Path) -> set[str]:
    prose = _CODE.sub("", prose_of(page))
    found = re.findall(r"\]\(([^)\s]+)\)", prose) + re.findall(r'(?:src|srcset|href)="([^"]+)"', prose)
    return {link for link in found if not re.match(r"https?:|mailto:", link)}


def leads_somewhere(page: Path, link: str) -> bool:
    path, _, fragment = link.partition("#")
    goal = page.parent / path if path else page
    if not goal.exists() or not fragment:
        return goal.exists()
    return fragment in map(anchor, re.findall(r"^#+ (.+)$", prose_of(goal), re.MULTILINE))


def called_in(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every command that is written out, without the program's name, and the options after it."""
    for line in text.splitlines():
        for words in re.findall(r"chatgpt-ms ((?:[a-z]+\b(?![/.=]) ?){1,2}[^`|#]*)", line):
            for call in words.split("chatgpt-ms "):
                yield call, re.findall(r"(?<![\w-])--[a-z][a-z-]*", call)


def command_of(call: str) -> click.Command | None:
    """The command that the first words name."""
    found: click.Command = commands
    for word in re.findall(r"[a-z]+", call):
        if not isinstance(found, click.Group):
            break
        following = found.commands.get(word)
        if following is None:
            return found if found is not commands else None
        found = following
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in links_of(page) if not leads_somewhere(page, link)] == []


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_commands_are_called_as_they_are(page: Path) -> None:
    wrong = []
    for call, options in called_in(text_of(page)):
        command = command_of(call)
        known = {option for parameter in command.params for option in parameter.opts} if command else set()
        if command is None or not set(options) <= known:
            wrong.append(call)
    assert wrong == []


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_keys_of_the_configuration_exist(page: Path) -> None:
    keys = {".".join(key.path) for key in describe()}
    sections = {key.partition(".")[0] for key in keys}
    models: list[type[AccountConfig]] = [registry.spec(platform).config for platform in registry.built_in()]
    for model in models:
        keys |= {".".join(key.path) for key in describe(model)}
    sections.add("access")
    written = re.findall(r"`(?:accounts\.[\w-]+\.)?([a-z]+(?:\.[a-z_]+)*)\b(?::[^`]*)?`", text_of(page))
    named = {key for key in written if "." in key and key.partition(".")[0] in sections and not key.endswith(".mjs")}
    parents = {key.rpartition(".")[0] for key in keys}
    assert sorted(named - keys - parents) == []


def test_what_is_not_there_would_be_seen() -> None:
    assert not leads_somewhere(ROOT / "README.md", "docs/nothing.md")
    assert not leads_somewhere(ROOT / "README.md", "docs/why.md#nothing")
    assert command_of("people allow slack U1") is not None
    assert command_of("peeple allow") is None
    assert [options for _, options in called_in("`chatgpt-ms usage [--acount NAME] --month`")] == [
        ["--acount", "--month"]
    ]
