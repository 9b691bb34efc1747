"""Who is measured: the gateway on one of its roads, or a bare script on the same."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench import load
from bench.processes import Lines, Model, Process, gateway, lines, script
from bench.roads import Road


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a number of questions."""

    seconds: float
    latencies: list[float]
    """Seconds to the whole answer."""
    wrong: int = 0
    """Answers that were lost, doubled, misordered or damaged."""


class Ask(Protocol):
    """Puts questions to a subject: `requests` of them, `users` at any time, of `people` (from `offset` on) in turns."""

    def __call__(self, *, users: int, requests: int, people: int, offset: int = 0) -> Awaitable[Asked]: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """One of those that are measured in turns."""

    name: str
    process: Process
    ask: Ask


@dataclass(frozen=True, slots=True)
class Subjects:
    """The gateway first. `load` tells the processor seconds of those who ask, and of the platform between."""

    title: str
    all: list[Subject]
    load: Callable[[], float]
    platform: Lines | None = None


def _over_http(process: Process) -> Ask:
    async def ask(*, users: int, requests: int, people: int, offset: int = 0) -> Asked:
        result = await load.run(process.url, users=users, requests=requests, sessions=people, offset=offset)
        return Asked(result.seconds, list(result.latencies))

    return ask


@asynccontextmanager
async def over_http(folder: Path, model: Model) -> AsyncIterator[Subjects]:
    """`POST /chat`: the gateway, a script on aiohttp, and one on the package `openai` where that is installed."""
    async with AsyncExitStack() as stack:
        ours = await stack.enter_async_context(gateway(folder / "http", model.url))
        bare = await stack.enter_async_context(script("bare", folder, model.url))
        subjects = [Subject("gateway", ours, _over_http(ours)), Subject("bare, aiohttp", bare, _over_http(bare))]
        if installed("openai"):
            other = await stack.enter_async_context(script("bare_openai", folder, model.url))
            subjects.append(Subject("bare, openai", other, _over_http(other)))
        yield Subjects("HTTP, POST /chat", subjects, time.process_time)


def _by_people(people: Lines, *, bare: str = "") -> Ask:
    async def ask(*, users: int, requests: int, people: int, offset: int = 0) -> Asked:
        found = await lines_.do("ask", users=users, requests=requests, people=people, offset=offset, bare=bare)
        latencies = [whole - asked for _, asked, _, whole in found["answers"] if whole is not None]
        return Asked(found["seconds"], latencies, wrong_of(found))

    lines_ = people
    return ask


def wrong_of(found: dict[str, Any]) -> int:
    """Of what people compared: answers that were not as they should be."""
    return sum(int(found[kind]) for kind in ("lost", "doubled", "misordered", "damaged"))


@asynccontextmanager
async def over_platform(folder: Path, model: Model, road: Road) -> AsyncIterator[Subjects]:
    """The gateway on a platform, and the bare scripts where there are some and their packages are installed."""
    async with AsyncExitStack() as stack:
        people = await stack.enter_async_context(lines("bench.people", road.name))
        accounts = {name: await people.do("account", name=name) for name in road.bots}
        ours = await stack.enter_async_context(gateway(folder / road.name, model.url, accounts=accounts))
        subjects = [Subject("gateway", ours, _by_people(people))]
        bare: dict[str, str] = {}
        for name, packages in road.bare.items():
            if missing := [package for package in packages if not installed(package)]:
                print(f"{missing[0]} is not installed: bench.{name} is left out (pip install {missing[0]})")
                continue
            block = await people.do("account", name=name)
            keys = (block[key] for key in ("api_url", "bot_token", "signing_secret"))
            process = await stack.enter_async_context(script(name, folder, model.url, *keys))
            bare[name] = process.url
            subjects.append(Subject(f"bare, {name.replace('_', ' + ')}", process, _by_people(people, bare=name)))
        await people.do("listens", url=ours.url, bare=bare)
        await people.do("listening", names=road.bots)
        yield Subjects(road.title, subjects, lambda: people.cpu, people)


def installed(package: str) -> bool:
    """Whether what a bare script stands on is there; neither is needed for anything else."""
    return importlib.util.find_spec(package) is not None
