"""DingTalk's Markdown, in robot messages and AI cards.

Sources: https://open.dingtalk.com/document/orgapp/robot-message-types-and-data-format (headings, quotes, bold, italic,
links, lists; `msgParam` of 15,000 bytes); tables are rendered by clients of 2026
(https://github.com/QwenLM/qwen-code/pull/6673), HTML is interpreted even in code unless written as entities
(https://github.com/eryajf/chatgpt-dingtalk/pull/213); a line ends with two spaces.
"""

from __future__ import annotations

import json
import re

from core.adapter import TextLimits
from core.markdown.chatwriter import ChatWriter
from core.markdown.dialect import Dialect
from core.markdown.mentions import defuse
from core.markdown.tree import Blocks, Inlines, Table
from core.markdown.writer import Writer

_SPECIAL = re.compile(r"[*`~<>\[\]\\|&]|(?<![^\W_])_|_(?![^\W_])")
_LINE_START = re.compile(r"(?:#{1,6}(?=\s|$)|[-+=])|(\d{1,9})([.)])(?=\s|$)")
_TAGS = re.compile(r"@(?=\d{11})")
"""A mobile number behind an at sign names a person."""


def _entity(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"


class DingTalkWriter(ChatWriter):
    strict_marks = True

    def document(self, blocks: Blocks) -> str:
        return defuse(super().document(blocks), _TAGS)

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
        return f"`{self.code_text(text)}`" if "`" not in text and text.strip() else self.text(text)

    def code_text(self, text: str) -> str:
        return re.sub("[<>&]", _entity, text)

    def anchor(self, target: str, children: Inlines) -> str:
        if target.lower().startswith("mailto:"):
            return super().anchor(target, children)
        return f"[{self.span(children)}]({_paren(target)})"

    def address(self, target: str) -> str:
        if target.lower().startswith("mailto:"):
            return self.text(target[7:])
        return f"[{self.text(target)}]({_paren(target)})"

    def line_break(self, *, hard: bool) -> str:  # noqa: ARG002
        return "  \n"


def _paren(target: str) -> str:
    return target.replace("(", "%28").replace(")", "%29").replace("&", "&amp;")


def _json_bytes(text: str) -> int:
    """Bytes in `msgParam`, which is JSON inside the request's JSON."""
    return len(json.dumps(json.dumps(text, ensure_ascii=False), ensure_ascii=False).encode()) - 6


DINGTALK = Dialect(
    name="DingTalk",
    limits=TextLimits(max_length=14_000, count=_json_bytes, edit_interval=0.5),
    write=DingTalkWriter().document,
)
"""The text of a Markdown message; 15,000 bytes hold its title and braces too."""
