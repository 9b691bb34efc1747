"""Files that come with messages: a code in the message, an address for the code, the content behind the address.

https://open.dingtalk.com/document/development/download-the-file-content-of-the-robot-receiving-message. The address is
signed, ends soon, and is plain HTTP at Alibaba's object storage; the same storage serves it by HTTPS, which is asked for.
"""

from __future__ import annotations

import json

from yarl import URL

from adapters.dingtalk.api import DingTalkApi
from core.errors import DeliveryError, FileRefused, FileUnavailable
from core.fetching import Files
from core.messages import Attachment

HOSTS = (".aliyuncs.com", ".dingtalk.com")
_DOWNLOAD = "/v1.0/robot/messageFiles/download"


async def fetch(attachment: Attachment, files: Files, api: DingTalkApi, robot: str, *, most_bytes: int) -> bytes:
    """The content of an attachment. `robot`: the robot's code, for messages that do not tell it."""
    try:
        source = json.loads(attachment.source)
        code, of = str(source["code"]), str(source["robot"])
    except (ValueError, TypeError, KeyError):
        raise FileRefused("not a file of this platform") from None
    try:
        data = await api.call("POST", _DOWNLOAD, {"downloadCode": code, "robotCode": of or robot})
    except DeliveryError as error:
        raise FileUnavailable(f"a file could not be looked up: {error}") from None
    return await files.get(_safe(str(data.get("downloadUrl") or "")), most_bytes=most_bytes)


def _safe(address: str) -> str:
    """By HTTPS, where it is a host of the platform that it leads to."""
    try:
        url = URL(address, encoded=True)
    except ValueError:
        raise FileRefused("a file has no address that could be fetched") from None
    host = (url.host or "").lower()
    if url.scheme == "http" and url.port == 80 and host.endswith(HOSTS):
        return f"https{address[4:]}"
    return address
