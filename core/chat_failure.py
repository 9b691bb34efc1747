"""What a model's server says when it does not answer, as one of our errors and what may be done about it.

Statuses and codes are those of OpenAI's documentation ("Error codes"); the wordings of other servers are named where
they are looked for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.backoff import retry_after
from core.clock import Clock
from core.errors import ChatError, ChatMisconfigured, ChatRateLimited, ChatRefused, ChatUnavailable, ContextTooLong
from core.untrusted import json_of

_DETAIL = 500
"""Characters of another server's text that are kept for the log."""

_TOO_LONG_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
# OpenAI and vLLM; llama.cpp; llama-cpp-python; others
_TOO_LONG_WORDS = re.compile(
    r"maximum context length|available context size|exceed(s|ed)? (the )?context (window|size|length)"
    r"|context (window|size|length) (has been )?exceeded|prompt is too long",
    re.IGNORECASE,
)
_SHORTEST_SECRET = 6
"""Characters. A shorter value is not looked for: servers that need no key are given "x", and that is in every word."""
_KEY_SHAPES = re.compile(r"\b(sk|pk|key|gsk|xai)-[\w*.-]{6,}|\bBearer\s+\S+", re.IGNORECASE)

MAX_TOKENS = "max_tokens"
"""An option by its old name; OpenAI's models that reason take `max_completion_tokens` alone."""

OPTIONAL_FIELDS = ("stream_options", "safety_identifier", "user")
"""Fields that we add for the server's own good; one that does not know them may have the request without."""


class Failed(Exception):
    """One attempt failed. It never leaves the client; `error` is what the caller sees if nothing else is tried."""

    def __init__(
        self,
        error: ChatError,
        *,
        retry: bool = False,
        fall_back: bool = False,
        breaks: bool = False,
        slow: bool = False,
        unwanted: tuple[str, ...] = (),
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry = retry
        """The same model may be asked again."""
        self.fall_back = fall_back
        """Another model may be asked."""
        self.breaks = breaks
        """It speaks against the model's server, and counts for the circuit breaker."""
        self.slow = slow
        """It cost a time-out: another model is the better choice, if there is one."""
        self.unwanted = unwanted
        """Optional fields of the request that the server did not accept, or `max_tokens` by that name."""


class Redactor:
    """Removes secrets from texts that other servers sent, by value and by shape."""

    def __init__(self, secrets: Sequence[str]) -> None:
        values = sorted({secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, values))) if values else None

    def __call__(self, text: str) -> str:
        """`text` without secrets, at most 500 characters, on one line."""
        if self._values is not None:
            text = self._values.sub("[redacted]", text)
        text = " ".join(_KEY_SHAPES.sub("[redacted]", text[: 4 * _DETAIL]).split())
        return text if len(text) <= _DETAIL else text[:_DETAIL] + "…"


@dataclass(frozen=True, slots=True)
class _Said:
    """The error object of an answer, as far as it has one."""

    code: str
    kind: str
    param: str
    text: str
    """The message, or all of the body where there is no error object."""
    number: int | None
    """A numeric code, as llama.cpp gives it."""


def broken(model: str, what: str, detail: str = "", *, retry: bool = True, slow: bool = False) -> Failed:
    """The server of `model` is unreachable, too slow, or answers nonsense."""
    error = ChatUnavailable(f"model {model!r}: {what}", detail=detail)
    return Failed(error, retry=retry, fall_back=True, breaks=True, slow=slow)


def describe(error: Exception) -> str:
    """An error of the connection, for the log. Not its repr: that of some has the headers, and with them the key."""
    return f"{type(error).__name__}: {error}"


def refused_by_status(
    status: int, headers: Mapping[str, str], body: bytes, *, model: str, redact: Redactor, clock: Clock
) -> Failed:
    """The meaning of an HTTP answer that is no success."""
    said = _read(body)
    return _classify(
        status, said, retry_after(headers, clock), model=model, detail=redact(f"HTTP {status}: {said.text}")
    )


