"""What is in a message, as a person reads it: https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/im-v1/message/events/message_content

The content of a message is JSON of its kind. Mentions are placeholders in it (`@_user_1`), with names and ids beside.
"""

from __future__ import annotations

import html
import json
import mimetypes
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.commands import is_about_somebody
from core.messages import Attachment
from core.untrusted import items_in, json_of, text_in

_PLACEHOLDER = re.compile(r"@_user_\d+|@_all")
_LONGEST_PLACEHOLDER = 40
"""Characters."""
_EVERYBODY = "all"
_GAP = re.compile(r"[\s,:，：]*")
_KEY = re.compile(r"[\w-]{1,256}", re.ASCII)
_MOST_FILES = 20
_DEEPEST = 12

_OTHER_KINDS = {
    "calendar": "Calendar invitation",
    "folder": "Folder",
    "general_calendar": "Calendar",
    "hongbao": "Red packet",
    "location": "Location",
    "merge_forward": "Forwarded messages",
    "share_calendar_event": "Calendar event",
    "share_chat": "Shared chat",
    "share_user": "Shared contact",
    "todo": "Task",
    "video_chat": "Video call",
    "vote": "Poll",
}
"""Kinds that are told in a line, by what they are."""

_IMAGE, _FILE = "image", "file"
"""What a resource is fetched as; `file` for sound and film too."""


@dataclass(frozen=True, slots=True)
class Mention:
    """Whom a placeholder stands for."""

    id: str
    """open_id, or the app's id in some histories; empty for everybody."""
    name: str


@dataclass(slots=True)
class Content:
    """Text (CommonMark, with placeholders) and the files that came with it."""

    text: str = ""
    attachments: list[Attachment] = field(default_factory=list)


def content_of(kind: str, raw: Any, message: str) -> Content | None:
    """The content of a message of `kind` and id `message`; None for kinds that nobody writes, or garbage."""
    body = _json(raw)
    found = Content()
    match kind:
        case "text":
            found.text = text_in(body, "text")
        case "post":
            found.text = _post(body, message, found.attachments)
        case "image":
            _attach(found.attachments, message, _IMAGE, text_in(body, "image_key"), name="image", media_type="image/*")
        case "file":
            _attach(found.attachments, message, _FILE, text_in(body, "file_key"), name=text_in(body, "file_name"))
        case "audio":
            _attach(found.attachments, message, _FILE, text_in(body, "file_key"), name="audio.opus")
        case "media":
            name = text_in(body, "file_name") or "video.mp4"
            _attach(found.attachments, message, _FILE, text_in(body, "file_key"), name=name)
        case "sticker":
            _attach(found.attachments, message, kind, text_in(body, "file_key"), name="sticker", media_type="image/*")
        case "interactive":
            found.text = _card(body)
        case _ if kind in _OTHER_KINDS:
            found.text = _described(kind, body)
        case _:
            return None
    return found


def mentions_in(message: Mapping[str, Any]) -> dict[str, Mention]:
    """The mentions of a message by their placeholders, as events (`id` holds several ids) and histories have them."""
    found = {}
    for one in items_in(message, "mentions"):
        id, key = one.get("id"), text_in(one, "key")
        open_id = text_in(id, "open_id") if isinstance(id, Mapping) else text_in(one, "id")
        if key.startswith("@_") and len(key) <= _LONGEST_PLACEHOLDER:
            found[key] = Mention(open_id, text_in(one, "name") or (_EVERYBODY if key == "@_all" else ""))
    return found


def readable(text: str, mentions: Mapping[str, Mention], own: frozenset[str]) -> str:
    """`text` with names for placeholders; where it begins or ends with those in `own`, they only call and are removed. A
    command about somebody has their id instead."""
    if not mentions:
        return text
    longest_first = sorted(mentions, key=len, reverse=True)  # nothing separates a placeholder from a digit after it
    placeholder = re.compile("|".join(map(re.escape, longest_first)))
    text = _without_calls(text, placeholder, own)
    ids = is_about_somebody(text)

    def shown(match: re.Match[str]) -> str:
        one = mentions[match[0]]
        return one.id if ids and one.id else f"@{one.name or one.id}"

    return placeholder.sub(shown, text)


def _without_calls(text: str, placeholder: re.Pattern[str], own: frozenset[str]) -> str:
    """No pattern does the end of it: one that may begin anywhere takes minutes for a text of blanks."""
    start = 0
    while (match := placeholder.match(text, _after_gap(text, start))) and match[0] in own:
        start = _after_gap(text, match.end())
    text = text[start:].rstrip() if own else text
    end = len(text)
    while (at := text.rfind("@", 0, end)) >= 0 and text[at:end] in own:
        end = at
        while end and text[end - 1].isspace():
            end -= 1
    return text[:end]


