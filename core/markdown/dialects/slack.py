"""Slack's two ways: Markdown (`markdown_text`, the `markdown` block) and mrkdwn (`text`).

Sources: https://docs.slack.dev/reference/block-kit/blocks/markdown-block (12,000 characters, standard Markdown, tables),
https://docs.slack.dev/messaging/formatting-message-text (mrkdwn, the escapes of `& < >`, mentions),
https://docs.slack.dev/reference/methods/chat.update (4,000 characters of `text`). Mentions are read in a markdown block
too, and the entities work there: https://github.com/PostHog/posthog/pull/95054.
"""

from __future__ import annotations

import re
from typing import Final

from core.adapter import TextLimits
from core.markdown.chatwriter import ChatWriter
from core.markdown.dialect import Dialect
from core.markdown.mentions import BREAK, defuse
from core.markdown.parse import parse
from core.markdown.plaintext import plain
from core.markdown.tree import (
    Block,
    Blocks,
    Code,
    Emphasis,
    Heading,
    Inlines,
    List,
    Paragraph,
    Quote,
    Strike,
    Strong,
    Table,
)
from core.markdown.tree import Link as LinkNode
from core.markdown.writer import Writer

_TAGS = re.compile(r"<(?=[@!#])")
_SPECIAL = re.compile(r"[\\*`\[\]~|]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def _entities(text: str) -> str:
    return re.sub("[&<>]", lambda match: _ENTITIES[match[0]], text)


class SlackMarkdownWriter(ChatWriter):
    """Standard Markdown; no `<` is left outside of code, and none in code that begins a mention."""

    strict_marks = True
    flush_code = False

    def document(self, blocks: Blocks) -> str:
        return defuse(super().document(blocks), _TAGS)

    def table(self, table: Table) -> str:
        return Writer.table(self, table)

    def checkbox(self, checked: bool) -> str:
        return Writer.checkbox(self, checked)

    def rule(self) -> str:
        return "---"

    def heading(self, level: int, children: Inlines) -> str:
        return f"{'#' * level} {self.inlines(children)}".rstrip()

    def code(self, text: str) -> str:
        return Writer.code(self, text)

    def code_block(self, info: str, body: str) -> str:
        return Writer.code_block(self, info.split(maxsplit=1)[0].replace("`", "") if info.strip() else "", body)

    def text(self, text: str) -> str:
        return _entities(_SPECIAL.sub(r"\\\g<0>", text))

    def line_break(self, *, hard: bool) -> str:  # noqa: ARG002
        return "\n"

    def anchor(self, target: str, children: Inlines) -> str:
        return f"[{self.span(children)}]({_paren(target)})"

    def address(self, target: str) -> str:
        return f"[{self.text(target.removeprefix('mailto:'))}]({_paren(target)})"


def _paren(target: str) -> str:
    return _entities(target.replace("(", "%28").replace(")", "%29").replace("|", "%7C"))


class MrkdwnWriter(ChatWriter):
    """Slack's own markup, which has no escape for its marks: a literal `*` may be taken for one."""

    def document(self, blocks: Blocks) -> str:
        return defuse(super().document(blocks), _TAGS)

    def heading(self, level: int, children: Inlines) -> str:  # noqa: ARG002
        return self.styled("**", _without_strong(children), "")

    def line(self, line: str) -> str:
        line = line.lstrip(" \t")
        return BREAK + line if line.startswith(("&gt;", "•")) else line

    def marker(self, number: int | None, *, other: bool) -> str:  # noqa: ARG002
        return "• " if number is None else f"{number}. "

    def inlines(self, inlines: Inlines) -> str:
        pieces = [""]
        styled = False
        for inline in inlines:
            piece = self.inline(inline)
            former, styled_before, styled = pieces[-1], styled, isinstance(inline, Emphasis | Strong | Strike | Code)
            # Marks are read between spaces or punctuation; a space without width does as well.
            if (styled or styled_before) and former[-1:].strip() and piece[:1].strip():
                piece = BREAK + piece
            pieces.append(piece)
        return "\n".join(self.line(line) for line in "".join(pieces).strip("\n").split("\n"))

    def styled(self, mark: str, children: Inlines, before: str) -> str:  # noqa: ARG002
        mark = {"*": "_", "**": "*", "~~": "~"}[mark]
        lines = self.span(children).split("\n")  # no mark reaches over a line's end
        return "\n".join(f"{mark}{line.strip()}{mark}" if line.strip() else "" for line in lines)

    def text(self, text: str) -> str:
        return _entities(text).replace("```", f"`{BREAK}`{BREAK}`")

    def code(self, text: str) -> str:
        return f"`{_entities(text)}`" if "`" not in text and text.strip() else self.text(text)

    def code_text(self, text: str) -> str:
        return _entities(text)

    def code_block(self, info: str, body: str) -> str:  # noqa: ARG002
        return super().code_block("", body)

    def anchor(self, target: str, children: Inlines) -> str:
        words = plain(children)
        if "|" in words:  # it would end the target
            return super().anchor(target, children)
        return f"<{_in_angles(target)}|{_entities(words)}>"

    def address(self, target: str) -> str:
        return f"<{_in_angles(target)}>"

    def line_break(self, *, hard: bool) -> str:  # noqa: ARG002
        return "\n"


def _in_angles(target: str) -> str:
    return _entities(target).replace("|", "%7C")


def _without_strong(inlines: Inlines) -> Inlines:
    return tuple(part for inline in inlines for part in (inline.children if isinstance(inline, Strong) else (inline,)))


SLACK_MARKDOWN = Dialect(
    name="Slack Markdown",
    limits=TextLimits(max_length=12_000, edit_interval=1.2),
    write=SlackMarkdownWriter().document,
)
"""`markdown_text` of chat.postMessage, chat.update and the streaming methods, or one `markdown` block."""

SLACK_MRKDWN = Dialect(
    name="Slack mrkdwn",
    limits=TextLimits(max_length=4_000, edit_interval=1.2),
    write=MrkdwnWriter().document,
)
"""`text` of chat.postMessage and chat.update."""

_MARKS = re.compile(r"[*_~`]")


def best(text: str) -> Dialect:
    """The dialect in which Slack shows `text` (CommonMark) best.

    mrkdwn for what it can do, since every client shows it; Markdown for headings, tables, tasks and code of a language,
    for marks that mrkdwn cannot escape, and for what does not fit.
    """
    blocks = parse(text)
    if all(map(_mrkdwn_can, blocks)) and SLACK_MRKDWN.size(text) <= SLACK_MRKDWN.limits.max_length:
        return SLACK_MRKDWN
    return SLACK_MARKDOWN


def _mrkdwn_can(block: Block) -> bool:
    match block:
        case Paragraph(children):
            return not _MARKS.search(_loose_text(children))
        case List(_, _, items):
            return all(item.checked is None and all(map(_mrkdwn_can, item.children)) for item in items)
        case Quote(children):
            return all(isinstance(child, Paragraph) and _mrkdwn_can(child) for child in children)
        case Heading() | Table():
            return False
        case _:
            return True


def _loose_text(inlines: Inlines) -> str:
    """The words outside of code and links."""
    return plain(tuple(inline for inline in inlines if not isinstance(inline, Code | LinkNode)))
