"""Links that lie, and where a bare URL ends."""

from __future__ import annotations

import pytest

from core.markdown.links import bare_urls, misleads, safe


@pytest.mark.parametrize(
    ("words", "target", "lies"),
    [
        ("https://bank.example", "https://evil.example", True),
        ("bank.example", "https://bank.example.evil.org", True),
        ("www.bank.example", "https://bank.example/login", False),
        ("bank.example", "https://login.bank.example", False),
        ("login.bank.example", "https://bank.example", True),
        ("BANK.example", "https://bank.example", False),
        ("ｂａｎｋ.example", "https://evil.example", True),
        ("bank\u200b.exam\u00adple", "https://evil.example", True),
        ("https://bank.example", "https://bank.example@evil.example/", True),
        ("аррӏе.com", "https://xn--80ak6aa92e.com/", True),
        ("192.168.1.1", "https://evil.example", True),
        ("the manual", "https://example.com", False),
        ("config.yaml", "https://example.com/config.yaml", False),
        ("README.md", "https://github.com/a/b/blob/main/README.md", False),
        ("evil.md", "https://example.com", True),
        ("version 1.2.3", "https://example.com", False),
        ("ann@example.com", "mailto:ann@example.com", False),
        ("ann@example.com", "mailto:eve@evil.example", True),
        ("e.g. this", "https://example.com", False),
    ],
)
def test_a_link_lies_if_its_words_name_another_host(words: str, target: str, lies: bool) -> None:
    assert misleads(words, target) is lies


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ("see https://example.com.", ["https://example.com"]),
        ("(https://example.com/a_(b))", ["https://example.com/a_(b)"]),
        ("见https://example.com/路径，然后", ["https://example.com/路径"]),
        ("“https://example.com”", ["https://example.com"]),
        ("https://a.example/x?y=1&z=%20#f, http://b.example!", ["https://a.example/x?y=1&z=%20#f", "http://b.example"]),
        ("xhttps://example.com ftp://example.com", []),
    ],
)
def test_a_bare_url_ends_where_the_sentence_goes_on(text: str, urls: list[str]) -> None:
    assert [text[start:end] for start, end in bare_urls(text)] == urls


@pytest.mark.parametrize("target", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//x.y", "#a", "", "https://", "vbscript:x", " https://x.y"])  # fmt: skip
def test_other_schemes_are_never_followed(target: str) -> None:
    assert not safe(target)
