"""Many people over a long time on one gateway (R7): nothing stays behind of a turn but a bounded cache.

CHATGPT_MS_SESSIONS (500) and CHATGPT_MS_TURNS (2) say how many people ask how often; the slope of the memory is asserted from
100,000 turns on, since caches grow to their size before.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.soak import Sample, Soak, soak
from core.sessions import _CACHED_CHARACTERS

pytestmark = [pytest.mark.process, pytest.mark.slow]

SESSIONS = int(os.environ.get("CHATGPT_MS_SESSIONS", "500"))
TURNS = int(os.environ.get("CHATGPT_MS_TURNS", "2"))


def judged(found: Soak) -> list[str]:
    """What is not as it should be."""
    last = found.samples[-1]
    faults = {
        f"{found.wrong} wrong answers": found.wrong > 0,
        f"tasks ±{found.spread('tasks')}": found.spread("tasks") > 5,
        f"threads ±{found.spread('threads')}": found.spread("threads") > 5,
        f"descriptors ±{found.spread('descriptors')}": found.spread("descriptors")
        > 40,  # kept connections to the model
        f"{last.hot_characters} characters in memory": last.hot_characters > _CACHED_CHARACTERS,
        f"{found.slope:+.2f} MB for 10,000 turns": last.turns >= 100_000 and found.slope >= 1.0,
    }
    return [fault for fault, holds in faults.items() if holds]


async def test_nothing_stays_behind_of_a_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = await soak(tmp_path, sessions=SESSIONS, turns=TURNS)
    with capsys.disabled():
        print(f"\n{found}")
    assert judged(found) == []
    assert found.samples[-1].turns >= 0.9 * SESSIONS * TURNS
    assert len(found.warm) >= 10
    assert found.samples[-1].hot > 0


def test_what_stays_behind_would_be_seen() -> None:
    def after(turns: int) -> Sample:
        return Sample(
            turns=turns,
            memory=70 + turns / 5_000,
            tasks=10 + turns // 10_000,
            threads=3,
            descriptors=20 + turns // 1_000,
            hot=100,
            hot_characters=10_000,
        )

    found = Soak([after(turns) for turns in range(0, 200_001, 5_000)], 1.0, 0)
    assert judged(found) == ["tasks ±14", "descriptors ±140", "+2.00 MB for 10,000 turns"]
