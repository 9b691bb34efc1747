"""The gate bounds what runs at once and is fair between those who ask."""

from __future__ import annotations

import asyncio
import random

import pytest

from core.errors import ChatUnavailable
from core.gate import FairGate


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Visitors:
    """Tasks that hold a place until they are told to go."""

    def __init__(self, gate: FairGate) -> None:
        self.gate = gate
        self.let_in: list[str] = []
        self._go: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str) -> None:
        self._go[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._visit(name))
        await settle()

    async def _visit(self, name: str) -> None:
        async with self.gate.place(name.split("-")[0]):
            self.let_in.append(name)
            await self._go[name].wait()

    async def leave(self, name: str) -> None:
        self._go[name].set()
        await self.tasks[name]
        await settle()


async def test_no_more_than_its_size_are_inside() -> None:
    visitors = Visitors(FairGate(2))
    for name in ("a-1", "a-2", "a-3"):
        await visitors.come(name)
    assert visitors.let_in == ["a-1", "a-2"]
    assert (visitors.gate.running, visitors.gate.waiting) == (2, 1)
    await visitors.leave("a-1")
    assert visitors.let_in == ["a-1", "a-2", "a-3"]
    for name in ("a-2", "a-3"):
        await visitors.leave(name)
    assert (visitors.gate.running, visitors.gate.waiting) == (0, 0)


async def test_a_hundred_calls_of_one_delay_the_first_of_another_by_one() -> None:
    visitors = Visitors(FairGate(1))
    for number in range(101):
        await visitors.come(f"a-{number}")
    await visitors.come("b-0")
    await visitors.come("c-0")
    inside = "a-0"
    for _ in range(4):
        await visitors.leave(inside)
        inside = visitors.let_in[-1]
    assert visitors.let_in == ["a-0", "a-1", "b-0", "c-0", "a-2"]
    for task in visitors.tasks.values():
        task.cancel()
    await asyncio.gather(*visitors.tasks.values(), return_exceptions=True)
    assert (visitors.gate.running, visitors.gate.waiting) == (0, 0)


async def test_one_who_is_cancelled_while_waiting_is_forgotten() -> None:
    visitors = Visitors(FairGate(1))
    for name in ("a-1", "b-1", "c-1"):
        await visitors.come(name)
    visitors.tasks["b-1"].cancel()
    await settle()
    assert visitors.gate.waiting == 1
    await visitors.leave("a-1")
    assert visitors.let_in == ["a-1", "c-1"]
    await visitors.leave("c-1")


async def test_one_who_is_cancelled_when_just_let_in_hands_the_place_on() -> None:
    visitors = Visitors(FairGate(1))
    for name in ("a-1", "b-1", "c-1"):
        await visitors.come(name)
    visitors._go["a-1"].set()
    await asyncio.sleep(0)  # a-1 leaves, b-1 is let in but has not run yet
    assert visitors.gate.running == 1
    assert "b-1" not in visitors.let_in
    visitors.tasks["b-1"].cancel()
    await settle()
    assert visitors.let_in == ["a-1", "c-1"]
    await visitors.leave("c-1")
    assert (visitors.gate.running, visitors.gate.waiting) == (0, 0)


async def test_one_who_is_cancelled_and_passed_over_at_once_is_forgotten() -> None:
    visitors = Visitors(FairGate(1))
    for name in ("a-1", "b-1", "c-1"):
        await visitors.come(name)
    visitors.tasks["b-1"].cancel()  # before it runs again …
    visitors._go["a-1"].set()
    await visitors.tasks["a-1"]  # … the place becomes free
    await settle()
    assert visitors.let_in == ["a-1", "c-1"]
    await visitors.leave("c-1")
    assert (visitors.gate.running, visitors.gate.waiting) == (0, 0)


async def test_random_comings_goings_and_cancellings_lose_no_place() -> None:
    chance = random.Random(5)
    gate = FairGate(3)
    inside = 0
    most = 0

    async def visit(who: str) -> None:
        nonlocal inside, most
        async with gate.place(who):
            inside += 1
            most = max(most, inside)
            try:
                for _ in range(chance.randrange(5)):
                    await asyncio.sleep(0)
            finally:
                inside -= 1

    tasks = [asyncio.create_task(visit(str(number % 7))) for number in range(500)]
    while not all(task.done() for task in tasks):
        chance.choice(tasks).cancel()
        await asyncio.sleep(0)
    assert most == 3
    assert (gate.running, gate.waiting, inside) == (0, 0, 0)
    assert not gate._queues


async def test_too_many_waiting_are_refused() -> None:
    visitors = Visitors(FairGate(1, most_waiting=2))
    for name in ("a-1", "a-2", "a-3"):
        await visitors.come(name)
    with pytest.raises(ChatUnavailable):
        async with visitors.gate.place("b"):
            raise AssertionError("let in")
    for name in ("a-1", "a-2", "a-3"):
        await visitors.leave(name)


async def test_patience_ends() -> None:
    visitors = Visitors(FairGate(1))
    await visitors.come("a-1")
    with pytest.raises(ChatUnavailable, match=r"0\.01 s"):
        async with visitors.gate.place("b", patience=0.01):
            raise AssertionError("let in")
    assert visitors.gate.waiting == 0
    await visitors.leave("a-1")


async def test_a_larger_gate_lets_more_in_at_once_and_a_smaller_one_later() -> None:
    visitors = Visitors(FairGate(1))
    for name in ("a-1", "a-2", "a-3", "a-4"):
        await visitors.come(name)
    visitors.gate.size = 3
    await settle()
    assert visitors.let_in == ["a-1", "a-2", "a-3"]
    visitors.gate.size = 1
    await visitors.leave("a-1")
    await visitors.leave("a-2")
    assert visitors.let_in == ["a-1", "a-2", "a-3"]
    await visitors.leave("a-3")
    assert visitors.let_in[-1] == "a-4"
    await visitors.leave("a-4")
