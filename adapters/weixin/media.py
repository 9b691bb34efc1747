"""Files: encrypted with a key of their own (AES-128-ECB, PKCS#7), and kept by a CDN that knows nothing of the bot.

https://github.com/Tencent/openclaw-weixin (README.md, CDN upload flow; src/cdn)
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from Crypto.Cipher import AES
from Crypto.Util.Padding import pad, unpad

from adapters.weixin.api import IlinkApi
from core.adapter import OutboundFile
from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain, FileRefused, FileTooLarge
from core.fetching import Files
from core.messages import Attachment
from core.untrusted import part_in, text_in

HOSTS = (".weixin.qq.com",)
"""Besides the configured CDN: whole addresses that messages bring lead there."""

_BLOCK = AES.block_size
_UPLOAD = 60.0
"""Seconds."""

IMAGE, VIDEO, FILE = 1, 2, 3
"""What is uploaded; other numbers than those of the items of messages."""


def source_of(part: Mapping[str, Any]) -> dict[str, str] | None:
    """How the file of an item is fetched: `url`, or `query` at the CDN, and `key` in hex, empty for a file that is not
    encrypted. None where that is not told."""
    media = part_in(part, "media")
    url, query = text_in(media, "full_url").strip(), text_in(media, "encrypt_query_param")
    if not url and not query:
        return None
    # of an image the hex key beside it is the right one
    return {
        "url": url,
        "query": query,
        "key": _hex_key(text_in(part, "aeskey")) or _base64_key(text_in(media, "aes_key")),
    }


def _hex_key(found: str) -> str:
    if len(found) != 2 * _BLOCK:
        return ""
    try:
        return bytes.fromhex(found).hex()
    except ValueError:
        return ""


def _base64_key(found: str) -> str:
    """16 bytes, or those in hex: both occur."""
    try:
        key = base64.b64decode(found)
    except (binascii.Error, ValueError):
        return ""
    return key.hex() if len(key) == _BLOCK else _hex_key(key.decode("latin-1"))


async def fetch(attachment: Attachment, files: Files, cdn_url: str, *, most_bytes: int) -> bytes:
    """The content of an attachment, decrypted. Raises FetchError."""
    try:
        source = json.loads(attachment.source)
        url, query, key = (str(source[name]) for name in ("url", "query", "key"))
        key_bytes = bytes.fromhex(key)
    except (ValueError, KeyError, TypeError):
        raise FileRefused(f"{attachment.name!r} is no file of this platform") from None
    url = url or f"{cdn_url}/download?encrypted_query_param={quote(query, safe='')}"
    content = await files.get(url, most_bytes=most_bytes + _BLOCK)
    if key_bytes:
        content = await asyncio.to_thread(_decrypted, content, key_bytes)
    if len(content) > most_bytes:
        raise FileTooLarge(f"a file has {len(content)} bytes, at most {most_bytes} are fetched")
    return content


def _decrypted(content: bytes, key: bytes) -> bytes:
    try:
        return unpad(AES.new(key, AES.MODE_ECB).decrypt(content), _BLOCK)
    except ValueError:
        raise FileRefused("a file cannot be decrypted with the key that came with it") from None


def _encrypted(content: bytes, key: bytes) -> bytes:
    return AES.new(key, AES.MODE_ECB).encrypt(pad(content, _BLOCK))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Uploaded:
    """A file that the CDN has."""

    media: dict[str, Any]
    """As items of messages refer to it."""
    size: int
    """Bytes, encrypted."""


async def item_of(file: OutboundFile, api: IlinkApi, cdn_url: str, user: str) -> dict[str, Any]:
    """Upload a file for one person, and make the item of a message that shows it. Nothing is shown yet, so every
    failure that may pass is DeliveryUnavailable."""
    kind = file.media_type.partition("/")[0]
    uploaded = await _upload(file.content, {"image": IMAGE, "video": VIDEO}.get(kind, FILE), api, cdn_url, user)
    match kind:
        case "image":
            return {"type": 2, "image_item": {"media": uploaded.media, "mid_size": uploaded.size}}
        case "video":
            return {"type": 5, "video_item": {"media": uploaded.media, "video_size": uploaded.size}}
        case _:
            about = {"file_name": file.name, "len": str(len(file.content))}
            return {"type": 4, "file_item": {"media": uploaded.media, **about}}


async def _upload(content: bytes, kind: int, api: IlinkApi, cdn_url: str, user: str) -> _Uploaded:
    key, name = secrets.token_bytes(_BLOCK), secrets.token_hex(16)
    encrypted = await asyncio.to_thread(_encrypted, content, key)
    try:
        place = await api.call(
            "getuploadurl",
            {
                "filekey": name,
                "media_type": kind,
                "to_user_id": user,
                "rawsize": len(content),
                "rawfilemd5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
                "filesize": len(encrypted),
                "no_need_thumb": True,
                "aeskey": key.hex(),
            },
        )
        url, query = place.get("upload_full_url"), place.get("upload_param")
        if not url and not query:
            raise DeliveryError("the platform names no place for a file")
        url = str(url or f"{cdn_url}/upload?encrypted_query_param={quote(str(query), safe='')}&filekey={name}")
        headers = await api.upload(url, encrypted, seconds=_UPLOAD)
    except DeliveryUncertain as error:
        raise DeliveryUnavailable(str(error)) from None
    reference = headers.get("x-encrypted-param")
    if not reference:
        raise DeliveryUnavailable("the CDN took a file and does not say where it is")
    # the vendor's client writes the key's hex in base64
    media = {
        "encrypt_query_param": reference,
        "aes_key": base64.b64encode(key.hex().encode()).decode(),
        "encrypt_type": 1,
    }
    return _Uploaded(media=media, size=len(encrypted))