def refused_in_stream(error: Any, *, model: str, redact: Redactor) -> Failed:
    """The meaning of an error object that came with status 200, alone or between the pieces of an answer."""
    said = _said(error, "")
    status = said.number if said.number is not None and 400 <= said.number < 600 else None
    if status is None:
        words = {said.code, said.kind}
        if words & {"rate_limit_exceeded", "insufficient_quota", "rate_limit_error"}:
            status = 429
        elif words & {"invalid_request_error", "content_filter", *_TOO_LONG_CODES}:
            status = 400
        else:
            status = 500
    return _classify(status, said, None, model=model, detail=redact(f"in the stream: {said.text}"))


def _classify(status: int, said: _Said, wait: float | None, *, model: str, detail: str) -> Failed:
    name = f"model {model!r}"
    if _is_too_long(status, said):
        return Failed(ContextTooLong(f"{name}: the prompt is longer than its context", detail=detail))
    if status == 402 or (status == 429 and "insufficient_quota" in (said.code, said.kind)):
        # No waiting brings it back. 402 is how DeepSeek and OpenRouter say it.
        spent = ChatMisconfigured(f"{name}: the account has no money or quota left; look at its billing", detail=detail)
        return Failed(spent, fall_back=True)
    if status == 429:
        limited = ChatRateLimited(f"{name}: its server asks to wait", detail=detail, retry_after=wait)
        return Failed(limited, retry=True, fall_back=True, breaks=True)
    if status in (408, 409) or status >= 500:
        failing = ChatUnavailable(f"{name}: its server failed with HTTP {status}", detail=detail, retry_after=wait)
        return Failed(failing, retry=True, fall_back=True, breaks=True)
    if misconfigured := _misconfigured(status, said):
        unknown_model = status == 404 or said.code == "model_not_found"
        return Failed(ChatMisconfigured(f"{name}: {misconfigured}", detail=detail), fall_back=unknown_model)
    refusal = ChatRefused(f"{name}: the server rejects this request (HTTP {status})", detail=detail, field=said.param)
    return Failed(refusal, unwanted=_unwanted(said) if status in (400, 422) else ())


def _is_too_long(status: int, said: _Said) -> bool:
    if status == 413 or {said.code, said.kind} & _TOO_LONG_CODES:
        return True
    return status != 429 and 400 <= status < 500 and bool(_TOO_LONG_WORDS.search(said.text))


def _misconfigured(status: int, said: _Said) -> str | None:
    if status == 404 or said.code == "model_not_found":
        return "not found; set chat.model to one that the server has, or correct chat.base_url"
    if status in (401, 403):
        return f"the server refuses the key (HTTP {status}); set chat.api_key to a valid one"
    if status < 400:
        return f"the server redirects or sends nothing (HTTP {status}); correct chat.base_url"
    return None


def _unwanted(said: _Said) -> tuple[str, ...]:
    if said.param == MAX_TOKENS and "max_completion_tokens" in said.text:
        return (MAX_TOKENS,)
    return tuple(name for name in OPTIONAL_FIELDS if _names_field(said, name))


def _names_field(said: _Said, name: str) -> bool:
    if said.param == name or said.param.startswith(f"{name}."):
        return True
    if name != "user":
        return name in said.text
    # An ordinary word too, so it must be named as a field: in OpenAI's wording, or as the place that servers built on
    # pydantic give.
    return bool(re.search(r"supplied: user\b|\"body\",\s*\"user\"|field: 'user'", said.text))


def _read(body: bytes) -> _Said:
    text = body.decode("utf-8", "replace")
    try:
        value = json_of(text)
    except ValueError:
        return _said(None, text)
    # Some servers send the error object alone, some a list with one.
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        return _said(value.get("error", value), text)
    return _said(None, text)


def _said(error: Any, whole: str) -> _Said:
    if isinstance(error, str):
        return _Said("", "", "", error, None)
    if not isinstance(error, dict):
        return _Said("", "", "", whole, None)
    code, message = error.get("code"), error.get("message")
    return _Said(
        code=code if isinstance(code, str) else "",
        kind=str(error.get("type") or ""),
        param=str(error.get("param") or ""),
        text=message if isinstance(message, str) and message else whole or json.dumps(error),
        number=code if isinstance(code, int) else None,
    )
