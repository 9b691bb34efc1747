"""What platforms deliver again: at once and by the thousand, and for hours, as Feishu does when no acknowledgement arrives."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.adapter import Receipt
from core.messages import EventId, InboundMessage, MessageId
from core.storage.sqlite import SqliteStore
from tests.clock import HeldClock
from tests.core.gateway import Gateway, Journal
from tests.simulators.pager import Pager

AT_ONCE = 1_000
EVENTS = 1_000
PEOPLE = 100
AGAIN_AFTER = (15.0, 300.0, 3_600.0, 6 * 3_600.0 + 405.0)
"""Seconds between two deliveries of an event: Feishu's, and together 7.2 hours."""


class Forgetful(Journal):
    """Knows nothing again: the mistake."""

    def __getattr__(self, name: str) -> Any:
        method = super().__getattr__(name)
        if name != "accept":
            return method

        async def accept(message: InboundMessage, *arguments: Any, **keywords: Any) -> Any:
            new = f"-{time.perf_counter_ns()}"
            fresh = replace(message, event=EventId(message.event + new), id=MessageId(message.id + new))
            return await method(fresh, *arguments, **keywords)

        return accept


async def at_once(gateway: Gateway, times: int) -> Counter[Receipt]:
    """Deliver one event so often at the same time, and let everything that follows happen."""
    message = gateway.message("hello")
    receipts = Counter(await asyncio.gather(*(gateway.inbox.receive(message) for _ in range(times))))
    await gateway.idle()
    return receipts


async def test_one_event_a_thousand_times_at_once_is_one_turn(gateway: Gateway) -> None:
    receipts = await at_once(gateway, AT_ONCE)
    print(f"\nR3: one event {AT_ONCE} times at once, {len(gateway.model.prompts)} turns")
    assert receipts == {Receipt.ACCEPTED: 1, Receipt.DUPLICATE: AT_ONCE - 1}
    assert gateway.model.questions == ["hello"]
    assert gateway.pager.texts() == ["answer to hello"]


async def test_a_thousand_events_five_times_over_seven_hours_are_one_turn_each(path: Path, clock: HeldClock) -> None:
    """Half of the pauses see a new process, one of them after a crash."""
    pager, answered, duplicates = Pager(), Counter[str](), 0
    messages: list[InboundMessage] = []
    gateway = Gateway(path, clock, pager)
    began = clock.now()
    for round, pause in enumerate((0.0, *AGAIN_AFTER)):
        await clock.advance(pause)
        if round in (0, 2, 4):
            gateway = gateway.again(chat=None)
            await gateway.__aenter__()
        if not messages:
            messages = [
                gateway.message(f"event {number}", user=f"u{number % PEOPLE}", place=f"p{number % PEOPLE}")
                for number in range(EVENTS)
            ]
        receipts = Counter(await asyncio.gather(*map(gateway.inbox.receive, messages)))
        assert receipts == {Receipt.ACCEPTED if round == 0 else Receipt.DUPLICATE: EVENTS}
        duplicates += receipts[Receipt.DUPLICATE]
        await gateway.idle()
        if round in (1, 3, 4):
            answered.update(gateway.model.questions)
            await (gateway.crash() if round == 1 else gateway.__aexit__(None, None, None))
    hours = (clock.now() - began).total_seconds() / 3600
    print(f"\nR3: {EVENTS} events {1 + len(AGAIN_AFTER)} times over {hours:.1f} hours, {answered.total()} turns")
    assert answered == {message.text: 1 for message in messages}
    assert duplicates == EVENTS * len(AGAIN_AFTER)
    shown = Counter(shown.text for shown in pager.messages.values())
    assert shown == {f"answer to {message.text}": 1 for message in messages}
    assert hours >= 7.2


async def test_a_store_that_recognises_nothing_would_be_seen(path: Path, clock: HeldClock) -> None:
    def forgetful(store: SqliteStore) -> Journal:
        return Forgetful(store)

    async with Gateway(path, clock, journal_of=forgetful) as gateway:
        assert (await at_once(gateway, 10))[Receipt.ACCEPTED] > 1
        assert len(gateway.model.prompts) > 1
