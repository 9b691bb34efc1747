"""Acknowledged means stored: with kill -9, and on a disk that runs full."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from core.clock import SystemClock
from core.messages import EventId
from core.storage.sqlite import SqliteStore
from tests.contract.journal_scenes import WORK
from tests.core.dying_at_statements import SCENES

ACCEPT_UNTIL_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from core.adapter import Receipt
from core.clock import SystemClock
from core.storage.sqlite import SqliteStore
from tests.contract.journal_scenes import QUOTA, inbound, key

async def main(path, early):
    async with SqliteStore(Path(path), clock=SystemClock()) as store:
        async def talk(user):
            number = 0
            while True:
                number += 1
                event = f"{os.getpid()}-{user}-{number}"
                asked = store.accept(inbound(user=f"{user}-{number}", event=event, id=event), key(f"{user}-{number}"), QUOTA)
                if early:  # the mistake: acknowledge, then commit
                    print(event, flush=True)
                accepted = await asked
                assert accepted.receipt is Receipt.ACCEPTED
                if not early:
                    print(event, flush=True)
        if early:
            tasks = [asyncio.create_task(talk(f"user{number}")) for number in range(500)]
            await asyncio.sleep(0)
            os.kill(os.getpid(), signal.SIGKILL)
        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(talk(f"user{number}"))

asyncio.run(main(sys.argv[1], sys.argv[2] == "early"))
"""


async def _acknowledged(path: Path, how: str, *, at_least: int) -> list[str]:
    """Start the program, kill it once it has acknowledged so many, and return all it acknowledged."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ACCEPT_UNTIL_KILLED, str(path), how, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(60):
        while len(lines) < at_least and (line := await process.stdout.readline()):
            lines.append(line.decode().strip())
        if process.returncode is None:
            process.kill()
        rest = await process.stdout.read()
        assert await process.wait() == -signal.SIGKILL
    complete, _, _ = rest.decode().rpartition("\n")  # the last line may be half
    return lines + complete.split()


async def _lost(path: Path, events: list[str]) -> int:
    async with SqliteStore(path, clock=SystemClock()) as store:
        return sum([await store.reached(WORK, EventId(event)) is None for event in events])


async def test_nothing_acknowledged_is_lost_to_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    events: list[str] = []
    for _ in range(3):
        events += await _acknowledged(path, "right", at_least=300)
        assert await _lost(path, events) == 0
    assert len(events) >= 900


async def test_acknowledging_before_the_commit_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    events = await _acknowledged(path, "early", at_least=500)
    assert len(events) >= 500
    assert await _lost(path, events) > 0


FILL_THE_DISK = """
import asyncio, resource, sys
from pathlib import Path
import structlog
from core.clock import SystemClock
from core.errors import StorageUnavailable
from core.storage.sqlite import SqliteStore
from tests.contract.journal_scenes import QUOTA, inbound, key

async def main(path):
    async with SqliteStore(Path(path), clock=SystemClock()) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
        number = 0
        while True:
            number += 1
            try:
                await store.accept(inbound("x" * 5000, user=f"user{number}", event=f"e{number}"), key(f"u{number}"), QUOTA)
                print(f"e{number}", flush=True)
            except StorageUnavailable:
                break
        assert not store.available
        assert len(await store.waiting(key("u1"))) == 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        async with asyncio.timeout(30):
            while not store.available:
                await asyncio.sleep(0.01)
        await store.accept(inbound("x" * 5000, event="after"), key("after"), QUOTA)
        print("after", flush=True)

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # standard output is for the events
asyncio.run(main(sys.argv[1]))
"""


async def test_a_file_that_may_not_grow_loses_nothing_acknowledged_and_goes_on_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FILL_THE_DISK, str(path), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert process.returncode == 0
    events = output.decode().split()
    assert events[-1] == "after"
    assert len(events) > 20
    assert await _lost(path, events) == 0


async def _dying_at_each_statement(folder: Path, operation: str, *options: str) -> list[str]:
    """What the next process finds after a death at each statement: "before", "after" or "neither"."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.core.dying_at_statements",
        str(folder),
        operation,
        *options,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    assert process.returncode == 0
    found: list[str] = json.loads(output)["found"]
    return found


@pytest.mark.parametrize("operation", SCENES)
async def test_a_transition_is_stored_wholly_or_not_at_all_wherever_the_process_dies(
    tmp_path: Path, operation: str
) -> None:
    found = await _dying_at_each_statement(tmp_path, operation)
    print(f"\nR2: {operation}: died at each of {len(found)} statements, {found.count('neither')} found half done")
    assert set(found) <= {"before", "after"}
    assert found.count("before") >= 3  # BEGIN, at least one statement, COMMIT
    assert found == sorted(found, key=["before", "after"].index), "nothing is undone after the commit"


async def test_a_transition_in_several_transactions_would_be_seen(tmp_path: Path) -> None:
    assert "neither" in await _dying_at_each_statement(tmp_path, "finish", "split")
