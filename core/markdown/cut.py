"""Cutting a block in two where a reader expects it: what fits, and the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from core.markdown.measure import boundary_before
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
    Strike,
    Strong,
    Table,
    Text,
)

Size = Callable[[Blocks], int]
"""How much of a message these blocks take, in the units of its limit."""

Halves = tuple[Blocks, Blocks]
"""What fits, and the rest. Nothing fits where the first is empty; what fits is never empty when the room is a whole message."""

_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？；…]+[”’」』）)]*|\n")
_WORD_END = re.compile(r"(?<=\s)|(?<=[、，,;；:：/\u3000-\u30ff\u3400-\u9fff\uac00-\ud7a3])")
_LONGEST_UNCUT = 120
"""Characters of a link or code span that is moved as a whole rather than cut, where either is possible."""


def cut(block: Block, room: int, size: Size, *, force: bool = False) -> Halves:
    """Cut `block` so that its first part takes at most `room`.

    Code and quotes are closed and opened again, with their language; a list goes on with its next number, the rest of
    an item stands before it; a table repeats its header. With `force`, links, formulas and tables that cannot be cut as
    such become text first: for a message that holds nothing else.
    """
    if size((block,)) <= room:
        return (block,), ()
    match block:
        case Paragraph(children):
            return _cut_inlines(children, room, size, Paragraph, force=force)
        case Heading(level, children):
            return _cut_inlines(children, room, size, lambda part: Heading(level, part), force=force)
        case CodeBlock(info, text):
            return _cut_lines(text, room, size, lambda part: CodeBlock(info, part), force=force)
        case MathsBlock(text):
            return _cut_lines(text + "\n", room, size, lambda part: MathsBlock(part.rstrip("\n")), force=force)
        case Quote(children):
            head, rest = _cut_blocks(children, room, lambda part: size((Quote(part),)), force=force)
            return _wrapped(head), _wrapped(rest)
        case List():
            return _cut_list(block, room, size, force=force)
        case Table():
            return _cut_table(block, room, size, force=force)
        case _:
            return (), (block,)


def _wrapped(blocks: Blocks) -> Blocks:
    return (Quote(blocks),) if blocks else ()


def _cut_blocks(blocks: Blocks, room: int, size: Size, *, force: bool) -> Halves:
    """As many blocks as fit, and as much of the next as fits, at best a good part of it."""
    count = _largest(len(blocks), lambda n: size(blocks[:n]), room)
    whole, rest = blocks[:count], blocks[count:]
    if not rest:
        return whole, ()
    used = size(whole) if whole else 0
    head, tail = cut(rest[0], room, lambda part: size(whole + part), force=force and not whole)
    if whole and not _worth_cutting(rest[0], used, room):
        head, tail = (), (rest[0],)
    return whole + head, tail + rest[1:]


def _worth_cutting(block: Block, used: int, room: int) -> bool:
    """Whether to fill what is left of a message with the beginning of `block`, rather than move it to the next one."""
    return used < room * (0.3 if isinstance(block, CodeBlock | Table | MathsBlock) else 0.6)


def _cut_list(block: List, room: int, size: Size, *, force: bool) -> Halves:
    def first(count: int) -> Blocks:
        return (replace(block, items=block.items[:count]),)

    count = _largest(len(block.items), lambda n: size(first(n)), room)
    if count == len(block.items):
        return (block,), ()
    used = size(first(count)) if count else 0
    item = block.items[count]
    head: Blocks = ()
    rest: Blocks = ()
    if not count or used < room * 0.6:
        head, rest = _cut_blocks(
            item.children,
            room,
            lambda part: size((replace(block, items=(*block.items[:count], Item(part, item.checked))),)),
            force=force and not count,
        )
    if not head and not count:
        return (), (block,)
    taken = count + bool(head)
    items = block.items[:count] + ((Item(head, item.checked),) if head else ())
    remaining = block.items[taken:]
    start = None if block.start is None else block.start + taken
    more = (replace(block, start=start, items=remaining),) if remaining else ()
    return (replace(block, items=items),), (*rest, *more)


def _cut_table(table: Table, room: int, size: Size, *, force: bool) -> Halves:
    count = _largest(len(table.rows), lambda n: size((replace(table, rows=table.rows[:n]),)), room)
    if count:
        return (replace(table, rows=table.rows[:count]),), (replace(table, rows=table.rows[count:]),)
    if not force:
        return (), (table,)
    return _cut_blocks(_records(table), room, size, force=True)


def _records(table: Table) -> Blocks:
    """A table of rows too large for one message, as its header and then paragraphs `header: cell`."""
    names = [name for name in table.header if name]
    header = tuple(inline for name in names for inline in (Text(" | "), *name))[1:]
    records = [
        Paragraph((Strong(name), Text(": "), *cell) if name and plain(name).strip() else cell)
        for row in table.rows
        for name, cell in zip(table.header, row, strict=True)
        if cell
    ]
    return (*((Paragraph(header),) if header else ()), *records)


def _cut_lines(text: str, room: int, size: Size, wrap: Callable[[str], Block], *, force: bool) -> Halves:
    lines = re.findall(r"[^\n]*\n|[^\n]+$", text)

    def part(count: int) -> Blocks:
        return (wrap("".join(lines[:count])),)

    count = _largest(len(lines), lambda n: size(part(n)), room)
    if count == len(lines):
        return part(count), ()
    if not count:
        if not force:
            return (), (wrap(text),)
        line = lines[0]
        length = _largest(len(line), lambda n: size((wrap(line[:n]),)), room)
        length = boundary_before(line, length) or length or 1
        return (wrap(line[:length] + "\n"),), (wrap(line[length:] + "".join(lines[1:])),)
    for gap in range(count, max(count * 2 // 3, 1), -1):  # a blank line not far above is a better place
        if not lines[gap - 1].strip() and "".join(lines[: gap - 1]).strip():
            count = gap
            break
    return part(count), (wrap("".join(lines[count:])),)


def _cut_inlines(inlines: Inlines, room: int, size: Size, wrap: Callable[[Inlines], Block], *, force: bool) -> Halves:
    flat = "".join(_flat(inline) for inline in inlines)
    reach = _largest(len(flat), lambda n: size((wrap(_take(inlines, n)[0]),)), room)
    if reach == len(flat):
        return (wrap(inlines),), ()
    for place in _places(inlines, flat, reach):
        head, rest = _take(inlines, place)
        head, rest = _trimmed(head), _trimmed(rest)
        if not rest:
            return (wrap(head),), ()
        if head and plain(head).strip() and size((wrap(head),)) <= room:
            return (wrap(head),), (wrap(rest),)
    if not force:
        return (), (wrap(inlines),)
    simple = _simple(inlines)
    if simple != inlines:
        return _cut_inlines(simple, room, size, wrap, force=True)
    head, rest = _take(inlines, 1)
    return (wrap(head),), (wrap(rest),) if rest else ()


def _places(inlines: Inlines, flat: str, reach: int) -> list[int]:
    """Where to cut, the best place first: a sentence's end, a word's end, any character; not inside a link or code."""
    held = _held(inlines)

    def free(place: int) -> bool:
        return not any(start < place < end for start, end in held)

    ends = [match.end() for match in _SENTENCE_END.finditer(flat, 0, min(reach + 1, len(flat)))]
    sentences = [end for end in ends if reach // 2 < end <= reach and free(end)]
    words = [match.end() for match in _WORD_END.finditer(flat, max(1, reach - 200), reach) if match.end() <= reach]
    words = [boundary_before(flat, word) for word in words if free(word)]
    last = boundary_before(flat, reach)
    starts = [start for start, end in held if start < last < end]
    free_last = [last] if not starts else []
    return [*sentences[-3:][::-1], *words[-3:][::-1], *free_last, *starts[::-1], *([last] if starts else [])]


def _held(inlines: Inlines) -> list[tuple[int, int]]:
    """Spans of flat text that should stay in one piece."""
    held, at = [], 0
    for inline in inlines:
        end = at + len(_flat(inline))
        if isinstance(inline, Link | Code | Maths) and end - at <= _LONGEST_UNCUT:
            held.append((at, end))
        elif isinstance(inline, Emphasis | Strong | Strike):
            held.extend((at + first, at + last) for first, last in _held(inline.children))
        at = end
    return held


def _flat(inline: Inline) -> str:
    match inline:
        case Text(text) | Code(text):
            return text
        case Maths() | Image():
            return "\ufffc"
        case Link(target, (Text(text),)) if target == text:
            return "\ufffc"
        case Break():
            return "\n"
        case _:
            return "".join(map(_flat, inline.children))


def _take(inlines: Inlines, count: int) -> tuple[Inlines, Inlines]:
    """The first `count` flat characters, and the rest; styles that are cut are closed and opened again."""
    head: list[Inline] = []
    for index, inline in enumerate(inlines):
        length = len(_flat(inline))
        if length <= count:
            head.append(inline)
            count -= length
            continue
        if count <= 0:
            return tuple(head), inlines[index:]
        left, right = _divide(inline, count)
        return (*head, left), (right, *inlines[index + 1 :])
    return tuple(head), ()


def _divide(inline: Inline, count: int) -> tuple[Inline, Inline]:
    match inline:
        case Text(text):
            return Text(text[:count]), Text(text[count:])
        case Code(text):
            return Code(text[:count]), Code(text[count:])
        case Link() | Emphasis() | Strong() | Strike():
            left, right = _take(inline.children, count)
            return replace(inline, children=left), replace(inline, children=right)
        case _:  # pragma: no cover  # the others are one flat character and are never divided
            raise AssertionError(f"cannot divide {inline!r}")


def _trimmed(inlines: Inlines) -> Inlines:
    """Without white space and line breaks at the ends; also without styles that hold nothing."""
    trimmed = list(inlines)
    for at, strip in ((0, str.lstrip), (-1, str.rstrip)):
        while trimmed:
            edge = trimmed[at]
            if isinstance(edge, Text) and (text := strip(edge.text)):
                trimmed[at] = Text(text)
                break
            if isinstance(edge, Emphasis | Strong | Strike) and (children := _trimmed(edge.children)):
                trimmed[at] = replace(edge, children=children)
                break
            if isinstance(edge, Code) and (text := strip(edge.text)):
                trimmed[at] = Code(text)
                break
            if isinstance(edge, Link | Maths | Image):
                break
            del trimmed[at]
    return tuple(trimmed)


def _simple(inlines: Inlines) -> Inlines:
    """The same words with what cannot be cut as text."""
    simple: list[Inline] = []
    for inline in inlines:
        match inline:
            case Maths(text):
                simple.append(Text(text))
            case Image(source, alt):
                simple.append(Text(f"{alt} ({source})" if alt.strip() else source))
            case Link(target, children):
                words = plain(children)
                simple.append(Text(words if words == target or not words.strip() else f"{words} ({target})"))
                if not words.strip():
                    simple[-1] = Text(target)
            case Emphasis(children) | Strong(children) | Strike(children):
                simple.extend(_simple(children))
            case Code(text):
                simple.append(Text(text))
            case _:
                simple.append(inline)
    return tuple(simple)


def _largest(most: int, size: Callable[[int], int], room: int) -> int:
    """The largest count up to `most` whose size fits into `room`, or 0; sizes grow with the count.

    Sizes are near to proportional, so it guesses before it halves; it may stop a little short of the largest.
    """
    low, low_size = 0, 0
    high, high_size = most, size(most) if most else 0
    if high_size <= room:
        return most
    guesses = 0
    while high - low > 1:
        if guesses < 6:
            guess = low + int((high - low) * (room - low_size) / max(1, high_size - low_size))
        else:
            guess = (low + high) // 2
        guess = min(max(guess, low + 1), high - 1)
        guesses += 1
        measured = size(guess)
        if measured <= room:
            low, low_size = guess, measured
            if measured >= room * 0.98:
                break
        else:
            high, high_size = guess, measured
    return low
