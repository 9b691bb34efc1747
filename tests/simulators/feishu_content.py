"""What messages and cards may hold on a simulated Feishu, what a person reads there, and what notifies people.

https://open.feishu.cn/document/server-docs/im-v1/message-content-description/create_json (messages),
https://open.feishu.cn/document/uAjLw4CM/ukzMukzMukzM/feishu-cards/card-json-v2-structure (cards).
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

MOST_TEXT = 150 * 1024
MOST_RICH = 30 * 1024
"""Bytes: of a post, and of a card."""
MOST_TABLES = 3
"""In one card; four fail in the field (https://github.com/larksuite/openclaw-lark, card-error.ts)."""
MOST_ELEMENTS = 200
_LOCALES = ("zh_cn", "en_us", "ja_jp", "zh_hk", "zh_tw")
_GONE_IN_V2 = ("note", "action")
_POST_TAGS = ("text", "a", "at", "img", "media", "emotion", "code_block", "hr", "md")
_ELEMENT_ID = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,19}")
_CODE = re.compile(
    r"^[ \t>]*(?P<fence>`{3,})[^\n]*(?:\n.*?)??(?:^[ \t>]*(?P=fence)`*[ \t]*$|\Z)|(?P<ticks>`+)(?!`)[^\n]+?(?<!`)(?P=ticks)(?!`)",
    re.DOTALL | re.MULTILINE,
)
_TABLE = re.compile(r"^(?=[^\n]*\|)[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$", re.MULTILINE)
_IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]*)")
_PING = re.compile(r"<(?:at|person)\b", re.IGNORECASE)


