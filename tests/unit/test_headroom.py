"""Waiting for a budget: in order, without polling, and nobody is left behind."""

from __future__ import annotations

import asyncio
import random

import pytest

from core.budgets import EVERYBODY, BudgetInUse, Subject
from core.headroom import Headroom, Ticket

ANN, BOB = Subject("work", "ann"), Subject("work", "bob")


class Till:
    """A budget with room for some at once, decided elsewhere: each answer takes a few rounds of the loop to come."""

    def __init__(self, headroom: Headroom, room: dict[Subject, int], rounds: random.Random) -> None:
        self.headroom = headroom
        self.room = room
        self.rounds = rounds
        self.running: list[tuple[Subject, ...]] = []
        self.order: list[str] = []
        self.attempts = 0

    async def pause(self) -> None:
        for _ in range(self.rounds.randrange(4)):
            await asyncio.sleep(0)

    async def attempt(self, subjects: tuple[Subject, ...], ticket: Ticket) -> None:
        self.attempts += 1
        await self.pause()
        full = next(
            (one for one in subjects if ticket.ahead(one) or sum(one in run for run in self.running) >= self.room[one]),
            None,
        )
        if full is None:
            self.running.append(subjects)
        try:
            await self.pause()
        except asyncio.CancelledError:
            if full is None:
                self.end(subjects)
            raise
        if full is not None:
            raise BudgetInUse(full)

    def end(self, subjects: tuple[Subject, ...]) -> None:
        self.running.remove(subjects)
        self.headroom.ended(subjects)

    async def work(self, name: str, subjects: tuple[Subject, ...]) -> None:
        ticket = self.headroom.ticket()
        try:
            while True:
                ticket.attempt()
                try:
                    await self.attempt(subjects, ticket)
                except BudgetInUse as in_use:
                    await ticket.wait(in_use.subject)
                else:
                    break
        finally:
            ticket.close()
        self.order.append(name)
        try:
            assert all(sum(one in run for run in self.running) <= self.room[one] for one in subjects)
            await self.pause()
        finally:
            self.end(subjects)


@pytest.mark.parametrize("seed", range(100))
async def test_everybody_gets_their_turn_and_nobody_exceeds_the_room(seed: int) -> None:
    dice = random.Random(seed)
    headroom = Headroom()
    till = Till(headroom, {ANN: 1, BOB: 2, EVERYBODY: dice.choice((1, 2, 3))}, dice)
    tasks = [asyncio.create_task(till.work(f"{number}", (dice.choice((ANN, BOB)), EVERYBODY))) for number in range(30)]
    for task in dice.sample(tasks, 5):
        await till.pause()
        task.cancel()
    async with asyncio.timeout(5):
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert not headroom.waiting
    assert not till.running
    assert all(one is None or isinstance(one, asyncio.CancelledError) for one in ended)
    assert till.attempts < 30 * 30


async def test_first_come_first_served() -> None:
    headroom, rounds = Headroom(), random.Random(1)
    rounds.randrange = lambda *_: 0  # type: ignore[method-assign]
    till = Till(headroom, {ANN: 1, EVERYBODY: 100}, rounds)
    await asyncio.gather(*(till.work(f"{number}", (ANN, EVERYBODY)) for number in range(20)))
    assert till.order == [f"{number}" for number in range(20)]


async def test_one_end_lets_several_begin_where_there_is_room() -> None:
    headroom = Headroom()
    till = Till(headroom, {ANN: 0}, random.Random(2))
    waiting = [asyncio.create_task(till.work(f"{number}", (ANN,))) for number in range(3)]
    while headroom.waiting < 3:
        await asyncio.sleep(0)
    till.room[ANN] = 3
    headroom.ended((ANN,))
    await asyncio.gather(*waiting)


async def test_who_waits_does_not_poll() -> None:
    headroom = Headroom()
    till = Till(headroom, {ANN: 0}, random.Random(3))
    waiting = [asyncio.create_task(till.work(f"{number}", (ANN,))) for number in range(50)]
    while headroom.waiting < 50:
        await asyncio.sleep(0)
    before = till.attempts
    for _ in range(100):
        await asyncio.sleep(0)
    assert till.attempts == before
    headroom.ended((BOB,))
    await asyncio.sleep(0)
    assert till.attempts == before
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert headroom.waiting == 0
