"""The tree as CommonMark. Dialects that resemble it override what differs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, assert_never

from core.markdown.plaintext import plain
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

FLUSH: Final = "\x00"
"""Begins a line that stays at the margin whatever list it stands in. It cannot occur in a parsed text."""

_SPECIAL = re.compile(r"[*`\[\]~$|<\\]|&(?=[#\w])|(?<![^\W_])_|_(?![^\W_])")
_LINE_START = re.compile(r"(?:#{1,6}(?=\s|$)|[-+=>])|(\d{1,9})([.)])")
_LINE_END = re.compile(r"#+$")


class Writer:
    """Writes a tree as text, block by block. `document` is the way in."""

    def document(self, blocks: Blocks) -> str:
        """All blocks, a blank line between them."""
        return self.blocks(blocks).replace(FLUSH, "")

    def blocks(self, blocks: Blocks, between: Callable[[Block, Block], str] = lambda _a, _b: "\n\n") -> str:
        pieces: list[str] = []
        former: Block | None = None
        other = False
        for block in blocks:
            if former is not None:
                pieces.append(between(former, block))
            other = not other if self._would_merge(former, block) else False
            pieces.append(self.list(block, other=other) if isinstance(block, List) else self.block(block))
            former = block
        return "".join(pieces)

    @staticmethod
    def _would_merge(former: Block | None, block: Block) -> bool:
        """Whether two lists in a row would be read as one if they had the same markers."""
        return isinstance(former, List) and isinstance(block, List) and (former.start is None) == (block.start is None)

    def block(self, block: Block) -> str:
        match block:
            case Paragraph(children):
                text = self.paragraph(children)
            case Heading(level, children):
                text = self.heading(level, children)
            case CodeBlock(info, body):
                text = self.code_block(info, body)
            case MathsBlock(body):
                text = self.maths_block(body)
            case Quote(children):
                text = self.quote(children)
            case List():
                text = self.list(block)
            case Table():
                text = self.table(block)
            case Rule():
                text = self.rule()
            case _:
                assert_never(block)
        return text

    def paragraph(self, children: Inlines) -> str:
        return self.inlines(children)

    def heading(self, level: int, children: Inlines) -> str:
        text = self.inlines(children)
        return f"{'#' * level} {_LINE_END.sub(lambda m: '&#35;' * len(m[0]), text)}".rstrip()

    def code_block(self, info: str, body: str) -> str:
        fence = "~" if "`" in info else "`"
        longest = max((len(run) for run in re.findall(f"{fence}+", body)), default=0)
        fence *= max(3, longest + 1)
        return f"{fence}{info}\n{body}{fence}" if body.endswith("\n") or not body else f"{fence}{info}\n{body}\n{fence}"

    def maths_block(self, body: str) -> str:
        return f"$$\n{body}\n$$"

    def quote(self, children: Blocks) -> str:
        return "\n".join(f"> {line.removeprefix(FLUSH)}".rstrip() for line in self.blocks(children).split("\n"))

    def list(self, block: List, *, other: bool = False) -> str:
        number = block.start
        items = []
        for item in block.items:
            items.append(self.item(self.marker(number, other=other), item, tight=block.tight))
            number = None if number is None else min(number + 1, 999_999_999)
        return ("\n" if block.tight else "\n\n").join(items)

    def marker(self, number: int | None, *, other: bool) -> str:
        """What begins an item; the other kind keeps two lists in a row apart."""
        if number is None:
            return "* " if other else "- "
        return f"{number}) " if other else f"{number}. "

    def item(self, marker: str, item: Item, *, tight: bool) -> str:
        def between(former: Block, block: Block) -> str:
            return "\n" if tight and isinstance(former, Paragraph) and isinstance(block, List | CodeBlock) else "\n\n"

        body = self.blocks(item.children, between)
        if item.checked is not None:
            body = self.checkbox(item.checked) + body
        return self.indent(marker, body)

    def indent(self, marker: str, body: str) -> str:
        """`body` behind `marker`, its further lines below its first."""
        space = " " * len(marker)
        first, *rest = body.split("\n")
        if first.startswith(FLUSH):
            first, rest = "", [first, *rest]
        lines = [line if line.startswith(FLUSH) or not line else space + line for line in rest]
        return "\n".join([(marker + first).rstrip(), *lines])

    def checkbox(self, checked: bool) -> str:
        return "[x] " if checked else "[ ] "

    def table(self, table: Table) -> str:
        rule = {"": "---", "left": ":--", "center": ":-:", "right": "--:"}
        rows = [table.header, *table.rows]
        lines = ["| " + " | ".join(self.cell(cell) for cell in row) + " |" for row in rows]
        lines.insert(1, "| " + " | ".join(rule[align] for align in table.align) + " |")
        return "\n".join(lines)

    def cell(self, cell: Inlines) -> str:
        """One line; a pipe in it is escaped whatever it stands in."""
        pieces = (
            self.text(inline.text) if isinstance(inline, Text) else self.inline(inline).replace("|", "\\|")
            for inline in cell
        )
        return "".join(pieces).replace("\\\n", "<br>").replace("\n", " ").strip()

    def rule(self) -> str:
        return "---"

    def inlines(self, inlines: Inlines) -> str:
        """What stands in a paragraph; lines do not begin as a block would."""
        pieces = [""]
        for inline in inlines:
            pieces.append(self.inline(inline, pieces[-1][-1:]))
        return "\n".join(self.line(line) for line in "".join(pieces).strip("\n").split("\n"))

    def line(self, line: str) -> str:
        """A line of a paragraph, such that it does not begin another block."""
        line = line.lstrip(" \t")
        match = _LINE_START.match(line)
        if not match:
            return line
        if match[1]:
            return f"{match[1]}\\{line[match.start(2) :]}"
        return "\\" + line

    def inline(self, inline: Inline, before: str = "") -> str:
        """`before` is the last character written, for dialects that care."""
        match inline:
            case Text(text):
                written = self.text(text)
            case Code(text):
                written = self.code(text)
            case Maths(text):
                written = self.maths(text)
            case Emphasis(children):
                written = self.styled("*", children, before)
            case Strong(children):
                written = self.styled("**", children, before)
            case Strike(children):
                written = self.styled("~~", children, before)
            case Link(target, children):
                written = self.link(target, children)
            case Image(source, alt):
                written = self.image(source, alt)
            case Break(hard):
                written = self.line_break(hard=hard)
            case _:
                assert_never(inline)
        return written

    def span(self, inlines: Inlines) -> str:
        """What stands inside another inline."""
        return "".join(self.inline(inline) for inline in inlines)

    def text(self, text: str) -> str:
        """Text without any meaning as markup."""
        return _SPECIAL.sub(_escape, text)

    def code(self, text: str) -> str:
        runs = {len(run) for run in re.findall("`+", text)}
        fence = "`" * next(n for n in range(1, len(runs) + 2) if n not in runs)
        edge = " " if text[:1] == "`" or text[-1:] == "`" or (text[:1] == text[-1:] == " " and text.strip()) else ""
        return f"{fence}{edge}{text}{edge}{fence}"

    def maths(self, text: str) -> str:
        return f"\\({text}\\)" if "\\)" not in text else f"$${text}$$"

    def styled(self, mark: str, children: Inlines, before: str) -> str:  # noqa: ARG002  # for dialects that care
        return f"{mark}{self.span(children)}{mark}"

    def link(self, target: str, children: Inlines) -> str:
        if children == (Text(target),):
            return target
        return f"[{self.span(children)}]({_destination(target)})"

    def image(self, source: str, alt: str) -> str:
        return f"![{self.text(alt)}]({_destination(source)})"

    def line_break(self, *, hard: bool) -> str:
        return "\\\n" if hard else "\n"


class LiteralWriter(Writer):
    """CommonMark of the same words for what the plain writer cannot put so that it is read back the same.

    Styles are dropped and everything but letters and digits is an entity.
    """

    def text(self, text: str) -> str:
        return re.sub(r"[^\w\s]|_", lambda match: f"&#{ord(match[0])};", text)

    def styled(self, mark: str, children: Inlines, before: str) -> str:  # noqa: ARG002
        return self.span(children)

    def maths(self, text: str) -> str:
        return self.text(text)

    def link(self, target: str, children: Inlines) -> str:
        label = self.text(plain(children))
        return label if plain(children) == target else f"[{label}]({_destination(target)})"

    def image(self, source: str, alt: str) -> str:
        return f"![{self.text(alt)}]({_destination(source)})"

    def maths_block(self, body: str) -> str:
        return self.code_block("", body + "\n")


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    # `\[` would begin maths here; an entity means the same to every reader.
    return {"[": "&#91;", "]": "&#93;"}.get(character, "\\" + character)


def _destination(target: str) -> str:
    plain_enough = target and re.fullmatch(r"[^\s<>()\\]+", target)
    return target if plain_enough else "<" + re.sub(r"([<>\\])", r"\\\1", target.replace("\n", "%0A")) + ">"
