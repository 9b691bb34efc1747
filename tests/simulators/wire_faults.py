"""What befalls a connection or a request on its way through tests/simulators/fault_proxy.py."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

FaultKind = Literal[
    "latency",  # `seconds` pass before anything goes on
    "stall",  # silence for good on an open connection: at once, or after `after` bytes of the answer
    "reset",  # TCP RST: at once, or after `after` bytes of the answer
    "cut",  # the end after `after` bytes of the answer
    "drip",  # the answer comes in pieces of `after` bytes, `seconds` apart
    "answer",  # `answer` comes instead of the server's
]


@dataclass(kw_only=True)
class Fault:
    """One way to fail. It befalls a `share` of what it is meant for, at most `times` times."""

    kind: FaultKind
    share: float = 1.0
    """Of requests and connections; the shares of all faults that may befall one add up."""
    seconds: float = 0.0
    after: int = 0
    """Bytes of the answer, its head included."""
    answer: bytes = b""
    """A whole HTTP answer."""
    carried_out: bool = False
    """The server gets the request, and its answer is lost: whoever asked cannot know. Only for single requests."""
    calls: str = ""
    """A regular expression: befalls only requests in whose head or body it is found. Connections that last are
    HTTP requests too where they are WebSockets; any other one has no bytes to look at."""
    times: int | None = None
    """None: without end."""
    name: str = ""
    """What it is counted as."""

    def __post_init__(self) -> None:
        self.name = self.name or (self.kind if not self.carried_out else f"{self.kind}, carried out")
        self._calls = re.compile(self.calls.encode(), re.DOTALL)

    def means(self, request: bytes) -> bool:
        """Whether it may befall this one."""
        return self.times != 0 and self._calls.search(request) is not None


def befallen(faults: Sequence[Fault], request: bytes, dice: random.Random) -> Fault | None:
    """The one that befalls a request, if any."""
    roll = dice.random()
    for fault in faults:
        if not fault.means(request):
            continue
        if roll < fault.share:
            if fault.times is not None:
                fault.times -= 1
            return fault
        roll -= fault.share
    return None


def http_answer(status: int, body: bytes | str, content_type: str, **headers: str) -> bytes:
    """A whole HTTP answer; `retry_after="1"` becomes the header Retry-After."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Simulated", f"Content-Type: {content_type}", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-').title()}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content


SECRET = "the secret words of a machine in between"
"""In every page that no person may see."""

_PAGE = f"<html><head><title>Bad Gateway</title></head><body><h1>{SECRET}</h1></body></html>"


def too_many(seconds: float = 1.0, **options: object) -> Fault:
    """429 with Retry-After, as a machine in front of the server says it."""
    answer = http_answer(429, '{"error": "too many"}', "application/json", retry_after=f"{seconds:g}")
    return Fault(kind="answer", name="429", answer=answer, **options)  # type: ignore[arg-type]  # Fault's own


def page(status: int = 502, **options: object) -> Fault:
    """5xx with the page of a proxy."""
    answer = http_answer(status, _PAGE, "text/html")
    return Fault(kind="answer", name=str(status), answer=answer, **options)  # type: ignore[arg-type]  # Fault's own


GARBAGE: dict[str, bytes] = {
    "a login page": http_answer(200, _PAGE, "text/html"),
    "no JSON": http_answer(200, '{"ok": tru', "application/json"),
    "another JSON": http_answer(200, '["what", null, 7]', "application/json"),
    "binary": http_answer(200, bytes(range(256)) * 8, "application/octet-stream"),
    "broken events": http_answer(200, 'data: {"choices": [{"delta": {"cont\n\ndata: \x00{]}\n\n', "text/event-stream"),
    "nothing": http_answer(200, b"", "application/json"),
    "no HTTP": b"\x00\xff\x13 this is no HTTP at all\r\n\r\n" * 4,
}
"""Answers of status 200 that mean nothing."""


def garbage(what: str, **options: object) -> Fault:
    """One of GARBAGE."""
    return Fault(kind="answer", name=what, answer=GARBAGE[what], **options)  # type: ignore[arg-type]  # Fault's own
