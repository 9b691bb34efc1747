"""Lengths, widths, and what a reader sees as one character."""

from __future__ import annotations

import pytest

from core.markdown.measure import clusters, utf8_bytes, utf16_units, width


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("abc", 3),
        ("e\u0301e", 2),
        ("👨‍👩‍👧‍👦", 1),
        ("👍🏽👍🏿", 2),
        ("🇩🇪🇫🇷🇯🇵", 3),
        ("🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", 1),
        ("1️⃣2️⃣", 2),
        ("한국", 2),
        ("\u1112\u1161\u11ab", 1),
        ("\r\n", 1),
        ("❤️‍🔥", 1),
    ],
)
def test_a_cluster_is_what_a_reader_sees_as_one_character(text: str, count: int) -> None:
    assert len(clusters(text)) == count
    assert "".join(clusters(text)) == text


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("abc", 3),
        ("汉字", 4),
        ("e\u0301", 1),
        ("👨‍👩‍👧‍👦", 2),
        ("🇩🇪", 2),
        ("❤️", 2),
        ("ａ", 2),
        ("a\u200bb", 2),
        ("ｱ", 1),
    ],
)
def test_width_counts_columns_of_a_monospaced_font(text: str, columns: int) -> None:
    assert width(text) == columns


def test_lengths_are_counted_as_platforms_count() -> None:
    assert utf16_units("a汉😀") == 4
    assert utf8_bytes("a汉😀") == 8
