"""One account's life under every way to fail. Time is held; the adapters are small real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from core.adapter import Adapter, AwaitsScan, CatchesUp, Heard, Inbox, LoginCode, Place, Receipt, ReplyChannel
from core.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionLost,
    RateLimited,
    StorageUnavailable,
)
from core.journal import Quota
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
from core.storage.sqlite import SqliteStore
from gateway import supervisor as under_test
from gateway.backfill import MOST_ANSWERED, Backfill
from gateway.supervisor import AccountState, Supervisor
from tests.clock import HeldClock

WORK = AccountId("work")
ANN = ConversationKey(WORK, user=UserId("ann"))


class Plain(Adapter):
    """Does what `script` says at each attempt: an error to end with, or None to stay."""

    def __init__(self, clock: HeldClock, *script: BaseException | None, on_enter: bool = False) -> None:
        self.clock = clock
        self.script = list(script)
        self.on_enter = on_enter
        self.began: list[float] = []
        self.alive = 0
        self.most_alive = 0
        self.lose: asyncio.Future[None]

    async def __aenter__(self) -> Self:
        self.began.append(self.clock.monotonic())
        self.lose = asyncio.get_running_loop().create_future()
        if self.on_enter and self.script and (error := self.script.pop(0)):
            raise error
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.alive -= 1

    async def run(self, inbox: Inbox) -> None:
        if not self.on_enter and self.script and (error := self.script.pop(0)):
            raise error
        await self.lose

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        raise NotImplementedError


class Hears(Plain, Heard):
    def __init__(self, clock: HeldClock, *script: BaseException | None) -> None:
        super().__init__(clock, *script)
        self.deaf_after = timedelta(seconds=30)
        self.frame: datetime | None = None

    async def __aenter__(self) -> Self:
        self.frame = None
        return await super().__aenter__()

    def hear(self) -> None:
        self.frame = self.clock.now()

    def last_heard(self) -> datetime | None:
        return self.frame


class Reads(Hears, CatchesUp):
    """`history` is what the platform would tell."""

    def __init__(self, clock: HeldClock, *script: BaseException | None) -> None:
        super().__init__(clock, *script)
        self.count = 0
        self.history: list[InboundMessage] = []
        self.asked: list[tuple[datetime, list[str]]] = []
        self.closed = 0
        self.errors: list[Exception] = []
        self.hold: asyncio.Event | None = None

    async def __aenter__(self) -> Self:
        self.count = 0
        return await super().__aenter__()

    def listen(self) -> None:
        self.count += 1
        self.hear()

    def gaps(self) -> int:
        return self.count

    async def missed(self, since: datetime, places: Sequence[Place]) -> AsyncGenerator[InboundMessage, None]:
        self.asked.append((since, [place.channel for place in places]))
        try:
            if self.errors:
                raise self.errors.pop(0)
            for message in self.history:
                if self.hold is not None:
                    await self.hold.wait()
                yield message
        finally:
            self.closed += 1


def state_of(supervisor: Supervisor) -> AccountState:
    """Asked anew each time."""
    return supervisor.health.state


async def turn() -> None:
    """Let every task that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that other tasks and the store's thread bring about."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def pass_time(clock: HeldClock, seconds: float, *, step: float = 0.25) -> None:
    """Small steps, each with time for what it wakes."""
    for _ in range(round(seconds / step)):
        await clock.advance(step)
        await turn()


async def ignore(message: InboundMessage) -> Receipt:
    """An inbox that wants nothing."""
    return Receipt.IGNORED


@asynccontextmanager
async def supervised(
    adapter: Adapter, clock: HeldClock, backfill: Backfill | None = None, inbox: Inbox = ignore
) -> AsyncIterator[tuple[Supervisor, asyncio.Task[None]]]:
    supervisor = Supervisor(WORK, adapter, clock, backfill)
    task = asyncio.create_task(supervisor.run(inbox))
    await turn()
    try:
        yield supervisor, task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_an_account_that_cannot_tell_is_connected_once_signed_in(clock: HeldClock) -> None:
    adapter = Plain(clock)
    async with supervised(adapter, clock) as (supervisor, _):
        assert state_of(supervisor) is AccountState.CONNECTED
        assert supervisor.settled.is_set()
    assert state_of(supervisor) is AccountState.STOPPED
    assert adapter.alive == 0


