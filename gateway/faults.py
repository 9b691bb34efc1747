"""What is wrong with a configuration, in words that help: where, what, and what to do instead."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from core.quantities import write_duration
from gateway.redaction import redact

Path = tuple[str | int, ...]
"""Where in the configuration: the keys and list positions from the top."""

_OF_A_KEY = "[key]"
"""What pydantic appends where the key itself is wrong."""

_LONGEST_VALUE = 80

_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "float_parsing": "a number",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "list_type": "a list",
    "tuple_type": "a list",
    "path_type": "a file path",
    "ip_any_network": "an address or network such as 10.0.0.0/8",
    "dict_type": "a block of keys",
    "model_type": "a block of keys",
    "model_attributes_type": "a block of keys",
    "string_type": "text",
}
"""pydantic's error types in plain words; the others keep pydantic's own message."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong."""

    path: Path
    text: str
    line: int | None = None
    """Overrides the line that `path` stands on."""

    def __str__(self) -> str:
        return f"{write_path(self.path)}: {self.text}" if self.path else self.text


def write_path(path: Path) -> str:
    """`accounts.slack.access.allow[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_word(part)}" if text else _word(part)
    return text


def _word(key: str) -> str:
    """A key as it is written; in quotes where a terminal would not show it so, or it is too long to be one."""
    plain = key.isprintable() and key.strip() == key != ""
    return key if plain and len(key) <= _LONGEST_VALUE else show(key)


def nearest(wrong: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or a list of what there is."""
    names = list(known)
    if near := get_close_matches(wrong.lower(), names, n=1):
        return f"; did you mean {near[0]!r}?"
    return f"; there are {', '.join(names)}" if names else ""


def of_validation(error: ValidationError, model: type[BaseModel], *, under: Path = ()) -> list[Fault]:
    """The faults that pydantic found in data for `model`, which stands at `under`."""
    return [
        Fault((*under, *(part for part in detail["loc"] if part != _OF_A_KEY)), _describe(detail, model))
        for detail in error.errors(include_url=False, include_context=True)
    ]


def _describe(detail: Mapping[str, Any], model: type[BaseModel]) -> str:
    kind, location, value = detail["type"], tuple(detail["loc"]), detail["input"]
    if kind == "extra_forbidden":
        holder = model_at(model, location[:-1])
        return f"unknown key{nearest(str(location[-1]), holder.model_fields if holder else ())}"
    if kind == "missing":
        holder = model_at(model, location[:-1])
        field = holder.model_fields.get(str(location[-1])) if holder else None
        return f"missing; {field.description}" if field and field.description else "missing"
    expected = _expected(kind, detail)
    if kind == "value_error" and isinstance(value, dict):  # a rule about several keys
        return expected
    if is_secret(model, location):
        return f"not usable (value hidden): {expected}"
    hint = "; put it in quotes" if kind == "string_type" and isinstance(value, (int, float)) else ""
    return f"got {show(value)}{',' if expected.startswith('expected') else ':'} {expected}{hint}"


def _expected(kind: str, detail: Mapping[str, Any]) -> str:
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}"
    if kind == "value_error":
        return redact(str(detail["ctx"]["error"]))
    message: str = redact(detail["msg"])
    return message.replace("Input should be", "expected").replace("String should", "expected text that should")


def show(value: Any) -> str:
    """A value of the configuration, short and without secrets: nothing of what is inside blocks and lists."""
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, timedelta):  # was written as a duration
        return repr(write_duration(value))
    text = redact(repr(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def model_at(model: type[BaseModel], location: Path) -> type[BaseModel] | None:
    """The model that holds what stands at `location`; None where that is no model."""
    here: Any = model
    for part in location:
        if isinstance(part, int):
            continue  # a list's own annotation was already taken apart
        holder = _model_in(here)
        if holder is None or part not in holder.model_fields:
            return None
        here = holder.model_fields[part].annotation
    return _model_in(here)


def is_secret(model: type[BaseModel], location: Path) -> bool:
    """Whether a secret belongs at `location`, or somewhere below it."""
    names = [part for part in location if isinstance(part, str)]
    holder = model_at(model, tuple(names[:-1])) if names else None
    field = holder.model_fields.get(names[-1]) if holder else None
    return field is not None and _holds_secret(field.annotation)


def _holds_secret(annotation: Any) -> bool:
    if SecretStr in _leaves(annotation):
        return True
    inner = _model_in(annotation)
    return inner is not None and any(_holds_secret(field.annotation) for field in inner.model_fields.values())


def _model_in(annotation: Any) -> type[BaseModel] | None:
    return next((leaf for leaf in _leaves(annotation) if isinstance(leaf, type) and issubclass(leaf, BaseModel)), None)


def _leaves(annotation: Any) -> list[Any]:
    """The types inside unions, lists and `Annotated`."""
    origin = get_origin(annotation)
    if origin is None:
        return [annotation]
    inner = get_args(annotation)
    if origin in (Union, types.UnionType, list, tuple, dict):
        return [leaf for item in inner for leaf in _leaves(item)]
    return _leaves(inner[0]) if inner else []
