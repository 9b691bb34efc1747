"""Finding platforms: by name, without loading what is not asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core.account import AccountConfig
from core.adapter import Adapter, AdapterSpec
from core.errors import ConfigError
from gateway import registry


def never(*_: object) -> Adapter:
    raise AssertionError("looking a platform up creates no adapter")


@pytest.fixture
def adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """More built-in platforms: files in this folder."""
    import adapters

    before = set(sys.modules)
    monkeypatch.setattr(adapters, "__path__", [*adapters.__path__, str(tmp_path)])
    monkeypatch.setattr(adapters.__spec__, "submodule_search_locations", adapters.__path__)
    for name in set(sys.modules) - before:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def write(
    folder: Path, name: str, *, platform: str | None = None, first: str = "", config: str = "AccountConfig"
) -> None:
    (folder / f"{name}.py").write_text(
        f"{first}\nfrom core.account import AccountConfig\nfrom core.adapter import AdapterSpec\n"
        f"SPEC = AdapterSpec({platform or name!r}, {config}, lambda account, config: None)\n"
    )


def offer(monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, str]) -> None:
    """Entry points of other distributions."""
    found = EntryPoints(EntryPoint(name, value, registry.GROUP) for name, value in entries)
    monkeypatch.setattr(registry, "entry_points", found.select)


def test_the_platforms_that_ship_are_found_by_their_files() -> None:
    assert {"api", "web"} <= set(registry.built_in())
    for platform in registry.built_in():
        assert registry.spec(platform).platform == platform


def test_a_new_file_is_a_new_platform(adapters: Path) -> None:
    write(adapters, "room_one")
    write(adapters, "_shared")

    assert "room_one" in registry.platforms()
    assert "_shared" not in registry.platforms()
    assert registry.spec("room_one").config is AccountConfig


def test_listing_loads_nothing(adapters: Path) -> None:
    write(adapters, "room_two", first="raise AssertionError('loaded')")

    assert "room_two" in registry.platforms()
    assert "adapters.room_two" not in sys.modules


@pytest.mark.parametrize("module", ["gateway.__main__", "gateway.config", "gateway.registry"])
def test_starting_loads_no_adapter(module: str) -> None:
    code = f"import sys, {module}; print([name for name in sys.modules if name.startswith('adapters.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("platform", "says"),
    [
        ("wbe", "unknown platform 'wbe'; did you mean 'web'?"),
        ("zzzzzz", r"unknown platform 'zzzzzz'; there are .*api.*web"),
        ("web.adapter", "unknown platform 'web.adapter'"),
        ("../web", "unknown platform"),
        ("", "unknown platform ''"),
        ("__init__", "unknown platform"),
    ],
)
def test_an_unknown_platform_names_the_nearest(platform: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        registry.spec(platform)


def test_a_missing_package_says_which_extra_has_it(adapters: Path) -> None:
    write(adapters, "room_three", first="import no_such_sdk.client")

    with pytest.raises(ConfigError) as raised:
        registry.spec("room_three")
    assert str(raised.value) == (
        "platform 'room_three' needs the package 'no_such_sdk', which is not installed: "
        "pip install 'chatgpt-ms[room_three]'"
    )


def test_a_package_of_another_version_says_so(adapters: Path) -> None:
    write(adapters, "room_four", first="from json import no_such_name")

    with pytest.raises(ConfigError, match=r"cannot be loaded: cannot import name .* pip install --upgrade"):
        registry.spec("room_four")


def test_a_mistake_of_our_own_is_not_taken_for_a_missing_package(adapters: Path) -> None:
    write(adapters, "room_five", first="import core.no_such_module")

    with pytest.raises(ModuleNotFoundError, match=r"core\.no_such_module"):
        registry.spec("room_five")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"platform": "other"}, "calls itself 'other'"),
        ({"config": "dict"}, "does not extend AccountConfig"),
    ],
)
def test_a_module_that_breaks_the_contract_is_refused(adapters: Path, content: dict[str, Any], says: str) -> None:
    name = f"room_six_{len(content['config']) if 'config' in content else 0}"
    write(adapters, name, **content)

    with pytest.raises(ConfigError, match=says):
        registry.spec(name)


def test_a_module_without_a_spec_is_no_adapter(adapters: Path) -> None:
    (adapters / "room_seven.py").write_text("")

    with pytest.raises(ConfigError, match=r"adapters\.room_seven has no SPEC"):
        registry.spec("room_seven")


def test_other_distributions_may_bring_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("their_room")
    spec = AdapterSpec("theirs", AccountConfig, never)
    module.__dict__["SPEC"] = spec
    monkeypatch.setitem(sys.modules, "their_room", module)
    for value in ("their_room", "their_room:SPEC"):
        offer(monkeypatch, ("theirs", value))

        assert "theirs" in registry.platforms()
        assert registry.spec("theirs") is spec


def test_a_built_in_name_cannot_be_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, ("web", "no_such_module_at_all"))

    assert registry.spec("web").create.__module__.startswith("adapters.web")


def test_a_broken_foreign_platform_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, ("theirs", "no_such_module_at_all"))

    with pytest.raises(ConfigError, match="platform 'theirs' of an unknown package cannot be loaded"):
        registry.spec("theirs")


def test_nobody_else_installed_our_packages() -> None:
    assert registry.foreign_owners() == {}


def test_a_distribution_that_overwrites_ours_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = {"core": ["chatgpt_ms"], "adapters": ["chatgpt-ms", "adapters", "adapters"], "other": ["x"]}
    monkeypatch.setattr(registry, "packages_distributions", lambda: owners)

    assert registry.foreign_owners() == {"adapters": ("adapters",)}
