"""The growing end of an answer, made fit to be shown while the rest is on its way."""

from __future__ import annotations

import re

from markdown_it.token import Token

from core.markdown.grammar import flanking, parser
from core.markdown.parse import open_code

_LONGEST_HELD = 300
"""Characters of a half link that are held back; a longer one was probably never meant to be a link."""
_LONGEST_FORMULA = 2000

# A last line that is only the beginning of something, with the marks of the quotes and lists it stands in.
_MARKER_ONLY = re.compile(
    r"""(?:[ \t]*(?:>|[-+*](?=\s)|\d{1,9}[.)](?=\s)))*[ \t]*
    (?: [-+*] | \d{1,9}[.)]? | \#{1,6} | =+ | [-_*][-_* \t]* | `+ | `{3,}[^`\n]* | ~{1,2} | ~{3,}[^~\n]* | :?-+:? | \$\$? | \\\[? )?
    [ \t]*(?:\[[ xX]?\]?)?[ \t]*""",
    re.VERBOSE,
)


def presentable(source: str) -> str:
    """CommonMark that shows an unfinished block well.

    Open fences need nothing: the parser closes them. Open styles and code spans are closed; what is half a link, an
    image, a formula, a row of a table, an entity or the mark of a block is held back until it is whole. What is shown
    is a beginning of what will be, but for styles.
    """
    lines = source.split("\n")
    if lines and lines[-1] and _MARKER_ONLY.fullmatch(lines[-1]):
        lines[-1] = ""
    source = "\n".join(lines)
    if source.endswith("\n\n") or not source.strip():
        return source
    if open_code(source):
        return source
    leaf, in_table = _last_leaf(source)
    if in_table:
        return source if source.rstrip().endswith("|") or source.endswith("\n") else "\n".join(lines[:-1])
    if leaf is None:
        return source
    content = leaf.content.split("\n")
    pipes = len(content)
    while pipes and content[pipes - 1].startswith("|"):
        pipes -= 1
    if pipes < len(content) <= len(lines):  # the first lines of what may become a table
        return presentable("\n".join(_without_end(source).split("\n")[: pipes - len(content)]) + "\n")
    return _closed(_without_end(source), leaf.content)


def _without_end(source: str) -> str:
    return source.rstrip(" \t\n")


def _last_leaf(source: str) -> tuple[Token | None, bool]:
    """The inline content that the source ends with, if it ends with one; whether it ends with a table."""
    tokens: list[Token] = []
    md = parser()
    md.block.parse(source, md, {}, tokens)
    last: Token | None = None
    for token in tokens:
        if token.type in ("inline", "fence", "code_block", "maths_block", "hr", "table_close"):
            last = token
    if last is None or last.type == "table_close":
        return None, last is not None
    return (last if last.type == "inline" else None), False


def _closed(source: str, content: str) -> str:
    kept, closers = _scan(content)
    lines, content_lines = source.split("\n"), content.split("\n")
    if len(content_lines) > len(lines) or not lines[-1].endswith(content_lines[-1]):
        return source  # a heading with closing hashes: complete anyway
    below = content[kept:].count("\n")
    if below:
        lines = lines[:-below]
    dropped = len(content[kept:].split("\n", 1)[0])
    line = lines[-1].rstrip(" \t")
    line = line[: len(line) - dropped].rstrip(" \t") if dropped else line
    if dropped and _MARKER_ONLY.fullmatch(line):
        return _without_end("\n".join(lines[:-1])) + closers
    return "\n".join([*lines[:-1], line + closers])


_NOTABLE = re.compile(r"\\|`+|\$\$|!?\[|<|&|\*+|_+|~+")
_LABEL = re.compile(r"!?\[(?:[^\[\]\\]|\\.|\[(?:[^\[\]\\]|\\.)*\])*\]", re.DOTALL)
_TARGET = re.compile(
    r"\([ \t\n]*(?:<[^<>\n]*>|(?:[^\s()\\]|\\.|\([^\s()]*\))*)(?:[ \t\n]+(?:\"[^\"]*\"|'[^']*'))?[ \t\n]*\)"
)


