"""What people wrote, out of Slack's escapes.

https://docs.slack.dev/messaging/formatting-message-text: `&`, `<` and `>` are escaped; what stands in `<…>` is a link,
a mention or a date. The marks of emphasis stay as they are typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

Name = Callable[[str], str | None]
"""The name of a person (U…, W…) or channel (C…), if it is known."""

_TAG = re.compile(r"<([^<>\n]*)>")
_ENTITY = re.compile("&(amp|lt|gt);")
_CHARACTERS = {"amp": "&", "lt": "<", "gt": ">"}
_GAP = re.compile(r"[\s,:]*")
_PERSON = re.compile(r"<@([A-Z0-9]{2,30})(?:\|[^<>]*)?>")
_ID = re.compile(r"<[@#]([A-Z0-9]{2,30})(?:\|[^<>]*)?>")


def unescape(text: str) -> str:
    """`&amp;`, `&lt;` and `&gt;` as the characters they stand for, once."""
    return _ENTITY.sub(lambda match: _CHARACTERS[match[1]], text)


def ids_in(text: str) -> list[str]:
    """The people and channels that `text` names by id, each once."""
    return list(dict.fromkeys(_ID.findall(text)))


def with_ids(text: str, id: Callable[[str], str]) -> str:
    """`text` with what `id` says in place of the mentions of people."""
    return _PERSON.sub(lambda match: id(match[1]), text)


def without_mention(text: str, user: str) -> str:
    """`text` without the mentions of `user` that it begins or ends with.

    No pattern looks for the end: one that may begin anywhere takes minutes for a text of blanks.
    """
    mention = _mention_of(user)
    start = 0
    while match := mention.match(text, _after_gap(text, start)):
        start = _after_gap(text, match.end())
    end = len(text)
    while True:
        stop = _before_gap(text, end)
        at = text.rfind("<", start, stop)
        if at < 0 or not mention.fullmatch(text, at, stop):
            return text[start:end]
        end = _before_gap(text, at)


@lru_cache
def _mention_of(user: str) -> re.Pattern[str]:
    return re.compile(rf"<@{re.escape(user)}(?:\|[^<>]*)?>")


def _after_gap(text: str, at: int) -> int:
    match = _GAP.match(text, at)
    return match.end() if match else at


def _before_gap(text: str, at: int) -> int:
    while at and text[at - 1].isspace():
        at -= 1
    return at


def readable(text: str, name: Name) -> str:
    """Slack's text as a person reads it: names instead of ids, links as CommonMark, no escapes."""
    pieces, end = [], 0
    for match in _TAG.finditer(text):
        pieces += [unescape(text[end : match.start()]), _tag(match[1], name)]
        end = match.end()
    return "".join(pieces) + unescape(text[end:])


def _tag(tag: str, name: Name) -> str:
    target, _, label = tag.partition("|")
    label = unescape(label)
    match target[:1]:
        case "@":
            return f"@{(label or name(target[1:]) or target[1:]).removeprefix('@')}"
        case "#":
            return f"#{(label or name(target[1:]) or target[1:]).removeprefix('#')}"
        case "!":
            word = target[1:].partition("^")[0]
            return label or f"@{word}"
        case _:
            return _link(unescape(target), label)


def _link(target: str, label: str) -> str:
    plain_target = target.removeprefix("mailto:").removeprefix("tel:")
    if not label or label in (target, plain_target) or target.endswith(f"://{label}"):
        return plain_target
    return f"[{label}]({target})"
