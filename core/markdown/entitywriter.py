"""What dialects have in common that write Markdown with HTML entities for what is no mark, where backslashes stay visible."""

from __future__ import annotations

import json
import re
from typing import ClassVar

from core.markdown.chatwriter import ChatWriter
from core.markdown.tree import Inlines, Table
from core.markdown.writer import Writer

_LINE_START = re.compile(r"(?:#{1,6}(?=\s|$)|[-+=])|(\d{1,9})([.)])(?=\s|$)")


class EntityWriter(ChatWriter):
    """Headings, rules, tables and links as Markdown has them. A dialect says which characters are `special`."""

    strict_marks = True
    special: ClassVar[re.Pattern[str]]
    """What is never written as it is in text."""
    in_targets: ClassVar[dict[int, str]] = {ord("("): "%28", ord(")"): "%29"}
    """What a link's address is not written with, and what instead."""

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
            return f"{match[1]}{entities(match[2])}{line[match.end() :]}"
        return f"{entities(line[0])}{line[1:]}"

    def text(self, text: str) -> str:
        return self.special.sub(lambda match: entities(match[0]), text)

    def code(self, text: str) -> str:
        return f"`{self.code_text(text)}`" if "`" not in text and text.strip() else self.text(text)

    def anchor(self, target: str, children: Inlines) -> str:
        if target.lower().startswith("mailto:"):
            return super().anchor(target, children)
        return f"[{self.span(children)}]({self._target(target)})"

    def address(self, target: str) -> str:
        if target.lower().startswith("mailto:"):
            return self.text(target[7:])
        return f"[{self.text(target)}]({self._target(target)})"

    def _target(self, target: str) -> str:
        return target.translate(self.in_targets)


def entities(text: str) -> str:
    """Every character as an HTML entity."""
    return "".join(f"&#{ord(character)};" for character in text)


def nested_json_bytes(text: str) -> int:
    """Bytes that text takes in JSON which is itself a string of a request's JSON: quotes and newlines are escaped twice."""
    return len(json.dumps(json.dumps(text, ensure_ascii=False), ensure_ascii=False).encode()) - 6
