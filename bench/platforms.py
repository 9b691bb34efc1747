"""What each chat platform costs: `python -m bench.platforms [NAME …]`.

First the seconds and megabytes that importing its adapter adds to a process that has what every gateway has, beside the
vendor's SDK imported as its documents say. Then the gateway in a process of its own answers 1,000 questions of 100 people
on the simulated platform (CHATGPT_MS_REPLIES changes the number): the longest time that its event loop was held up by one callback,
and the processor time of a reply.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.contract.platform import Delivery, SimulatedPlatform
from tests.simulators.openai_server import OpenAIServer

REPLIES = int(os.environ.get("CHATGPT_MS_REPLIES", "1000"))
PEOPLE = 100
_TOGETHER = 20
"""Questions that wait for their answers at the same time."""
_ROUNDS = 5

SDKS = {
    "slack": "slack_bolt",
    "discord": "discord",
    "feishu": "lark_oapi",
    "dingtalk": "dingtalk_stream",
    "wechat": "wechaty",
    "weixin": "segno",
}
"""What a program imports that uses the vendor's SDK in the usual way."""

_IMPORT = """
import resource, sys, time
import aiohttp, pydantic, structlog, core.markdown.parse, core.fetching
def memory():
    return int(next(line for line in open('/proc/self/status') if line.startswith('VmRSS')).split()[1]) / 1024
before, began, modules = memory(), time.perf_counter(), len(sys.modules)
import {name}
print(time.perf_counter() - began, memory() - before, len(sys.modules) - modules)
"""


PLATFORMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "slack": ("tests.simulators.slack", "SimulatedSlack", {}),
    "discord": ("tests.simulators.discord", "DiscordPlatform", {}),
    "feishu": ("tests.simulators.feishu", "SimulatedFeishu", {}),
    "dingtalk": ("tests.simulators.dingtalk", "SimulatedDingTalk", {"card": True}),
    "wechat": ("tests.simulators.wechat", "SimulatedWechat", {}),
    "weixin": ("tests.simulators.weixin", "SimulatedWeixin", {}),
}
"""The simulators, each imported when it is measured."""


def _simulated(name: str) -> SimulatedPlatform:
    module, kind, options = PLATFORMS[name]
    made = getattr(importlib.import_module(module), kind)(**options)
    assert isinstance(made, SimulatedPlatform)
    return made


def _import_cost(name: str) -> str:
    found: list[tuple[float, float, float]] = []
    for _ in range(_ROUNDS):
        run = subprocess.run(
            [sys.executable, "-c", _IMPORT.format(name=name)], capture_output=True, text=True, check=False
        )
        if run.returncode:
            return f"{name}: not installed"
        seconds, memory, modules = map(float, run.stdout.split())
        found.append((seconds, memory, modules))
    seconds, memory, modules = (statistics.median(column) for column in zip(*found, strict=True))
    return f"{name}: {seconds:.2f} s, {memory:.0f} MB, {modules:.0f} modules"


async def _replies(name: str, folder: Path) -> None:
    async with OpenAIServer() as model, _simulated(name) as platform:
        block = {"platform": name, **platform.account("bot")}
        config = folder / f"{name}.json"
        config.write_text(
            json.dumps(
                {
                    "chat": {"base_url": model.url, "api_key": "bench", "model": "bench"},
                    "storage": {"url": f"sqlite:{folder / name}.db"},
                    "server": {"port": 0},
                    "limits": {
                        "messages_per_minute": None,
                        "messages_per_day": None,
                        "tokens_per_day": None,
                        "same_text_per_minute": None,
                        "channel_messages_per_minute": None,
                    },
                    "accounts": {"api": "off", "web": "off", "bot": block},
                    "log": {"level": "error"},
                }
            )
        )
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.watched", str(config), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdin is not None
        assert child.stdout is not None

        async def ask(line: str) -> dict[str, Any]:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(f"{line}\n".encode())
            found = json.loads(await child.stdout.readline())
            assert isinstance(found, dict)
            return found

        assert await child.stdout.readline() == b"ready\n"
        await platform.listening("bot")
        await _answered(platform, "warm", 50)
        start = await ask("forget")
        began = time.perf_counter()
        await _answered(platform, "question", REPLIES)
        took = time.perf_counter() - began
        end = await ask("report")
        child.stdin.close()
        await child.wait()
        complaints = len(platform.complaints())
    cpu = (end["cpu"] - start["cpu"]) / REPLIES
    print(
        f"{name}: {REPLIES} replies in {took:.0f} s; loop held up at most {end['longest'] * 1000:.1f} ms, "
        f"{end['over_10_ms']} of {end['callbacks']} callbacks over 10 ms; {cpu * 1000:.1f} ms of processor a reply, "
        f"{end['memory']:.0f} MB; complaints of the platform: {complaints}"
    )
    print(f"  longest: {'; '.join(end['worst'])}")


async def _answered(platform: SimulatedPlatform, word: str, count: int) -> None:
    """Each question is asked and its answer waited for; some at the same time."""
    turns = asyncio.Semaphore(_TOGETHER)
    alone = [asyncio.Lock() for _ in range(PEOPLE)]

    async def ask(number: int) -> None:
        async with turns, alone[number % PEOPLE]:
            text = f"{word} {number}."
            asked: Delivery = await platform.person_writes(text, user=f"user{number % PEOPLE}")
            while not any(f"answer to: {text}" in seen.text for seen in platform.visible(asked.room)):
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(ask(number))


async def main(names: list[str]) -> None:
    """Measure the platforms named, or all."""
    with tempfile.TemporaryDirectory(prefix="chatgpt-ms-bench-") as folder:
        for name in names or PLATFORMS:
            print(f"import: {_import_cost(f'adapters.{name}')}   beside {_import_cost(SDKS[name])}", flush=True)
            await _replies(name, Path(folder))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
