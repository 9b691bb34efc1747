"""Rules that a reader would otherwise have to keep in mind; import-linter keeps those of the imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("core", "adapters", "gateway")

PLATFORMS = re.compile(r"slack|discord|feishu|lark|dingtalk|wechat|weixin|telegram", re.IGNORECASE)
CLOCK = re.compile(r"\b(?:datetime\.(?:now|utcnow|today)|time\.(?:time|monotonic|perf_counter|sleep)|asyncio\.sleep)\(")

LONGEST_FILE = 400
"""Lines. Longer files hold two ideas."""


def sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        yield from sorted((ROOT / package).rglob("*.py"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def found(pattern: re.Pattern[str], paths: Iterator[Path]) -> list[str]:
    return [
        f"{name(path)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if pattern.search(line)
    ]


def test_the_core_knows_no_platform_by_name() -> None:
    paths = (path for path in sources("core") if not name(path).startswith("core/markdown/dialects"))
    assert found(PLATFORMS, paths) == []


def test_time_is_read_and_waited_for_in_one_place() -> None:
    paths = (path for path in sources(*PACKAGES) if name(path) != "core/clock.py")
    assert found(CLOCK, paths) == []


def test_the_patterns_find_what_they_look_for() -> None:
    assert PLATFORMS.search("class SlackReply")
    assert CLOCK.search("await asyncio.sleep(1)")
    assert CLOCK.search("now = datetime.now(UTC)")
    assert not CLOCK.search("await clock.sleep(1)")
    assert found(CLOCK, iter([ROOT / "core" / "clock.py"]))


@pytest.mark.parametrize("path", list(sources(*PACKAGES)), ids=name)
def test_a_file_is_short_enough_to_hold_in_the_head(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


def undocumented(path: Path) -> Iterator[str]:
    """What is public in a module and has no docstring; a class may have its meaning from the one it derives from."""
    tree = ast.parse(path.read_text())
    if tree.body and not ast.get_docstring(tree):
        yield "the module"
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        derived = isinstance(node, ast.ClassDef) and node.bases
        if not derived and not ast.get_docstring(node):
            yield node.name


@pytest.mark.parametrize("path", list(sources("core")), ids=name)
def test_everything_public_in_the_core_says_what_it_is(path: Path) -> None:
    assert list(undocumented(path)) == []


def bases(paths: Iterator[Path]) -> dict[str, set[str]]:
    """Of every class, all that it derives from, by name."""
    own = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }

    def every(name: str) -> set[str]:
        return {name}.union(*map(every, own.get(name, ())))

    return {name: every(name) for name in own}


def test_a_preview_that_a_crash_broke_off_can_be_replaced_everywhere() -> None:
    streaming = {name: found for name, found in bases(sources("adapters")).items() if "CanStream" in found}
    assert {"ApiReply", "CardReply", "FeishuReply", "FoundThreadReply", "ThreadReply", "WebReply"} <= set(streaming)
    assert [name for name, found in streaming.items() if not found & {"CanEdit", "Kept"}] == []


def test_every_folder_of_tests_is_a_package() -> None:
    """Without __init__.py, tests/core would shadow core."""
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    assert [name(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_no_foreign_distribution_owns_our_packages() -> None:
    owners = packages_distributions()
    assert [(package, owners.get(package, [])) for package in PACKAGES if set(owners.get(package, ())) - OURS] == []


OURS = {"chatgpt-ms", "chatgpt_ms"}


@pytest.mark.parametrize("module", ["gateway.__main__", "gateway.cli"])
def test_the_command_line_loads_no_platform_and_nothing_slow(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    heavy = {"openai", "prometheus_client", "aiohttp", "slack_sdk", "slack_bolt", "discord", "lark_oapi"}
    heavy |= {"dingtalk_stream", "wechaty", "xllamacpp", "sqlite3", "markdown_it"}
    if module == "gateway.__main__":
        heavy.add("rich")  # the commands get it with structlog, which takes it where it is installed
    assert module in loaded
    assert sorted(loaded & heavy) == []
    assert [one for one in sorted(loaded) if one.startswith("adapters.")] == []


def test_the_contracts_of_the_imports_are_kept() -> None:
    program = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"
    run = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout
