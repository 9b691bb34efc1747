"""What the stubs of wechaty_grpc 0.20 lack of `wechaty.Puppet`: its messages since 1.0.

https://github.com/wechaty/grpc (proto/wechaty/puppet/message.proto, download-upload.proto)
"""

# ruff: noqa: RUF009  # this is how betterproto declares fields

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import betterproto


@dataclass(eq=False, repr=False)
class MessagePayload(betterproto.Message):
    """What a message says. `timestamp` is deprecated, and servers of 1.x fill it still."""

    id: str = betterproto.string_field(1)
    filename: str = betterproto.string_field(2)
    text: str = betterproto.string_field(3)
    timestamp: int = betterproto.uint64_field(4)
    type: int = betterproto.uint32_field(5)
    from_id: str = betterproto.string_field(6)
    room_id: str = betterproto.string_field(7)
    to_id: str = betterproto.string_field(8)
    mention_ids: list[str] = betterproto.string_field(9)
    receive_time: datetime = betterproto.message_field(10)


@dataclass(eq=False, repr=False)
class StringValue(betterproto.Message):
    """google.protobuf.StringValue."""

    value: str = betterproto.string_field(1)


@dataclass(eq=False, repr=False)
class Sent(betterproto.Message):
    """The answer to every kind of send. Servers of 1.x fill both; some puppets tell no id."""

    old_id: StringValue = betterproto.message_field(1)
    new_id: str = betterproto.string_field(2)


@dataclass(eq=False, repr=False)
class DownloadRequest(betterproto.Message):
    """A file by its `uuid`."""

    id: str = betterproto.string_field(1)


@dataclass(eq=False, repr=False)
class DownloadResponse(betterproto.Message):
    """A piece of it."""

    chunk: bytes = betterproto.bytes_field(1)
