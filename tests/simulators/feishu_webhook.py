"""How Feishu posts events: encrypted and signed where an Encrypt Key is set.

https://open.feishu.cn/document/ukTMukTMukTM/uYDNxYjL2QTM24iN0EjN/event-subscription-configure-/encrypt-key-encryption-configuration-case
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import time
from typing import Any

from Crypto.Cipher import AES
from Crypto.Util.Padding import pad

from tests.simulators.feishu_state import FeishuApp


def encrypt(key: str, text: str) -> str:
    """AES-256-CBC with the key's SHA-256 and a random iv in front."""
    iv = os.urandom(16)
    cipher = AES.new(hashlib.sha256(key.encode()).digest(), AES.MODE_CBC, iv)
    return base64.b64encode(iv + cipher.encrypt(pad(text.encode(), 16))).decode()


def sign(key: str, timestamp: str, nonce: str, body: bytes) -> str:
    """Over the body as it is sent."""
    return hashlib.sha256((timestamp + nonce + key).encode() + body).hexdigest()


def request_of(app: FeishuApp, payload: dict[str, Any], *, signed: bool = True) -> tuple[bytes, dict[str, str]]:
    """Body and headers of one POST. The request that verifies an address is encrypted but not `signed`."""
    text = json.dumps(payload, ensure_ascii=False)
    headers = {"Content-Type": "application/json;charset=utf-8"}
    if not app.encrypt_key:
        return text.encode(), headers
    body = json.dumps({"encrypt": encrypt(app.encrypt_key, text)}).encode()
    if signed:
        timestamp, nonce = str(int(time.time())), secrets.token_hex(16)
        headers |= {
            "X-Lark-Request-Timestamp": timestamp,
            "X-Lark-Request-Nonce": nonce,
            "X-Lark-Signature": sign(app.encrypt_key, timestamp, nonce, body),
        }
    return body, headers
