"""Reading the bodies of requests: within bounds, strictly, and with an error that names the field."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import http_exceptions, web
from pydantic import BaseModel, ValidationError

from adapters.api.faults import Refusal
from adapters.api.streams import ClientGone

READ_TIMEOUT = 30.0
"""Seconds that a client may take to send a body."""

_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")

BodyT = TypeVar("BodyT", bound=BaseModel)


async def read(
    request: web.Request, kind: type[BodyT], check: Callable[[dict[str, Any]], None] = lambda _: None
) -> BodyT:
    """The body of `request` as a `kind`; `check` sees its JSON first. Raises Refusal: 400, 408, 413 or 415;
    ClientGone."""
    document = _parse(await _read(request))
    check(document)
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
        if request.content.is_eof():
            return await request.read()  # it came with its head: a timer for every request costs more than reading it
        async with asyncio.timeout(READ_TIMEOUT):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(request) from None
    except ConnectionError:
        raise ClientGone from None
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
        case "string_too_short" | "too_short":
            code, text = "invalid_field", "must not be empty"
        case "string_too_long" | "too_long":
            unit = "characters" if isinstance(given, str) else "items"
            code, text = "invalid_field", f"must not be longer than {item['ctx']['max_length']} {unit}"
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
