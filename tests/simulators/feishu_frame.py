"""The frames of Feishu's long connection: an own codec for the few protobuf fields, so that the generated one is checked
by something else. The fields are those of the SDKs (https://github.com/larksuite/oapi-sdk-python, lark_oapi/ws/pb)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

CONTROL, DATA = 0, 1
_REQUIRED = {1: "SeqID", 2: "LogID", 3: "service", 4: "method"}


@dataclass
class Frame:
    """One message of the WebSocket, binary."""

    service: int
    method: int
    headers: dict[str, str] = field(default_factory=dict)
    payload: bytes = b""
    seq_id: int = 0
    log_id: int = 0

    def encode(self) -> bytes:
        numbers = (self.seq_id, self.log_id, self.service, self.method)
        parts = [_varint(index << 3) + _varint(value) for index, value in enumerate(numbers, start=1)]
        for key, value in self.headers.items():
            parts.append(_bytes(5, _bytes(1, key.encode()) + _bytes(2, value.encode())))
        if self.payload:
            parts.append(_bytes(8, self.payload))
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> Frame:
        """Raises ValueError for what is no frame."""
        frame, seen = cls(service=0, method=0), set[int]()
        for number, value in _fields(data):
            seen.add(number)
            match number, value:
                case 1, int(value):
                    frame.seq_id = value
                case 2, int(value):
                    frame.log_id = value
                case 3, int(value):
                    frame.service = value
                case 4, int(value):
                    frame.method = value
                case 5, bytes(value):
                    header = {inner: text for inner, text in _fields(value) if isinstance(text, bytes)}
                    frame.headers[header[1].decode()] = header[2].decode()
                case 8, bytes(value):
                    frame.payload = value
                case 6 | 7 | 9, bytes():
                    pass
                case _:
                    raise ValueError(f"field {number} is not one of a frame")
        missing = [name for number, name in _REQUIRED.items() if number not in seen]
        if missing:
            raise ValueError(f"a frame without {', '.join(missing)}")
        return frame


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number is cut off")
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        if tag & 7 == 0:
            yield tag >> 3, value
        elif tag & 7 == 2 and at + value <= len(data):
            yield tag >> 3, data[at : at + value]
            at += value
        else:
            raise ValueError("a field is cut off or of a kind that frames do not have")
