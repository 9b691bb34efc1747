"""A paragraph below an answer that ends anywhere."""

from __future__ import annotations

from core.markdown.grammar import parser


def with_note(text: str, note: str) -> str:
    """`text`, unchanged, and `note` below it: not as a line of the code that `text` may break off in."""
    apart = f"{text}\n\n{note}"
    last = parser().parse(apart)[-1]
    # Code inside a list or a quote ends with these: the note is not indented.
    if last.type == "fence" and last.level == 0 and note in last.content:
        return f"{text}\n{last.markup}\n\n{note}"
    return apart
