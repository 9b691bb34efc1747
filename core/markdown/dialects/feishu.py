"""Markdown of Feishu's and Lark's cards, JSON 2.0, and of the simpler messages where a card cannot be.

Sources: https://open.feishu.cn/document/uAjLw4CM/ukzMukzMukzM/feishu-cards/card-json-v2-components/content-components/rich-text
(what is rendered; special characters are written as HTML entities), 30 KB a card and error 230025 of
https://open.feishu.cn/document/server-docs/im-v1/message/create, error 11310 for too many tables: four or more fail in the
field (https://github.com/larksuite/openclaw-lark, card-error.ts). The `md` of a `post` has no tables, a `text` has HTML
tags and no entities: https://open.feishu.cn/document/server-docs/im-v1/message-content-description/create_json.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from core.adapter import TextLimits
from core.markdown.chatwriter import ChatWriter
from core.markdown.dialect import Dialect
from core.markdown.dialects.plain import PlainWriter
from core.markdown.mentions import defuse
from core.markdown.tables import without_table
from core.markdown.tree import Block, Blocks, Inlines, Item, List, Quote, Table
from core.markdown.writer import Writer

_SPECIAL = re.compile(r"[*`~<>\[\]\\$|&]|(?<![^\W_])_|_(?![^\W_])|:(?=[A-Za-z_]+:)")
_LINE_START = re.compile(r"(?:#{1,6}(?=\s|$)|[-+=])|(\d{1,9})([.)])(?=\s|$)")
_TAGS = re.compile(r"<(?=\s*/?\s*(?:at|person)\b)", re.IGNORECASE)
_ANY_TAGS = re.compile(r"<(?=\s*/?\s*[a-z])", re.IGNORECASE)


def _entity(match: re.Match[str]) -> str:
    return "".join(f"&#{ord(character)};" for character in match[0])


class FeishuWriter(ChatWriter):
    """Three tables at most, and none inside another block; the others become code."""

    strict_marks = True
    most_tables = 3

    def document(self, blocks: Blocks) -> str:
        return defuse(super().document(_with_few_tables(blocks, self.most_tables)), _TAGS)

    def rule(self) -> str:
        return "---"

    def heading(self, level: int, children: Inlines) -> str:
        return f"{'#' * level} {self.inlines(children)}".rstrip()

    def table(self, table: Table) -> str:
        return Writer.table(self, table)

    def line(self, line: str) -> str:
        line = line.lstrip(" \t")
        match = _LINE_START.match(line)
        if not match:
            return line
        if match[1]:
            return f"{match[1]}&#{ord(match[2])};{line[match.end() :]}"
        return f"&#{ord(line[0])};{line[1:]}"

    def text(self, text: str) -> str:
        return _SPECIAL.sub(_entity, text)

    def code(self, text: str) -> str:
        return f"`{text}`" if "`" not in text and text.strip() else self.text(text)

    def anchor(self, target: str, children: Inlines) -> str:
        if target.lower().startswith("mailto:"):
            return super().anchor(target, children)
        return f"[{self.span(children)}]({_paren(target)})"

    def address(self, target: str) -> str:
        if target.lower().startswith("mailto:"):
            return self.text(target[7:])
        return f"[{self.text(target)}]({_paren(target)})"

    def line_break(self, *, hard: bool) -> str:  # noqa: ARG002
        return "\n"


class PostWriter(FeishuWriter):
    """All tables become code."""

    most_tables = 0


class TextWriter(PlainWriter):
    """Plain text in which no tag means anything."""

    def document(self, blocks: Blocks) -> str:
        return defuse(super().document(blocks), _ANY_TAGS)


def _paren(target: str) -> str:
    return target.replace("(", "%28").replace(")", "%29")


def _with_few_tables(blocks: Blocks, most: int) -> Blocks:
    result: list[Block] = []
    tables = 0
    for block in blocks:
        if isinstance(block, Table):
            tables += 1
            result.extend((block,) if tables <= most else without_table(block))
        else:
            result.extend(_without_tables(block))
    return tuple(result)


def _without_tables(block: Block) -> Blocks:
    match block:
        case Table():
            return without_table(block)
        case Quote(children):
            return (Quote(tuple(inner for child in children for inner in _without_tables(child))),)
        case List(_, _, items):
            return (replace(block, items=tuple(map(_item_without_tables, items))),)
        case _:
            return (block,)


def _item_without_tables(item: Item) -> Item:
    return replace(item, children=tuple(inner for child in item.children for inner in _without_tables(child)))


def _json_bytes(text: str) -> int:
    """Bytes in the card's JSON, which is itself a string of the request's JSON: quotes and newlines are escaped twice."""
    return len(json.dumps(json.dumps(text, ensure_ascii=False), ensure_ascii=False).encode()) - 6


FEISHU = Dialect(
    name="Feishu",
    limits=TextLimits(max_length=26_000, count=_json_bytes, edit_interval=0.2),
    write=FeishuWriter().document,
)
"""The content of one markdown element. 30 KB hold the whole card; the rest is for its frame."""

FEISHU_POST = Dialect(name="Feishu post", limits=FEISHU.limits, write=PostWriter().document)
"""The `md` of a rich text message, 30 KB in all."""

FEISHU_TEXT = Dialect(
    name="Feishu text", limits=TextLimits(max_length=140_000, count=_json_bytes), write=TextWriter().document
)
"""A text message, 150 KB in all."""
