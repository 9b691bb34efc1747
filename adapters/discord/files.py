"""Files that come with messages. Their addresses are signed and expire after about a day; the message has fresh ones.

https://docs.discord.com/developers/reference#signed-attachment-cdn-urls
"""

from __future__ import annotations

import json
from typing import Any

from adapters.discord.reply import MESSAGE
from adapters.discord.rest import Rest
from core.errors import DeliveryError, FileRefused, FileUnavailable
from core.fetching import Files
from core.messages import Attachment

HOSTS = ("cdn.discordapp.com", "media.discordapp.net")


async def fetch(attachment: Attachment, files: Files, rest: Rest, *, most_bytes: int) -> bytes:
    """The content of an attachment, by a fresh address if the one that came with the message has expired."""
    source = _source(attachment)
    try:
        return await files.get(source["url"], most_bytes=most_bytes)
    except FileUnavailable:
        fresh = await _fresh(source, rest)
        if fresh in ("", source["url"]):
            raise
    return await files.get(fresh, most_bytes=most_bytes)


async def _fresh(source: dict[str, str], rest: Rest) -> str:
    """The address that the message gives now; empty if it gives none."""
    try:
        message = await rest.object("GET", MESSAGE, channel_id=source["channel"], message_id=source["message"])
    except DeliveryError as error:
        raise FileUnavailable(f"the message of a file cannot be read: {error}") from error
    found: list[dict[str, Any]] = message.get("attachments", [])
    return next((str(item.get("url", "")) for item in found if item.get("id") == source["id"]), "")


def _source(attachment: Attachment) -> dict[str, str]:
    try:
        source = json.loads(attachment.source)
        return {name: str(source[name]) for name in ("url", "channel", "message", "id")}
    except (ValueError, KeyError, TypeError):
        raise FileRefused(f"{attachment.name!r} is no file of this platform") from None
