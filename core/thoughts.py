"""Thoughts that a model's server leaves in the answer: `<think>…</think>` before the text.

Models that reason (DeepSeek-R1, Qwen, QwQ and others) write so. Most servers take the thoughts out and send them as
`reasoning_content`; one that was started without a parser for its model does not (vLLM's documentation, "Reasoning
Outputs"). Only the very beginning is looked at: further down the tag is something that the answer is about.
"""

from __future__ import annotations

from enum import Enum

_BEGIN = "<think>"
_END = "</think>"


class _At(Enum):
    BEGINNING = "beginning"
    THOUGHTS = "thoughts"
    GAP = "gap"
    """Behind the thoughts, where blanks are no text."""
    TEXT = "text"


class Thoughts:
    """Takes the thoughts out of one answer while it comes, however it is cut into pieces."""

    def __init__(self) -> None:
        self._at = _At.BEGINNING
        self._held = ""
        """What may be the beginning of a tag."""

    def feed(self, piece: str) -> str:
        """What of the answer is certain to be text now."""
        if self._at is _At.TEXT:
            return piece
        held, self._held = self._held + piece, ""
        if self._at is _At.BEGINNING:
            seen = held.lstrip()
            if not seen.startswith(_BEGIN):
                if _BEGIN.startswith(seen):
                    self._held = held
                    return ""
                self._at = _At.TEXT
                return held
            self._at = _At.THOUGHTS
            held = seen.removeprefix(_BEGIN)
        if self._at is _At.THOUGHTS:
            _, end, after = held.partition(_END)
            if not end:
                self._held = held[1 - len(_END) :]
                return ""
            self._at = _At.GAP
            held = after
        if held := held.lstrip():
            self._at = _At.TEXT
        return held

    def close(self) -> str:
        """The answer ends here: what was held and is no thought."""
        return self._held if self._at is _At.BEGINNING else ""
