"""The simulated CDN of iLink: what is stored there is AES-128-ECB with PKCS#7, and reached by an opaque parameter.

The wire: https://github.com/Tencent/openclaw-weixin (src/cdn), `POST {cdn}/upload` and `GET {cdn}/download`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from Crypto.Cipher import AES
from Crypto.Util.Padding import pad, unpad

from tests.simulators.weixin_state import FILE, IMAGE, VIDEO, VOICE, WeixinState

_HEX_KEY = re.compile(rb"[0-9a-fA-F]{32}")


def encrypt(content: bytes, key: bytes) -> bytes:
    return AES.new(key, AES.MODE_ECB).encrypt(pad(content, 16))


def decrypt(content: bytes, key: bytes) -> bytes | None:
    """None when the key does not fit."""
    try:
        return unpad(AES.new(key, AES.MODE_ECB).decrypt(content), 16)
    except ValueError:
        return None


def key_of(written: str) -> bytes | None:
    """`aes_key`: base64 of the 16 bytes, or of their 32 hexadecimal digits."""
    try:
        found = base64.b64decode(written, validate=True)
    except (binascii.Error, ValueError):
        return None
    if _HEX_KEY.fullmatch(found):
        return bytes.fromhex(found.decode())
    return found if len(found) == 16 else None


@dataclass
class Upload:
    """An upload that was announced with `getuploadurl`."""

    filekey: str
    key: bytes
    size: int
    encrypted_size: int
    md5: str
    kind: int
    to: str


class WeixinCdn:
    """Add its routes to a server. `base` is what accounts have as `cdn_url`."""

    def __init__(self, state: WeixinState) -> None:
        self.state = state
        self.base = ""
        self.full_urls = True
        """Whether the platform names whole addresses (as it does since 2026), or parameters alone."""
        self.broken = 0
        """The next uploads that fail with status 500."""
        self._stored: dict[str, bytes] = {}
        self._announced: dict[str, Upload] = {}

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/c2c/upload", self._upload), web.get("/c2c/download", self._download)]

    # What people send

    def media(self, content: bytes, *, hex_key: bool) -> tuple[dict[str, Any], bytes]:
        """Store what somebody sent; the reference to it, and its key."""
        key, parameter = secrets.token_bytes(16), secrets.token_urlsafe(24)
        self._stored[parameter] = encrypt(content, key)
        reference = {
            "encrypt_query_param": parameter,
            "aes_key": base64.b64encode(key.hex().encode() if hex_key else key).decode(),
            "encrypt_type": 0,
        }
        if self.full_urls:
            reference["full_url"] = f"{self.base}/download?encrypted_query_param={parameter}"
        return reference, key

    def item(self, name: str, media_type: str, content: bytes) -> dict[str, Any]:
        """A file as the item of a message that carries it."""
        if media_type.startswith("image/"):
            media, key = self.media(content, hex_key=False)
            return {"type": IMAGE, "image_item": {"media": media, "aeskey": key.hex(), "mid_size": len(content)}}
        media, _ = self.media(content, hex_key=True)
        if media_type.startswith("audio/"):
            return {"type": VOICE, "voice_item": {"media": media, "encode_type": 6, "playtime": 2_000}}
        if media_type.startswith("video/"):
            return {"type": VIDEO, "video_item": {"media": media, "video_size": len(content), "play_length": 3}}
        md5 = hashlib.md5(content).hexdigest()
        return {
            "type": FILE,
            "file_item": {"media": media, "file_name": name, "md5": md5, "len": str(len(content))},
        }

    # What bots send

    def announce(self, upload: Upload) -> dict[str, str]:
        """The answer of `getuploadurl`."""
        parameter = secrets.token_urlsafe(24)
        self._announced[parameter] = upload
        if not self.full_urls:
            return {"upload_param": parameter}
        address = f"{self.base}/upload?encrypted_query_param={parameter}&filekey={upload.filekey}"
        return {"upload_param": parameter, "upload_full_url": address}

    def content(self, media: Any) -> bytes | None:
        """What a reference in a bot's message shows; None is a grey box."""
        key = key_of(str(media.get("aes_key") or "")) if isinstance(media, dict) else None
        stored = self._stored.get(str(media.get("encrypt_query_param"))) if isinstance(media, dict) else None
        return decrypt(stored, key) if key is not None and stored is not None else None

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        self._check_credentials(request)
        body = await request.read()
        if self.broken:
            self.broken -= 1
            return web.Response(status=500, headers={"x-error-message": "try again"})
        upload = self._announced.get(request.query.get("encrypted_query_param", ""))
        wrong = "it was not announced" if upload is None else self._wrong(request, upload, body)
        if wrong:
            self.state.complain(f"an upload to the CDN: {wrong}")
            return web.Response(status=400, headers={"x-error-message": wrong})
        parameter = secrets.token_urlsafe(24)
        self._stored[parameter] = body
        return web.Response(headers={"x-encrypted-param": parameter})

    def _wrong(self, request: web.Request, upload: Upload, body: bytes) -> str:
        if request.query.get("filekey") != upload.filekey:
            return "its filekey is another"
        if request.content_type != "application/octet-stream":
            return f"its type is {request.content_type}"
        if len(body) != upload.encrypted_size:
            return f"{len(body)} bytes came, {upload.encrypted_size} were announced"
        content = decrypt(body, upload.key)
        if content is None or len(content) != upload.size or hashlib.md5(content).hexdigest() != upload.md5:
            return "it is not what was announced"
        return ""

    async def _download(self, request: web.Request) -> web.StreamResponse:
        self._check_credentials(request)
        stored = self._stored.get(request.query.get("encrypted_query_param", ""))
        if stored is None:
            return web.Response(status=404, headers={"x-error-message": "no such file"})
        return web.Response(body=stored, content_type="application/octet-stream")

    def _check_credentials(self, request: web.Request) -> None:
        if "Authorization" in request.headers:
            self.state.complain("the bot's token was sent to the CDN, which takes none")
