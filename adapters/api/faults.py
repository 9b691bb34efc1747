"""Requests that are answered with an error status, in the two shapes that clients know."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Collection
from enum import Enum
from typing import Any

from aiohttp import web

from core.adapter import Failure, FailureCode
from core.errors import (
    ChatError,
    ChatMisconfigured,
    ChatRefused,
    ContextTooLong,
)

STATUS_OF = {
    FailureCode.RATE_LIMITED: 429,
    FailureCode.OVERLOADED: 503,
    FailureCode.NOT_ALLOWED: 403,
    FailureCode.TOO_LONG: 413,
    FailureCode.MODEL_UNAVAILABLE: 503,
    FailureCode.MODEL_MISCONFIGURED: 502,
    FailureCode.MODEL_REFUSED: 422,
    FailureCode.EXPIRED: 503,
    FailureCode.SUPERSEDED: 409,
    FailureCode.INTERNAL: 500,
}
"""Which HTTP status tells of which failure."""

COMMON_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Shape(Enum):
    """How an error is written."""

    OURS = "ours"
    """`{"error": {"code", "message", "id", "field"?}}`"""
    OPENAI = "openai"
    """`{"error": {"message", "type", "param", "code"}}`, as api.openai.com does it."""


class Refusal(Exception):
    """A request that gets an error status. The text is for the caller: no secret, no text of other servers."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        field: str | None = None,
        id: str | None = None,
        retry_after: float | None = None,
        repeatable: bool = True,
        hang_up: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        """Which field of the body, or which header, is wrong."""
        self.id = id or secrets.token_hex(4)
        """Finds the request in the log."""
        self.retry_after = retry_after
        """Seconds."""
        self.repeatable = repeatable
        """False: repeating it as it is would ask the question a second time."""
        self.hang_up = hang_up
        """The rest of the request is not worth reading: close the connection after the answer."""
        self.headers = headers or {}

    @classmethod
    def of(cls, failure: Failure) -> Refusal:
        """What the gateway says of a message that got no answer."""
        return cls(
            STATUS_OF[failure.code],
            failure.code.value,
            failure.text,
            id=failure.id,
            retry_after=failure.retry_after,
            repeatable=failure.code is not FailureCode.SUPERSEDED,
        )

    @classmethod
    def of_chat(cls, error: ChatError, options: Collection[str]) -> Refusal:
        """What the model client says of a prompt that did not pass the inbox. `options` are those that came with it."""
        if isinstance(error, ContextTooLong):
            # OpenAI's own status and code: clients know them and shorten the prompt.
            return cls(400, "context_length_exceeded", "The messages do not fit the model's context.", field="messages")
        if isinstance(error, ChatRefused) and (option := error.field.partition(".")[0].partition("[")[0]) in options:
            text = f"{option}: the model does not take it, or not as it was given."
            return cls(400, "unsupported_value", text, field=option)
        code, text = FailureCode.MODEL_UNAVAILABLE, "The model does not answer right now; please try again later."
        if isinstance(error, ChatMisconfigured):
            code, text = FailureCode.MODEL_MISCONFIGURED, "The gateway's access to the model is not set up correctly."
        elif isinstance(error, ChatRefused):
            code, text = FailureCode.MODEL_REFUSED, "The model refused this request."
        return cls(STATUS_OF[code], code.value, text, retry_after=error.retry_after)

    def document(self, shape: Shape) -> dict[str, Any]:
        """The JSON of the error."""
        if shape is Shape.OPENAI:
            return {"error": {"message": self.message, "type": self._type(), "param": self.field, "code": self.code}}
        error = {"code": self.code, "message": self.message, "id": self.id}
        if self.field is not None:
            error["field"] = self.field
        return {"error": error}

    def response(self, shape: Shape) -> web.Response:
        """The whole HTTP answer."""
        headers = {"X-Request-Id": self.id, **self.headers}
        if self.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        if not self.repeatable:
            headers["X-Should-Retry"] = "false"  # OpenAI's own clients repeat 409 and 5xx unless told otherwise
        response = json_response(self.document(shape), status=self.status, headers=headers)
        if self.hang_up:
            response.force_close()
        return response

    def _type(self) -> str:
        match self.status:
            case 401:
                return "authentication_error"
            case 403:
                return "permission_error"
            case 429:
                return "rate_limit_error"
            case status if status >= 500:
                return "server_error"
            case _:
                return "invalid_request_error"


_READABLE = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


def encode(document: Any) -> bytes:
    """JSON as UTF-8. A lone surrogate, which a broken model server may send, is written as an escape."""
    try:
        return _READABLE.encode(document).encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()


def json_response(document: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """A JSON answer that nobody stores or sniffs."""
    return web.Response(
        body=encode(document),
        status=status,
        content_type="application/json",
        headers={**COMMON_HEADERS, **(headers or {})},
    )
