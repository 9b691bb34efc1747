"""What is shown of an answer while it grows."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.adapter import TextLimits
from core.markdown.dialect import plain_markdown
from core.markdown.dialects.discord import DISCORD
from core.markdown.html import HtmlStream, render
from core.markdown.parse import clean, parse
from core.markdown.preview import Preview
from core.markdown.split import split
from core.markdown.unfinished import presentable
from core.markdown.visible import visible
from tests.unit.markdown.golden import answer, names
from tests.unit.markdown.platforms import missing
from tests.unit.markdown.strategies import ANSWERS, examples

_CUTS = st.lists(st.sampled_from([1, 2, 7, 30, 200]), min_size=1, max_size=5)


def _pieces(text: str, sizes: list[int]) -> list[str]:
    pieces, at = list[str](), 0
    while at < len(text):
        pieces.append(text[at : at + sizes[len(pieces) % len(sizes)]])
        at += len(pieces[-1])
    return pieces


@examples(60)
@given(ANSWERS, _CUTS)
def test_the_settled_pages_together_are_the_page_of_the_whole(text: str, sizes: list[int]) -> None:
    stream = HtmlStream()
    updates = [stream.feed(piece) for piece in _pieces(text, sizes)]
    assert "".join(update.settled for update in [*updates, stream.finish()]) == render(text)


@examples(60)
@given(ANSWERS, _CUTS)
def test_complete_parts_never_change_and_the_end_is_what_split_makes(text: str, sizes: list[int]) -> None:
    dialect = plain_markdown(TextLimits(max_length=300))
    preview, complete = Preview(dialect), list[str]()
    for number, piece in enumerate(_pieces(text, sizes)):
        preview.feed(piece)
        assert preview.complete[: len(complete)] == complete
        complete = list(preview.complete)
        if number % 9 == 0:
            assert [part for part in preview.growing() if len(part) > 300] == []
    assert preview.finish() == split(text, dialect)
    assert preview.complete[: len(complete)] == complete


@examples(60)
@given(ANSWERS)
def test_what_is_shown_is_a_beginning_of_what_will_be(text: str) -> None:
    """Letter by letter: marks are ambiguous while their line is being written, and so is a code span until it ends."""
    end = presentable(clean(text))
    assume(end.count("`") <= text.count("`"))
    marks = re.compile(r"[\W_]")
    shown = marks.sub("", visible(parse(end)))
    assert missing(shown, marks.sub("", visible(parse(text))), entities=False) == ""


@pytest.mark.parametrize(
    ("unfinished", "shown"),
    [
        ("**bold te", "**bold te**"),
        ("a **", "a"),
        ("a **bold*", "a **bold**"),
        ("***both** it", "***both** it*"),
        ("~~old", "~~old~~"),
        ("**注意：", "**注意：**"),
        ("`co", "`co`"),
        ("``a`", "``a``"),
        ("a ` b", "a ` b"),
        ("2*3*4 = 5", "2*3*4 = 5"),
        ("snake_case_x", "snake_case_x"),
        ("see [the li", "see"),
        ("see [the link](https://exa", "see"),
        ("see [the link](https://example.com) and", "see [the link](https://example.com) and"),
        ("**[te", ""),
        ("![pic](https://", ""),
        ("a <https://x", "a"),
        ("AT&am", "AT"),
        ("a\\", "a"),
        ("so \\(x +", "so"),
        ("so $$x", "so"),
        ("text\n-", "text"),
        ("text\n---", "text"),
        ("- item\n- ", "- item"),
        ("- [", ""),
        ("1. x\n2", "1. x"),
        ("## ", ""),
        ("> quoted *a _b", "> quoted *a _b_*"),
        ("text **b\nmore [x", "text **b\nmore**"),
        ("| a | b", ""),
        ("text\n| a | b |\n|--", "text"),
        ("| a | b |\n|---|---|\n| 1 | 2", "| a | b |\n|---|---|"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("```pyth", ""),
        ("```py\ncode\n``", "```py\ncode"),
        ("- item **open\n\n", "- item **open"),
    ],
)
def test_an_unfinished_end_is_made_presentable(unfinished: str, shown: str) -> None:
    assert presentable(unfinished).strip("\n") == shown


@pytest.mark.parametrize("name", names())
def test_a_page_never_shows_raw_marks_of_what_is_still_open(name: str) -> None:
    """The page that grows shows no asterisks or brackets that the finished page does not show."""
    text = answer(name)
    if name.startswith("unfinished"):
        return
    final = render(text)
    stream, settled = HtmlStream(), ""
    for piece in _pieces(text, [11, 3, 29]):
        update = stream.feed(piece)
        settled += update.settled
        page = settled + update.tail
        assert page.count("**") <= final.count("**")
        assert page.count("](") <= final.count("](")


def test_an_answer_of_several_messages_grows_in_the_last_one() -> None:
    preview = Preview(DISCORD)
    seen = 0
    for n in range(100):
        preview.feed(f"Paragraph number {n} of the answer, with a few words in it.\n\n")
        assert len(preview.growing()) in (1, 2)  # two while the last paragraph has outgrown its message
        assert len(preview.complete) >= seen
        seen = len(preview.complete)
    assert seen >= 2
    assert len(preview.finish()) > seen


def test_pieces_may_be_cut_inside_a_line_end() -> None:
    stream = HtmlStream()
    page = "".join(stream.feed(piece).settled for piece in ["one\r", "\n\r", "\ntwo\r"])
    assert page + stream.finish().settled == "<p>one</p>\n<p>two</p>\n"
