"""What messages consist of: cards, and what stands in for one where it cannot be shown.

Cards are JSON 2.0 with one markdown element:
https://open.feishu.cn/document/uAjLw4CM/ukzMukzMukzM/feishu-cards/card-json-v2-structure; posts and texts:
https://open.feishu.cn/document/server-docs/im-v1/message-content-description/create_json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from core.markdown.dialects.feishu import FEISHU, FEISHU_POST, FEISHU_TEXT

PLACEHOLDER = "…"
"""What a card that cannot be an entity says when it is put up: the same on every attempt, as its `uuid` demands."""

CARD = "interactive"
ELEMENT = "answer"
"""The id of the markdown element in our cards."""

_SUMMARY = 80
"""Characters of the line that stands for a card in the list of chats and in notifications."""
_READ_FOR_IT = 400


def card(rendered: str, text: str, *, streaming: bool = False) -> str:
    """A card that shows `rendered`, which is `text` (CommonMark) in Feishu's dialect, as JSON.

    A `streaming` one is shown as unfinished in the list of chats. Its text is typed on as fast as models write. Another
    one says that it does not stream: the documents do not say what a card that streams makes of silence about it.
    """
    config: dict[str, Any] = {"update_multi": True, **_config(text, streaming=streaming)}
    if streaming:
        config["streaming_config"] = {
            "print_frequency_ms": {"default": 30},
            "print_step": {"default": 3},
            "print_strategy": "fast",
        }
    element = {"tag": "markdown", "element_id": ELEMENT, "content": rendered}
    return _dump({"schema": "2.0", "config": config, "body": {"elements": [element]}})


def streamed(text: str) -> str:
    """Settings that end the streaming of a card that shows `text` (CommonMark), as JSON."""
    return _dump({"config": _config(text, streaming=False)})


def entity(card_id: str) -> str:
    """A message that shows a card entity."""
    return _dump({"type": "card", "data": {"card_id": card_id}})


def file_content(name: str, key: str) -> str:
    """A message that shows an uploaded file: `name` is what the key is called, `file_key` or `image_key`."""
    return _dump({name: key})


def simpler(kind: str, text: str) -> str:
    """`text` (CommonMark) as the content of a `post` or of a `text`."""
    if kind == "post":
        return _dump({"zh_cn": {"title": "", "content": [[{"tag": "md", "text": FEISHU_POST.render(text)}]]}})
    return _dump({"text": FEISHU_TEXT.render(text)})


def forms(text: str) -> Iterator[tuple[str, str]]:
    """`text` (CommonMark) as kinds of messages with their contents, the best first; made when it is asked for."""
    yield CARD, card(FEISHU.render(text), text)
    yield "post", simpler("post", text)
    yield "text", simpler("text", text)


def summary(text: str) -> str:
    """How an answer begins, in one line of plain words."""
    words = " ".join(FEISHU_TEXT.render(text[:_READ_FOR_IT]).split())
    return words if len(words) <= _SUMMARY else f"{words[: _SUMMARY - 1]}…"


def _config(text: str, *, streaming: bool) -> dict[str, Any]:
    return {"streaming_mode": streaming, "summary": {"content": summary(text)}}


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
