"""The shape of an answer: what `core.markdown.parse` makes of CommonMark and every dialect is written from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Align = Literal["", "left", "center", "right"]


@dataclass(frozen=True, slots=True)
class Text:
    """Characters to be shown as they are; no newline in it."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """A code span; no newline in it."""

    text: str


@dataclass(frozen=True, slots=True)
class Maths:
    """A formula inside a line, in LaTeX, without its delimiters."""

    text: str


@dataclass(frozen=True, slots=True)
class Emphasis:
    """Stressed text, usually in italics."""

    children: Inlines


@dataclass(frozen=True, slots=True)
class Strong:
    """Important text, usually in bold."""

    children: Inlines


@dataclass(frozen=True, slots=True)
class Strike:
    """Text that is crossed out."""

    children: Inlines


@dataclass(frozen=True, slots=True)
class Link:
    """A link, also one to a bare URL; its children hold no other link. The title of a link is dropped."""

    target: str
    """As written, of any scheme: `core.markdown.links.safe` says whether it may be followed."""
    children: Inlines


@dataclass(frozen=True, slots=True)
class Image:
    """An image of another host. It is shown as a link: fetching it would tell that host who reads."""

    source: str
    alt: str


@dataclass(frozen=True, slots=True)
class Break:
    """The end of a line inside a paragraph; a soft one may be shown as a space."""

    hard: bool


Inline = Text | Code | Maths | Emphasis | Strong | Strike | Link | Image | Break
Inlines = tuple[Inline, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines of text that belong together."""

    children: Inlines


@dataclass(frozen=True, slots=True)
class Heading:
    """The title of what follows."""

    level: int
    """1 to 6."""
    children: Inlines


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced or indented block of code."""

    info: str
    """What follows the opening fence; its first word names the language."""
    text: str
    """Ends with a newline unless empty."""

    @property
    def language(self) -> str:
        """The first word of `info`, or an empty string."""
        return self.info.split(maxsplit=1)[0] if self.info.strip() else ""


@dataclass(frozen=True, slots=True)
class MathsBlock:
    """A displayed formula, in LaTeX, without its delimiters; may have several lines."""

    text: str


@dataclass(frozen=True, slots=True)
class Quote:
    """Blocks that somebody else said."""

    children: Blocks


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a list."""

    children: Blocks
    checked: bool | None = None
    """Whether a task is done; None in a list that is not of tasks."""


@dataclass(frozen=True, slots=True)
class List:
    """Entries with bullets or numbers."""

    start: int | None
    """The first number; None for bullets."""
    tight: bool
    """No blank lines between the items."""
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Every row has as many cells as the header."""

    align: tuple[Align, ...]
    header: tuple[Inlines, ...]
    rows: tuple[tuple[Inlines, ...], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A thematic break."""


Block = Paragraph | Heading | CodeBlock | MathsBlock | Quote | List | Table | Rule
Blocks = tuple[Block, ...]
