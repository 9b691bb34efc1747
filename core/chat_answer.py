"""One answer of a model's server, read while it is written."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from core.chat import Usage
from core.chat_failure import Failed, Redactor, broken, describe, refused_in_stream
from core.errors import ChatError
from core.http_client import Response
from core.sse import EventParser, EventTooLong
from core.thoughts import Thoughts

_SURROGATE = re.compile("[\ud800-\udfff]")
_MOST_WHOLE = 16 * 1024 * 1024
"""Bytes of an answer that does not come as a stream."""
_decode = json.JSONDecoder().raw_decode
_NONSENSE = (ValueError, AttributeError, TypeError, KeyError, RecursionError)
"""What looking at JSON raises that is not shaped as documented."""
_LEAVE = 0.1
"""Seconds that the end of a finished answer may take, so that its connection can be used again."""


class Answer:
    """Implements core.chat.ChatStream over an HTTP response."""

    def __init__(self, response: Response, *, model: str, idle: float, deadline: float, redact: Redactor) -> None:
        """`idle` in seconds between two reads; `deadline` for the whole, in the event loop's time."""
        self.model = model
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.error: ChatError | None = None
        """What broke the answer off, after its first text."""
        self.complete = False
        """It ended as it should, and all of it was taken."""
        self._response = response
        self._idle = idle
        self._deadline = deadline
        self._redact = redact
        self._parser = EventParser()
        self._text: list[str] = []
        """What has been read and not been taken."""
        self._thoughts = Thoughts()
        self._half = ""
        """The first half of a surrogate pair whose second one is in the next piece."""
        self._ended = False
        self._understood = False
        """At least one event was one of Chat Completions."""
        self._failed: Failed | None = None

    async def begin(self, first_byte: float) -> None:
        """Read until there is text, or the answer ends without any. Raises Failed.

        `first_byte` is when the first bytes must be there, in the event loop's time.
        """
        if self._response.content_type == "application/json":
            await self._read_whole(first_byte)
        else:
            await self._read(first_byte)
            while not self._text and not self._ended and self._failed is None:
                await self._read()
        if self._failed is not None and not self._text:
            raise self._failed

    def __aiter__(self) -> Answer:
        return self

    async def __anext__(self) -> str:
        while not self._text:
            if self._failed is not None:
                self.error = self._failed.error
                raise self.error
            if self._ended:
                self.complete = True
                raise StopAsyncIteration
            await self._read()
        text = self._text[0] if len(self._text) == 1 else "".join(self._text)
        self._text.clear()
        return text

    async def leave(self) -> None:
        """Let the connection be used again if the answer has ended, else close it: the server stops working."""
        try:
            if self._ended and not self._response.ended:
                async with asyncio.timeout(_LEAVE):
                    while await self._response.read():
                        pass
        except OSError:
            pass  # the answer is whole; the connection is closed below
        finally:
            self._response.close()

    async def _read(self, by: float | None = None) -> None:
        """Take what the network has. Sets `_failed` instead of raising, as text may stand before it."""
        now = asyncio.get_running_loop().time()
        until = min(now + self._idle if by is None else by, self._deadline)
        try:
            if self._response.waiting:
                data = await self._response.read()
            else:
                async with asyncio.timeout_at(until):
                    data = await self._response.read()
        except TimeoutError:
            if until == self._deadline:
                self._failed = broken(self.model, "the whole answer took too long (chat.timeout)", retry=False)
            else:
                self._failed = broken(self.model, f"its server sent nothing for {until - now:.3g} s", slow=True)
        except OSError as error:
            self._failed = broken(self.model, "the connection broke during the answer", self._redact(describe(error)))
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        try:
            events = self._parser.feed(data) if data else self._parser.close()
        except EventTooLong as error:
            self._failed = broken(self.model, "its server sends no proper events", str(error))
            return
        for event in events:
            if event == b"[DONE]":
                self._end()
            else:
                self._take_event(event)
            if self._ended or self._failed is not None:
                return
        if not data:  # the end, without [DONE]: some servers leave it out, but not the finish_reason
            if self.finish_reason is None:
                what = "its server ended the answer in the middle" if self._understood else "its server sent no answer"
                self._failed = broken(self.model, what)
            self._end()

    def _take_event(self, event: bytes) -> None:
        try:
            chunk = _parse(event)
            if error := chunk.get("error"):
                self._failed = refused_in_stream(error, model=self.model, redact=self._redact)
                return
            self._take_chunk(chunk, "delta")
            self._understood = True
        except _NONSENSE:
            detail = self._redact(event.decode("utf-8", "replace"))
            self._failed = broken(self.model, "its server sends no proper events", detail)

    def _take_chunk(self, chunk: dict[str, Any], part: str) -> None:
        if usage := chunk.get("usage"):
            self.usage = Usage(
                input_tokens=int(usage.get("prompt_tokens") or 0),
                output_tokens=int(usage.get("completion_tokens") or 0),
            )
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue  # `n` in the options: one answer is shown
            delta = choice.get(part)
            if delta:
                # Thoughts (`reasoning_content`; see Thoughts for others) and tool calls are not for the person; a refusal is what was said.
                content = delta.get("content") or delta.get("refusal")
                if content:
                    self._add(content if isinstance(content, str) else _text_parts(content))
            if reason := choice.get("finish_reason"):
                self.finish_reason = reason

    def _add(self, text: str) -> None:
        if self._half or (not text.isascii() and _SURROGATE.search(text)):
            # JSON escapes let a character be cut in two; a lone half could not be stored or sent.
            text = (self._half + text).encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
            self._half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
            text = _SURROGATE.sub("\ufffd", text.removesuffix(self._half))
        if text := self._thoughts.feed(text):
            self._text.append(text)

    def _end(self) -> None:
        self._ended = True
        if text := self._thoughts.close():
            self._text.append(text)

    async def _read_whole(self, by: float) -> None:
        """An answer from a server that does not stream."""
        body = bytearray()
        try:
            async with asyncio.timeout_at(max(by, self._deadline)):
                while data := await self._response.read():
                    body += data
                    if len(body) > _MOST_WHOLE:
                        self._failed = broken(self.model, f"its answer is longer than {_MOST_WHOLE} bytes")
                        return
            chunk = json.loads(body)
            if error := chunk.get("error"):
                self._failed = refused_in_stream(error, model=self.model, redact=self._redact)
                return
            if not chunk.get("choices"):
                raise ValueError("no choices")
            self._take_chunk(chunk, "message")
        except TimeoutError:
            self._failed = broken(self.model, "the whole answer took too long (chat.timeout)", retry=False)
        except OSError as error:
            self._failed = broken(self.model, "the connection broke during the answer", self._redact(describe(error)))
        except _NONSENSE:
            detail = self._redact(body[:2000].decode("utf-8", "replace"))
            self._failed = broken(self.model, "its server sent something that is no answer", detail)
        self._end()


def _parse(event: bytes) -> Any:
    """json.loads, without its search for the encoding, which would cost as much as the parsing of a small chunk."""
    text = event.decode(
        "utf-8", "replace"
    ).strip()  # as the standard on events has it: one bad byte spoils one character
    value, end = _decode(text)
    if end != len(text):
        raise ValueError("something follows the JSON")
    return value


def _text_parts(content: Any) -> str:
    """The text of content that comes in typed parts, as some servers send it."""
    return "".join(part["text"] for part in content if part.get("type") == "text")
