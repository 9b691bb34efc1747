"""Markdown of Feishu's and Lark's cards, JSON 2.0, and of the simpler messages where a card cannot be.

Sources: https://open.feishu.cn/document/uAjLw4CM/ukzMukzMukzM/feishu-cards/card-json-v2-components/content-components/rich-text
(what is rendered; special characters are written as HTML entities), 30 KB a card and error 230025 of
https://open.feishu.cn/document/server-docs/im-v1/message/create, error 11310 for too many tables: four or more fail in the
field (https://github.com/larksuite/openclaw-lark, card-error.ts). The `md` of a `post` has no tables, a `text` has HTML
tags and no entities: https://open.feishu.cn/document/server-docs/im-v1/message-content-description/create_json.
"""

from __future__ import annotations

import re
from dataclasses import replace

from core.adapter import TextLimits
from core.markdown.dialect import Dialect
from core.markdown.dialects.plain import PlainWriter
from core.markdown.entitywriter import EntityWriter, nested_json_bytes
from core.markdown.mentions import defuse
from core.markdown.tables import without_table
from core.markdown.tree import Block, Blocks, Item, List, Quote, Table

_SPECIAL = re.compile(r"[*`~<>\[\]\\$|&]|(?<![^\W_])_|_(?![^\W_])|:(?=[A-Za-z_]+:)")
_TAGS = re.compile(r"<(?=\s*/?\s*(?:at|person)\b)", re.IGNORECASE)
_ANY_TAGS = re.compile(r"<(?=\s*/?\s*[a-z])", re.IGNORECASE)


class FeishuWriter(EntityWriter):
    """Three tables at most, and none inside another block; the others become code."""

    special = _SPECIAL
    most_tables = 3

    def document(self, blocks: Blocks) -> str:
        return defuse(super().document(_with_few_tables(blocks, self.most_tables)), _TAGS)

    def line_break(self, *, hard: bool) -> str:  # noqa: ARG002
        return "\n"


class PostWriter(FeishuWriter):
    """All tables become code."""

    most_tables = 0


class TextWriter(PlainWriter):
    """Plain text in which no tag means anything."""

    def document(self, blocks: Blocks) -> str:
        return defuse(super().document(blocks), _ANY_TAGS)


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


FEISHU = Dialect(
    name="Feishu",
    limits=TextLimits(max_length=26_000, count=nested_json_bytes, edit_interval=0.2),
    write=FeishuWriter().document,
)
"""The content of one markdown element. 30 KB hold the whole card; the rest is for its frame."""

FEISHU_POST = Dialect(name="Feishu post", limits=FEISHU.limits, write=PostWriter().document)
"""The `md` of a rich text message, 30 KB in all."""

FEISHU_TEXT = Dialect(
    name="Feishu text", limits=TextLimits(max_length=140_000, count=nested_json_bytes), write=TextWriter().document
)
"""A text message, 150 KB in all."""
