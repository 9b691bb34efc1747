"""The whole configuration, and how it is read: YAML, then references, then the models of gateway/settings.py and of
each account's platform. Every fault is found at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, PrivateAttr, SecretStr, SerializeAsAny, ValidationError

from core.account import AccountConfig
from core.errors import ConfigError
from gateway import document, faults, pricing, registry
from gateway.accounts import Accounts, FindSpec, not_set
from gateway.faults import Fault
from gateway.references import Resolved, resolve
from gateway.settings import Chat, Limits, Log, Section, Server, Sessions, Storage

DEFAULT_FILE = Path("config.yaml")

_LARGEST_FILE = 1_000_000
"""Bytes."""

_DEFAULTS = {"api_key": "${OPENAI_API_KEY:-}", "base_url": "${OPENAI_BASE_URL:-https://api.openai.com/v1}"}
"""Of `chat`: what OpenAI's own tools read from the environment."""

_MAY_BE_UNSET = frozenset({("chat", "api_key")})
"""Values that may be empty: a variable that is not set is no fault there."""


class Config(Section):
    """Everything that config.yaml says."""

    chat: Chat = Field(Chat(), description="The model that answers.")
    sessions: Sessions = Field(Sessions(), description="What belongs to one conversation.")
    storage: Storage = Field(Storage(), description="Where messages are kept.")
    server: Server = Field(Server(), description="The HTTP server.")
    limits: Limits = Field(Limits(), description="What one person, and all together, may use.")
    log: Log = Field(Log(), description="The log on standard error.")
    accounts: dict[str, SerializeAsAny[AccountConfig]] = Field({}, description="The bots, by names of your choice.")

    _left_out: tuple[tuple[str, str], ...] = PrivateAttr(())

    @property
    def left_out(self) -> tuple[tuple[str, str], ...]:
        """Accounts that are not started because their credentials are empty, each with the reason."""
        return self._left_out

    @property
    def account_names(self) -> tuple[str, ...]:
        """All accounts that are on, also those that were left out."""
        return (*self.accounts, *(name for name, _ in self._left_out))

    def secrets(self) -> Iterator[str]:
        """Every secret in it, for the log to mask."""
        for section in (self.chat, self.server, *self.accounts.values()):
            yield from _secrets(section)

    def reloadable_changes(self, new: Config) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The keys that differ in `new`: those that can take effect while running, and those that need a restart.

        A few are both: they hold at once, but what a platform delivers was settled when its account signed in.
        """
        changed = [
            path
            for name in type(self).model_fields
            for path in _differences(getattr(self, name), getattr(new, name), name)
        ]
        now = tuple(path for path in changed if _is_reloadable(path))
        return now, tuple(path for path in changed if path not in now or path.endswith(_SETTLED_BY_SIGNING_IN))


_RELOADABLE = frozenset(
    {
        "chat.system_prompt",
        "chat.model",
        "chat.fallback_models",
        "chat.models",
        "chat.personas",
        "chat.prices",
        "sessions",
        "limits",
    }
)


_OF_ACCOUNTS = frozenset({"access", "budget"})
"""The same, of every account."""

_SETTLED_BY_SIGNING_IN = (".access.channels", ".access.always")


def _is_reloadable(path: str) -> bool:
    section, _, key = path.partition(".")
    if section == "accounts":
        return key.partition(".")[2].partition(".")[0] in _OF_ACCOUNTS
    return section in _RELOADABLE or f"{section}.{key.partition('.')[0]}" in _RELOADABLE


def _differences(old: Any, new: Any, path: str) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, BaseModel) and type(old) is type(new):
        for name in type(old).model_fields:
            yield from _differences(getattr(old, name), getattr(new, name), f"{path}.{name}")
    elif isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            if name in old and name in new:
                yield from _differences(old[name], new[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    else:
        yield path


def _secrets(value: Any) -> Iterator[str]:
    if isinstance(value, SecretStr):
        if secret := value.get_secret_value():
            yield secret
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name))
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _secrets(item)


def load(path: Path | None, environ: Mapping[str, str], *, find_spec: FindSpec = registry.spec) -> Config:
    """Read the configuration from `path`; None is config.yaml where there is one, else the defaults.

    Raises ConfigError with one line for every fault.
    """
    if path is None and not DEFAULT_FILE.exists():
        return _Reading("", document.Document(), Path(), find_spec).config(environ)
    path = path or DEFAULT_FILE
    source = document.read(_text(path))
    return _Reading(str(path), source, path.parent, find_spec).config(environ)


def _text(path: Path) -> str:
    try:
        if not path.exists():
            raise ConfigError(f"{path}: does not exist; `chatgpt-ms init` writes one")
        if not path.is_file():
            raise ConfigError(f"{path}: is not a file; name the configuration file itself")
        if path.stat().st_size > _LARGEST_FILE:
            raise ConfigError(f"{path}: is larger than {_LARGEST_FILE} bytes; this is no configuration")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; check its permissions") from None


class _Reading:
    """One file on its way to a Config."""

    def __init__(self, name: str, source: document.Document, folder: Path, find_spec: FindSpec) -> None:
        self._name = name
        self._source = source
        self._folder = folder
        self._find_spec = find_spec
        self._faults = list(source.faults)

    def config(self, environ: Mapping[str, str]) -> Config:
        if not any(fault.path == () for fault in self._faults):  # else nothing of the file could be read
            data = self._with_defaults(self._source.data)
            resolved = resolve(data, environ, folder=self._folder)
            self._faults += resolved.faults
            config = self._validate(resolved)
            if config is not None and not self._faults:
                return config
        raise ConfigError(*self._lines())

    def _with_defaults(self, written: Mapping[str, Any]) -> dict[str, Any]:
        """An empty section says nothing; `chat` has defaults that look into the environment."""
        data = {name: {} if value is None and name in Config.model_fields else value for name, value in written.items()}
        chat = data.get("chat", {})
        if isinstance(chat, dict):
            data["chat"] = _DEFAULTS | chat
        return data

    def _validate(self, resolved: Resolved) -> Config | None:
        data: dict[str, Any] = resolved.data
        self._faults += [
            not_set(path, variable)
            for path, variable in resolved.unset.items()
            if path not in _MAY_BE_UNSET and path[0] != "accounts"
        ]
        accounts = Accounts(self._find_spec, resolved.unset)
        data["accounts"] = accounts.read(data.get("accounts", {}))
        self._faults += accounts.faults
        told = {fault.path for fault in self._faults}
        try:
            config = Config.model_validate(data)
        except ValidationError as error:
            # what follows from a fault that is told already is not told again
            self._faults += [
                fault
                for fault in faults.of_validation(error, Config)
                if not any(fault.path[:end] in told for end in range(1, len(fault.path) + 1))
            ]
            return None
        self._faults += pricing.unpriced(config)
        config._left_out = tuple(accounts.left_out)
        return config

    def _lines(self) -> list[str]:
        lines = []
        for fault in sorted(self._faults, key=lambda fault: self._line(fault) or 0):
            line = self._line(fault)
            place = f"{self._name}:{line}: " if line else f"{self._name}: " if self._name else ""
            lines.append(f"{place}{fault}")
        return list(dict.fromkeys(lines))

    def _line(self, fault: Fault) -> int | None:
        return fault.line or self._source.line(fault.path)
