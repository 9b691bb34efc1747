"""Every key of the configuration with its default and meaning, for documentation and completeness checks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_core import to_jsonable_python

from core.account import AccountConfig
from core.quantities import write_duration
from gateway.config import Config
from gateway.faults import model_at


@dataclass(frozen=True, slots=True)
class Key:
    """One key of config.yaml."""

    path: tuple[str, ...]
    default: Any
    """As it would stand in the file; None where there is none."""
    description: str


def describe(model: type[BaseModel] = Config, *, under: tuple[str, ...] = ()) -> Iterator[Key]:
    """The keys of `model`, blocks before what is in them. Accounts: call it with the platform's own model."""
    for name, field in model.model_fields.items():
        path = (*under, name)
        yield Key(path, _plain(field.get_default(call_default_factory=True)), field.description or "")
        inner = model_at(model, (name,))
        if inner is not None and inner is not AccountConfig:
            yield from describe(inner, under=path)


def _plain(default: Any) -> Any:
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, timedelta):
        return write_duration(default)
    return to_jsonable_python(default, fallback=lambda _: None)
