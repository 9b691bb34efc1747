"""Thoughts are taken out of an answer, however it is cut, and nothing else is."""

from __future__ import annotations

import pytest

from core.thoughts import Thoughts


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("<think>\nwell, 1 < 2\n</think>\n\nThe answer.", "The answer."),
        (" \n<think></think>The answer.", "The answer."),
        ("<think>still thinking", ""),
        ("<think>a</think> \n", ""),
        ("<think>a</think>1 <think>b</think>", "1 <think>b</think>"),
        ("Write <think>a</think> so.", "Write <think>a</think> so."),
        ("  indented", "  indented"),
        ("<thin", "<thin"),
        ("<thinking>", "<thinking>"),
        ("< think>", "< think>"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_thoughts_are_taken_out(answer: str, text: str, size: int) -> None:
    thoughts = Thoughts()
    pieces = [thoughts.feed(answer[at : at + size]) for at in range(0, len(answer), size)]
    assert "".join([*pieces, thoughts.close()]) == text
