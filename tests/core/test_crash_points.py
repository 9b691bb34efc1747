"""A crash at every transition of the journal and at every call to the platform, one by one: nothing is left without an end."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from tests.core.crash_points import Laboratory, Point, Script
from tests.core.crash_scripts import EVENTS, ROADS

MARKED = ROADS[0]
KEYED = next(script for script in ROADS if script.name == "keyed")
TWICE = [script for script in ROADS if script.name in (MARKED.name, "keyed", "edited and found", "streamed and edited")]


@pytest.fixture
def _quiet() -> Iterator[None]:
    """A thousand crashes have much to tell in the log, and telling it would be a third of the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
async def laboratory(tmp_path: Path, _quiet: None) -> Laboratory:
    laboratory = Laboratory(tmp_path)
    await laboratory.prepare()
    return laboratory


@pytest.mark.parametrize(
    ("what", "scripts", "least"), [("roads", ROADS, 100), ("events", EVENTS, 350)], ids=["roads", "events"]
)
async def test_wherever_a_process_dies_every_message_comes_to_its_one_end(
    laboratory: Laboratory, what: str, scripts: Sequence[Script], least: int
) -> None:
    died, faults = 0, list[str]()
    for script in scripts:
        deaths, found = await laboratory.faults(script)
        died += deaths
        faults += found
    print(f"\nR2: {what}: {len(scripts)} scripts, {died} places to die at, {len(faults)} faults")
    assert not faults, "\n".join(faults)
    assert died >= least


async def test_a_process_that_dies_while_it_repairs_what_another_left_leaves_no_more_behind(
    laboratory: Laboratory,
) -> None:
    died, faults = 0, list[str]()
    for script in TWICE:
        for point in await laboratory.points(script):
            if point.when == "after":
                deaths, found = await laboratory.faults(replace(script, deaths=(point,)))
                died += deaths
                faults += found
    print(f"\nR2: twice in a row: {len(TWICE)} scripts, {died} pairs of places, {len(faults)} faults")
    assert not faults, "\n".join(faults)
    assert died >= 150


@pytest.mark.parametrize(
    ("script", "forgets", "seen"),
    [
        (MARKED, "sending", "q1 is answered 2 times, and 0 times with the mark"),
        (MARKED, "recover", "rows without an end"),
        (KEYED, "sent", "rows without an end"),
    ],
    ids=[
        "a journal that forgets that it sends",
        "a start that does not recover",
        "a journal that forgets what arrived",
    ],
)
async def test_a_mistake_in_the_journal_would_be_seen(
    laboratory: Laboratory, script: Script, forgets: str, seen: str
) -> None:
    points = [point for point in await laboratory.points(script) if point.what != forgets]
    faults: list[str] = []
    for point in points:
        run = laboratory.run(script, forgets=forgets)
        await run.through(point)
        faults += run.faults
    assert any(seen in fault for fault in faults), faults


async def test_a_place_that_is_never_passed_does_not_count_as_a_death(laboratory: Laboratory) -> None:
    run = laboratory.run(KEYED)
    await run.through(Point("bury", "before", 1))
    assert not run.hit
