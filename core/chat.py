"""The seam to the model: messages in, a stream of text out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any, Literal, Protocol

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a prompt."""

    role: Role
    content: str
    _json: str = field(init=False, repr=False, compare=False, default="")

    @property
    def json(self) -> str:
        """As it stands in a request. Made once, when it is first asked for: a history is told again and again."""
        if not self._json:
            object.__setattr__(self, "_json", f'{{"role":"{self.role}","content":{encode_basestring(self.content)}}}')
        return self._json


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call cost, in tokens, as the model's server reported it."""

    input_tokens: int
    output_tokens: int


class ChatStream(Protocol):
    """An answer on its way. Iterate it once; the attributes are complete when the iteration has ended."""

    model: str
    """The model that answers; a fallback model may differ from the one asked for."""
    usage: Usage | None
    finish_reason: str | None
    """`stop`, `length`, `content_filter`, or None where the server did not tell."""

    def __aiter__(self) -> AsyncIterator[str]:
        """Pieces of the answer, each at least one character. Raises ChatError."""
        ...


class ChatClient(Protocol):
    """Something that answers prompts. Entered once by the program, shared by all conversations."""

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        end_user: str,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AbstractAsyncContextManager[ChatStream]:
        """Ask. Leaving the context closes the socket, and with it the model's work.

        `end_user` names who asks, for fairness and, hashed, for the model's server. `model` is None for the configured
        one. `options` are further fields of the request (`temperature`, `max_tokens` …), passed on as they are.
        Entering returns when the answer's first piece has arrived; it raises ChatError after the bounded retries.
        """
        ...
