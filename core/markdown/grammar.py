"""The parser: CommonMark with tables, strikethrough and maths, set up so that no character can get lost.

Where it differs from CommonMark 0.31 and GFM, and why:

- Raw HTML is text. `<br>` alone is a line break, because models write it in table cells.
- Reference definitions (`[1]: https://…`) are text. A definition may come after its use, so resolving it would change
  what has long been shown of a streamed answer.
- A table row with more cells than the header keeps them in its last cell; GFM drops them.
- `*` and `**` next to Chinese, Japanese or Korean text open and close where a reader expects it: `**注意：**内容` is
  strong here and literal asterisks in CommonMark, whose rule knows words between spaces only. The rule is that of
  https://github.com/tats-u/markdown-cjk-friendly.
- A single `*` between letters or digits is one: `2*3*4` is a product. In CommonMark it is 2, a slanted 3, and 4, and where
  nothing can be slanted all that is left of it is 234.
- `$…$`, `$$…$$`, `\\(…\\)` and `\\[…\\]` are maths, kept verbatim: CommonMark would eat their backslashes and underscores.
- Nesting is bounded; a block with anything deeper in it is read as code, markers and all.
"""

from __future__ import annotations

import re
from functools import cache

from markdown_it import MarkdownIt
from markdown_it.common.utils import isMdAsciiPunct, isPunctChar, isWhiteSpace
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block.table import escapedSplit
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Delimiter

from core.markdown.links import url_at

MAX_NESTING = 40
"""Levels of quotes and lists (a list counts twice). Python's own recursion limit is far above what these need."""

_MAX_PADDING = 10_000
"""Missing cells that one table may leave to be filled in; small input must not become large."""


@cache
def parser() -> MarkdownIt:
    """The one parser of the process."""
    md = MarkdownIt("commonmark", {"html": False, "maxNesting": MAX_NESTING})
    md.enable(["table", "strikethrough"])
    md.disable(["reference", "html_block", "html_inline"])
    md.validateLink = _any_target  # type: ignore[method-assign]  # the parser's documented way to set it
    md.inline.ruler.at("emphasis", _emphasis)
    md.inline.ruler.at("strikethrough", _strikethrough)
    md.inline.ruler.before("newline", "url", _url)
    md.inline.ruler.before("escape", "maths", _maths)
    md.inline.ruler.before("autolink", "line_break_tag", _line_break_tag)
    md.block.ruler.at("table", _table, {"alt": ["paragraph"]})
    md.block.ruler.before("fence", "maths_block", _maths_block, {"alt": ["paragraph", "blockquote", "list"]})
    md.parse("- *a*")  # its rules are compiled at the first use, which several threads must not do at once
    return md


def _any_target(url: str) -> bool:  # noqa: ARG001
    """Targets are judged where they are written, so that a refused one is still shown."""
    return True


_CJK = re.compile("[\u1100-\u11ff\u2e80-\u303f\u3040-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uffef\U0001b000-\U0001b16f\U00020000-\U0003ffff]")  # fmt: skip


def _emphasis(state: StateInline, silent: bool) -> bool:
    start = state.pos
    marker = state.src[start]
    if silent or marker not in "_*":
        return False
    end = start
    while end < state.posMax and state.src[end] == marker:
        end += 1
    opens, closes = flanking(state.src, start, end, state.posMax)
    for _ in range(end - start):
        state.push("text", "", 0).content = marker
        state.delimiters.append(Delimiter(ord(marker), end - start, len(state.tokens) - 1, -1, opens, closes))
    state.pos = end
    return True


