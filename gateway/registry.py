"""Platform name → AdapterSpec, imported on demand: a process that runs one platform never pays for another's SDK.

Built-in platforms are the modules of the package `adapters`; other distributions add theirs under the entry-point
group `chatgpt_ms.adapters` (the name is the platform, the value its module or its SPEC). A built-in name wins.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points, packages_distributions
from importlib.util import find_spec
from typing import Any

from core.account import AccountConfig
from core.adapter import AdapterSpec, AnyAdapterSpec
from core.errors import ConfigError

GROUP = "chatgpt_ms.adapters"
DISTRIBUTION = "chatgpt-ms"
PACKAGES = ("core", "adapters", "gateway")
"""What this program installs at the top level."""


def built_in() -> tuple[str, ...]:
    """The platforms that come with this program, by the files that are there; nothing is imported."""
    package = find_spec("adapters")
    folders = (package.submodule_search_locations if package else None) or ()
    return tuple(sorted(module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_")))


def platforms() -> tuple[str, ...]:
    """Every platform that an account may name, also those whose SDK is not installed."""
    return tuple(sorted({*built_in(), *(entry.name for entry in entry_points(group=GROUP))}))


def spec(platform: str) -> AnyAdapterSpec:
    """What `platform` brings. Imports its module. Raises ConfigError: unknown, or a package it needs is missing."""
    if platform in built_in():
        return _checked(platform, _import(platform), origin=f"adapters.{platform}")
    for entry in entry_points(group=GROUP, name=platform):
        return _checked(platform, _load(entry), origin=entry.value)
    raise ConfigError(_unknown(platform, platforms()))


def foreign_owners() -> dict[str, tuple[str, ...]]:
    """Other distributions that also install one of our top-level packages, and may have overwritten its files."""
    owners = packages_distributions()
    found = {name: {owner for owner in owners.get(name, ()) if _normal(owner) != DISTRIBUTION} for name in PACKAGES}
    return {name: tuple(sorted(others)) for name, others in found.items() if others}


def _import(platform: str) -> Any:
    try:
        return importlib.import_module(f"adapters.{platform}")
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.split(".")[0] in PACKAGES:  # our own mistake, not a missing package
            raise
        raise ConfigError(
            f"platform {platform!r} needs the package {missing!r}, which is not installed: "
            f"pip install '{DISTRIBUTION}[{platform}]'"
        ) from error
    except ImportError as error:
        raise ConfigError(
            f"platform {platform!r} cannot be loaded: {error}; an installed package has the wrong version: "
            f"pip install --upgrade '{DISTRIBUTION}[{platform}]'"
        ) from error


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        owner = entry.dist.name if entry.dist else "an unknown package"
        raise ConfigError(
            f"platform {entry.name!r} of {owner} cannot be loaded ({entry.value}): {error}; "
            f"reinstall {owner} or remove the account"
        ) from error


def _checked(platform: str, found: Any, *, origin: str) -> AnyAdapterSpec:
    candidate = found if isinstance(found, AdapterSpec) else getattr(found, "SPEC", None)
    if not isinstance(candidate, AdapterSpec):
        raise ConfigError(f"platform {platform!r}: {origin} has no SPEC; it is no adapter")
    if candidate.platform != platform:
        raise ConfigError(f"platform {platform!r}: the SPEC of {origin} calls itself {candidate.platform!r}")
    if not issubclass(candidate.config, AccountConfig):
        raise ConfigError(f"platform {platform!r}: the configuration of {origin} does not extend AccountConfig")
    return candidate


def _unknown(platform: str, known: Iterable[str]) -> str:
    names = sorted(known)
    if near := get_close_matches(platform, names, n=1):
        return f"unknown platform {platform!r}; did you mean {near[0]!r}?"
    return f"unknown platform {platform!r}; there are {', '.join(names) or 'none'}"


def _normal(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")
