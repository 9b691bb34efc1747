"""What is known of a text without reading it again: it has to be what reading it again would tell."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.adapter import TextLimits
from core.markdown import dialect as dialects
from core.markdown import parse as reading
from core.markdown.dialect import Dialect
from core.markdown.dialects.dingtalk import DINGTALK
from core.markdown.dialects.discord import DISCORD
from core.markdown.dialects.feishu import FEISHU
from core.markdown.dialects.plain import WECHAT
from core.markdown.dialects.slack import SLACK_MARKDOWN, SLACK_MRKDWN
from core.markdown.parse import Section, clean, open_code, parse, read, sections
from core.markdown.pieces import in_a_row, sourced
from core.markdown.preview import Preview
from core.markdown.recent import Recent
from core.markdown.split import split
from tests.unit.markdown.strategies import ANSWERS, examples

_DIALECTS = (DISCORD, SLACK_MARKDOWN, SLACK_MRKDWN, FEISHU, DINGTALK, WECHAT)
_MARKS = st.text(st.sampled_from("-*+>#`~|:$\\[]() \n\n\tab1.)=_"), max_size=60)
_WORDS = st.lists(
    st.sampled_from(
        [*"ab1.)!?:;,-+=#'\"(%@^/}{ \t\n\n\r", "注意：", "「", "\u3000", "\xa0", "👍🏽", "\u2028", "\x00", "\ud800"]
    ),
    max_size=60,
).map("".join)


@examples(60)
@given(st.one_of(ANSWERS, _MARKS), st.integers(0, 5), st.integers(1, 5))
@example("a\n\n```\ncode\n\n\n", 0, 2)
@example("- ```\n  code\n\n\nnext", 0, 1)
@example("> ~~~\n> code\n>\n>\n", 0, 1)
def test_blocks_in_a_row_are_read_as_they_were(text: str, first: int, count: int) -> None:
    pieces = sourced(text)[first : first + count]
    reading.forget()
    source = in_a_row(pieces)
    known = parse(source or "")
    reading.forget()
    assert known == parse(source or "")


@examples(60)
@given(_WORDS)
@example("one\ntwo\n\n\nthree\n")
@example("a\n1. b")
@example("a \nb")
@example("a\n b")
@example("see http://example.com")
def test_words_alone_are_read_as_the_parser_reads_them(text: str) -> None:
    text = clean(text)
    if open_code(text) is None:
        assert sections(text) == read(text)


@pytest.mark.parametrize("dialect", _DIALECTS, ids=lambda dialect: dialect.name)
@examples(8)
@given(text=ANSWERS, length=st.integers(200, 1000))
def test_a_part_is_sent_as_a_later_process_would_send_it(dialect: Dialect, text: str, length: int) -> None:
    small = replace(dialect, limits=TextLimits(max_length=length, count=dialect.limits.count))
    dialects.forget()
    reading.forget()
    preview = Preview(small)
    preview.feed(text[: len(text) // 2])
    growing = [(part, dialect.render(part)) for part in preview.growing()]
    written = [(part, dialect.render(part)) for part in split(text, small)]
    for part, known in growing + written:
        dialects.forget()
        reading.forget()
        assert dialect.render(part) == known


def test_a_part_that_was_measured_is_not_read_again_to_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    dialects.forget()
    reading.forget()
    text = "# Title\n\nSome *words*.\n\n- one\n- two\n"
    calls = list[str]()

    def counted(text: str) -> list[Section]:
        calls.append(text)
        return read(text)

    monkeypatch.setattr(reading, "read", counted)
    (part,) = split(text, DISCORD)
    DISCORD.render(part)
    assert calls == [text]


def test_what_is_kept_is_bounded_and_the_oldest_goes_first() -> None:
    recent = Recent[str, int](80)
    for number in range(8):
        recent.keep(str(number), number, 10)
    assert recent.get("0") == 0  # used: the next to go is 1
    recent.keep("8", 8, 10)
    assert [recent.get(str(number)) for number in range(9)] == [0, None, 2, 3, 4, 5, 6, 7, 8]
    recent.keep("large", 9, 11)
    assert recent.get("large") is None
    recent.keep("8", 10, 5)
    recent.keep("9", 9, 5)
    assert recent.get("2") == 2  # a value replaced weighs once
    recent.clear()
    assert recent.get("8") is None
