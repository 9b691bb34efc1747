"""The gateway as a process that times every callback of its event loop: `python -m bench.watched config.yaml [REPORT]`.

Prints `ready`, and for each line of its input a JSON object with what the callbacks took. With REPORT, a file, the object is
written there when the process is terminated; SIGUSR1 forgets what came before.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
import time
from asyncio import events
from pathlib import Path
from typing import Any

from gateway import log
from gateway.app import App
from gateway.config import load


class Watch:
    """Wraps the loop's callbacks: how long each held the loop up."""

    def __init__(self) -> None:
        self.longest: list[tuple[float, str]] = []
        self.count = 0
        self.over_10_ms = 0

    def start(self) -> None:
        """From here on every callback is timed."""
        run = events.Handle._run

        def timed(handle: Any) -> None:
            began = time.perf_counter()
            run(handle)
            took = time.perf_counter() - began
            self.count += 1
            self.over_10_ms += took > 0.01
            if took > 0.0005:
                self.longest.append((took, _name(handle)))

        events.Handle._run = timed  # type: ignore[method-assign, assignment]  # there is no other way to see all of them

    def forget(self) -> None:
        """What came before was the start."""
        self.longest.clear()
        self.count = self.over_10_ms = 0

    def report(self) -> dict[str, Any]:
        """Seconds, and the callbacks that took most."""
        worst = sorted(self.longest, reverse=True)[:5]
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "callbacks": self.count,
            "over_10_ms": self.over_10_ms,
            "longest": worst[0][0] if worst else 0.0,
            "worst": [f"{took * 1000:.1f} ms {name}" for took, name in worst],
            "cpu": usage.ru_utime + usage.ru_stime,
            "memory": usage.ru_maxrss / 1024,
        }


def _name(handle: Any) -> str:
    callback = getattr(handle, "_callback", None)
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        return str(getattr(task.get_coro(), "__qualname__", task))
    return str(getattr(callback, "__qualname__", callback))


async def main(path: str, report: str = "") -> None:
    log.configure("error", "json")
    watch = Watch()
    async with App(load(Path(path), {})):
        watch.start()
        print("ready", flush=True)
        if report:
            loop, stop = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, stop.set)
            loop.add_signal_handler(signal.SIGUSR1, watch.forget)
            await stop.wait()
            Path(report).write_text(json.dumps(watch.report()))
            return
        while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if line == "forget":
                watch.forget()
            print(json.dumps(watch.report()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
