"""A note stands below an answer, not in it."""

from __future__ import annotations

import pytest

from core.markdown.note import with_note
from core.markdown.parse import parse
from core.markdown.tree import Paragraph


@pytest.mark.parametrize(
    "text",
    [
        "words",
        "```python\ncode",
        "```python\ncode\n",
        "~~~~\n```\n",
        "```",
        "- item\n\n  ```\n  code",
        "> ```\n> code",
        "| a |\n|---|\n| b",
        "$$\nx",
    ],
)
def test_a_note_is_a_paragraph_of_its_own(text: str) -> None:
    whole = with_note(text, "(stopped)")
    assert whole.startswith(text)
    last = parse(whole)[-1]
    assert isinstance(last, Paragraph)
    assert "(stopped)" in str(last)
