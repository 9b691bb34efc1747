"""What the bodies of requests must look like. The OpenAPI document is made from the same models."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from adapters.api.faults import Refusal

# Whitespace, controls, and characters that show nothing. A text of these alone is no question.
_INVISIBLE = r"\u0000-\u0020\u007f-\u00a0\u00ad\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff"
_VISIBLE = re.compile(f"[^{_INVISIBLE}]")


def _plain(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL")
    return text


def is_visible(text: str) -> bool:
    """Whether there is anything in it to be seen."""
    return _VISIBLE.search(text) is not None


def _visible(text: str) -> str:
    if not is_visible(text):
        raise ValueError("must not be blank")
    return text


Plain = Annotated[
    str,
    AfterValidator(_plain),
    Field(json_schema_extra={"pattern": r"^[^\u0000]*$"}),
]
"""Text that every part of the road can carry."""
_VISIBLE_PATTERN = rf"^[^\u0000]*[^{_INVISIBLE}][^\u0000]*$"
Visible = Annotated[
    str,
    AfterValidator(_plain),
    AfterValidator(_visible),
    Field(min_length=1, json_schema_extra={"pattern": _VISIBLE_PATTERN}),
]
"""The same, with something to be seen in it."""
_Whole = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""1.0 is a whole number in JSON."""
UserName = Annotated[Visible, Field(max_length=256)]


class ChatBody(BaseModel):
    """A question of one user."""

    model_config = ConfigDict(strict=True, frozen=True)

    message: Visible = Field(description="The question, or a command such as `/help`; `reset` starts a new session.")
    user: UserName = Field(description="Names the session inside the namespace of the key.")


class TextPart(BaseModel):
    """A piece of a message; only text is supported."""

    model_config = ConfigDict(strict=True, frozen=True)

    type: Literal["text"]
    text: Plain


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(strict=True, frozen=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Plain | Annotated[tuple[TextPart, ...], Field(strict=False, min_length=1)]

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


class StreamOptions(BaseModel):
    """What a stream tells besides text."""

    model_config = ConfigDict(strict=True, frozen=True)

    include_usage: bool | None = Field(None, description="Send one more chunk with the tokens used.")


class Options(BaseModel):
    """Fields that are passed on to the model when the request has no `user`."""

    model_config = ConfigDict(strict=True, frozen=True)

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000), _Whole] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=10_000_000), _Whole] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1), _Whole] | None = None
    stop: Plain | Annotated[list[Plain], Field(max_length=4)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    response_format: dict[str, Any] | None = None
    reasoning_effort: Plain | None = None
    verbosity: Plain | None = None


_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "audio": (None,),
    "modalities": (None, ["text"]),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "prediction": (None,),
    "web_search_options": (None,),
}
"""Fields of OpenAI's API that this one has not, with the values that ask for nothing."""


def _complete_schema(schema: dict[str, Any]) -> None:
    """Add what is checked beside the model: `_UNSUPPORTED`, and that a session is asked something."""
    schema["properties"] |= {name: {"enum": list(values)} for name, values in _UNSUPPORTED.items()}
    visible = {"type": "string", "pattern": _VISIBLE_PATTERN}
    visible_part = {"type": "object", "properties": {"text": visible}, "required": ["text"]}
    by_user = {"type": "object", "properties": {"role": {"const": "user"}}, "required": ["role"]}
    asked = {"properties": {"content": {"anyOf": [visible, {"type": "array", "contains": visible_part}]}}}
    schema["if"] = {"properties": {"user": {"type": "string"}}, "required": ["user"]}
    schema["then"] = {"properties": {"messages": {"contains": by_user, "items": {"if": by_user, "then": asked}}}}


class CompletionBody(Options):
    """OpenAI's chat completion request. Unknown fields are ignored, known ones that are not supported are refused."""

    model_config = ConfigDict(json_schema_extra=_complete_schema)

    messages: Annotated[tuple[Message, ...], Field(strict=False, min_length=1)] = Field(
        description="With `user`, only the last message of the role `user` counts: the server keeps the session."
    )
    model: Plain | None = Field(None, description="One of `GET /v1/models`, or `default`, which is also the default.")
    user: UserName | None = Field(
        None, description="Names the session inside the namespace of the key. Without it nothing is stored."
    )
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    def question(self) -> str:
        """What a session is asked. Raises Refusal (400) when there is nothing, or a message of the user is blank."""
        asked = ""
        for number, message in enumerate(self.messages):
            if message.role == "user":
                asked = message.text
                if not is_visible(asked):
                    field = f"messages[{number}].content"
                    raise Refusal(400, "invalid_field", f"{field}: must not be blank.", field=field)
        if not asked:
            raise Refusal(400, "invalid_field", "messages: there is none of the role 'user'.", field="messages")
        return asked

    def options(self) -> dict[str, Any]:
        """The fields to pass on to the model."""
        given = self.model_fields_set & Options.model_fields.keys()
        return {name: value for name in sorted(given) if (value := getattr(self, name)) is not None}


def refuse_unsupported(document: dict[str, Any]) -> None:
    """Raise Refusal (400) for a field of `_UNSUPPORTED` that asks for something."""
    for name, values in _UNSUPPORTED.items():
        if name not in document:
            continue
        value = document[name]
        # True equals 1 in Python, not in JSON.
        if not any(value == same and isinstance(value, bool) == isinstance(same, bool) for same in values):
            raise Refusal(400, "unsupported_parameter", f"{name} is not supported here.", field=name)