class Refused(Exception):
    """An answer with a code other than 0. `mistake`: the caller is to blame, and it is a complaint."""

    def __init__(
        self,
        code: int,
        msg: str,
        *,
        status: int = 400,
        headers: dict[str, str] | None = None,
        mistake: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(f"{code} {msg}")
        self.code, self.msg, self.status, self.headers = code, msg, status, headers or {}
        self.mistake, self.more = mistake, more


def bad_card(code: int, text: str) -> Refused:
    """230099; what is wrong is in the message alone."""
    return Refused(230099, f"Failed to create card content, ext=ErrCode: {code}; ErrMsg: {text}; ", mistake=True)


def object_in(text: Any, code: int, name: str) -> dict[str, Any]:
    """An object in a string of JSON, which is how contents travel."""
    if not isinstance(text, str):
        raise Refused(code, f"{name} must be a string", mistake=True)
    try:
        value = json.loads(text)
    except ValueError:
        raise Refused(code, f"{name} is not JSON", mistake=True) from None
    if not isinstance(value, dict):
        raise Refused(code, f"{name} is not an object", mistake=True)
    return value


def size_in_request(content: str) -> int:
    """Bytes of the content in the body of a request: a string of JSON, its quotes escaped, letters as UTF-8."""
    return len(json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def check_text(content: dict[str, Any]) -> str:
    """Of a message of type text."""
    text = content.get("text")
    if not isinstance(text, str) or not text.strip():
        raise Refused(230001, "invalid request parameter, ext=text is empty", mistake=True)
    return text


def check_post(content: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """The lines of a post; md, pictures and videos stand alone in theirs."""
    if not content or set(content) - set(_LOCALES) or not all(isinstance(each, dict) for each in content.values()):
        raise Refused(230001, "invalid request parameter, ext=a post has its languages outside", mistake=True)
    lines: Any = next(iter(content.values())).get("content")
    if not isinstance(lines, list) or not any(lines):
        raise Refused(230001, "invalid request parameter, ext=a post without content", mistake=True)
    for line in lines:
        for element in line:
            tag = element.get("tag")
            if tag not in _POST_TAGS:
                raise Refused(230001, f"invalid request parameter, ext=unknown tag {tag}", mistake=True)
            if tag in ("md", "img", "media") and len(line) > 1:
                raise Refused(230001, f"invalid request parameter, ext={tag} must be alone in its line", mistake=True)
    return list(lines)


def post_text(lines: Sequence[Sequence[dict[str, Any]]]) -> str:
    """What is to be read in a post."""
    return "\n".join("".join(_post_element(element) for element in line) for line in lines)


def _post_element(element: dict[str, Any]) -> str:
    text = str(element.get("text", ""))
    return as_read(text) if element.get("tag") == "md" else text


def elements(value: Any) -> Iterator[dict[str, Any]]:
    """Everything in a card that has a tag, outermost first."""
    if isinstance(value, dict):
        if "tag" in value:
            yield value
        for inner in value.values():
            yield from elements(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from elements(inner)


def check_card(card: dict[str, Any], pictures: Sequence[str]) -> None:
    """JSON 2.0 that can be shown. `pictures`: the keys of what was uploaded."""
    body = card.get("body")
    if not isinstance(body, dict) or not isinstance(body.get("elements"), list):
        raise bad_card(200621, "parse card json err, please check whether the card json is correct")
    if card.get("config", {}).get("update_multi") is False:
        raise Refused(300302, "update_multi property is false", mistake=True)
    found = list(elements(card))
    if len(found) > MOST_ELEMENTS:
        raise Refused(300305, "The number of card components exceeds 200", mistake=True)
    names = [str(each["element_id"]) for each in found if "element_id" in each]
    if len(names) != len(set(names)):
        raise Refused(300301, "Duplicate element_id in card component.", mistake=True)
    if any(not _ELEMENT_ID.fullmatch(name) for name in names):
        raise Refused(10002, "element_id begins with a letter and has at most 20 of A-Za-z0-9_", mistake=True)
    for each in found:
        if each["tag"] in _GONE_IN_V2:
            raise bad_card(
                200861,
                f"cards of schema V2 no longer support this capability; ErrorValue: unsupported tag {each['tag']}",
            )
    texts = [str(each.get("content", "")) for each in found if each["tag"] in ("markdown", "lark_md")]
    tables = sum(len(_TABLE.findall(prose)) for text in texts for prose in _prose(text))
    if tables + sum(each["tag"] == "table" for each in found) > MOST_TABLES:
        raise bad_card(11310, "card table number over limit; ErrorValue: table")
    for text in texts:
        for key in (match[1] for prose in _prose(text) for match in _IMAGE.finditer(prose)):
            if key not in pictures:
                raise bad_card(200570, f"card contains invalid image keys; ErrorValue: image key {key}")
    if len(json.dumps(card, ensure_ascii=False).encode()) > MOST_RICH:
        raise Refused(200860, "Card content exceeds limit.", mistake=True)


def card_sources(card: dict[str, Any]) -> list[str]:
    """The texts of a card as they were sent: its title, then its body from top to bottom."""
    shown = elements([card.get("header", {}), card.get("body", {})])
    return [str(each["content"]) for each in shown if isinstance(each.get("content"), str)]


def card_text(card: dict[str, Any]) -> str:
    """What a person reads on a card."""
    return "\n".join(text for text in map(as_read, card_sources(card)) if text)


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """The text in order, each piece with whether it is code."""
    end = 0
    for match in _CODE.finditer(text):
        yield False, text[end : match.start()]
        yield True, match[0]
        end = match.end()
    yield False, text[end:]


def _prose(text: str) -> Iterator[str]:
    return (piece for is_code, piece in _pieces(text) if not is_code)


def as_read(text: str) -> str:
    """What a person reads of Markdown: entities undone outside code, marks kept."""
    return "".join(piece if is_code else html.unescape(piece) for is_code, piece in _pieces(text))


def notifies(source: str) -> bool:
    """Whether what was sent to be shown would notify somebody: Markdown, a text, or the JSON of a post."""
    return bool(_PING.search(source)) or '"tag": "at"' in source
