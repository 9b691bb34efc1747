"""What the checks before the journal cost each message: `python -m bench.admission`.

µs per message in CPU time, the best of several rounds, by how many people were decided about: the check of who may talk
with the look-up of the sender's standing, and the loop guard's count.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import thread_time

from core.access import judge
from core.account import Access
from core.clock import SystemClock
from core.loop_guard import LoopGuard
from core.messages import (
    AccountId,
    ChannelId,
    ConversationKey,
    EventId,
    InboundMessage,
    MessageId,
    ReplyAddress,
    Sender,
    UserId,
)
from core.people import People, sender_of
from core.storage.sqlite import SqliteStore
from gateway import log

_MESSAGES = 20_000
_ROUNDS = 5


def _message(number: int) -> InboundMessage:
    return InboundMessage(
        id=MessageId(f"m{number}"),
        event=EventId(f"e{number}"),
        account=AccountId("work"),
        sender=Sender(id=UserId(f"u{number}")),
        channel=ChannelId(f"c{number % 1000}"),
        is_direct=False,
        mentions_bot=True,
        text=f"What is the {number}th thing that one should know of admission? " * 3,
        sent_at=datetime(2026, 1, 1, tzinfo=UTC),
        reply_to=ReplyAddress("{}"),
    )


def _each(work: Callable[[InboundMessage], object], messages: list[InboundMessage]) -> float:
    """Microseconds per message, the best round."""
    best = float("inf")
    for _ in range(_ROUNDS):
        begun = thread_time()
        for message in messages:
            work(message)
        best = min(best, thread_time() - begun)
    return best / len(messages) * 1e6


async def _measure(path: Path, crowd: int) -> None:
    messages = [_message(number) for number in range(_MESSAGES)]
    clock, admins = SystemClock(), ("a", "b")
    everybody = Access(admins=admins)
    listed = Access(admins=admins, allow=tuple(f"c{number}" for number in range(0, 1000, 50)))
    async with SqliteStore(path, clock=clock) as store:
        people = People(store, clock, is_admin=lambda person: person.user in admins)
        for message in messages[:crowd]:
            await people.allow(sender_of(message), by="bench")
        guard = LoopGuard(clock)
        keys = {message.id: ConversationKey(message.account, user=message.sender.id) for message in messages}
        check = _each(lambda one: judge(one, everybody, people.standing(sender_of(one))), messages)
        lists = _each(lambda one: judge(one, listed, people.standing(sender_of(one))), messages)
        loops = _each(lambda one: guard.take(one, keys[one.id], same_text=99, per_channel=9999), messages)
    print(f"{crowd:5} known: check {check:.2f} µs, with 20 ids listed {lists:.2f} µs; loop guard {loops:.2f} µs")


async def main() -> None:
    """Print one line for each size of the crowd."""
    log.configure(level="warning")
    with tempfile.TemporaryDirectory() as folder:
        for crowd in (0, 2000):
            await _measure(Path(folder) / f"{crowd}.db", crowd)


if __name__ == "__main__":
    asyncio.run(main())
