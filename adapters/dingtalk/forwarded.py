"""A conversation that was forwarded to the robot: who said what.

No document describes it. Captures have `chatRecord` and `summary` as text, as JSON in a text, or as a list, and some have
people's names in the summary alone: https://github.com/QwenLM/qwen-code/pull/9339.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from core.messages import Quoted
from core.untrusted import json_of, part_in, text_in

AUTHOR = "several people, forwarded"
_LONGEST = 4_000
"""Characters."""
_NAME = re.compile(r"\s*([^:：\n]{1,64})[:：]")


def forwarded(content: Mapping[str, Any]) -> Quoted | None:
    """What was said, as data; None where DingTalk tells nothing of it."""
    records = [record for record in _listed(content.get("chatRecord")) if isinstance(record, Mapping)]
    summary = [line for line in _listed(content.get("summary")) if isinstance(line, str)]
    names = [_name_in(line) for line in summary] if len(summary) == len(records) else [""] * len(records)
    lines = [
        f"{_name(record) or name or 'somebody'}: {_said(record)}" for record, name in zip(records, names, strict=True)
    ]
    text = "\n".join(lines or summary) or text_in(content, "summary")
    return Quoted(author=AUTHOR, text=text[:_LONGEST]) if text.strip(" []") else None


def _name(record: Mapping[str, Any]) -> str:
    return text_in(record, "senderNick") or text_in(record, "senderName")


def _name_in(line: str) -> str:
    match = _NAME.match(line)
    return match[1] if match else ""


def _said(record: Mapping[str, Any]) -> str:
    """Its words, else what kind of thing it is."""
    words = text_in(record, "content") or text_in(part_in(record, "content"), "text") or text_in(record, "text")
    return words or f"[{text_in(record, 'fileName') or text_in(record, 'msgType') or 'nothing to read'}]"


def _listed(value: Any) -> list[Any]:
    """A list, or the one that a text is the JSON of."""
    if isinstance(value, str):
        try:
            value = json_of(value)
        except ValueError:
            return []
    return value if isinstance(value, list) else []
