"""The accounts of a configuration: each is checked against the model that its platform brings."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from core.account import AccountConfig
from core.adapter import AnyAdapterSpec
from core.errors import ConfigError
from core.messages import AccountId
from gateway.faults import Fault, Path, is_secret, of_validation, show


def folder_of(account: AccountId, database: pathlib.Path) -> pathlib.Path:
    """Where an account keeps what is its own."""
    return database.parent / "accounts" / account


FindSpec = Callable[[str], AnyAdapterSpec]
"""Platform name → what it brings. Raises ConfigError."""

_ALWAYS_ON = ("api", "web")
"""Accounts that need not be listed."""

_OFF = (None, False, "off", "no", "false")
_ON = (True, "on", "yes", "true")

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def not_set(path: Path, variable: str) -> Fault:
    """A value that names a variable which nobody set."""
    text = f"the environment variable {variable} is not set; set it, or write ${{{variable}:-some default}}"
    return Fault(path, text)


class Accounts:
    """Reads the block `accounts`."""

    def __init__(self, find_spec: FindSpec, unset: Mapping[Path, str]) -> None:
        """`unset` has the values whose variable is not set, and that variable's name."""
        self._find_spec = find_spec
        self._unset = unset
        self.faults: list[Fault] = []
        self.left_out: list[tuple[str, str]] = []
        """Accounts whose credentials are empty, each with the reason."""

    def read(self, written: Any) -> dict[str, AccountConfig]:
        """The accounts that are on and complete."""
        if not isinstance(written, dict):
            self.faults.append(Fault(("accounts",), f"got {show(written)}, expected a block of accounts by name"))
            return {}
        blocks: dict[str, Any] = {name: {} for name in _ALWAYS_ON} | written
        accounts = {}
        for name, block in blocks.items():
            if not isinstance(block, (dict, list)) and block in _OFF:
                continue
            account = self._account(name, {} if not isinstance(block, (dict, list)) and block in _ON else block)
            if account is not None:
                accounts[name] = account
        return accounts

    def _account(self, name: str, block: Any) -> AccountConfig | None:
        path: Path = ("accounts", name)
        if not _NAME.fullmatch(name):
            self.faults.append(Fault(path, "an account's name has only a-z, 0-9 and -, at most 63 of them"))
            return None
        if not isinstance(block, dict):
            self.faults.append(Fault(path, f"got {show(block)}, expected a block of keys, or off"))
            return None
        platform = str(block.get("platform") or name)
        try:
            model: type[AccountConfig] = self._find_spec(platform).config
        except ConfigError as error:
            self.faults += [Fault((*path, "platform") if "platform" in block else path, text) for text in error.faults]
            return None
        return self._validated(name, model, block | {"platform": platform})

    def _validated(self, name: str, model: type[AccountConfig], block: Mapping[str, Any]) -> AccountConfig | None:
        path: Path = ("accounts", name)
        unset = {where: variable for where, variable in self._unset.items() if where[:2] == path}
        credentials = {where: variable for where, variable in unset.items() if _may_be_empty(model, where[2:])}
        faults = [not_set(where, variable) for where, variable in unset.items() if where not in credentials]
        told = {fault.path for fault in faults}
        account: AccountConfig | None = None
        empty: dict[str, None] = {}
        try:
            account = model.model_validate(block)
            empty = dict.fromkeys(account.credentials_missing())
        except ValidationError as error:
            for fault in of_validation(error, model, under=path):
                if fault.path in credentials:
                    empty[str(fault.path[2])] = None
                elif fault.path not in told:
                    faults.append(fault)
        self.faults += faults
        if faults:
            return None
        if empty:
            self.left_out.append((name, _reason(empty, path, unset)))
            return None
        return account


def _may_be_empty(model: type[BaseModel], location: Path) -> bool:
    """Whether the key is a credential, or one that is empty by itself."""
    field = model.model_fields.get(str(location[0])) if len(location) == 1 else None
    return field is not None and (field.is_required() or field.default in ("", None) or is_secret(model, location))


def _reason(empty: Iterable[str], path: Path, unset: Mapping[Path, str]) -> str:
    parts = []
    for key in empty:
        variable = unset.get((*path, key))
        parts.append(f"{key} is empty" + (f" ({variable} is not set)" if variable else ""))
    return ", ".join(parts)
