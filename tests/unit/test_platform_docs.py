"""The pages about platforms say what the adapters need and have, and the same in both languages."""

from __future__ import annotations

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.feishu.diagnosis import SCOPES
from core.account import AccountConfig

ROOT = Path(__file__).parents[2]
PLATFORMS = ROOT / "docs" / "platforms"
PAIRS = {
    **{
        platform: (PLATFORMS / f"{platform}.md", PLATFORMS / f"{platform}.zh-CN.md")
        for platform in ("feishu", "dingtalk", "wechat", "weixin")
    },
    "README": (ROOT / "README.md", ROOT / "README.zh-CN.md"),
}
PAGES = [page for pair in PAIRS.values() for page in pair]
EVERY_MESSAGE, SELF = "im:message.group_msg", "application:application:self_manage"
"""Scopes of Feishu for what not everybody needs, and for looking at the app itself."""
ADAPTED = [(platform, page) for platform in ("feishu", "dingtalk", "wechat", "weixin") for page in PAIRS[platform]]

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"(^|\s+)#.*$", re.MULTILINE)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    return _FENCE.sub("", text_of(page))


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """Language and content of each code block."""
    return [
        (match[2], re.sub(f"^{match[1]}", "", match[3], flags=re.MULTILINE)) for match in _FENCE.finditer(text_of(page))
    ]


def anchor(heading: str) -> str:
    """As GitHub makes it: lower case, letters and digits of every script, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def outline(page: Path) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", prose_of(page), re.MULTILINE)]


def tables(page: Path) -> list[list[int]]:
    """The number of cells in each row of each table."""
    found = re.findall(r"(?:^\|.*\n)+", prose_of(page) + "\n", re.MULTILINE)
    return [[row.count("|") - 1 for row in table.splitlines()] for table in found]


def first_cells(page: Path) -> list[str]:
    """What is named as code in the first cell of each row."""
    return [
        name
        for row in re.findall(r"^\|([^|]*)\|", prose_of(page), re.MULTILINE)
        for name in re.findall("`([^`]+)`", row)
    ]


def adapter(platform: str) -> Any:
    return import_module(f"adapters.{platform}")


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_both_languages_have_the_same_build(pair: tuple[Path, Path]) -> None:
    english, chinese = pair
    assert outline(english) == outline(chinese)
    assert tables(english) == tables(chinese)
    assert len(re.findall(r"^ *(?:\d+\.|-) ", prose_of(english), re.MULTILINE)) == len(
        re.findall(r"^ *(?:\d+\.|-) ", prose_of(chinese), re.MULTILINE)
    )


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_both_languages_have_the_same_code(pair: tuple[Path, Path]) -> None:
    english, chinese = ([(kind, _COMMENT.sub("", code)) for kind, code in blocks_of(page)] for page in pair)
    assert english == chinese


@pytest.mark.parametrize("platform", ["feishu", "dingtalk", "wechat", "weixin"])
def test_both_languages_have_the_same_rows(platform: str) -> None:
    english, chinese = (first_cells(page) for page in PAIRS[platform])
    assert english == chinese


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if target.startswith("https://"):
            continue
        path, _, fragment = target.partition("#")
        goal = (page.parent / path) if path else page
        assert goal.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", prose_of(goal), re.MULTILINE)
            assert fragment in map(anchor, headings), target


@pytest.mark.parametrize(("platform", "page"), ADAPTED, ids=lambda value: getattr(value, "name", value))
def test_every_key_is_in_the_table_and_nothing_else(platform: str, page: Path) -> None:
    keys = set(adapter(platform).Config.model_fields) - set(AccountConfig.model_fields)
    table = re.search(r"^#+ (?:Keys|配置项)\n(.*?)^#", prose_of(page), re.MULTILINE | re.DOTALL)
    assert table is not None
    assert set(re.findall(r"^\| `(\w+)` \|", table[1], re.MULTILINE)) == keys


@pytest.mark.parametrize(("platform", "page"), ADAPTED, ids=lambda value: getattr(value, "name", value))
def test_the_configurations_are_valid(platform: str, page: Path) -> None:
    blocks = [code for kind, code in blocks_of(page) if kind == "yaml"]
    assert blocks
    for block in blocks:
        for account in yaml.safe_load(block)["accounts"].values():
            assert not adapter(platform).Config.model_validate(account).credentials_missing()


@pytest.mark.parametrize("page", PAIRS["feishu"], ids=lambda page: page.name)
def test_the_scopes_of_feishu_are_the_ones_that_are_looked_for(page: Path) -> None:
    (block,) = (json.loads(code) for kind, code in blocks_of(page) if kind == "json")
    scopes = block["scopes"]["tenant"]
    assert scopes == sorted(scopes)
    assert set(scopes) <= set(first_cells(page)), "each is explained"
    assert set(scopes) == {*SCOPES, EVERY_MESSAGE, SELF}


@pytest.mark.parametrize("page", PAIRS["dingtalk"], ids=lambda page: page.name)
def test_the_permissions_of_dingtalk_are_explained(page: Path) -> None:
    (block,) = (code for kind, code in blocks_of(page) if kind == "")
    assert set(block.split()) <= set(first_cells(page))
