"""DingTalk's Markdown, in robot messages and AI cards.

Sources: https://open.dingtalk.com/document/orgapp/robot-message-types-and-data-format (headings, quotes, bold, italic,
links, lists; `msgParam` of 15,000 bytes); tables are rendered by clients of 2026
(https://github.com/QwenLM/qwen-code/pull/6673), HTML is interpreted even in code unless written as entities
(https://github.com/eryajf/chatgpt-dingtalk/pull/213); a line ends with two spaces.
"""

from __future__ import annotations

import re
from typing import ClassVar

from core.adapter import TextLimits
from core.markdown.dialect import Dialect
from core.markdown.entitywriter import EntityWriter, entities, nested_json_bytes
from core.markdown.mentions import defuse
from core.markdown.tree import Blocks

_SPECIAL = re.compile(r"[*`~<>\[\]\\|&]|(?<![^\W_])_|_(?![^\W_])")
_TAGS = re.compile(r"@(?=\d{11})")
"""A mobile number behind an at sign names a person."""


class DingTalkWriter(EntityWriter):
    special = _SPECIAL
    in_targets: ClassVar[dict[int, str]] = {**EntityWriter.in_targets, ord("&"): "&amp;"}

    def document(self, blocks: Blocks) -> str:
        return defuse(super().document(blocks), _TAGS)

    def code_text(self, text: str) -> str:
        return re.sub("[<>&]", lambda match: entities(match[0]), text)

    def line_break(self, *, hard: bool) -> str:  # noqa: ARG002
        return "  \n"


DINGTALK = Dialect(
    name="DingTalk",
    limits=TextLimits(max_length=14_000, count=nested_json_bytes, edit_interval=0.5),
    write=DingTalkWriter().document,
)
"""The text of a Markdown message; 15,000 bytes hold its title and braces too."""
