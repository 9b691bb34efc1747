"""The contract suite on the reference platform, and proof that it finds what it is there to find."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from core.adapter import IdempotencyKey, Inbox, Receipt, ReplyChannel
from core.errors import DeliveryError
from core.messages import EventId, InboundMessage, MessageId, ReplyAddress, UserId
from tests.contract.platform import Feature, SimulatedPlatform
from tests.contract.suite import AdapterContract, hurry
from tests.contract.telegraph import SimulatedTelegraph, TelegraphAdapter, TelegraphReply
from tests.contract.world import World
from tests.simulators.openai_server import OpenAIServer


class TestTelegraph(AdapterContract):
    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        return SimulatedTelegraph()


# Adapters that break one rule each; the check of that rule must fail


class AcknowledgesEarly(TelegraphAdapter):
    async def _committed(self, event: dict[str, Any], inbox: Inbox) -> bool:
        self.errand = asyncio.create_task(super()._committed(event, inbox))
        return True


class AcknowledgesAlways(TelegraphAdapter):
    async def _committed(self, event: dict[str, Any], inbox: Inbox) -> bool:
        await super()._committed(event, inbox)
        return True


class AnswersRedeliveries(TelegraphAdapter):
    """Mints new ids for each delivery."""

    _numbers = itertools.count()

    async def run(self, inbox: Inbox) -> None:
        async def renamed(message: InboundMessage) -> Receipt:
            number = next(self._numbers)
            return await inbox(replace(message, id=MessageId(f"n{number}"), event=EventId(f"n{number}")))

        await super().run(renamed)


class ShortensIds(TelegraphAdapter):
    """People whose ids begin alike are taken for one."""

    async def run(self, inbox: Inbox) -> None:
        async def shortened(message: InboundMessage) -> Receipt:
            sender = replace(message.sender, id=UserId(message.sender.id[:4]))
            return await inbox(replace(message, sender=sender))

        await super().run(shortened)


class AnswersOthers(TelegraphAdapter):
    """Answers go where somebody wrote last."""

    last: ClassVar[ReplyAddress | None] = None

    async def run(self, inbox: Inbox) -> None:
        async def noted(message: InboundMessage) -> Receipt:
            type(self).last = message.reply_to
            return await inbox(message)

        await super().run(noted)

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        return super().reply(self.last or address)


class LosesTheTail(TelegraphAdapter):
    class Reply(TelegraphReply):
        async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
            return await super().send(text[:-1] or text, key=key)


class Pings(TelegraphAdapter):
    class Reply(TelegraphReply):
        async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
            body = {"room": self._room, "thread": self._thread, "text": text, "key": key}
            return MessageId((await self._adapter.call("POST", "messages", json=body))["id"])


class ForgetsTheThread(TelegraphAdapter):
    class Reply(TelegraphReply):
        def __init__(self, adapter: TelegraphAdapter, room: str, thread: str | None) -> None:
            super().__init__(adapter, room, None)


class LeavesATask(TelegraphAdapter):
    left: ClassVar[list[asyncio.Task[None]]] = []

    async def run(self, inbox: Inbox) -> None:
        self.left.append(asyncio.create_task(asyncio.sleep(3600)))
        await super().run(inbox)


class DoesNotCatchUp(TelegraphAdapter):
    def gaps(self) -> int:
        return 0


class NeverDeaf(TelegraphAdapter):
    def last_heard(self) -> Any:
        return self._clock.now()


class IgnoresRateLimits(TelegraphAdapter):
    class Reply(TelegraphReply):
        async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
            for _ in range(2):
                try:
                    return await super().send(text, key=key)
                except Exception:  # noqa: BLE001 - that is what is wrong here
                    continue
            return await super().send(text, key=key)


class GivesUpWhileAway(TelegraphAdapter):
    """What cannot be sent between two attempts counts as something that never can."""

    async def call(self, method: str, path: str, **values: Any) -> dict[str, Any]:
        if self._session is None:
            raise DeliveryError("the account is not signed in")
        return await super().call(method, path, **values)


class TakesAnyFile(TelegraphAdapter):
    async def fetch(self, attachment: Any, *, most_bytes: int) -> bytes:
        return b"whatever"


BROKEN: list[tuple[type[TelegraphAdapter], str, str]] = [
    (AcknowledgesEarly, "test_a_message_is_acknowledged_after_the_commit_and_not_before", "must not happen"),
    (AcknowledgesAlways, "test_what_could_not_be_stored_is_not_acknowledged", "must not happen"),
    (AnswersRedeliveries, "test_a_storm_of_redeliveries_gets_one_answer", "once("),
    (AnswersRedeliveries, "test_a_redelivery_after_a_restart_gets_no_second_answer", "once("),
    (AnswersRedeliveries, "test_redeliveries_within_seven_hours_get_no_second_answer", "== []"),
    (ShortensIds, "test_nobody_is_told_what_another_wrote", "canary"),
    (AnswersOthers, "test_nobody_is_told_what_another_wrote", "user"),
    (LosesTheTail, "test_a_long_answer_arrives_whole_and_within_the_limits", "== ''"),
    (Pings, "test_no_answer_notifies_anybody", "@everyone"),
    (ForgetsTheThread, "test_an_answer_stays_in_its_thread", "None"),
    (ForgetsTheThread, "test_a_reply_finds_its_way_back_after_a_restart", "None"),
    (LeavesATask, "test_a_start_and_a_stop_leave_nothing_behind", "did not happen"),
    (DoesNotCatchUp, "test_what_was_written_during_a_restart_is_answered_once", "did not happen"),
    (NeverDeaf, "test_a_half_open_connection_is_noticed", "did not happen"),
    (IgnoresRateLimits, "test_a_rate_limit_is_waited_for", "too early"),
    (GivesUpWhileAway, "test_an_answer_waits_for_an_account_that_is_away", "did not happen"),
    (TakesAnyFile, "test_files_come_from_the_platform_alone", "DID NOT RAISE"),
    (TakesAnyFile, "test_files_are_described_and_fetched_within_the_cap", "whatever"),
]


@asynccontextmanager
async def stage(adapter: type[TelegraphAdapter], folder: Path) -> AsyncIterator[World]:
    """As the suite's fixture makes it."""
    async with OpenAIServer() as model, SimulatedTelegraph(adapter) as platform:
        yield World(platform, model, folder)
        assert list(platform.complaints()) == []


@pytest.mark.parametrize(("adapter", "check", "words"), BROKEN, ids=[f"{a.__name__}-{c}" for a, c, _ in BROKEN])
async def test_an_adapter_that_breaks_a_rule_fails_the_check_of_that_rule(
    adapter: type[TelegraphAdapter], check: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr("tests.contract.world.PATIENCE", 5.0)
    values: dict[str, Any] = {"stream": False} if "rate_limit" in check else {}
    values |= {"monkeypatch": monkeypatch} if "is_away" in check else {}
    try:
        with pytest.raises((AssertionError, pytest.fail.Exception), match=re.escape(words)):
            async with stage(adapter, tmp_path) as world:
                await getattr(AdapterContract(), check)(world, **values)
    finally:
        for task in LeavesATask.left:
            task.cancel()


def test_every_feature_that_is_lacking_needs_a_reason_and_skips_its_checks() -> None:
    needed = {feature for check in vars(AdapterContract).values() for feature in getattr(check, "needs", ())}
    assert needed == set(Feature)
