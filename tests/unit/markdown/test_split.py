"""Splitting: where the cuts lie, and that nothing is lost at them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.adapter import TextLimits
from core.markdown.dialect import plain_markdown
from core.markdown.dialects.discord import DISCORD
from core.markdown.dialects.feishu import FEISHU
from core.markdown.measure import clusters, utf8_bytes
from core.markdown.parse import parse
from core.markdown.split import split
from core.markdown.tree import CodeBlock, List, Table
from core.markdown.visible import visible
from tests.unit.markdown.platforms import missing
from tests.unit.markdown.strategies import ANSWERS, examples


def _split(text: str, length: int) -> list[str]:
    return split(text, plain_markdown(TextLimits(max_length=length)))


@examples(60)
@given(ANSWERS, st.integers(200, 1000))
def test_commonmark_parts_lose_nothing_and_fit(text: str, length: int) -> None:
    parts = _split(text, length)
    assert [part for part in parts if len(part) > length] == []
    assert missing(visible(parse(text)), "".join(visible(parse(part)) for part in parts), entities=False) == ""


@examples(60)
@given(st.text(st.sampled_from("e\u0301👨‍👩‍👧‍👦👍🏽🇩🇪🇫🇷한हिन्दी1️⃣中"), min_size=200, max_size=500))
def test_no_character_that_a_reader_sees_is_torn(text: str) -> None:
    whole = [cluster for cluster in clusters(text.strip()) if cluster.strip()]
    cut = [cluster for part in _split(text, 200) for cluster in clusters(part) if cluster.strip()]
    assert cut == whole


def test_a_short_answer_is_one_part_as_it_was_written() -> None:
    assert _split("# Hi\nthere *you*", 200) == ["# Hi\nthere *you*"]


def test_an_answer_with_nothing_to_show_has_no_parts() -> None:
    assert _split(" \n\n", 200) == []


def test_cuts_lie_between_paragraphs_where_they_can() -> None:
    paragraphs = [f"{n} " + "word " * 20 + "end." for n in range(6)]
    parts = _split("\n\n".join(paragraphs), 250)
    assert [part.split("\n\n") for part in parts] == [paragraphs[n : n + 2] for n in (0, 2, 4)]


def test_a_long_paragraph_is_cut_behind_a_sentence() -> None:
    parts = _split("This is one of the sentences, and it has an end. " * 12, 230)
    assert len(parts) > 1
    assert {part[-1] for part in parts} == {"."}


def test_chinese_is_cut_behind_a_sentence_without_spaces() -> None:
    parts = _split("这是一个很长的句子，里面有很多内容，但是没有空格。" * 20, 200)
    assert len(parts) > 1
    assert {part[-1] for part in parts} == {"。"}


def test_styles_that_are_cut_are_closed_and_opened_again() -> None:
    parts = _split("**" + "strong words " * 40 + "end**", 200)
    assert len(parts) > 1
    assert all(part.startswith("**") and part.endswith("**") for part in parts)


def test_code_is_closed_and_opened_again_with_its_language() -> None:
    code = "".join(f"line_{n} = {n}\n" for n in range(60))
    blocks = [parse(part) for part in _split(f"```python\n{code}```", 300)]
    assert len(blocks) > 1
    assert all(len(block) == 1 and isinstance(block[0], CodeBlock) and block[0].info == "python" for block in blocks)
    assert "".join(block[0].text for block in blocks if isinstance(block[0], CodeBlock)) == code


def test_code_is_cut_at_a_blank_line_not_far_above() -> None:
    code = "\n\n".join(f"def f{n}():\n    a = {n}\n    return a" for n in range(20))
    for part in _split(f"```python\n{code}\n```", 300):
        assert part.startswith("```python\ndef ")


def test_a_list_goes_on_with_its_next_number() -> None:
    parts = _split("\n".join(f"{n}. item number {n} with some words" for n in range(1, 41)), 300)
    blocks = [parse(part)[0] for part in parts]
    starts = [block.start for block in blocks if isinstance(block, List)]
    counts = [len(block.items) for block in blocks if isinstance(block, List)]
    assert len(parts) == len(starts) > 1
    assert starts == [1 + sum(counts[:n]) for n in range(len(counts))]
    assert sum(counts) == 40


def test_a_table_repeats_its_header() -> None:
    rows = "\n".join(f"| {n} | name {n} |" for n in range(60))
    blocks = [parse(part)[0] for part in _split(f"| n | name |\n|--:|---|\n{rows}", 300)]
    assert all(isinstance(block, Table) and len(block.header) == 2 for block in blocks)
    assert sum(len(block.rows) for block in blocks if isinstance(block, Table)) == 60


def test_a_row_too_large_for_a_message_becomes_paragraphs_with_the_columns_names() -> None:
    parts = _split(f"| who | what |\n|---|---|\n| Ann | {'word ' * 100}|", 200)
    assert any("**who**: Ann" in part for part in parts)
    assert any("**what**: word" in part for part in parts)


def test_a_heading_stays_with_what_follows() -> None:
    parts = _split("words " * 30 + "end.\n\n## Title\n\n" + "more " * 30, 220)
    assert [part.startswith("## Title") for part in parts] == [False, True]


def test_links_are_moved_rather_than_cut() -> None:
    parts = _split("a few words and then [a link](https://example.com/with/a/long/path) " * 12, 230)
    assert sum(part.count("](https://example.com/with/a/long/path)") for part in parts) == 12


def test_a_link_too_long_for_a_message_is_written_out() -> None:
    messages = [DISCORD.render(part) for part in split(f"[here](https://example.com/{'x' * 3000})", DISCORD)]
    assert len(messages) > 1
    assert max(map(DISCORD.limits.count, messages)) <= 2000
    assert sum(message.count("x") for message in messages) == 3001


def test_bytes_are_counted_where_the_platform_counts_bytes() -> None:
    limits = TextLimits(max_length=300, count=utf8_bytes)
    parts = split("汉字" * 200, plain_markdown(limits))
    assert [part for part in parts if len(part.encode()) > 300] == []
    assert "".join(parts) == "汉字" * 200


def test_a_fourth_table_in_one_card_becomes_code() -> None:
    text = "\n\n".join(f"| t{n} |\n|---|\n| x |" for n in range(5))
    message = FEISHU.render(text)
    assert message.count("| --- |") == 3
    assert message.count("```") == 4


def test_deep_nesting_is_read_as_code_and_nothing_else_changes() -> None:
    deep = "> " * 60 + "deep"
    blocks = parse(f"before\n\n{deep}\n\n- after")
    assert [type(block).__name__ for block in blocks] == ["Paragraph", "CodeBlock", "List"]
    assert visible(blocks) == "before" + ">" * 60 + "deepafter"


def test_brackets_written_as_entities_are_no_box_of_a_task() -> None:
    (block,) = parse("- &#91;x&#93; text")
    assert isinstance(block, List)
    assert block.items[0].checked is None
    assert visible((block,)) == "[x]text"
