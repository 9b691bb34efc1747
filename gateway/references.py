"""References in a configuration's values: `${VAR}`, `${VAR:-default}` and `file:/path/of/a/secret`.

`$${` stands for a plain `${`. What a variable or file holds is taken as it is and never read for references again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from gateway.faults import Fault, Path
from gateway.redaction import register_secret

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\})?")
_FILE = re.compile(r"file:(?=[/.~]|\$\{)")
_SECRET_NAME = re.compile("key|token|secret|password", re.IGNORECASE)
"""Of a variable whose value no fault may show, wherever it was put by mistake."""
_LARGEST_FILE = 1_000_000
"""Bytes."""


@dataclass
class Resolved:
    """Data without references."""

    data: Any = None
    unset: dict[Path, str] = field(default_factory=dict)
    """Values that name a variable that is not set, with its name; they resolved to what is left without it."""
    faults: list[Fault] = field(default_factory=list)


def resolve(data: Any, environ: Mapping[str, str], *, folder: FilePath) -> Resolved:
    """Replace every reference in `data`. Relative `file:` paths start in `folder`."""
    resolved = Resolved()
    resolved.data = _walk(data, (), environ, folder, resolved)
    return resolved


def _walk(value: Any, path: Path, environ: Mapping[str, str], folder: FilePath, resolved: Resolved) -> Any:
    if isinstance(value, dict):
        return {key: _walk(item, (*path, key), environ, folder, resolved) for key, item in value.items()}
    if isinstance(value, list):
        return [_walk(item, (*path, position), environ, folder, resolved) for position, item in enumerate(value)]
    if not isinstance(value, str):
        return value
    text = _expand(value, path, environ, resolved)
    if _FILE.match(value) and path not in resolved.unset:
        return _read(text.removeprefix("file:"), path, folder, resolved)
    return text


def _expand(value: str, path: Path, environ: Mapping[str, str], resolved: Resolved) -> str:
    def replace(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        name, default = found["name"], found["default"]
        if name is None:
            resolved.faults.append(Fault(path, "'${' starts a reference such as ${NAME}; write '$${' for a plain one"))
            return found[0]
        if _SECRET_NAME.search(name):
            register_secret(environ.get(name, ""))
        if default is not None:
            return environ.get(name) or default
        if name not in environ:
            resolved.unset.setdefault(path, name)
        return environ.get(name, "")

    return _REFERENCE.sub(replace, value)


def _read(name: str, path: Path, folder: FilePath, resolved: Resolved) -> str:
    file = folder / FilePath(name).expanduser()
    try:
        if not file.exists():
            problem = "does not exist"
        elif not file.is_file():  # a pipe would block, a folder has no text
            problem = "is not a regular file"
        elif file.stat().st_size > _LARGEST_FILE:
            problem = f"is larger than {_LARGEST_FILE} bytes"
        else:
            text = file.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
            register_secret(text)
            return text
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    except (OSError, RuntimeError) as error:
        problem = f"cannot be read: {getattr(error, 'strerror', None) or error}"
    resolved.faults.append(Fault(path, f"the file {str(file)!r} {problem}"))
    return ""
