"""Ending the part of a turn that may be cut short."""

from __future__ import annotations

import asyncio

import pytest

from core.stopper import Stop, Stopped, Stopper


async def test_a_stop_ends_the_scope_with_its_reason() -> None:
    stopper = Stopper()
    entered = asyncio.Event()

    async def work() -> None:
        async with stopper.scope():
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    assert stopper.stop(Stop.PERSON)
    stopper.stop(Stop.SHUTDOWN)
    with pytest.raises(Stopped) as stopped:
        await task
    assert stopped.value.why is Stop.PERSON


async def test_a_stop_before_the_scope_lets_nothing_begin() -> None:
    stopper = Stopper()
    stopper.stop(Stop.INTERRUPT)
    begun = False
    with pytest.raises(Stopped):
        async with stopper.scope():
            begun = True
    assert not begun


async def test_a_stop_after_the_scope_has_no_effect_and_says_so() -> None:
    stopper = Stopper()
    async with stopper.scope():
        pass
    assert not stopper.stop(Stop.PERSON)
    assert stopper.why is None


async def test_an_error_inside_the_scope_stays_what_it_is() -> None:
    for error in (TimeoutError("of something else"), ValueError("a mistake")):
        with pytest.raises(type(error)) as raised:
            async with Stopper().scope():
                raise error
        assert raised.value is error


async def test_who_cancels_the_task_is_not_taken_for_a_stop() -> None:
    stopper = Stopper()
    entered = asyncio.Event()

    async def work() -> None:
        async with stopper.scope():
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_task_goes_on_after_a_stop_as_if_never_cancelled() -> None:
    stopper = Stopper()
    entered = asyncio.Event()

    async def work() -> str:
        try:
            async with stopper.scope():
                entered.set()
                await asyncio.Event().wait()
        except Stopped:
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            await asyncio.sleep(0)
            return "ended well"
        return "not stopped"

    task = asyncio.create_task(work())
    await entered.wait()
    stopper.stop(Stop.PERSON)
    assert await task == "ended well"
