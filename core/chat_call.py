"""One call of the model on its way through models and attempts, and the request it sends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from core.breaker import Breakers
from core.chat import ChatMessage
from core.chat_endpoint import Endpoint
from core.chat_failure import MAX_TOKENS, OPTIONAL_FIELDS

RESERVED = frozenset({"model", "messages", "stream", *OPTIONAL_FIELDS})
"""Fields of the request that are this client's own; `options` do not replace them."""


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(slots=True, kw_only=True)
class Call:
    """What is asked, of whom, and how far it has come."""

    endpoint: Endpoint
    breakers: Breakers
    """Those of the endpoint, also when the settings are replaced meanwhile."""
    messages: Sequence[ChatMessage]
    end_user: str
    options: dict[str, Any]
    deadline: float
    """In the event loop's time."""
    model: str
    attempts: int = 0
    without: frozenset[str] = field(default_factory=frozenset)
    """Optional fields that are left out; `max_tokens` goes by its new name."""

    def body(self) -> bytes:
        """The request, as JSON. A lone surrogate, which UTF-8 cannot hold, becomes a question mark."""
        messages = ",".join([message.json for message in self.messages])
        body: dict[str, Any] = {"model": self.model, "stream": True}
        optional: dict[str, Any] = {"stream_options": {"include_usage": True}, "user": self.end_user}
        if self.endpoint.takes_safety_identifier:
            optional["safety_identifier"] = self.end_user
        body |= {name: value for name, value in optional.items() if name not in self.without}
        body |= self.options
        if MAX_TOKENS in self.without and MAX_TOKENS in body:
            body.setdefault("max_completion_tokens", body.pop(MAX_TOKENS))
        rest = _encode(body)
        return f'{{"messages":[{messages}],{rest[1:]}'.encode("utf-8", "replace")
