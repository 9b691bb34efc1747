"""Which texts are commands."""

from __future__ import annotations

import pytest

from core.commands import Command, parse_command, with_person, without_code


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("/new", Command("new", "")),
        (" /NEW \n", Command("new", "")),
        ("reset", Command("new", "")),
        ("Reset ", Command("new", "")),
        ("/reset", Command("new", "")),
        ("/新会话", Command("new", "")),
        ("/model", Command("model", "")),
        ("/model  gpt-5 ", Command("model", "gpt-5")),
        ("/模型 GPT-5", Command("model", "GPT-5")),
        ("/forget yes", Command("forget", "yes")),
        ("/retry", Command("retry", "")),
        ("/停止", Command("stop", "")),
        ("／help", Command("help", "")),
        ("／帮助", Command("help", "")),
        ("　／模型　GPT-5　", Command("model", "GPT-5")),
        ("/budget ann　tokens=5", Command("budget", "ann tokens=5")),
        ("／new　please", None),
        ("／／new", None),
        ("／", None),
        ("", None),
        ("/", None),
        ("new", None),
        ("/new york", None),
        ("/newer", None),
        ("please /new", None),
        ("reset it", None),
        ("//new", None),
    ],
)
def test_a_text_is_a_command_or_a_question(text: str, command: Command | None) -> None:
    assert parse_command(text) == command


@pytest.mark.parametrize(
    ("text", "mentioned", "read"),
    [
        ("/block @Bob", ["b1"], "/block b1"),
        ("／封禁　@Bob\u2005", ["b1", "b1"], "／封禁 b1"),
        ("/block", ["b1"], "/block b1"),
        ("/budget @Bob Hill\u2005tokens=5 money=default", ["b1"], "/budget b1 tokens=5 money=default"),
        ("/budget  tokens=5", ["b1"], "/budget b1 tokens=5"),
        ("/额度 默认", ["b1"], "/额度 b1 默认"),
        ("/budget @Bob", ["b1"], "/budget b1"),
        ("/block @Bob", [], "/block @Bob"),
        ("/block @Bob", ["b1", "c1"], "/block @Bob"),
        ("/block @Bob @Carl", ["b1"], "/block @Bob @Carl"),
        ("/block c1", ["b1"], "/block c1"),
        ("/approve @Bob", ["b1"], "/approve @Bob"),
        ("ask @Bob", ["b1"], "ask @Bob"),
    ],
)
def test_a_command_about_the_one_who_is_mentioned_gets_their_id(text: str, mentioned: list[str], read: str) -> None:
    assert with_person(text, mentioned) == read


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/link ABCD2345", "/link ********"),
        (" ／关联　abcd-2345", "／关联 ********"),
        ("/APPROVE `ABCD2345` please", "/APPROVE ********"),
        ("/link", "/link"),
        ("/block ABCD2345", ""),
        ("what is /link ABCD2345", ""),
        ("ABCD2345", ""),
    ],
)
def test_of_a_command_that_tells_a_code_the_rest_is_kept(text: str, kept: str) -> None:
    assert without_code(text) == kept


def test_only_retry_waits_for_its_turn() -> None:
    names = ("help", "new", "stop", "retry", "status", "model", "whoami", "export", "forget")
    assert [name for name in names if not Command(name, "").bypasses] == ["retry"]
