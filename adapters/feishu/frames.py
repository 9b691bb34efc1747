"""The frames of the long connection: read, answered, and joined where an event came in pieces.

The protocol is that of Feishu's SDKs, which publish it as code alone
(https://github.com/larksuite/oapi-sdk-python/blob/v2_main/lark_oapi/ws/client.py): protobuf in binary messages, with
`method` 0 for control and 1 for data, and headers that say what it is.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from adapters.feishu.sdk import load_frame
from core.clock import Clock

_Frame = load_frame()

_CONTROL, _DATA = 0, 1

_KEPT = 5.0
"""Seconds that pieces are waited for after the last one, as the SDK does."""
_MOST_PIECES = 256
_MOST_UNFINISHED = 64
_MOST_BYTES = 8_000_000
"""Of unfinished events in all."""


class Frame:
    """One frame as it came."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._headers: dict[str, str] = {}
        for header in raw.headers:
            self._headers.setdefault(header.key, header.value)

    @classmethod
    def read(cls, data: bytes) -> Frame | None:
        """None for what is no frame."""
        raw = _Frame()
        try:
            raw.ParseFromString(data)
            return cls(raw) if raw.IsInitialized() else None
        except Exception:  # noqa: BLE001 - what protobuf raises for garbage is of many types, one of them its own
            return None

    @property
    def is_data(self) -> bool:
        """Whether it brings an event."""
        return bool(self._raw.method == _DATA)

    @property
    def is_pong(self) -> bool:
        """Whether it answers a ping."""
        return bool(self._raw.method == _CONTROL) and self._headers.get("type") == "pong"

    @property
    def payload(self) -> bytes:
        """JSON, or a piece of it."""
        return bytes(self._raw.payload)

    @property
    def message_id(self) -> str:
        """Of the delivery; its pieces share it."""
        return self._headers.get("message_id", "")

    def number(self, header: str) -> int:
        """A header that is a number; 0 where it is none."""
        value = self._headers.get(header, "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 0

    def answer(self, body: Mapping[str, Any] | None, seconds: float) -> bytes:
        """The acknowledgement: the frame itself with what became of it. `body` is the answer to a callback; `seconds`
        is how long it took."""
        header = self._raw.headers.add()
        header.key, header.value = "biz_rt", str(round(seconds * 1000))
        told: dict[str, Any] = {"code": 200}
        if body is not None:
            told["data"] = b64encode(json.dumps(body).encode()).decode()
        self._raw.payload = json.dumps(told, separators=(",", ":")).encode()
        return bytes(self._raw.SerializeToString())


def ping(service: int) -> bytes:
    """A frame that is answered with a pong, and perhaps a new configuration."""
    raw = _Frame()
    raw.SeqID = raw.LogID = 0
    raw.service, raw.method = service, _CONTROL
    header = raw.headers.add()
    header.key, header.value = "type", "ping"
    return bytes(raw.SerializeToString())


class Fragments:
    """Pieces of events that are not whole yet, bounded in number, size and time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._unfinished: OrderedDict[str, tuple[float, dict[int, bytes]]] = OrderedDict()

    def join(self, frame: Frame) -> bytes | None:
        """The whole payload, once `frame` completes it."""
        total, index = frame.number("sum"), frame.number("seq")
        if total <= 1:
            return frame.payload
        self._forget()
        if total > _MOST_PIECES or index >= total:
            return None
        _, pieces = self._unfinished.pop(frame.message_id, (0.0, {}))
        pieces[index] = frame.payload
        if all(each in pieces for each in range(total)):
            return b"".join(pieces[each] for each in range(total))
        self._unfinished[frame.message_id] = (self._clock.monotonic(), pieces)
        return None

    def _forget(self) -> None:
        """Whatever is dropped here is not acknowledged, and comes again."""
        now = self._clock.monotonic()
        while self._unfinished:
            at, _ = next(iter(self._unfinished.values()))
            size = sum(len(piece) for _, pieces in self._unfinished.values() for piece in pieces.values())
            if now - at <= _KEPT and len(self._unfinished) < _MOST_UNFINISHED and size < _MOST_BYTES:
                return
            self._unfinished.popitem(last=False)
