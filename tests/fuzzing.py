"""What platforms might send on a bad day: their real payloads, altered, as JSON text; and how the results are counted.

Alterations are made with a `random.Random`. Hypothesis gives one whose choices it shrinks (`st.randoms`); where a whole
program is under fire it is a seeded one. CHATGPT_MS_EXAMPLES sets how many examples each experiment takes.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings

from core.messages import ConversationKey, InboundMessage, Scope
from core.storage.codec import decode, encode, micros, moment, name, storable

EXAMPLES = int(os.environ.get("CHATGPT_MS_EXAMPLES", "0"))
"""0: each experiment's own number."""


def examples(default: int) -> settings:
    """`default` examples, or CHATGPT_MS_EXAMPLES where that is set; the same ones in each run where it is not."""
    return settings(
        max_examples=EXAMPLES or default,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def figure(experiment: str, counted: Counter[str]) -> None:
    """One line that says what an experiment did."""
    print(f"\n{experiment}: " + ", ".join(f"{number:,} {what}" for what, number in sorted(counted.items())))


# Altered JSON


class Raw(str):
    """A piece of JSON text that stands as it is."""

    __slots__ = ()


class Twice(dict[str, Any]):
    """An object whose `again` pairs follow the others, under names that it has already."""

    again: Sequence[tuple[str, Any]] = ()


_NUMBERS = (
    *("0", "-0", "-1", "1", "2", "19", "1.5", "-0.0", "1e-400", "1e400", "-1e400", "NaN", "Infinity", "-Infinity"),
    *(str(2**power + step) for power in (31, 32, 53, 63, 64, 70) for step in (-1, 0)),
    *(f"-{2**63}", f"-{2**63 + 1}", "9" * 15, "9" * 20, "9" * 400, "9" * 4_000, "253402300800000", "-62135596800001"),
)
_TEXTS = (
    *("", " ", "0", "-1", "\0", "a\0b", "\n", "\r\n", "\u2028", "\ufeff", "\u202e", "\x7f\x1b[31m", "\U0010ffff"),
    *("\ud800", "\udfff\ud800", "a\udc00b", "\ud83d\ude00", "e" + "\u0301" * 200, "\u200b", "\u0661\u0662.\u0663"),
    *("9" * 40, "1e400", "NaN", "-0", "null", "true", "[]", "{}", '{"text": 7}', '{"text": ' + "[" * 300, '"', "\\"),
    *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-13-45T99:99:99Z", "20261123", "2026-W48"),
    *("<@U1>", "<@U1", "<!everyone>", "<https://x|", "@_user_1", "@_all", "@_user_12", "@everyone", "<at id=all></at>"),
    *("../../etc/passwd", "?a=b#c", "a/b", "a;b|c", "%00", "%ud800", "http://[", "http://127.0.0.1:1/", "file:///x"),
    *("「", "「a：b」\n- - - - - -\nc", "<msg><title>", "$:LWCP_v1:$", "1700000000.000100", "1234567890123456789"),
    *("/new", "/stop now", "reset", "text/plain; charset=x", "a" * 300, "\u6587" * 3_000, "x" * 70_000),
)
_SHAPES = (
    *("null", "true", "false", "[]", "{}", "[[]]", "[null]", "[0, {}]", '{"": null}', '{"text": {"text": []}}'),
    *(
        "[" * 50 + "]" * 50,
        '{"a":' * 50 + "1" + "}" * 50,
        "[" * 400 + "]" * 400,
        '{"content":' * 400 + "[]" + "}" * 400,
    ),
)


class Mutator:
    """Alters JSON values in ways that `chance` decides."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance

    def altered(self, samples: Sequence[Any], most: int = 4) -> Any:
        """One of `samples` with up to `most` alterations, at least one. Write it with `text_of`."""
        document = copy.deepcopy(self._chance.choice(samples))
        for _ in range(self._chance.randint(1, most)):
            document = self._alter(document, samples)
        return document

    def junk(self) -> Any:
        """Anything."""
        chance = self._chance
        match chance.randrange(4):
            case 0:
                return Raw(chance.choice(_NUMBERS))
            case 1:
                return Raw(chance.choice(_SHAPES))
            case _:
                return chance.choice(_TEXTS)

    def broken(self, text: str) -> bytes:
        """JSON text that is none any more, or hardly: cut, with bytes replaced, repeated or in another encoding."""
        chance, data = self._chance, bytearray(_encoded(text))
        if not data:
            return b"\xff"
        at = chance.randrange(len(data))
        match chance.randrange(8):
            case 0:
                return bytes(data[:at])
            case 1:
                data[at] = chance.randrange(256)
            case 2:
                data[at:at] = bytes(chance.randrange(256) for _ in range(3))
            case 3:
                return bytes(data[at:])
            case 4:
                return bytes(data) + bytes(data)
            case 5:
                return text.encode(chance.choice(("utf-16", "utf-32", "utf-8-sig")), "surrogatepass")
            case 6:
                return (b"[" if chance.randrange(2) else b'{"type":') * chance.choice((20, 990, 20_000))
            case _:
                del data[at : at + chance.randrange(1, 20)]
        return bytes(data)

    def _alter(self, document: Any, samples: Sequence[Any]) -> Any:
        places = list(_places(document))
        if not places:
            return self.junk()
        chance = self._chance
        holder, key = chance.choice(places)
        value = holder[key]
        match chance.randrange(10):
            case 0 | 1 | 2:
                holder[key] = self.junk()
            case 3:
                del holder[key]
            case 4:
                holder[key] = [value] if chance.randrange(2) else {"x": value}
            case 5:
                holder[key] = self._other_type(value)
            case 6:
                holder[key] = self._inside(value, samples)
            case 7:
                holder[key] = self._elsewhere(samples)
            case 8 if isinstance(holder, dict):
                doubled = Twice(holder)
                doubled.again = [(key, self.junk())]
                return _replaced(document, holder, doubled)
            case _:
                if isinstance(value, dict):
                    value[chance.choice(_TEXTS[:20])] = self.junk()
                elif isinstance(value, list):
                    value.insert(chance.randint(0, len(value)), self.junk())
                else:
                    holder[key] = self.junk()
        return document

    def _other_type(self, value: Any) -> Any:
        match value:
            case bool() | int() | float():
                return str(value)
            case str() if value.isdigit() and value.isascii():
                return Raw(value.lstrip("0") or "0")
            case dict():
                return list(value.values())
            case list():
                return {str(number): item for number, item in enumerate(value)}
        return [value]

    def _inside(self, value: Any, samples: Sequence[Any]) -> Any:
        """Something in the middle of a text; in JSON that is a text, one more alteration."""
        if not isinstance(value, str):
            return self.junk()
        if value[:1] in ("{", "["):
            try:
                return text_of(self._alter(json.loads(value), samples))
            except (ValueError, RecursionError):
                pass
        at = self._chance.randint(0, len(value))
        return value[:at] + self._chance.choice(_TEXTS) + value[at:]

    def _elsewhere(self, samples: Sequence[Any]) -> Any:
        """A part of a payload where another belongs."""
        other = copy.deepcopy(self._chance.choice(samples))
        places = list(_places(other))
        if not places:
            return other
        holder, key = self._chance.choice(places)
        return holder[key]


def text_of(document: Any) -> str:
    """As JSON text; lone surrogates are escaped or stand as they are, as they do in JSON of careless programs."""
    match document:
        case Raw():
            return str(document)
        case Twice():
            pairs = [*document.items(), *document.again]
            return "{" + ",".join(f"{json.dumps(key)}:{text_of(value)}" for key, value in pairs) + "}"
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{text_of(value)}" for key, value in document.items()) + "}"
        case list():
            return "[" + ",".join(map(text_of, document)) + "]"
    return json.dumps(document)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield value, key
            yield from _places(inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield value, index
            yield from _places(inner)


def _replaced(document: Any, old: Any, new: Any) -> Any:
    if document is old:
        return new
    for holder, key in list(_places(document)):
        if holder[key] is old:
            holder[key] = new
            break
    return document


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every place of a document, as the object or list that holds it and the key there."""
    return list(_places(document))


# What must hold of whatever comes out


def check_message(message: InboundMessage) -> None:
    """It has the shape that the core relies on, and survives being stored."""
    ids = (message.id, message.event, message.account, message.sender.id, message.channel, message.reply_to)
    for id in ids if message.thread is None else (*ids, message.thread):
        assert _is(id, str)
        assert id
    assert _is(message.text, str)
    assert _is(message.sender.display_name, str)
    assert message.sender.locale is None or _is(message.sender.locale, str)
    for flag in (message.is_direct, message.mentions_bot, message.sender.is_bot):
        assert _is(flag, bool)
    assert message.sent_at.utcoffset() is not None
    assert moment(micros(message.sent_at)) == message.sent_at
    if message.quoted is not None:
        assert _is(message.quoted.text, str)
        assert _is(message.quoted.author, str)
        assert message.quoted.text
    for file in message.attachments:
        assert all(_is(text, str) for text in (file.name, file.media_type, file.source))
        assert file.name
        assert file.size is None or (_is(file.size, int) and file.size >= 0)
    assert isinstance(json.loads(message.reply_to), dict)
    for text in (*ids, message.text, message.sender.display_name):
        storable(text).encode()
        name(text).encode()
    stored = encode(message)
    stored.encode()
    assert decode(stored) == message
    for scope in Scope:
        key = ConversationKey.of(message, scope)
        assert ConversationKey.parse(str(key)) == key


def _is(value: object, kind: type) -> bool:
    """Not of a subclass either: True is no number."""
    return type(value) is kind


# HTTP as it is on the wire


@dataclass(frozen=True)
class Heard:
    """What a server answered to bytes."""

    statuses: tuple[int, ...]
    """Of each response, in order; empty where the connection was closed without a word."""
    body: bytes = b""
    """Of the last one."""

    @property
    def status(self) -> int:
        """Of the last one; 0 for none."""
        return self.statuses[-1] if self.statuses else 0


async def spoken(
    port: int,
    *pieces: bytes,
    responses: int = 1,
    hang_up: bool = False,
    seconds: float = 10.0,
    quiet: float | None = None,
) -> Heard:
    """Send `pieces` one after the other, then listen for so many responses, until the server closes, or until it says
    nothing for `quiet` seconds.

    `hang_up` ends our side after the last piece. Raises TimeoutError where the server neither answers nor closes.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    statuses: list[int] = []
    body = b""
    try:
        async with asyncio.timeout(seconds):
            with suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                if hang_up and writer.can_write_eof():
                    writer.write_eof()
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while len(statuses) < responses:
                    try:
                        async with asyncio.timeout(quiet):
                            head = await reader.readuntil(b"\r\n\r\n")
                            status = int(head.split(b" ", 2)[1])
                            if status == 100:
                                continue
                            statuses.append(status)
                            body = await _body(reader, head.lower())
                    except TimeoutError:
                        break
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
    return Heard(tuple(statuses), body)


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The body behind a response's `head`, in small letters."""
    if b"transfer-encoding: chunked" not in head:
        length = next((line for line in head.split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        return await reader.readexactly(int(length.partition(b":")[2]))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return body


def request(
    path: str,
    headers: Sequence[tuple[str, str | bytes]],
    body: bytes = b"",
    *,
    method: str = "POST",
    length: bool = True,
    host: str = "localhost",
) -> bytes:
    """Bytes of one request; header values stand as they are."""
    lines = [f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n".encode()]
    for field, value in headers:
        lines.append(
            field.encode("latin-1") + b": " + (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
        )
    if length:
        lines.append(b"Content-Length: %d\r\n" % len(body))
    return b"".join(lines) + b"\r\n" + body
