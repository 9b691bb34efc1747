"""What holds for every dialect, whatever the answer."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.markdown.dialect import Dialect
from core.markdown.dialects.slack import SLACK_MARKDOWN, SLACK_MRKDWN, best
from core.markdown.parse import parse
from core.markdown.split import split
from core.markdown.visible import visible
from tests.unit.markdown.platforms import PLATFORMS, missing
from tests.unit.markdown.strategies import ANSWERS, ATTACK_TEXTS, examples


@pytest.mark.parametrize("name", PLATFORMS)
@examples(50)
@given(text=ANSWERS, length=st.integers(400, 1500))
def test_nothing_is_lost_nobody_is_called_and_every_part_fits(name: str, text: str, length: int) -> None:
    platform = PLATFORMS[name]
    wanted = visible(parse(text))
    whole = platform.dialect.render(text)
    assert missing(wanted, whole, entities=platform.entities) == ""
    assert platform.mentions(whole) == []

    dialect = platform.small(length)
    messages = [dialect.render(part) for part in split(text, dialect)]
    assert [message for message in messages if dialect.limits.count(message) > length] == []
    assert missing(wanted, "\n".join(messages), entities=platform.entities) == ""
    assert [call for message in messages for call in platform.mentions(message)] == []
    if name not in ("plain", "slack-markdown"):  # these write no fences, and fences of any length
        assert [message for message in messages if len(_FENCE.findall(message)) % 2] == []


@pytest.mark.parametrize("product", ["2*3*4 = 24", "a*b*c", "x*y + z*w", "2*x*(y+1)*z"])
def test_a_product_keeps_its_signs(product: str) -> None:
    assert PLATFORMS["plain"].dialect.render(product) == product
    assert parse(product) == parse(product.replace("*", r"\*"))
    assert parse("2**3**4") != parse(r"2\*\*3\*\*4")


_FENCE = re.compile(r"(?m)^(?:> )*```")


_FRAMES = [
    "…",
    "`…`",
    "**…**",
    "```\n…\n```",
    "| a |\n|---|\n| … |",
    "> …",
    "- …",
    "# …",
    "[…](https://a.b)",
    "![…](https://a.b)",
    "$…$",
    "\\…",
]


@pytest.mark.parametrize("name", PLATFORMS)
@pytest.mark.parametrize("frame", _FRAMES)
def test_no_attack_survives_in_any_place(name: str, frame: str) -> None:
    messages = [PLATFORMS[name].dialect.render(frame.replace("…", attack)) for attack in ATTACK_TEXTS]
    assert [call for message in messages for call in PLATFORMS[name].mentions(message)] == []


@pytest.mark.parametrize("name", PLATFORMS)
def test_the_oracle_sees_what_is_alive(name: str) -> None:
    """The patterns find mentions in text that no dialect has touched; else the tests above could not fail."""
    raw = {"discord": "<@123> @everyone", "dingtalk": "@13800138000", "plain": "@所有人"}
    attack = raw.get(name, "<@U1> <!here>" if name.startswith("slack") else '<at id="all">')
    assert PLATFORMS[name].mentions(attack)


def test_the_reader_notices_a_lost_character() -> None:
    assert missing("abc", "a-b-c", entities=False) == ""
    assert missing("abc", "a-c", entities=False) == "bc"
    assert missing("a<b", "a&lt;b", entities=True) == ""
    assert missing("a<b", "a&lt;b", entities=False) == "<b"


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("Just **words** and a [link](https://example.com).", SLACK_MRKDWN),
        ("- a list\n- of *two*", SLACK_MRKDWN),
        ("# A heading", SLACK_MARKDOWN),
        ("| a |\n|---|\n| b |", SLACK_MARKDOWN),
        ("- [x] a task", SLACK_MARKDOWN),
        ("a literal \\*asterisk\\* that mrkdwn cannot escape", SLACK_MARKDOWN),
        ("words " * 800, SLACK_MARKDOWN),
    ],
)
def test_slack_gets_the_form_that_shows_the_answer_best(text: str, dialect: Dialect) -> None:
    assert best(text) is dialect
