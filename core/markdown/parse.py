"""CommonMark to the tree."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it.token import Token

from core.markdown.grammar import MAX_NESTING, parser
from core.markdown.links import bare_urls
from core.markdown.plaintext import plain
from core.markdown.recent import Recent
from core.markdown.tree import (
    Align,
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

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_NEWLINE = re.compile("\r\n?|\u2028|\u2029")
_TASK = re.compile(r"\[([ xX])\](?:[ \u00a0]|$)")
_DEEPEST_INLINE = 12
"""Styles inside styles; deeper ones are ignored, their text is kept."""


@dataclass(frozen=True, slots=True)
class Section:
    """One block of the top level and where its source stands: lines `first` up to, not including, `end`."""

    block: Block
    first: int
    end: int


def clean(text: str) -> str:
    """`text` with newlines as `\\n`; what no screen shows (control characters, lone surrogates) becomes U+FFFD."""
    return _CONTROL.sub("\ufffd", _NEWLINE.sub("\n", text))


_TREES = Recent[str, Blocks](200_000)
"""By source, which is what they weigh."""


def parse(text: str) -> Blocks:
    """Read CommonMark. Never raises: every text is some document."""
    blocks = _TREES.get(text)
    if blocks is None:
        blocks = tuple(section.block for section in sections(text))
        remember(text, blocks)
    return blocks


def remember(text: str, blocks: Blocks) -> None:
    """`parse(text)` is `blocks`: known without reading it."""
    _TREES.keep(text, blocks, len(text))


def forget() -> None:
    """Let go of what was read: measurements begin with that."""
    _TREES.clear()


def sections(text: str) -> list[Section]:
    """Read CommonMark, with the place of every top-level block."""
    text = clean(text)
    if not _MARKUP.search(text):
        return _plain(text)
    if (code := open_code(text)) is not None:
        return [Section(code, 0, text.count("\n") + 1)]
    return read(text)


_MARKUP = re.compile(r"[\\`*_~$|<&\[\]]|://|^(?:[-+=#>]|\d{1,9}[.)]|[^\S\n])|[^\S\n]$", re.MULTILINE)
"""Whatever may be more than words in a paragraph, spaces at the ends of lines among it."""


def _plain(text: str) -> list[Section]:
    """What `read` makes of a text without `_MARKUP`: most short answers are one."""
    found, children, first = list[Section](), list[Inline](), 0
    for number, line in enumerate([*text.split("\n"), ""]):
        if line:
            first = first if children else number
            children += (Break(hard=False), Text(line)) if children else (Text(line),)
        elif children:
            found.append(Section(Paragraph(tuple(children)), first, number))
            children = []
    return found


def read(text: str) -> list[Section]:
    """The sections of a clean text by way of the parser, whatever it holds."""
    reader = _Reader(parser().parse(text))
    found = []
    while (place := reader.place()) is not None:
        first, end = place
        begin = reader.position
        block = reader.block()
        if reader.deepest_since(begin) >= MAX_NESTING - 1:  # here the parser skips text
            block = CodeBlock("", "\n".join(text.split("\n")[first:end]) + "\n")
        found.append(Section(block, first, end))
    return found


_OPENING_FENCE = re.compile(r"(`{3,}(?=[^`\n]*\n)|~{3,})([^\n]*)\n")


def open_code(text: str) -> CodeBlock | None:
    """The block of code that `text` is as a whole, if it begins with a fence that is never closed.

    While code streams this is what is read again and again, and the parser takes its time for every character.
    """
    opening = _OPENING_FENCE.match(text)
    if not opening:
        return None
    fence = opening[1]
    closing = re.compile(rf"^ {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
    if closing.search(text, opening.end()):
        return None
    body = text[opening.end() :]
    line = body.rfind("\n") + 1
    return CodeBlock(opening[2].strip(), body if body[line:].strip(" \t") else body[:line])


class _Reader:
    """Walks the parser's flat tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def position(self) -> int:
        return self._at

    def deepest_since(self, position: int) -> int:
        """The deepest level of the tokens from `position` to here."""
        return max(token.level for token in self._tokens[position : self._at])

    def place(self) -> tuple[int, int] | None:
        if self._at >= len(self._tokens):
            return None
        first, end = self._tokens[self._at].map or (0, 0)
        return first, end

    def _next(self) -> Token:
        token = self._tokens[self._at]
        self._at += 1
        return token

    def _until(self, closing: str) -> Blocks:
        blocks = []
        while self._tokens[self._at].type != closing:
            blocks.append(self.block())
        self._at += 1
        return tuple(blocks)

    def _inlines(self) -> Inlines:
        return inlines(self._next().children or [])

    def block(self) -> Block:
        token = self._next()
        match token.type:
            case "paragraph_open":
                block: Block = Paragraph(self._inlines())
                self._at += 1
            case "heading_open":
                block = Heading(int(token.tag[1:]), self._inlines())
                self._at += 1
            case "fence" | "code_block":
                block = CodeBlock(token.info.strip(), token.content)
            case "maths_block":
                block = MathsBlock(token.content)
            case "blockquote_open":
                block = Quote(self._until("blockquote_close"))
            case "bullet_list_open":
                block = self._list(None, "bullet_list_close")
            case "ordered_list_open":
                block = self._list(int(token.attrs.get("start", 1)), "ordered_list_close")
            case "table_open":
                block = self._table(token.meta["align"])
            case "hr":
                block = Rule()
            case _:  # pragma: no cover  # the grammar has no other
                raise AssertionError(f"unknown token {token.type!r}")
        return block

    def _list(self, start: int | None, closing: str) -> List:
        tight = True
        items = []
        while self._tokens[self._at].type != closing:
            level = self._next().level + 1
            begin = self._at
            children = self._until("list_item_close")
            tight = tight and all(
                token.hidden
                for token in self._tokens[begin : self._at]
                if token.level == level and token.type == "paragraph_open"
            )
            items.append(_task(Item(children), self._tokens[begin + 1].content))
        self._at += 1
        return List(start, tight, tuple(items))

    def _table(self, align: tuple[Align, ...]) -> Table:
        rows = []
        while self._next().type == "tr_open":
            cells = []
            while self._tokens[self._at].type == "inline":
                cells.append(self._inlines())
            self._at += 1
            rows.append(tuple(cells))
        return Table(align, rows[0], tuple(rows[1:]))


