"""Server-sent events: bytes in, the data of each event out.

Follows the WHATWG HTML standard, "Server-sent events" (lines end in LF, CR or CRLF; a line that starts with a colon is
a comment; a blank line ends an event), with one leniency: `close` also gives an event that no blank line has ended.
Names and ids of events are read over.
"""

from __future__ import annotations


class EventTooLong(ValueError):
    """An event or a line is longer than the parser accepts."""


class EventParser:
    """Splits a stream into events. The work is linear in the bytes, however they are cut into pieces."""

    def __init__(self, *, longest: int = 1024 * 1024) -> None:
        """`longest` bounds one line, and the data of one event, in bytes."""
        self._longest = longest
        self._line: list[bytes] = []
        """Pieces of the line that has not ended yet."""
        self._line_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._after_cr = False
        """The last piece ended in CR: an LF that follows belongs to it."""
        self._first = True

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that `piece` completes, in order. Raises EventTooLong."""
        if self._after_cr and piece:
            self._after_cr = False
            piece = piece.removeprefix(b"\n")
        if b"\n" not in piece and b"\r" not in piece:
            self._keep(piece)
            return []
        if self._line:
            self._line.append(piece)
            piece = b"".join(self._line)
            self._line.clear()
            self._line_size = 0
        lines = piece.splitlines()
        if piece.endswith(b"\r"):
            self._after_cr = True
        elif not piece.endswith(b"\n"):
            self._keep(lines.pop())
        return self._take(lines)

    def close(self) -> list[bytes]:
        """The last event, if the stream ended without the blank line after it."""
        lines = [b"".join(self._line), b""]
        self._line.clear()
        return self._take(lines)

    def _keep(self, piece: bytes) -> None:
        if not piece:
            return
        self._line_size += len(piece)
        if self._line_size > self._longest:
            raise EventTooLong(f"a line is longer than {self._longest} bytes")
        self._line.append(piece)

    def _take(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        if self._first and lines:
            self._first = False
            lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
        for line in lines:
            if not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
                    self._data_size = 0
            elif line.startswith(b"data:"):
                value = line[6:] if line.startswith(b"data: ") else line[5:]
                self._data_size += len(value)
                if self._data_size > self._longest:
                    raise EventTooLong(f"an event is longer than {self._longest} bytes")
                data.append(value)
            elif line == b"data":
                data.append(b"")
        return events
