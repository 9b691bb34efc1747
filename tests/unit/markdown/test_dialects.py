"""What holds for every dialect, whatever the answer."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.markdown.parse import parse
from core.markdown.split import split
from core.markdown.visible import visible
from tests.unit.markdown.platforms import PLATFORMS, missing
from tests.unit.markdown.strategies import ANSWERS, ATTACKS, examples


@pytest.mark.parametrize("name", PLATFORMS)
@examples(60)
@given(text=ANSWERS)
def test_every_visible_character_is_shown_and_nobody_is_called(name: str, text: str) -> None:
    platform = PLATFORMS[name]
    message = platform.dialect.render(text)
    assert missing(visible(parse(text)), message, entities=platform.entities) == ""
    assert platform.mentions(message) == []


@pytest.mark.parametrize("name", PLATFORMS)
@examples(60)
@given(text=ANSWERS, length=st.integers(400, 1500))
def test_parts_lose_nothing_fit_and_close_their_fences(name: str, text: str, length: int) -> None:
    platform = PLATFORMS[name]
    dialect = platform.small(length)
    parts = split(text, dialect)
    messages = [dialect.render(part) for part in parts]
    assert [m for m in messages if dialect.limits.count(m) > length] == []
    assert missing(visible(parse(text)), "\n".join(messages), entities=platform.entities) == ""
    assert [call for message in messages for call in platform.mentions(message)] == []
    if name not in ("plain", "slack-markdown"):  # these write no fences, and fences of any length
        assert [m for m in messages if len(re.findall(r"(?m)^(?:> )*```", m)) % 2] == []


@pytest.mark.parametrize("name", PLATFORMS)
@pytest.mark.parametrize(
    "frame", ["…", "`…`", "**…**", "```\n…\n```", "| a |\n|---|\n| … |", "> …", "- …", "# …", "[…](https://a.b)"]
)
@examples(30)
@given(attack=ATTACKS)
def test_no_attack_survives_in_any_place(name: str, frame: str, attack: str) -> None:
    message = PLATFORMS[name].dialect.render(frame.replace("…", attack))
    assert PLATFORMS[name].mentions(message) == []


@pytest.mark.parametrize("name", PLATFORMS)
def test_the_oracle_sees_what_is_alive(name: str) -> None:
    """The patterns find mentions in text that no dialect has touched; else the tests above could not fail."""
    raw = {"discord": "<@123> @everyone", "dingtalk": "@13800138000", "plain": "@所有人"}
    attack = raw.get(name, "<@U1> <!here>" if name.startswith("slack") else '<at id="all">')
    assert PLATFORMS[name].mentions(attack)