async def test_how_long_the_first_sign_in_took_is_kept(clock: HeldClock) -> None:
    adapter = Hears(clock)
    async with supervised(adapter, clock) as (supervisor, _):
        assert supervisor.settled_after is None
        await clock.advance(3.0)
        adapter.hear()
        await clock.advance(0.05)  # a look at what was heard is never further away at the start
        assert supervisor.settled_after == pytest.approx(3.05, abs=0.03)
        adapter.lose.set_exception(ConnectionLost("gone"))
        await clock.advance(90.0)
        assert supervisor.settled_after == pytest.approx(3.05, abs=0.03)


@pytest.mark.parametrize("on_enter", [True, False])
async def test_a_lost_connection_comes_back_after_pauses_that_grow_and_are_bounded(
    clock: HeldClock, monkeypatch: pytest.MonkeyPatch, on_enter: bool
) -> None:
    monkeypatch.setattr("core.backoff.random.uniform", lambda least, most: most)
    adapter = Plain(clock, *[ConnectionLost("gone")] * 9, on_enter=on_enter)
    async with supervised(adapter, clock) as (supervisor, _):
        assert (state_of(supervisor), supervisor.health.reason) == (AccountState.WAITING, "gone")
        await pass_time(clock, 400)
        assert state_of(supervisor) is AccountState.CONNECTED
        assert supervisor.health.reason == ""
        assert supervisor.health.reconnects == 9
    pauses = [after - before for before, after in zip(adapter.began, adapter.began[1:], strict=False)]
    assert [round(pause) for pause in pauses] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert adapter.most_alive == 1


async def test_pauses_are_random_and_never_nothing(clock: HeldClock) -> None:
    adapter = Plain(clock, *[ConnectionLost("gone")] * 40)
    async with supervised(adapter, clock):
        await pass_time(clock, 1500, step=0.05)
    pauses = [after - before for before, after in zip(adapter.began, adapter.began[1:], strict=False)]
    assert len(pauses) >= 15
    assert min(pauses) >= 0.1
    assert len({round(pause, 3) for pause in pauses}) > 5


