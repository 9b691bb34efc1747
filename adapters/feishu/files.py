"""Files that come with messages: https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/reference/im-v1/message-resource/get

Feishu gives those of up to 100 MB, to whoever is in the chat, and none of stickers.
"""

from __future__ import annotations

import json

from adapters.feishu.api import FeishuApi
from adapters.feishu.text import is_key
from core.errors import ConnectionLost, DeliveryError, FileRefused, FileUnavailable
from core.fetching import Files
from core.messages import Attachment


async def fetch(attachment: Attachment, files: Files, api: FeishuApi, *, url: str, most_bytes: int) -> bytes:
    """The content of an attachment; `url` is the API's. Raises FileTooLarge, FileRefused or FileUnavailable."""
    message, key, type = _source(attachment)
    if type not in ("image", "file"):
        raise FileRefused(f"{attachment.name!r} is a {type}, which Feishu does not give out")
    try:
        token = await api.token()
    except (DeliveryError, ConnectionLost) as error:
        raise FileUnavailable(f"a file cannot be fetched: {error}") from None
    return await files.get(
        f"{url}/open-apis/im/v1/messages/{message}/resources/{key}?type={type}",
        most_bytes=most_bytes,
        headers={"Authorization": f"Bearer {token}"},
        # Old APIs of Feishu's tell of errors with status 200.
        accepts=lambda found: found != "application/json" or attachment.media_type == found,
    )


def _source(attachment: Attachment) -> tuple[str, str, str]:
    try:
        source = json.loads(attachment.source)
        message, key, type = (str(source[name]) for name in ("message", "key", "type"))
    except (ValueError, TypeError, KeyError):
        raise FileRefused(f"{attachment.name!r} is no file of this platform") from None
    if not is_key(message) or not is_key(key):
        raise FileRefused(f"{attachment.name!r} is no file of this platform")
    return message, key, type