def _after_gap(text: str, at: int) -> int:
    match = _GAP.match(text, at)
    return match.end() if match else at


def _attach(found: list[Attachment], message: str, type: str, key: str, *, name: str, media_type: str = "") -> None:
    if not is_key(key) or len(found) >= _MOST_FILES:
        return
    guessed = media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    source = json.dumps({"message": message, "key": key, "type": type})
    found.append(Attachment(name=name or key, media_type=guessed, size=None, source=source))


# Rich text


def _post(body: Mapping[str, Any], message: str, files: list[Attachment]) -> str:
    """Paragraphs of elements, under a title. What we sent ourselves may be in a language's wrapper."""
    wrapped = next((each for each in body.values() if isinstance(each, Mapping)), {})
    post = body if "content" in body or "content_v2" in body else wrapped
    title = text_in(post, "title").strip()
    lines = [f"**{title}**", ""] if title else []
    paragraphs = post.get("content") or post.get("content_v2")
    for paragraph in paragraphs if isinstance(paragraphs, list) else []:
        elements = paragraph if isinstance(paragraph, list) else []
        lines.append("".join(_element(each, message, files) for each in elements if isinstance(each, Mapping)))
    return "\n".join(lines).strip("\n")


def _element(element: Mapping[str, Any], message: str, files: list[Attachment]) -> str:
    text = text_in(element, "text")
    match element.get("tag"):
        case "text":
            return _styled(text, element.get("style"))
        case "a":
            href = text_in(element, "href")
            return f"[{text}]({href})" if href and text and text != href else href or text
        case "at":
            user = text_in(element, "user_id")
            return user if _PLACEHOLDER.fullmatch(user) else f"@{text_in(element, 'user_name') or user}"
        case "img":
            key = text_in(element, "image_key")
            _attach(files, message, _IMAGE, key, name="image", media_type="image/*")
        case "media":
            _attach(files, message, _FILE, text_in(element, "file_key"), name="video.mp4")
        case "emotion":
            return f":{text_in(element, 'emoji_type')}:"
        case "hr":
            return "\n---\n"
        case "code_block":
            fence = "`" * (max([2, *map(len, re.findall("`+", text))]) + 1)
            return f"{fence}{text_in(element, 'language').lower()}\n{text.rstrip()}\n{fence}"
        case _:
            return text
    return ""


def _styled(text: str, style: Any) -> str:
    words = text.strip()
    if not isinstance(style, list) or not words:
        return text
    for name, mark in (("bold", "**"), ("italic", "_"), ("lineThrough", "~~")):
        if name in style:
            words = f"{mark}{words}{mark}"
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{before}{words}{after}"


# Cards and the rest


def _card(body: Mapping[str, Any]) -> str:
    """The texts of a card, as it was sent or as Feishu retells it."""
    return "\n".join(line for line in _texts(body, 0) if line.strip())


def _texts(part: Any, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    if isinstance(part, list):
        line = []  # Feishu retells a paragraph as a list of elements
        for each in part:
            if isinstance(each, Mapping) and isinstance(each.get("text"), str):
                line.append(each["text"])
            else:
                yield from _texts(each, depth + 1)
        yield "".join(line)
    elif isinstance(part, Mapping):
        if part.get("tag") in ("markdown", "plain_text", "lark_md"):
            yield html.unescape(text_in(part, "content"))
        yield text_in(part, "title")
        for key in ("header", "title", "body", "elements", "columns", "text", "fields"):
            if not isinstance(part.get(key), str):
                yield from _texts(part.get(key), depth + 1)


def _described(kind: str, body: Mapping[str, Any]) -> str:
    details = [text_in(body, key) for key in ("name", "file_name", "topic", "text")]
    summary = body.get("summary")
    details.append(_post(summary, "", []) if isinstance(summary, Mapping) else text_in(body, "summary"))
    details += [text_in(body, "latitude"), text_in(body, "longitude")]
    options = body.get("options")
    details += [each for each in options if isinstance(each, str)] if isinstance(options, list) else []
    told = ", ".join(filter(None, details))
    return f"[{_OTHER_KINDS[kind]}: {told}]" if told else f"[{_OTHER_KINDS[kind]}]"


# Reading what may be anything


def is_key(text: str) -> bool:
    """Whether `text` may be the id of a message or the key of a file; it may be put into an address then."""
    return _KEY.fullmatch(text) is not None


def _json(raw: Any) -> Mapping[str, Any]:
    try:
        body = json_of(raw) if isinstance(raw, str) else {}
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
