"""Files, as FileBoxes: JSON that has the content, or says where it is.

https://github.com/huan/file-box/blob/main/src/file-box.ts (`toJSON`, `fromJSON`)
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from wechaty_grpc.wechaty import puppet

from adapters.wechat.service import PuppetService
from core.adapter import OutboundFile
from core.errors import DeliveryError, FileRefused, FileTooLarge, FileUnavailable
from core.fetching import Files
from core.messages import Attachment
from core.untrusted import json_of

_HOSTS = (".qq.com", ".qpic.cn", ".wechat.com")
"""Of WeChat: a server may name an address there instead of handing the file over."""

_BASE64, _URL, _UUID = 1, 2, 7
"""Kinds of FileBoxes. A server names files over 20 KB by a uuid:
https://github.com/wechaty/puppet-service/blob/main/src/file-box-helper/normalize-filebox.ts"""

_ASK = 60.0
"""Seconds until the server has the file from WeChat."""

_LARGEST_REQUEST = 4 * 1024 * 1024
"""Bytes that a server of gRPC for Node.js takes, its default."""
_ENVELOPE = 16
"""Bytes of a request around its two fields, at most."""


async def fetch(attachment: Attachment, service: PuppetService, *, proxy: str | None, most_bytes: int) -> bytes:
    """The content of an attachment. Raises FetchError."""
    try:
        id = str(json.loads(attachment.source)["message"])
    except (ValueError, KeyError, TypeError):
        raise FileRefused(f"{attachment.name!r} is no file of this platform") from None
    request = puppet.MessageFileRequest(id=id)
    try:
        answer = await service.call("MessageFile", request, puppet.MessageFileResponse, seconds=_ASK)
        box = json_of(answer.filebox)
        match box.get("type") or box.get("boxType"):  # the second is how servers before 1.0 name it
            case 1:
                return _decoded(box["base64"], most_bytes)
            case 2:
                return await _from_wechat(box, proxy, most_bytes)
            case 7:
                return await service.download(str(box["uuid"]), most_bytes=most_bytes)
            case kind:
                raise FileUnavailable(f"the puppet service gives a file as a FileBox of kind {kind!r}")
    except DeliveryError as error:
        raise FileUnavailable(f"the puppet service does not give a file: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise FileUnavailable("the puppet service gives a FileBox that cannot be read") from None


def _decoded(text: str, most_bytes: int) -> bytes:
    if len(text) * 3 // 4 > most_bytes + 2:
        raise FileTooLarge(f"a file has more than {most_bytes} bytes")
    content = base64.b64decode(text)
    if len(content) > most_bytes:
        raise FileTooLarge(f"a file has {len(content)} bytes, at most {most_bytes} are fetched")
    return content


async def _from_wechat(box: dict[str, Any], proxy: str | None, most_bytes: int) -> bytes:
    """With the headers that the server names: WeChat on the web wants its cookies."""
    named = box.get("headers")
    headers = {str(name): str(value) for name, value in named.items()} if isinstance(named, dict) else {}
    async with Files(hosts=_HOSTS, headers=headers, proxy=proxy) as files:
        return await files.get(str(box.get("url") or box.get("remoteUrl") or ""), most_bytes=most_bytes)


def request_of(file: OutboundFile, conversation: str) -> Any:
    """The request that shows a file. Raises DeliveryError where it does not fit into one."""
    if not file.content:
        raise DeliveryError("WeChat takes no empty files")
    box = {
        "type": _BASE64,
        "boxType": _BASE64,
        "name": file.name,
        "size": len(file.content),
        "base64": base64.b64encode(file.content).decode(),
        "metadata": {},
    }
    text = json.dumps(box)
    if len(text) + len(conversation.encode()) + _ENVELOPE > _LARGEST_REQUEST:
        raise DeliveryError(f"a file of {len(file.content)} bytes does not fit into one request, of at most 4 MiB")
    return puppet.MessageSendFileRequest(conversation_id=conversation, filebox=text)