async def test_after_a_healthy_time_the_pause_is_short_again(clock: HeldClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.backoff.random.uniform", lambda least, most: most)
    adapter = Plain(clock, *[ConnectionLost("gone")] * 5)
    async with supervised(adapter, clock) as (supervisor, _):
        await pass_time(clock, 40)
        assert state_of(supervisor) is AccountState.CONNECTED
        for lifetime, pause in ((50, 15), (61, 1)):
            await pass_time(clock, lifetime)
            lost_at = clock.monotonic()
            adapter.lose.set_exception(ConnectionLost("again"))
            await turn()
            await pass_time(clock, pause + 1)
            assert round(adapter.began[-1] - lost_at) == pause


async def test_no_pause_is_longer_than_a_quarter_of_what_the_connection_was_there_before(
    clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.backoff.random.uniform", lambda least, most: most)
    adapter = Plain(clock, *[ConnectionLost("gone")] * 5)
    async with supervised(adapter, clock) as (supervisor, _):
        await pass_time(clock, 35)
        for lifetime in (2.0, 8.0, 2.0):
            assert state_of(supervisor) is AccountState.CONNECTED
            await pass_time(clock, lifetime)
            lost_at, attempts = clock.monotonic(), len(adapter.began)
            lasted = lost_at - adapter.began[-1]
            adapter.lose.set_exception(ConnectionLost("again"))
            await turn()
            while len(adapter.began) == attempts:
                await pass_time(clock, 0.05, step=0.05)
            assert lasted / 4 <= adapter.began[-1] - lost_at <= lasted / 4 + 0.2


async def test_it_is_told_each_time_that_the_account_has_become_connected(clock: HeldClock) -> None:
    adapter, told = Plain(clock, ConnectionLost("gone")), list[AccountState]()
    supervisor = Supervisor(WORK, adapter, clock, connected=lambda: told.append(supervisor.health.state))
    life = asyncio.create_task(supervisor.run(ignore))
    await turn()
    assert told == [AccountState.CONNECTED]
    await pass_time(clock, 2)
    assert told == [AccountState.CONNECTED] * 2
    life.cancel()
    await asyncio.wait({life})


async def test_a_slow_sign_in_is_no_healthy_time(clock: HeldClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.backoff.random.uniform", lambda least, most: most)

    class Slow(Hears):
        async def run(self, inbox: Inbox) -> None:
            await self.clock.sleep(25)
            raise ConnectionLost("never heard anything")

    monkeypatch.setattr(under_test, "HEALTHY_AFTER", 20.0)
    adapter = Slow(clock)
    async with supervised(adapter, clock):
        await pass_time(clock, 200)
    pauses = [after - before - 25 for before, after in zip(adapter.began, adapter.began[1:], strict=False)]
    assert [round(pause) for pause in pauses[:4]] == [1, 2, 4, 8]


@pytest.mark.parametrize("error", [AuthenticationError("token 'x' is refused"), ConfigError("a: b")])
@pytest.mark.parametrize("on_enter", [True, False])
async def test_what_only_a_person_can_mend_is_final_and_visible(
    clock: HeldClock, error: Exception, on_enter: bool
) -> None:
    adapter = Plain(clock, error, on_enter=on_enter)
    async with supervised(adapter, clock) as (supervisor, task):
        assert task.done()
        assert (state_of(supervisor), supervisor.health.reason) == (AccountState.FAILED, str(error))
        await pass_time(clock, 1000, step=50)
        assert len(adapter.began) == 1


async def test_an_unexpected_error_shows_its_type_alone_and_is_tried_again_slowly(clock: HeldClock) -> None:
    adapter = Plain(clock, ValueError("secret text of somebody"))
    async with supervised(adapter, clock) as (supervisor, _):
        assert state_of(supervisor) is AccountState.FAILED
        assert supervisor.health.reason == "ValueError; the log says more"
        await pass_time(clock, 299, step=13)
        assert len(adapter.began) == 1
        await pass_time(clock, 2)
        assert state_of(supervisor) is AccountState.CONNECTED


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (ExceptionGroup("tasks", [ValueError("x"), ConnectionLost("gone")]), AccountState.WAITING),
        (ExceptionGroup("tasks", [ConnectionLost("gone"), AuthenticationError("no")]), AccountState.FAILED),
        (TimeoutError(), AccountState.WAITING),
        (ConnectionResetError("reset"), AccountState.WAITING),
        (RuntimeError("mistake"), AccountState.FAILED),
    ],
)
async def test_the_error_that_matters_decides(clock: HeldClock, error: Exception, state: AccountState) -> None:
    async with supervised(Plain(clock, error), clock) as (supervisor, _):
        assert state_of(supervisor) is state


async def test_a_platform_that_asks_to_wait_is_waited_for(clock: HeldClock) -> None:
    adapter = Plain(clock, RateLimited("slow down", retry_after=120), on_enter=True)
    async with supervised(adapter, clock):
        await pass_time(clock, 119)
        assert len(adapter.began) == 1
        await pass_time(clock, 3)
        assert len(adapter.began) == 2


async def test_an_adapter_that_returns_or_cancels_itself_has_lost_its_connection(clock: HeldClock) -> None:
    adapter = Plain(clock, asyncio.CancelledError())
    async with supervised(adapter, clock) as (supervisor, _):
        assert "cancelled itself" in supervisor.health.reason
        await pass_time(clock, 2)
        adapter.lose.set_result(None)
        await turn()
        assert "stopped receiving" in supervisor.health.reason


async def test_connected_means_that_frames_arrive(clock: HeldClock) -> None:
    adapter = Hears(clock)
    async with supervised(adapter, clock) as (supervisor, _):
        await pass_time(clock, 5)
        assert state_of(supervisor) is AccountState.STARTING
        adapter.hear()
        await pass_time(clock, 1)
        assert state_of(supervisor) is AccountState.CONNECTED
        assert supervisor.health.last_heard == adapter.frame


async def test_silence_begins_the_connection_anew(clock: HeldClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.backoff.random.uniform", lambda least, most: most)
    adapter = Hears(clock)
    async with supervised(adapter, clock) as (supervisor, _):
        for _ in range(10):
            adapter.hear()
            await pass_time(clock, 20)
        assert len(adapter.began) == 1
        await pass_time(clock, 9)
        assert state_of(supervisor) is AccountState.CONNECTED
        for _ in range(16):
            if state_of(supervisor) is not AccountState.WAITING:
                await pass_time(clock, 0.25)
        assert state_of(supervisor) is AccountState.WAITING
        assert "nothing was heard for 3" in supervisor.health.reason
        await pass_time(clock, 3)
        assert len(adapter.began) == 2
        assert adapter.most_alive == 1
        assert state_of(supervisor) is AccountState.STARTING


class Scanned(Hears, AwaitsScan):
    code: LoginCode | None = LoginCode(content="to be scanned")

    def login_code(self) -> LoginCode | None:
        return self.code


async def test_a_person_who_has_to_scan_a_code_may_take_their_time(clock: HeldClock) -> None:
    adapter = Scanned(clock)
    async with supervised(adapter, clock) as (supervisor, _):
        await pass_time(clock, 300, step=1.0)
        assert (state_of(supervisor), supervisor.health.reason) == (AccountState.WAITING, "waiting for scan")
        adapter.hear()
        await pass_time(clock, 300, step=1.0)
        assert state_of(supervisor) is AccountState.WAITING
        adapter.code = None
        adapter.hear()
        await pass_time(clock, 29)
        assert state_of(supervisor) is AccountState.CONNECTED
        assert supervisor.health.reconnects == 0
        await pass_time(clock, 3)
        assert supervisor.health.reconnects == 1


async def test_setting_the_machines_clock_neither_hides_silence_nor_makes_any(clock: HeldClock) -> None:
    adapter = Hears(clock)
    async with supervised(adapter, clock):
        for jump in (timedelta(hours=1), timedelta(hours=-3)):
            adapter.hear()
            await pass_time(clock, 5)
            clock._now += jump
            await pass_time(clock, 20)
            assert len(adapter.began) == 1
        await pass_time(clock, 12)
        assert len(adapter.began) == 2


async def test_an_attempt_that_never_hears_anything_is_given_up(clock: HeldClock) -> None:
    adapter = Hears(clock)
    async with supervised(adapter, clock) as (supervisor, _):
        await pass_time(clock, 33)
        assert len(adapter.began) == 2
        assert supervisor.health.reconnects == 1


async def test_a_sign_in_that_hangs_is_given_up(clock: HeldClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "SIGN_IN", 0.01)

    class Hangs(Plain):
        async def __aenter__(self) -> Self:
            await super().__aenter__()
            self.alive -= 1
            await asyncio.Event().wait()
            return self

    async with supervised(Hangs(clock), clock) as (supervisor, _):
        await until(lambda: state_of(supervisor) is AccountState.WAITING)
        assert "did not answer" in supervisor.health.reason


async def test_an_adapter_that_does_not_end_is_told_of_and_never_joined_by_a_second(
    clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "END", 0.01)

    class Stubborn(Hears):
        def __init__(self, clock: HeldClock) -> None:
            super().__init__(clock)
            self.let_go = asyncio.Event()

        async def run(self, inbox: Inbox) -> None:
            while not self.let_go.is_set():
                with suppress(asyncio.CancelledError):
                    await self.let_go.wait()
            if len(self.began) > 1:
                await self.lose

    adapter = Stubborn(clock)
    async with supervised(adapter, clock) as (supervisor, _):
        await pass_time(clock, 31)
        await until(lambda: state_of(supervisor) is AccountState.FAILED)
        assert "does not end" in supervisor.health.reason
        await pass_time(clock, 600, step=10)
        assert len(adapter.began) == 1
        adapter.let_go.set()
        await until(lambda: state_of(supervisor) is AccountState.WAITING)
        await pass_time(clock, 2)
        assert len(adapter.began) == 2
        assert adapter.most_alive == 1


async def test_stopping_does_not_wait_for_an_adapter_that_does_not_end(
    clock: HeldClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "END", 0.01)
    let_go = asyncio.Event()
    ended = asyncio.Event()

    class Stubborn(Plain):
        async def run(self, inbox: Inbox) -> None:
            while not let_go.is_set():
                with suppress(asyncio.CancelledError):
                    await let_go.wait()
            ended.set()

    async with supervised(Stubborn(clock), clock) as (_, task):
        task.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait({task})
        assert task.cancelled()
    let_go.set()
    await ended.wait()
    await turn()


async def test_one_account_does_not_wait_for_another(clock: HeldClock) -> None:
    class Hangs(Plain):
        async def __aenter__(self) -> Self:
            await asyncio.Event().wait()
            return self

    async with supervised(Hangs(clock), clock), supervised(Plain(clock), clock) as (supervisor, _):
        assert state_of(supervisor) is AccountState.CONNECTED


# Reading back


@pytest.fixture
async def store(tmp_path: Path, clock: HeldClock) -> AsyncIterator[SqliteStore]:
    async with SqliteStore(tmp_path / "journal.db", clock=clock) as store:
        yield store


class Box:
    """An inbox in front of the real store."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.receipts: list[Receipt] = []
        self.results: list[Receipt | Exception] = []

    async def __call__(self, message: InboundMessage) -> Receipt:
        if self.results:
            result = self.results.pop(0)
            if isinstance(result, Exception):
                raise result
            self.receipts.append(result)
            return result
        receipt = (await self.store.accept(message, ANN, Quota(queued=10_000))).receipt
        self.receipts.append(receipt)
        return receipt


def written(clock: HeldClock, number: int, *, ago: float = 0.0) -> InboundMessage:
    """A message of the history."""
    return InboundMessage(
        id=MessageId(f"h{number}"),
        event=EventId(f"h{number}"),
        account=WORK,
        sender=Sender(id=UserId("ann")),
        channel=ChannelId("general"),
        is_direct=True,
        mentions_bot=False,
        text=f"message {number}",
        sent_at=clock.now() - timedelta(seconds=ago),
        reply_to=ReplyAddress("{}"),
    )


def reading(store: SqliteStore, clock: HeldClock, furthest: timedelta | None = timedelta(hours=1)) -> Backfill:
    return Backfill(WORK, store, clock, furthest=lambda: furthest)


async def heard_and_read(adapter: Reads, clock: HeldClock, count: int) -> None:
    """The gap is seen, and `count` readings have ended."""
    adapter.listen()
    await pass_time(clock, 2)
    await until(lambda: adapter.closed >= count)
    await turn()


async def test_what_was_missed_before_the_start_is_read_once_something_is_heard(
    store: SqliteStore, clock: HeldClock
) -> None:
    known = written(clock, 1)
    await store.accept(known, ANN, Quota())
    await clock.advance(600)
    adapter, box = Reads(clock), Box(store)
    adapter.history = [known, written(clock, 2, ago=500), written(clock, 3)]
    async with supervised(adapter, clock, reading(store, clock), box):
        await until(lambda: adapter.began)
        await pass_time(clock, 3)
        assert adapter.asked == []
        await heard_and_read(adapter, clock, 1)
        await pass_time(clock, 60)
    assert box.receipts == [Receipt.DUPLICATE, Receipt.ACCEPTED, Receipt.ACCEPTED]
    ((since, places),) = adapter.asked
    assert places == ["general"]
    assert since == known.sent_at - timedelta(minutes=1)


async def test_an_account_that_never_took_a_message_in_has_missed_nothing_before_its_start(
    store: SqliteStore, clock: HeldClock
) -> None:
    adapter, box, started = Reads(clock), Box(store), clock.now()
    adapter.history = [written(clock, 1, ago=600), written(clock, 2, ago=-1)]
    async with supervised(adapter, clock, reading(store, clock), box):
        await until(lambda: adapter.began)
        adapter.listen()
        adapter.lose.set_exception(ConnectionLost("gone before anybody looked"))
        await pass_time(clock, 3)
        await heard_and_read(adapter, clock, 1)
    assert adapter.asked == [(started - timedelta(minutes=1), [])]
    assert box.receipts == [Receipt.ACCEPTED]


async def test_each_gap_is_read_from_where_listening_ended(store: SqliteStore, clock: HeldClock) -> None:
    adapter, box = Reads(clock), Box(store)
    async with supervised(adapter, clock, reading(store, clock), box) as (supervisor, _):
        await until(lambda: adapter.began)
        await heard_and_read(adapter, clock, 1)
        await pass_time(clock, 5)
        adapter.hear()
        heard = clock.now()
        await pass_time(clock, 10)
        adapter.history = [written(clock, 1)]
        await heard_and_read(adapter, clock, 2)  # the adapter connected anew by itself
        assert adapter.asked[1][0] == heard - timedelta(minutes=1)
        assert box.receipts == [Receipt.ACCEPTED]
        assert supervisor.health.reconnects == 1
        heard = clock.now() - timedelta(seconds=2)
        adapter.lose.set_exception(ConnectionLost("gone"))
        await pass_time(clock, 3)
        assert len(adapter.began) == 2
        await heard_and_read(adapter, clock, 3)  # the next attempt
        assert adapter.asked[2][0] == heard - timedelta(minutes=1)
        assert supervisor.health.reconnects == 2


async def test_reading_back_is_bounded_in_age_and_number(store: SqliteStore, clock: HeldClock) -> None:
    await store.accept(written(clock, 0), ANN, Quota())
    await clock.advance(3 * 3600)
    adapter, box = Reads(clock), Box(store)
    old = [written(clock, number, ago=2 * 3600) for number in range(1000, 1010)]
    adapter.history = [*old, *(written(clock, number) for number in range(1, MOST_ANSWERED + 50))]
    async with supervised(adapter, clock, reading(store, clock), box):
        await until(lambda: adapter.began)
        started = clock.now()
        await heard_and_read(adapter, clock, 1)
    assert started - timedelta(hours=1) <= adapter.asked[0][0] <= clock.now() - timedelta(hours=1)
    assert box.receipts == [Receipt.ACCEPTED] * MOST_ANSWERED
    assert adapter.closed == 1


async def test_reading_back_can_be_turned_off(store: SqliteStore, clock: HeldClock) -> None:
    await store.accept(written(clock, 0), ANN, Quota())
    adapter = Reads(clock)
    async with supervised(adapter, clock, reading(store, clock, None), Box(store)) as (supervisor, _):
        await until(lambda: adapter.began)
        adapter.listen()
        await pass_time(clock, 5)
        assert state_of(supervisor) is AccountState.CONNECTED
        assert adapter.asked == []


async def test_a_reading_that_fails_is_tried_again_and_owed_until_the_next_gap(
    store: SqliteStore, clock: HeldClock
) -> None:
    known = written(clock, 0)
    await store.accept(known, ANN, Quota())
    adapter, box = Reads(clock), Box(store)
    adapter.history = [written(clock, 1)]
    adapter.errors = [ConnectionLost("x"), RateLimited("y", retry_after=20), ConnectionLost("z")]
    async with supervised(adapter, clock, reading(store, clock), box):
        await until(lambda: adapter.began)
        adapter.listen()
        for _ in range(60):
            adapter.hear()
            await pass_time(clock, 1)
            await asyncio.sleep(0.002)
        assert len(adapter.asked) == 3
        assert box.receipts == []
        await heard_and_read(adapter, clock, 4)
        await until(lambda: box.receipts)
    assert box.receipts == [Receipt.ACCEPTED]
    assert adapter.asked[3][0] == known.sent_at - timedelta(minutes=1)


async def test_a_missed_message_waits_for_a_store_that_is_full_or_failing(store: SqliteStore, clock: HeldClock) -> None:
    await store.accept(written(clock, 0), ANN, Quota())
    adapter, box = Reads(clock), Box(store)
    adapter.history = [written(clock, 1), written(clock, 2)]
    box.results = [StorageUnavailable("disk"), Receipt.OVERLOADED, Receipt.OVERLOADED]
    async with supervised(adapter, clock, reading(store, clock), box):
        await until(lambda: adapter.began)
        adapter.listen()
        for _ in range(10):
            await pass_time(clock, 1)
            await asyncio.sleep(0.002)
    assert box.receipts == [Receipt.OVERLOADED] * 2 + [Receipt.ACCEPTED] * 2


async def test_nothing_is_handed_over_to_a_gateway_that_stops(store: SqliteStore, clock: HeldClock) -> None:
    await store.accept(written(clock, 0), ANN, Quota())
    adapter, box = Reads(clock), Box(store)
    adapter.history = [written(clock, 1), written(clock, 2)]
    box.results = [Receipt.CLOSED]
    async with supervised(adapter, clock, reading(store, clock), box):
        await until(lambda: adapter.began)
        await heard_and_read(adapter, clock, 1)
    assert box.receipts == [Receipt.CLOSED]


async def test_reading_back_ends_with_its_attempt(store: SqliteStore, clock: HeldClock) -> None:
    await store.accept(written(clock, 0), ANN, Quota())
    adapter, box = Reads(clock), Box(store)
    adapter.hold, adapter.history = asyncio.Event(), [written(clock, 1)]
    async with supervised(adapter, clock, reading(store, clock), box):
        await until(lambda: adapter.began)
        adapter.listen()
        await pass_time(clock, 2)
        await until(lambda: adapter.asked)
        assert adapter.closed == 0
        adapter.lose.set_exception(ConnectionLost("gone"))
        await until(lambda: adapter.closed == 1)
        adapter.hold.set()
        await pass_time(clock, 3)
        await heard_and_read(adapter, clock, 2)
        await until(lambda: box.receipts)
    assert box.receipts == [Receipt.ACCEPTED]
    assert adapter.asked[0][0] == adapter.asked[1][0]


def test_accounts_are_named_in_every_supervisor(clock: HeldClock) -> None:
    assert Supervisor(AccountId("x"), Plain(clock), clock).account == "x"
