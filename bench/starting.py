"""How soon the gateway is there, and what it needs while nothing happens: `python -m bench start`."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.processes import Lines, Model, gateway, lines, script
from bench.table import Table, median
from tests.contract.platform import SimulatedPlatform

_SIMULATORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "slack": ("tests.simulators.slack", "SimulatedSlack", {}),
    "discord": ("tests.simulators.discord", "DiscordPlatform", {}),
    "feishu": ("tests.simulators.feishu", "SimulatedFeishu", {}),
    "dingtalk": ("tests.simulators.dingtalk", "SimulatedDingTalk", {"card": True}),
    "wechat": ("tests.simulators.wechat", "SimulatedWechat", {}),
}
_SETS: dict[str, tuple[str, ...]] = {
    "HTTP and web page only": (),
    **{name: (name,) for name in _SIMULATORS},
    "slack and discord": ("slack", "discord"),
    "all five": tuple(_SIMULATORS),
}
_STEPS = ("config", "storage", "accounts", "model", "server")
_IDLE = 1.0
"""Seconds after which the memory is read."""


async def measure(folder: Path, model: Model, *, quick: bool) -> None:
    """Every set of accounts, in interleaved rounds, and the bare script."""
    rounds = 3 if quick else 7
    ready: defaultdict[str, list[float]] = defaultdict(list)
    memory: defaultdict[str, list[float]] = defaultdict(list)
    told: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    async with lines("bench.starting") as platforms:
        for number in range(rounds):
            for name, wanted in _SETS.items():
                account = f"bot{number}"  # anew each time: nobody waits for the end of an earlier connection
                accounts = {each: await _account(platforms, each, account) for each in wanted}
                async with gateway(folder / f"start-{number}", model.url, accounts=accounts, level="info") as ours:
                    ready[name].append(ours.ready_after)
                    await asyncio.sleep(_IDLE)
                    memory[name].append(ours.memory)
                    told[name].append(_started(ours.log))
                for path in (folder / f"start-{number}/data").iterdir():
                    if path.is_file():
                        path.unlink()
            async with script("bare", folder, model.url) as bare:
                ready["bare script"].append(bare.ready_after)
                await asyncio.sleep(_IDLE)
                memory["bare script"].append(bare.memory)
    table = Table("Start", "ready, s", "idle, MB", *_STEPS, "slowest sign-in")
    for name, times in ready.items():
        steps = [f"{median([each[step] for each in told[name]]):.2f}" for step in _STEPS] if told[name] else []
        slowest = [max(each["sign_in"].values()) for each in told[name]]
        steps += [f"{median(slowest):.2f}"] if slowest else []
        table.row(name, f"{median(times):.2f}", f"{median(memory[name]):.0f}", *steps)
    _imports()


async def _account(platforms: Lines, platform: str, name: str) -> Any:
    return {"platform": platform, **await platforms.do("account", platform=platform, name=name)}


def _started(log: Path) -> dict[str, Any]:
    """The line in which the gateway tells what took how long."""
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "started":
            return dict(event)
    raise RuntimeError(f"the gateway did not tell how it started:\n{log.read_text()[-2000:]}")


def _imports() -> None:
    """Seconds of importing the program, and then each adapter, by the packages that take most of them."""
    table = Table("Imports (python -X importtime, slower than without)", "all, ms", "most, ms each")
    before: set[str] = set()
    for name in ("gateway.running", *(f"adapters.{each}" for each in _SIMULATORS)):
        code = f"import gateway.__main__, gateway.running, {name}"
        run = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True
        )
        found: defaultdict[str, float] = defaultdict(float)
        modules = set()
        for own, module in re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)", run.stderr):
            modules.add(module)
            if module not in before:
                found[module.partition(".")[0]] += int(own) / 1000
        before = before or modules
        most = sorted(found.items(), key=lambda each: -each[1])[:7]
        table.row(name, f"{sum(found.values()):.0f}", ", ".join(f"{package} {took:.0f}" for package, took in most))


# The process of the platforms


@asynccontextmanager
async def _served() -> AsyncIterator[dict[str, SimulatedPlatform]]:
    async with AsyncExitStack() as stack:
        platforms = {}
        for name, (module, kind, options) in _SIMULATORS.items():
            made = getattr(import_module(module), kind)(**options)
            assert isinstance(made, SimulatedPlatform)
            platforms[name] = await stack.enter_async_context(made)
        yield platforms


async def serve() -> None:
    """All platforms; tells the accounts that it is asked for."""
    async with _served() as platforms:
        print("{}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            print(json.dumps(platforms[command["platform"]].account(command["name"])), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
