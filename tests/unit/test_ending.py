"""Work that may be ended from elsewhere."""

from __future__ import annotations

import asyncio

import pytest

from core.ending import run_until


class Work:
    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.ended = False

    async def do(self, error: Exception | None = None) -> None:
        try:
            self.begun.set()
            await self.go_on.wait()
            if error is not None:
                raise error
        finally:
            await asyncio.sleep(0)
            self.ended = True


async def test_work_that_ends_by_itself() -> None:
    work, event = Work(), asyncio.Event()
    work.go_on.set()
    assert await run_until(event, work.do()) is False
    assert work.ended


async def test_what_the_work_raises_is_raised() -> None:
    work, event = Work(), asyncio.Event()
    work.go_on.set()
    with pytest.raises(ValueError, match="no"):
        await run_until(event, work.do(ValueError("no")))


async def test_the_event_ends_the_work_and_its_end_is_waited_for() -> None:
    work, event = Work(), asyncio.Event()
    running = asyncio.create_task(run_until(event, work.do()))
    await work.begun.wait()
    event.set()
    assert await running is True
    assert work.ended


async def test_the_event_counts_more_than_what_the_work_raises() -> None:
    work, event = Work(), asyncio.Event()
    event.set()
    work.go_on.set()
    assert await run_until(event, work.do(ValueError("no"))) is True


async def test_cancelling_ends_the_work() -> None:
    work, event = Work(), asyncio.Event()
    running = asyncio.create_task(run_until(event, work.do()))
    await work.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.ended
