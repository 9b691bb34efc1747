"""What of an answer must never get lost."""

from __future__ import annotations

from collections.abc import Iterator
from unicodedata import category

from core.markdown.plaintext import plain
from core.markdown.tree import (
    Blocks,
    CodeBlock,
    Heading,
    Image,
    Inlines,
    Link,
    List,
    MathsBlock,
    Paragraph,
    Quote,
    Table,
)


def visible(blocks: Blocks) -> str:
    """The visible characters of an answer, in order.

    A visible character is one that a reader of the rendered answer sees as ink: every character of text, code (also
    code that a diagram or maths is), descriptions of images and, where the words of a link are empty, its target; but
    no white space, no control or format characters (categories Z, C) and no variation selectors. Marks of the markup
    (fences and their info, asterisks, bullets, numbers of items, pipes and rules of tables) are not characters of the
    answer: a dialect writes them in its own way.
    """
    return "".join(filter(is_visible, "".join(_blocks(blocks))))


def is_visible(character: str) -> bool:
    """Whether `character` leaves ink."""
    return category(character)[0] not in "ZC" and not "\ufe00" <= character <= "\ufe0f"


def _blocks(blocks: Blocks) -> Iterator[str]:
    for block in blocks:
        match block:
            case Paragraph(children) | Heading(_, children):
                yield _inlines(children)
            case CodeBlock(_, text) | MathsBlock(text):
                yield text
            case Quote(children):
                yield from _blocks(children)
            case List(_, _, items):
                for item in items:
                    yield from _blocks(item.children)
            case Table(_, header, rows):
                for row in (header, *rows):
                    yield from map(_inlines, row)
            case _:
                pass


def _inlines(inlines: Inlines) -> str:
    return "".join(
        inline.target
        if isinstance(inline, Link) and not plain(inline.children).strip()
        else inline.source
        if isinstance(inline, Image) and not inline.alt.strip()
        else plain((inline,))
        for inline in inlines
    )