def _scan(content: str) -> tuple[int, str]:
    """How much of `content` can be shown, and what closes the styles that are open there."""
    open_styles: list[tuple[int, str]] = []  # where each ends, and its marks
    kept, tick, at = len(content), "", 0
    while at < kept and (match := _NOTABLE.search(content, at)):
        mark, start, at = match[0], match.start(), match.end()
        if mark[0] in "*_~":
            if not _style(content, start, at, open_styles):
                kept = start
        elif mark[0] == "`":
            end = _end_of_code(content, start, at)
            if end is None:
                kept, tick = (start, "") if at == len(content) else (len(content.rstrip("`")), mark)
                break
            at = end
        else:
            end = _end_of(mark, content, start)
            if end is None:
                kept = start
                break
            at = max(at, end)
    return _trim(content, kept, tick, open_styles)


def _trim(content: str, kept: int, tick: str, open_styles: list[tuple[int, str]]) -> tuple[int, str]:
    """Take back styles that were opened at the very end: closing them there would show their marks."""
    while True:
        kept = len(content[:kept].rstrip())
        inner = [style for style in open_styles if style[0] < kept]
        if tick or len(inner) == len(open_styles):
            break
        kept = min(end - len(marks) for end, marks in open_styles if end >= kept)
        open_styles = inner
    return kept, tick + "".join(marks for _, marks in reversed(inner))


def _style(content: str, start: int, end: int, open_styles: list[tuple[int, str]]) -> bool:
    """Open or close what a run of marks does; False if the run is the unfinished end of the content."""
    mark, length = content[start], end - start
    if mark == "~" and length != 2:
        return end < len(content)
    opens, closes = flanking(content, start, end)
    at_end = end == len(content)
    matched = False
    same = [index for index, (_, marks) in enumerate(open_styles) if marks[0] == mark]
    while closes and length and same:
        index = same.pop()
        place, marks = open_styles[index]
        if length < len(marks):
            if at_end:
                return False
            open_styles[index:] = [(place, marks[length:])]
            return True
        del open_styles[index:]
        length -= len(marks)
        matched = True
    if length and at_end and not matched:
        return False
    if length and opens and not (mark == "*" and closes and length == 1) and not at_end:
        open_styles.append((end, mark * min(length, 3)))
    return True


def _end_of_code(content: str, start: int, at: int) -> int | None:
    """Behind the code span that begins at `start`; behind its first marks if it is none; None if it is unfinished."""
    length = at - start
    for match in re.finditer("`+", content[at:]):
        if len(match[0]) == length:
            return at + match.end()
    if at < len(content) and content[at].isspace():
        return at
    return None


def _end_of(mark: str, content: str, start: int) -> int | None:
    """Behind what begins at `start`, as far as it can hide styles; None if it is unfinished and to be held back."""
    rest = content[start:]
    if mark == "\\":
        if rest[:2] in ("\\(", "\\["):
            end = content.find("\\)" if rest[1] == "(" else "\\]", start + 2)
            return end + 2 if end >= 0 else None if len(rest) <= _LONGEST_FORMULA else start + 2
        return start + 2 if len(rest) > 1 else None
    if mark == "$$":
        end = content.find("$$", start + 2)
        return end + 2 if end >= 0 else None if len(rest) <= _LONGEST_FORMULA else start + 2
    if mark == "<":
        return None if re.fullmatch(r"<[A-Za-z/!]?[^<>\s]{0,200}", rest) else start + 1
    if mark == "&":
        return None if re.fullmatch(r"&#?\w{0,31}", rest) else start + 1
    label = _LABEL.match(content, start)
    if not label:
        return None if len(rest) <= _LONGEST_HELD else start + len(mark)
    if label.end() == len(content):
        return None if len(rest) <= _LONGEST_HELD else start + len(mark)
    if content[label.end()] != "(":
        return start + len(mark)
    target = _TARGET.match(content, label.end())
    if target:
        return target.end()
    return None if len(rest) <= 2 * _LONGEST_HELD and ")" not in content[label.end() :] else start + len(mark)
