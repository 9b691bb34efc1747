"""The page of guarantees names what there is: each test, command, knob and page exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.delivery import RETRY_AFTER
from core.journal import Quota
from tests.unit.test_platform_docs import text_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
NUMBERS = {"R1", "R2", "R3", "R4", "R5", "R7", "R8", "R9", "R10", "R11", "R12", "S1", "S4", "S5", "S6", "S7", "S8"}


def rows() -> dict[str, list[str]]:
    """Of the table of experiments: bar, figure, command."""
    found = re.findall(r"^\| ([RS]\d+) \| (.*) \|$", text_of(PAGE), re.MULTILINE)
    return {number: rest.split(" | ") for number, rest in found}


def missing(text: str) -> list[str]:
    """Paths, links, modules, knobs and make targets in a text that do not exist."""
    tests = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("*.py"))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    exists = {
        **{path: (ROOT / path).exists() for path in re.findall(r"\btests/[\w/.]*\w", text)},
        **{link: (PAGE.parent / link).exists() for link in re.findall(r"\]\(([\w./-]+)[)#]", text)},
        **{name: (ROOT / f"{name.replace('.', '/')}.py").exists() for name in re.findall(r"-m (bench\.\w+)", text)},
        **{knob: f'"{knob}"' in tests for knob in re.findall(r"CHATGPT_MS_\w+", text)},
        **{target: target.removeprefix("make ") in targets for target in re.findall(r"`(make [a-z-]+)", text)},
    }
    return [name for name, there in exists.items() if not there]


def test_everything_that_the_page_names_exists() -> None:
    text = text_of(PAGE)
    assert missing(text) == []
    assert len(re.findall(r"\btests/", text)) > 20


def test_something_that_does_not_exist_would_be_seen() -> None:
    text = "`pytest tests/core/test_nothing.py`, [a](no/page.md), `python -m bench.no`, `CHATGPT_MS_NO=1`, `make no`"
    assert len(missing(text)) == 5


def test_every_experiment_has_its_bar_figure_and_command() -> None:
    assert rows().keys() == NUMBERS
    for number, row in rows().items():
        assert len(row) == 3, number
        assert all(row), number
        assert "pytest " in row[2] or number == "R12", number
    assert rows()["R12"][1] == "not in this version"


@pytest.mark.parametrize("platform", ["slack", "discord", "feishu", "dingtalk", "wechat", "weixin"])
def test_the_kinds_of_tests_that_are_only_alluded_to_exist(platform: str) -> None:
    assert (ROOT / "tests" / "scenario" / f"test_{platform}_kill.py").is_file()


def test_the_bounds_are_those_of_the_program() -> None:
    text = " ".join(text_of(PAGE).split())
    assert list(RETRY_AFTER) == [1, 5, 30, 120, 600]
    assert "after 1, 5 and 30 s, 2 and 10 min" in text
    quota = Quota()
    assert f"{quota.queued} messages wait in one conversation" in text
    assert f"{quota.pending:,} and {quota.pending_bytes // 2**20} MB in all" in text


@pytest.mark.parametrize("page", ["README.md", "README.zh-CN.md", "docs/operations.md"])
def test_the_page_is_linked(page: str) -> None:
    assert re.search(r"\]\((docs/)?guarantees\.md\)", text_of(ROOT / page))