def _task(item: Item, source: str) -> Item:
    """The item as a task if its `source` begins with a box; one written with escapes or entities is text."""
    if not _TASK.match(source) or not (
        item.children and isinstance(paragraph := item.children[0], Paragraph) and paragraph.children
    ):
        return item
    first = paragraph.children[0]
    if not (isinstance(first, Text) and (match := _TASK.match(first.text))):
        return item
    rest = first.text[match.end() :]
    children = ((Text(rest),) if rest else ()) + paragraph.children[1:]
    return Item((Paragraph(children), *item.children[1:]), checked=match[1] != " ")


def inlines(tokens: list[Token]) -> Inlines:
    """The parser's inline tokens as a tree."""
    return _Inlines(tokens).read()


_STYLES: dict[str, type[Emphasis | Strong | Strike]] = {"em": Emphasis, "strong": Strong, "s": Strike}


class _Inlines:
    """Builds the tree of one paragraph; the stack holds what is open."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._stack: list[list[Inline]] = [[]]
        self._in_link = 0
        self._too_deep = 0
        self._target = ""

    def read(self) -> Inlines:
        for token in self._tokens:
            if token.nesting > 0:
                self._open(token)
            elif token.nesting < 0:
                self._close(token)
            else:
                self._leaf(token)
        return tuple(self._stack[0])

    def _open(self, token: Token) -> None:
        if token.type != "link_open" and len(self._stack) > _DEEPEST_INLINE:
            self._too_deep += 1
            return
        if token.type == "link_open":
            self._in_link += 1
            self._target = str(token.attrs.get("href", ""))
        self._stack.append([])

    def _close(self, token: Token) -> None:
        if token.type != "link_close" and self._too_deep:
            self._too_deep -= 1
            return
        children = tuple(self._stack.pop())
        if token.type == "link_close":
            self._in_link -= 1
            if children == (Text(self._target),) and self._target.startswith("mailto:"):
                children = (Text(self._target.removeprefix("mailto:")),)
            self._stack[-1].append(Link(self._target, children))
        else:
            self._stack[-1].append(_STYLES[token.tag](children))

    def _leaf(self, token: Token) -> None:
        into = self._stack[-1]
        match token.type:
            case "text" | "text_special":  # the latter remains in descriptions of images
                into.extend(self._linked(token.content))
            case "code_inline":
                into.append(Code(token.content))
            case "maths":
                into.append(Maths(token.content))
            case "url":
                text = Text(token.content)
                into.append(text if self._in_link else Link(token.content, (text,)))
            case "image":
                into.append(Image(str(token.attrs.get("src", "")), plain(inlines(token.children or []))))
            case "softbreak" | "hardbreak":
                into.append(Break(hard=token.type == "hardbreak"))
            case _:  # pragma: no cover  # the grammar has no other
                raise AssertionError(f"unknown token {token.type!r}")

    def _linked(self, text: str) -> Iterator[Inline]:
        at = 0
        if not self._in_link and "://" in text:
            for start, end in bare_urls(text):
                if start > at:
                    yield Text(text[at:start])
                yield Link(text[start:end], (Text(text[start:end]),))
                at = end
        if at < len(text):
            yield Text(text[at:])
