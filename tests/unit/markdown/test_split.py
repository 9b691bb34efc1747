"""Splitting: nothing lost, nothing too long, nothing left open."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.adapter import TextLimits
from core.markdown.dialect import plain_markdown
from core.markdown.parse import parse
from core.markdown.split import split
from core.markdown.visible import visible
from tests.unit.markdown.strategies import ANSWERS, examples


def _is_subsequence(wanted: str, text: str) -> bool:
    rest = iter(text)
    return all(character in rest for character in wanted)


@examples(150)
@given(ANSWERS, st.integers(200, 1000))
def test_no_visible_character_is_lost_and_no_part_is_too_long(text: str, limit: int) -> None:
    parts = split(text, plain_markdown(TextLimits(max_length=limit)))
    assert all(len(part) <= limit for part in parts)
    assert _is_subsequence(visible(parse(text)), "".join(visible(parse(part)) for part in parts))
