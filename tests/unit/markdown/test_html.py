"""The web page's HTML: only the tags we write, only the links that may be followed."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.markdown.html import render
from core.markdown.parse import parse
from core.markdown.visible import is_visible, visible
from tests.unit.markdown.strategies import ANSWERS, ATTACKS, examples

_TAGS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "code", "blockquote", "ul", "ol", "li", "input", "table", "thead", "tbody", "tr", "th", "td", "hr", "em", "strong", "del", "a", "br", "span"}  # fmt: skip
_ATTRIBUTES = {"class", "start", "type", "disabled", "checked", "href", "target", "rel"}


class _Reader(HTMLParser):
    """What a browser makes of it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _TAGS
        for name, value in attrs:
            assert name in _ATTRIBUTES
            if name == "href":
                assert str(value).lower().startswith(("http://", "https://", "mailto:"))
        if tag not in ("br", "hr", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment got through: {data!r}")


def _read(page: str) -> str:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader.text


@examples(80)
@given(st.one_of(ANSWERS, st.lists(st.one_of(ATTACKS, st.sampled_from(["<script>", "<img src=x onerror=alert(1)>", "</a>", "<!--", "]]>", '" onclick="', "javascript:", "[x](", "data:text/html,"])), max_size=12).map("".join)))  # fmt: skip
def test_only_known_tags_come_out_balanced_with_all_the_text(text: str) -> None:
    shown = "".join(filter(is_visible, _read(render(text))))
    rest = iter(shown)
    assert all(character in rest for character in visible(parse(text)))


@pytest.mark.parametrize(
    ("markdown", "page"),
    [
        ("<script>alert(1)</script>", "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n"),
        ("[x](javascript:alert(1))", "<p>x (javascript:alert(1))</p>\n"),
        ("[x](JaVaScRiPt:alert(1))", "<p>x (JaVaScRiPt:alert(1))</p>\n"),
        ('```a"onload="x\ny\n```', '<pre><code class="language-a&quot;onload=&quot;x">y\n</code></pre>\n'),
        ("~~a~~ `<b>`", "<p><del>a</del> <code>&lt;b&gt;</code></p>\n"),
        ("3. a\n4. b", '<ol start="3">\n<li>a</li>\n<li>b</li>\n</ol>\n'),
    ],
)
def test_an_answer_becomes_this_page(markdown: str, page: str) -> None:
    assert render(markdown) == page


def test_a_link_opens_elsewhere_and_tells_that_page_nothing() -> None:
    page = render("[words](https://example.com/a?b=1&c=2)")
    assert (
        'href="https://example.com/a?b=1&amp;c=2" target="_blank" rel="noopener noreferrer nofollow">words</a>' in page
    )


def test_an_image_is_a_link_and_nothing_is_fetched() -> None:
    assert "<img" not in render("![alt](https://example.com/x.png)")
    assert ">alt</a>" in render("![alt](https://example.com/x.png)")
