"""The collected answers come out as they were reviewed."""

from __future__ import annotations

import pytest

from core.markdown.html import HtmlStream, render
from core.markdown.parse import parse
from core.markdown.split import split
from core.markdown.visible import visible
from tests.unit.markdown.golden import DOCUMENT, GOLDEN, answer, document, golden, names
from tests.unit.markdown.platforms import PLATFORMS, missing


@pytest.mark.parametrize("name", names())
def test_an_answer_comes_out_as_reviewed(name: str) -> None:
    """Run `python -m tests.unit.markdown.golden` after a change that is meant, and review the difference."""
    assert golden(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", names())
def test_an_answer_loses_nothing_and_calls_nobody_on_any_platform(name: str) -> None:
    wanted = visible(parse(answer(name)))
    for platform in PLATFORMS.values():
        messages = [platform.dialect.render(part) for part in split(answer(name), platform.dialect)]
        assert missing(wanted, "\n".join(messages), entities=platform.entities) == ""
        assert [call for message in messages for call in platform.mentions(message)] == []
        assert all(platform.dialect.limits.count(m) <= platform.dialect.limits.max_length for m in messages)


@pytest.mark.parametrize("name", names())
def test_an_answer_streams_to_the_same_page(name: str) -> None:
    stream, page = HtmlStream(), ""
    text = answer(name)
    for start in range(0, len(text), 40):
        page += stream.feed(text[start : start + 40]).settled
    assert page + stream.finish().settled == render(text)


def test_there_are_no_golden_files_without_an_answer() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.txt")) == names()
    assert len(names()) >= 60


def test_the_document_is_up_to_date() -> None:
    """Run `python -m tests.unit.markdown.golden`."""
    assert document() == DOCUMENT.read_text(encoding="utf-8")
