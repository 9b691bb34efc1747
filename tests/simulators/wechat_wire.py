"""Messages of `wechaty.Puppet` as servers send them, newer ones included than the stubs know.

https://github.com/wechaty/grpc (proto/wechaty/puppet). Servers of 1.x fill the old fields and the new ones; older
servers have the old ones alone. `type` of a message is the number of the TypeScript enumeration, not of the proto:
https://github.com/wechaty/puppet-service/blob/main/src/server/puppet-implementation.ts.
"""

# ruff: noqa: RUF009  # this is how betterproto declares fields

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import betterproto

Form = Literal["0.x", "1.x"]

ATTACHMENT, AUDIO, CONTACT, EMOTICON, IMAGE, TEXT, VIDEO = 1, 2, 3, 5, 6, 7, 15
TRANSFER, RED_ENVELOPE, RECALLED = 11, 12, 13
"""Kinds of messages."""
PERSONAL, OFFICIAL = 1, 2
"""Kinds of contacts."""
WAITING, SCANNED, CONFIRMED, TIMEOUT = 2, 3, 4, 5
"""States of a scan."""
LARGEST_UNARY = 4 * 1024 * 1024
"""Bytes of a request; a server of gRPC for Node.js refuses larger ones by default."""
_PASSED_THROUGH = 20 * 1024
"""Bytes of a file up to which a server sends it along; of larger ones only a `uuid` for `Download`."""


@dataclass
class MessagePayload(betterproto.Message):
    id: str = betterproto.string_field(1)
    filename: str = betterproto.string_field(2)
    text: str = betterproto.string_field(3)
    timestamp_deprecated: int = betterproto.uint64_field(4)
    type: int = betterproto.uint32_field(5)
    talker_id: str = betterproto.string_field(6)
    room_id: str = betterproto.string_field(7)
    listener_id: str = betterproto.string_field(8)
    mention_ids: list[str] = betterproto.string_field(9)
    receive_time: datetime = betterproto.message_field(10)


@dataclass
class ContactPayload(betterproto.Message):
    id: str = betterproto.string_field(1)
    gender: int = betterproto.uint32_field(2)
    type: int = betterproto.uint32_field(3)
    name: str = betterproto.string_field(4)
    avatar: str = betterproto.string_field(5)
    alias: str = betterproto.string_field(7)
    friend: bool = betterproto.bool_field(9)


@dataclass
class RoomPayload(betterproto.Message):
    id: str = betterproto.string_field(1)
    topic: str = betterproto.string_field(2)
    owner_id: str = betterproto.string_field(4)
    member_ids: list[str] = betterproto.string_field(6)


@dataclass
class RoomMemberPayload(betterproto.Message):
    id: str = betterproto.string_field(1)
    room_alias: str = betterproto.string_field(2)
    name: str = betterproto.string_field(5)


@dataclass
class StringValue(betterproto.Message):
    """google.protobuf.StringValue."""

    value: str = betterproto.string_field(1)


@dataclass
class Sent(betterproto.Message):
    """The answer to a send: the id in the old field, and since 1.x in the new one too."""

    id_string_value_deprecated: StringValue = betterproto.message_field(1)
    id: str = betterproto.string_field(2)


@dataclass
class Chunk(betterproto.Message):
    """DownloadResponse."""

    chunk: bytes = betterproto.bytes_field(1)


@dataclass
class Id(betterproto.Message):
    """DownloadRequest."""

    id: str = betterproto.string_field(1)


def sent(id: str | None, form: Form) -> Sent:
    """Some puppets (wechat4u) do not tell the id."""
    if id is None:
        return Sent()
    return Sent(id_string_value_deprecated=StringValue(value=id), id=id if form == "1.x" else "")


def file_box(name: str, content: bytes, *, uuid: str, form: Form) -> dict[str, Any]:
    """A FileBox as JSON: https://github.com/huan/file-box/blob/main/src/file-box.ts (`toJSON`)."""
    common: dict[str, Any] = {"md5": "", "metadata": {}, "name": name}
    if len(content) > _PASSED_THROUGH:
        box = {**common, "type": 7, "uuid": uuid}
    else:
        box = {**common, "size": len(content), "type": 1, "base64": base64.b64encode(content).decode()}
    box["boxType"] = box["type"]
    if form == "0.x":
        del box["type"]
    return box
