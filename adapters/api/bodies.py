"""The bodies of requests: read within bounds, parsed strictly, checked field by field."""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import Annotated, Any, Literal, TypeVar

from aiohttp import http_exceptions, web
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from adapters.api.faults import Refusal

READ_TIMEOUT = 30.0
"""Seconds that a client may take to send a body."""

# Whitespace, controls, and characters that show nothing. A text of these alone is no question.
_INVISIBLE = r"\u0000-\u0020\u007f-\u00a0\u00ad\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u2064\u3000\ufeff"
_VISIBLE = re.compile(f"[^{_INVISIBLE}]")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")


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


BodyT = TypeVar("BodyT", bound=BaseModel)


async def read(request: web.Request, kind: type[BodyT]) -> BodyT:
    """The body of `request` as a `kind`. Raises Refusal: 400, 408, 413 or 415."""
    document = _parse(await _read(request))
    if kind is CompletionBody:
        _refuse_unsupported(document)
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        raise _fault(error, document) from None


async def _read(request: web.Request) -> bytes:
    if request.content_type != "application/json":
        # Asked for by name, so that a form on a foreign page cannot post here.
        raise Refusal(415, "unsupported_media_type", "Send the body as Content-Type: application/json.")
    try:
        charset = request.charset
    except (ValueError, LookupError):
        charset = "?"
    if charset is not None and charset.lower() not in ("utf-8", "utf8"):
        raise Refusal(415, "unsupported_media_type", f"Charset {charset!r} is not supported; send JSON as UTF-8.")
    if request.client_max_size and (request.content_length or 0) > request.client_max_size:
        raise _too_large(request)
    try:
        async with asyncio.timeout(READ_TIMEOUT):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(request) from None
    except TimeoutError:
        text = f"The body did not arrive within {READ_TIMEOUT:.0f} seconds."
        refusal = Refusal(408, "body_timeout", text, hang_up=True)
    except (web.RequestPayloadError, http_exceptions.BadHttpMessage):
        refusal = Refusal(400, "invalid_body", "The body is cut short or wrongly encoded.", hang_up=True)
    request.content.feed_eof()  # else aiohttp would go on reading it after the answer
    raise refusal


def _too_large(request: web.Request) -> Refusal:
    return Refusal(413, "too_long", f"The body is larger than {request.client_max_size} bytes.")


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(
            body.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite
        )
        if _SURROGATE_ESCAPE.search(body):  # half a pair is no text: it could be neither stored nor passed on
            json.dumps(document, ensure_ascii=False).encode()
    except _DuplicateKey as error:
        raise Refusal(400, "duplicate_field", f"The field {error.name!r} is given twice.", field=error.name) from None
    except (ValueError, RecursionError):  # bad UTF-8, bad JSON, a number of thousands of digits, too deep
        raise Refusal(400, "invalid_json", "The body is not valid JSON in UTF-8.") from None
    if not isinstance(document, dict):
        raise Refusal(400, "invalid_json", "The body must be a JSON object.")
    return document


class _DuplicateKey(ValueError):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name[:64].encode("ascii", "backslashreplace").decode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _DuplicateKey(name)
            seen.add(name)
    return result


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:20]} is larger than any number")
    return number


def _refuse_unsupported(document: dict[str, Any]) -> None:
    for name, values in _UNSUPPORTED.items():
        if name not in document:
            continue
        value = document[name]
        # True equals 1 in Python, not in JSON.
        if not any(value == same and isinstance(value, bool) == isinstance(same, bool) for same in values):
            raise Refusal(400, "unsupported_parameter", f"{name} is not supported here.", field=name)


def _fault(error: ValidationError, document: Any) -> Refusal:
    """The deepest of the faults: where a field may have several shapes, it is the one that is meant."""
    found = [
        (_path(item["loc"], document, missing=item["type"] == "missing"), item)
        for item in error.errors(include_url=False)
    ]
    path, item = max(found, key=lambda entry: entry[0].count(".") + entry[0].count("["))
    given = item.get("input")
    match item["type"]:
        case "missing":
            code, text = "missing_field", "is required"
        case "value_error":
            code, text = "invalid_field", str(item["ctx"]["error"])
        case "literal_error" if isinstance(given, str):
            code, text = "unsupported_value", f"{given[:40]!r} is not supported; use {item['ctx']['expected']}"
        case "string_too_short":
            code, text = "invalid_field", "must not be empty"
        case "string_too_long":
            code, text = "invalid_field", f"must not be longer than {item['ctx']['max_length']} characters"
        case "string_type" if path.endswith(".content"):
            code, text = "invalid_field", "must be a string or a list of text parts"
        case _:
            code, text = "invalid_field", item["msg"].replace("Input should", "should")
    return Refusal(400, code, f"{path}: {text}.", field=path)


def _path(loc: tuple[str | int, ...], document: Any, *, missing: bool) -> str:
    """`messages[0].content`: the steps of `loc` that exist in the document; the others name shapes tried in vain."""
    path, value = "", document
    for number, step in enumerate(loc):
        if isinstance(step, int) and isinstance(value, list):
            path, value = f"{path}[{step}]", value[step]
        elif isinstance(value, dict) and (step in value or (missing and number == len(loc) - 1)):
            path, value = f"{path}.{step}" if path else str(step), value.get(step)
    return path
