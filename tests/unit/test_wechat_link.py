"""The adapter's link to a puppet service, on the simulated wire: faults and what they cost, who has the stream, deadlines,
the login, and the end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from structlog.testing import capture_logs
from wechaty_grpc.wechaty import puppet

from adapters.wechat import Config, WechatAdapter
from adapters.wechat.service import StreamTaken
from core.adapter import LoginStep
from core.errors import (
    AuthenticationError,
    ConnectionLost,
    DeliveryUnavailable,
    DeliveryUncertain,
)
from core.messages import AccountId
from gateway.supervisor import AccountState
from tests.contract.world import until
from tests.simulators import wechat_wire as wire
from tests.simulators.wechat import SimulatedWechat
from tests.unit.wechat_running import Running, service


@pytest.fixture
async def wechat() -> AsyncIterator[SimulatedWechat]:
    async with SimulatedWechat() as platform:
        platform.puppet().beats = 0
        yield platform
        assert list(platform.complaints()) == []


@pytest.fixture
def bot(wechat: SimulatedWechat) -> Running:
    return Running(wechat)


def ended(task: asyncio.Task[None]) -> BaseException:
    """Why a run is over; of several reasons the first."""
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert error is not None
    return error


# Faults


async def cut(platform: SimulatedWechat) -> None:
    await platform.drop()


async def refuse(platform: SimulatedWechat) -> None:
    platform.refuse_links(3)
    await platform.drop()


async def fall_silent(platform: SimulatedWechat) -> None:
    platform.go_silent()


async def end_politely(platform: SimulatedWechat) -> None:
    platform.puppet().end_stream()


async def restart(platform: SimulatedWechat) -> None:
    await platform.server().stop()
    await platform.server().start()


async def be_taken(platform: SimulatedWechat) -> None:
    """The server believes for a while that somebody else is there."""
    platform.puppet().occupied = True
    await platform.drop()
    asyncio.get_running_loop().call_later(0.5, setattr, platform.puppet(), "occupied", False)


@pytest.mark.parametrize("fault", [cut, refuse, fall_silent, end_politely, restart, be_taken])
async def test_a_fault_costs_no_message_that_the_server_had_told_of(
    wechat: SimulatedWechat,
    bot: Running,
    fault: Callable[[SimulatedWechat], Awaitable[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adapters.wechat.adapter._QUIET", 0.5)
    monkeypatch.setattr("adapters.wechat.adapter._DING", 0.5)
    monkeypatch.setattr("adapters.wechat.reception._LOOK_UP", 0.5)
    monkeypatch.setattr("adapters.wechat.reception._AT_ONCE", 2)
    loop = asyncio.get_running_loop()
    async with bot.supervised() as supervisor:
        await until(lambda: supervisor.health.state is AccountState.CONNECTED)
        bot.robot.slow["MessagePayload"] = 0.05
        for number in range(30):
            await wechat.person_writes(f"before {number}")
        await until(lambda: len(bot.messages) >= 3)  # and the others are told of, and not looked up yet
        assert len(bot.messages) < 20
        began = loop.time()
        await fault(wechat)
        bot.robot.slow.clear()
        await until(lambda: len(bot.messages) == 30)
        await wechat.listening()
        await wechat.person_writes("after")
        await until(lambda: bot.texts[-1] == "after")
        seconds = loop.time() - began
        lost = {f"before {number}" for number in range(30)} - set(bot.texts)
        print(f"\n{fault.__name__}: {len(lost)} of 30 messages lost, heard again after {seconds:.1f} s")
        assert bot.texts == [*(f"before {number}" for number in range(30)), "after"]


@pytest.mark.parametrize("tls", [True, False])
async def test_a_silent_link_is_left_at_once(tls: bool) -> None:
    async with SimulatedWechat(tls=tls) as platform:
        bot = Running(platform)
        tasks = asyncio.all_tasks()
        loop = asyncio.get_running_loop()
        async with bot.running():
            await until(bot.adapter.last_heard)
            platform.go_silent()
            began = loop.time()
        assert loop.time() - began < 1.0
        await until(lambda: platform.links() == 0, seconds=2)
        assert {task for task in asyncio.all_tasks() - tasks if not task.done()} == set()


async def test_a_server_that_says_nothing_is_asked_whether_it_is_there(
    bot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.wechat.adapter._QUIET", 0.1)
    async with bot.running():
        await until(bot.adapter.last_heard)
        heard = bot.adapter.last_heard()
        await until(lambda: bot.robot.calls.count("Ding") >= 2)
        assert bot.adapter.last_heard() != heard


# The stream


async def test_a_stale_stream_is_written_to_until_the_server_lets_it_go(wechat: SimulatedWechat, bot: Running) -> None:
    bot.robot.occupied = True
    async with bot.running():
        await until(lambda: "Ding" in bot.robot.calls)
        assert bot.adapter.last_heard() is None
        bot.robot.occupied = False
        await wechat.listening()
        await wechat.person_writes("mine now")
        await until(lambda: bot.texts == ["mine now"])


async def test_a_stream_that_stays_taken_ends_the_attempt_with_the_reason(
    bot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.wechat.adapter._TAKEN_FOR", 0.1)
    bot.robot.occupied = True
    async with bot.running() as task:
        await until(task.done)
    assert isinstance(ended(task), StreamTaken)
    assert "another program" in str(ended(task))


async def test_the_puppet_is_started_after_the_first_event_and_a_failure_of_that_is_survived(
    wechat: SimulatedWechat, bot: Running
) -> None:
    bot.robot.started = False
    async with bot.running():
        await until(lambda: bot.robot.started)
        await until(bot.adapter.last_heard)
        await wechat.person_writes("hello")
        await until(lambda: bot.texts == ["hello"])


async def test_somebody_must_be_logged_in(bot: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.wechat.adapter._ABSENT", 0.1)
    bot.robot.logged_in = False
    async with bot.running() as task:
        await until(task.done)
    assert isinstance(ended(task), ConnectionLost)
    assert "nobody is logged in" in str(ended(task))


# Signing in


async def test_a_wrong_token_is_an_error_that_does_not_repeat_it(wechat: SimulatedWechat) -> None:
    bot = Running(wechat, token="insecure_a-secret-of-the-test")
    with capture_logs() as logs, pytest.raises(AuthenticationError) as caught:
        async with bot.adapter:
            pass
    assert "a-secret" not in str(caught.value) + json.dumps([str(entry) for entry in logs])


async def test_nothing_below_writes_the_token_down_in_its_own_code(
    wechat: SimulatedWechat, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with service(wechat) as calls:
        await calls.call("Version", puppet.VersionRequest(), puppet.VersionResponse)
    assert not [record for record in caplog.records if record.name.startswith("hpack")]


async def test_a_wrong_token_is_seen_where_the_server_tells_no_version(wechat: SimulatedWechat) -> None:
    bot = Running(wechat, token="another")
    wechat.puppet().lacks.add("Version")
    with pytest.raises(AuthenticationError):
        async with bot.adapter:
            pass


async def test_a_token_that_is_withdrawn_ends_the_attempts(bot: Running) -> None:
    async with bot.running() as run:
        await until(bot.adapter.last_heard)
        bot.robot.token = "another"
        bot.robot.end_stream()
        await asyncio.wait({run})
    assert isinstance(ended(run), ConnectionLost)
    bot.robot.token = bot.adapter._config.token.get_secret_value()
    async with bot.adapter:
        bot.robot.token = "another"
        with pytest.raises(ExceptionGroup) as caught:
            await bot.adapter.run(bot.take)
    assert caught.group_contains(AuthenticationError)


async def test_a_server_that_speaks_no_tls_or_is_not_there_is_an_error_that_says_so(wechat: SimulatedWechat) -> None:
    with pytest.raises(ConnectionLost, match="is it true that it speaks TLS"):
        async with Running(wechat, tls=True).adapter:
            pass
    wechat.server().cable.target = 0
    with pytest.raises(ConnectionLost, match="is it true that it does not speak TLS"):
        async with Running(wechat).adapter:
            pass
    async with SimulatedWechat(tls=True) as secure:
        with pytest.raises(ConnectionLost, match="does not speak TLS"):
            async with Running(secure, tls=False).adapter:
                pass


async def test_each_state_of_a_scan_is_shown(bot: Running) -> None:
    bot.robot.logged_in = False

    def shown() -> tuple[str, LoginStep] | None:
        code = bot.adapter.login_code()
        return (code.content, code.step) if code is not None else None

    async with bot.running():
        bot.robot.show_code("one")
        await until(lambda: shown() == ("one", LoginStep.SCAN))
        bot.robot.show_code("", wire.SCANNED)
        await until(lambda: shown() == ("one", LoginStep.CONFIRM))
        bot.robot.show_code("", wire.TIMEOUT)
        await until(lambda: shown() == ("one", LoginStep.SCAN))
        bot.robot.show_code("x" * 10_000)
        bot.robot.show_code("two")
        await until(lambda: shown() == ("two", LoginStep.SCAN))
        bot.robot.log_in()
        await until(lambda: shown() is None and bot.adapter.last_heard())
        bot.robot.emit(puppet.EventType.EVENT_TYPE_SCAN, {"qrcode": "two", "status": wire.CONFIRMED})  # late
        await bot.asked("hello")
        assert shown() is None


async def test_unencrypted_calls_over_a_network_are_spoken_of() -> None:
    for host, tls, spoken in (("10.0.0.5", False, True), ("10.0.0.5", True, False), ("127.0.0.1", False, False)):
        adapter = WechatAdapter(AccountId("bot"), Config(endpoint=f"{host}:8788", token="x", tls=tls))
        assert bool(await adapter.diagnose()) is spoken


async def test_the_check_says_whether_somebody_is_logged_in(bot: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.wechat.adapter._HELLO", 0.5)
    async with bot.adapter:
        assert await bot.adapter.diagnose() == []
    bot.robot.logged_in = False
    for code in (None, "https://login.weixin.qq.com/l/x"):
        if code is not None:
            bot.robot.show_code(code)
        await until(lambda: bot.robot.stream is None)
        async with bot.adapter:
            (finding,) = await bot.adapter.diagnose()
        assert "scan the code" in finding
    bot.robot.occupied = True  # by a gateway that runs
    async with bot.adapter:
        assert await bot.adapter.diagnose() == []


@pytest.mark.parametrize(
    ("host", "token", "verified"),
    [("wechaty.example.com", "secret", True), ("wechaty.example.com", "insecure_secret", False), ("::1", "x", False)],
)
async def test_certificates_are_verified_where_that_means_something(host: str, token: str, verified: bool) -> None:
    from adapters.wechat.service import _trust

    context = _trust(host, token)
    assert context.check_hostname is verified
    assert (context.verify_mode.name == "CERT_REQUIRED") is verified


# Deadlines


async def test_a_call_without_an_answer_ends_in_time_and_leaves_no_task(wechat: SimulatedWechat) -> None:
    wechat.puppet().slow["Version"] = 60.0
    async with service(wechat) as calls:
        before = asyncio.all_tasks()
        with pytest.raises(DeliveryUncertain, match="TimeoutError"):
            await calls.call("Version", puppet.VersionRequest(), puppet.VersionResponse, seconds=0.1)
        assert not [task for task in asyncio.all_tasks() - before if "PuppetService" in repr(task)]


async def test_a_call_that_breaks_off_does_not_count_as_cancelled(wechat: SimulatedWechat) -> None:
    """grpclib cancels whoever waits when a connection breaks: that is for the call alone."""
    wechat.puppet().slow["Version"] = 60.0

    async def ask() -> int:
        async with service(wechat) as calls:
            asyncio.get_running_loop().call_later(0.1, wechat.server().cable.cut)
            with pytest.raises(DeliveryUncertain):
                await calls.call("Version", puppet.VersionRequest(), puppet.VersionResponse)
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert await asyncio.create_task(ask()) == 0


async def test_calls_that_are_under_way_at_the_end_are_told_and_none_begins_after(wechat: SimulatedWechat) -> None:
    wechat.puppet().slow["Version"] = 60.0
    async with service(wechat) as calls:
        call = asyncio.create_task(calls.call("Version", puppet.VersionRequest(), puppet.VersionResponse))
        await until(lambda: "Version" in wechat.puppet().calls)
        await calls.close()
        with pytest.raises(DeliveryUncertain):
            await call
        with pytest.raises(DeliveryUnavailable):
            await calls.call("Version", puppet.VersionRequest(), puppet.VersionResponse)
    await until(lambda: wechat.links() == 0)
