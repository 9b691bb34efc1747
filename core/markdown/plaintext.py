"""The words of inlines, without their styles."""

from __future__ import annotations

from core.markdown.tree import Break, Code, Image, Inlines, Maths, Text


def plain(inlines: Inlines) -> str:
    """What a reader would read out; an image is its description, a line break a space."""
    pieces = []
    for inline in inlines:
        match inline:
            case Text(text) | Code(text) | Maths(text):
                pieces.append(text)
            case Image(_, alt):
                pieces.append(alt)
            case Break():
                pieces.append(" ")
            case _:
                pieces.append(plain(inline.children))
    return "".join(pieces)