def _strikethrough(state: StateInline, silent: bool) -> bool:
    start = end = state.pos
    while end < state.posMax and state.src[end] == "~":
        end += 1
    if silent or end - start < 2:
        return False
    opens, closes = flanking(state.src, start, end, state.posMax)
    if (end - start) % 2:
        state.push("text", "", 0).content = "~"
    for _ in range((end - start) // 2):
        state.push("text", "", 0).content = "~~"
        state.delimiters.append(Delimiter(ord("~"), 0, len(state.tokens) - 1, -1, opens, closes))
    state.pos = end
    return True


def _url(state: StateInline, silent: bool) -> bool:
    """A bare URL, found at its colon before its underscores and asterisks are taken for marks."""
    if not state.src.startswith("://", state.pos):
        return False
    scheme = 5 if state.src[max(0, state.pos - 5) : state.pos].lower() == "https" else 4
    start = state.pos - scheme
    url = url_at(state.src, start, state.posMax) if start >= 0 else ""
    if len(url) <= scheme + 3 or (not silent and state.pending[-scheme:] != url[:scheme]):
        return False
    if not silent:
        state.pending = state.pending[:-scheme]
        state.push("url", "", 0).content = url
    state.pos = start + len(url)
    return True


def flanking(source: str, start: int, end: int, limit: int | None = None) -> tuple[bool, bool]:
    """Whether the run of marks `source[start:end]` may open a style, and whether it may close one."""
    before = source[start - 1] if start > 0 else " "
    after = source[end] if end < (len(source) if limit is None else limit) else " "
    if source[start:end] == "*" and _FACTOR.match(before) and _FACTOR.match(after):
        return False, False
    space_before, space_after = isWhiteSpace(ord(before)), isWhiteSpace(ord(after))
    mark_before, mark_after = _is_mark(before), _is_mark(after)
    left = not space_after and (not mark_after or space_before or mark_before)
    right = not space_before and (not mark_before or space_after or mark_after)
    if source[start] == "_":
        return left and (not right or mark_before), right and (not left or mark_after)
    cjk_before, cjk_after = _CJK.match(before) is not None, _CJK.match(after) is not None
    left = left or (not space_after and (cjk_after or cjk_before))
    right = right or (not space_before and (cjk_before or cjk_after))
    return left, right


_FACTOR = re.compile("[0-9A-Za-z]")


def _is_mark(character: str) -> bool:
    return isMdAsciiPunct(ord(character)) or isPunctChar(character)


# A dollar opens only before a non-space, closes only after one and not before a digit: prices stay prices (Pandoc's rule).
_INLINE_MATHS = re.compile(
    r"""
      \\\( (?P<round>  [^\n]+? (?:\n[^\n]+?)*? ) \\\)
    | \\\[ (?P<square> [^\n]+? (?:\n[^\n]+?)*? ) \\\]
    | \$\$ (?P<double> [^$\n]+ (?:\n[^$\n]+)* ) \$\$
    | \$ (?P<single> [^$\s\\`] | (?=[^$\s`]) (?: [^$\n`\\] | \\[^\n] )* (?: [^$\s`\\] | \\[^\n\s] ) ) \$ (?![0-9A-Za-z$])
    """,
    re.VERBOSE,
)


def _maths(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] not in "$\\":
        return False
    if state.src[state.pos] == "$" and state.pos and state.src[state.pos - 1] == "$":
        return False
    match = _INLINE_MATHS.match(state.src, state.pos, state.posMax)
    text = match[match.lastgroup].strip() if match and match.lastgroup else ""
    if not match or not _is_formula(text):
        return False
    if not silent:
        state.push("maths", "", 0).content = " ".join(text.split("\n"))
    state.pos = match.end()
    return True


_LINE_BREAK_TAG = re.compile(r"<br[ \t]*/?>", re.IGNORECASE)


def _line_break_tag(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] != "<":
        return False
    match = _LINE_BREAK_TAG.match(state.src, state.pos, state.posMax)
    if not match:
        return False
    if not silent:
        state.push("hardbreak", "br", 0)
    state.pos = match.end()
    return True


_CLOSER = {"$$": "$$", "\\[": "\\]"}


def _maths_block(state: StateBlock, first: int, end: int, silent: bool) -> bool:
    """A formula in lines of its own: from an opener alone in its line to the closer or a blank line, or all in one line.

    No rule looks further ahead than that for a closer, so what is a formula never depends on text that is yet to come.
    """
    start = state.bMarks[first] + state.tShift[first]
    opener = state.src[start : start + 2]
    if opener not in _CLOSER or state.is_code_block(first):
        return False
    closer = _CLOSER[opener]
    text = state.src[start + 2 : state.eMarks[first]].strip()
    line = first + 1
    if text:
        lines = [text.removesuffix(closer).rstrip()]
        if not text.endswith(closer) or closer in lines[0] or not _is_formula(lines[0]):
            return False
    else:
        lines = []
        closed = False
        while not closed and line < end and not state.isEmpty(line) and state.sCount[line] >= state.blkIndent:
            text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()
            closed = text.endswith(closer)
            lines.append(text.removesuffix(closer).rstrip() if closed else text)
            line += 1
        if not "".join(lines):
            return False
    if not silent:
        token = state.push("maths_block", "", 0)
        token.content, token.map = "\n".join(lines).strip("\n"), [first, line]
        state.line = line
    return True


def _is_formula(text: str) -> bool:
    """Whether it is more than the number of a footnote, which some models write as `\\[1\\]`."""
    return re.search(r"[^\d\s,;–-]", text) is not None


_DELIMITER_ROW = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")


def _table(state: StateBlock, first: int, end: int, silent: bool) -> bool:
    if first + 2 > end or state.sCount[first + 1] < state.blkIndent:
        return False
    if state.is_code_block(first) or state.is_code_block(first + 1):
        return False
    header_line, delimiters = _line(state, first), _line(state, first + 1)
    if "|" not in header_line or delimiters.startswith("- ") or not _DELIMITER_ROW.fullmatch(delimiters):
        return False
    header = _cells(header_line)
    columns = [cell.strip() for cell in delimiters.strip("|").split("|")]
    if not header or len(header) != len(columns):
        return False
    if silent:
        return True
    opening = state.push("table_open", "table", 1)
    opening.map = lines = [first, 0]
    opening.meta["align"] = tuple(_align(column) for column in columns)
    _push_row(state, header, first)
    line = _rows(state, first + 2, end, len(columns))
    state.push("table_close", "table", -1)
    lines[1] = state.line = line
    return True


def _rows(state: StateBlock, line: int, end: int, width: int) -> int:
    """Push the body; return the first line behind the table."""
    terminators = state.md.block.ruler.getRules("blockquote")  # what ends a quote ends a table, as in markdown-it
    padding = 0
    parent, state.parentType = state.parentType, "table"
    while line < end and state.sCount[line] >= state.blkIndent:
        if any(rule(state, line, end, True) for rule in terminators):
            break
        text = _line(state, line)
        if not text or state.is_code_block(line):
            break
        cells = _cells(text)
        padding += max(0, width - len(cells))
        if padding > _MAX_PADDING:
            break
        cells[width - 1 :] = [" | ".join(cells[width - 1 :])]
        _push_row(state, cells + [""] * (width - len(cells)), line)
        line += 1
    state.parentType = parent
    return line


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].strip()


def _cells(line: str) -> list[str]:
    cells = escapedSplit(line)
    if cells and not cells[0]:
        del cells[0]
    if cells and not cells[-1]:
        del cells[-1]
    return [cell.strip() for cell in cells]


def _align(column: str) -> str:
    if column.endswith(":"):
        return "center" if column.startswith(":") else "right"
    return "left" if column.startswith(":") else ""


def _push_row(state: StateBlock, cells: list[str], line: int) -> None:
    state.push("tr_open", "tr", 1)
    for cell in cells:
        token = state.push("inline", "", 0)
        token.content, token.children, token.map = cell, [], [line, line + 1]
    state.push("tr_close", "tr", -1)
