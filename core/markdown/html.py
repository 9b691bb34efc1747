"""HTML for the web page, safe to insert as it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import assert_never

from core.markdown.links import misleads, safe
from core.markdown.parse import parse
from core.markdown.pieces import Piece
from core.markdown.plaintext import plain
from core.markdown.stream import BlockStream
from core.markdown.tree import (
    Block,
    Blocks,
    Break,
    Code,
    CodeBlock,
    Emphasis,
    Heading,
    Image,
    Inline,
    Inlines,
    Item,
    Link,
    List,
    Maths,
    MathsBlock,
    Paragraph,
    Quote,
    Rule,
    Strike,
    Strong,
    Table,
    Text,
)


def render(text: str) -> str:
    """CommonMark as HTML.

    The only tags are those written below. Raw HTML of the answer is shown as text. Links lead to http, https and mailto
    alone and open in a new tab; an image is a link, so that nothing is fetched from another host by looking.
    """
    return _blocks(parse(text))


@dataclass(frozen=True, slots=True)
class HtmlUpdate:
    """What changed on the page with one piece of the answer."""

    settled: str
    """HTML of blocks that will never change again: append it once."""
    tail: str
    """HTML of the last, growing block: it replaces the former tail and stands behind all that is settled."""


class HtmlStream:
    """Renders an answer while it arrives. All `settled` parts together and the last tail equal `render` of the whole."""

    def __init__(self) -> None:
        self._blocks = BlockStream()

    def feed(self, piece: str) -> HtmlUpdate:
        """Take the next piece. Its cost depends on the piece and the growing block, not on the answer's length."""
        settled = self._blocks.feed(piece)
        return HtmlUpdate(_blocks(_of(settled)), render(self._blocks.preview()))

    def finish(self) -> HtmlUpdate:
        """Settle the rest."""
        return HtmlUpdate(_blocks(_of(self._blocks.finish())), "")


def _of(pieces: list[Piece]) -> Blocks:
    return tuple(piece.block for piece in pieces)


def _blocks(blocks: Blocks) -> str:
    return "".join(map(_block, blocks))


def _block(block: Block) -> str:
    match block:
        case Paragraph(children):
            html = f"<p>{_inlines(children)}</p>\n"
        case Heading(level, children):
            html = f"<h{level}>{_inlines(children)}</h{level}>\n"
        case CodeBlock(_, text):
            language = f' class="language-{escape(block.language)}"' if block.language else ""
            html = f"<pre><code{language}>{escape(text, quote=False)}</code></pre>\n"
        case MathsBlock(text):
            html = f'<pre class="maths"><code>{escape(text, quote=False)}</code></pre>\n'
        case Quote(children):
            html = f"<blockquote>\n{_blocks(children)}</blockquote>\n"
        case List(start, tight, items):
            tag = "ul" if start is None else "ol"
            number = f' start="{start}"' if start not in (None, 1) else ""
            html = f"<{tag}{number}>\n{''.join(_item(item, tight) for item in items)}</{tag}>\n"
        case Table():
            html = _table(block)
        case Rule():
            html = "<hr>\n"
        case _:
            assert_never(block)
    return html


def _item(item: Item, tight: bool) -> str:
    body = "".join(
        _inlines(child.children) + "\n" if tight and isinstance(child, Paragraph) else _block(child)
        for child in item.children
    ).removesuffix("\n")
    if item.checked is None:
        return f"<li>{body}</li>\n"
    box = f'<input type="checkbox" disabled{" checked" if item.checked else ""}> '
    if body.startswith("<p>"):
        return f'<li class="task"><p>{box}{body[3:]}</li>\n'
    return f'<li class="task">{box}{body}</li>\n'


def _table(table: Table) -> str:
    classes = [f' class="{align}"' if align else "" for align in table.align]

    def row(tag: str, cells: Iterable[Inlines]) -> str:
        written = (f"<{tag}{name}>{_inlines(cell)}</{tag}>" for name, cell in zip(classes, cells, strict=True))
        return f"<tr>{''.join(written)}</tr>\n"

    body = "".join(row("td", cells) for cells in table.rows)
    body = f"<tbody>\n{body}</tbody>\n" if body else ""
    return f"<table>\n<thead>\n{row('th', table.header)}</thead>\n{body}</table>\n"


def _inlines(inlines: Inlines) -> str:
    return "".join(map(_inline, inlines))


def _inline(inline: Inline) -> str:
    match inline:
        case Text(text):
            html = escape(text, quote=False)
        case Code(text):
            html = f"<code>{escape(text, quote=False)}</code>"
        case Maths(text):
            html = f'<code class="maths">{escape(text, quote=False)}</code>'
        case Emphasis(children):
            html = f"<em>{_inlines(children)}</em>"
        case Strong(children):
            html = f"<strong>{_inlines(children)}</strong>"
        case Strike(children):
            html = f"<del>{_inlines(children)}</del>"
        case Link(target, children):
            html = _link(target, _inlines(children), plain(children))
        case Image(source, alt):
            html = _link(source, escape(alt, quote=False), alt)
        case Break(hard):
            html = "<br>\n" if hard else "\n"
        case _:
            assert_never(inline)
    return html


def _link(target: str, html: str, text: str) -> str:
    shown = html if text.strip() else escape(target, quote=False)
    if not safe(target):
        # A target of another scheme is shown, never followed.
        return f"{shown} ({escape(target, quote=False)})" if target and shown != escape(target, quote=False) else shown
    link = f'<a href="{escape(target)}" target="_blank" rel="noopener noreferrer nofollow">{shown}</a>'
    return f'{link} <span class="target">({escape(target, quote=False)})</span>' if misleads(text, target) else link
