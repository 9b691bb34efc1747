"""The adapter for iLink alone, on the simulated wire: every state of a code, stale tokens, limits, files, presence."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from adapters.weixin import Config, WeixinAdapter, WeixinReply
from adapters.weixin.keeper import Credentials, Keeper
from core.adapter import CanFind, IdempotencyKey, Keyed, LoginStep, OutboundFile, Receipt
from core.errors import (
    ConnectionLost,
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    HeldBack,
    RateLimited,
    StorageUnavailable,
)
from core.messages import AccountId, InboundMessage
from tests.contract.platform import File
from tests.contract.world import holds, until
from tests.simulators.faults import Fault
from tests.simulators.weixin import SimulatedWeixin
from tests.unit.adapter_running import AdapterRunning


@pytest.fixture
async def platform() -> AsyncIterator[SimulatedWeixin]:
    async with SimulatedWeixin() as platform:
        yield platform
        assert list(platform.complaints()) == []


def key(number: int) -> IdempotencyKey:
    return IdempotencyKey(f"0123456789abcdef-{number}")


class Running(AdapterRunning[WeixinAdapter, WeixinReply]):
    """With the folder of its account."""

    def __init__(self, platform: SimulatedWeixin, folder: Path, **changes: Any) -> None:
        adapter = WeixinAdapter(AccountId("bot"), Config(**{**platform.account(), **changes}))
        adapter.use_folder(folder)
        super().__init__(platform, adapter, WeixinReply)

    def step(self) -> LoginStep | None:
        code = self.adapter.login_code()
        return code.step if code is not None else None


@pytest.fixture
def bot(platform: SimulatedWeixin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setattr("adapters.weixin.login._PAUSE", 0.01)
    monkeypatch.setattr("adapters.weixin.login._AGAIN", 0.01)
    monkeypatch.setattr("core.handover.HOLD", 0.02)
    return Running(platform, tmp_path / "accounts" / "bot")


@pytest.fixture
def again(platform: SimulatedWeixin, tmp_path: Path, bot: Running) -> Callable[..., Running]:
    """The next process, with the same folder."""
    return lambda **changes: Running(platform, tmp_path / "accounts" / "bot", **changes)


# Signing in


async def test_a_code_is_shown_until_it_is_scanned_and_its_credentials_are_for_the_owner_alone(
    platform: SimulatedWeixin, bot: Running, tmp_path: Path
) -> None:
    platform.login.scans = False
    async with bot.running():
        await until(lambda: bot.step() is LoginStep.SCAN)
        code = bot.adapter.login_code()
        assert code is not None
        assert code.content.startswith("https://liteapp.weixin.qq.com/")
        assert code.content not in repr(code)
        platform.login.plan("bot", "scaned")
        await until(lambda: bot.step() is LoginStep.CONFIRM)
        platform.login.plan("bot", "confirmed")
        await platform.listening()
        assert bot.adapter.login_code() is None
    folder = tmp_path / "accounts" / "bot"
    file = folder / "credentials.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert json.loads(file.read_text())["token"] == platform.state.bot("bot").token


async def test_the_next_process_needs_no_scan(
    platform: SimulatedWeixin, bot: Running, again: Callable[..., Running]
) -> None:
    async with bot.running():
        await bot.asked("before")
    await platform.person_writes("meanwhile")
    second = again()
    async with second.running():
        await until(lambda: second.messages)
        assert [message.text for message in second.messages] == ["meanwhile"]
    assert len(platform.login.codes) == 1


async def test_digits_of_the_phone_are_entered_and_wrong_ones_asked_for_again(
    platform: SimulatedWeixin, bot: Running
) -> None:
    platform.login.plan("bot", "scaned", "need_verifycode", "scaned", "confirmed")
    async with bot.running():
        await until(lambda: bot.step() is LoginStep.DIGITS)
        await holds(lambda: len(platform.login.codes[0].said) == 2)  # nobody asks while a person looks at their phone
        bot.adapter.enter_digits("1234")
        await until(lambda: bot.step() is LoginStep.WRONG_DIGITS)
        bot.adapter.enter_digits(platform.login.number)
        await platform.listening()


async def test_digits_that_nobody_asked_for_have_no_effect(platform: SimulatedWeixin, bot: Running) -> None:
    platform.login.scans = False
    async with bot.running():
        await until(lambda: bot.step() is LoginStep.SCAN)
        bot.adapter.enter_digits("1234")
        platform.login.plan("bot", "need_verifycode", "confirmed")
        await until(lambda: bot.step() is LoginStep.DIGITS)
        bot.adapter.enter_digits(platform.login.number)
        await platform.listening()


@pytest.mark.parametrize("status", ["expired", "verify_code_blocked"])
async def test_a_code_that_leads_nowhere_is_replaced(platform: SimulatedWeixin, bot: Running, status: str) -> None:
    platform.login.plan("bot", "scaned", status, "wait")
    async with bot.running():
        await platform.listening()
    assert len(platform.login.codes) == 2


async def test_a_code_that_nobody_scans_is_replaced(
    platform: SimulatedWeixin, bot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.weixin.login.LIFETIME", 0.3)
    platform.login.scans, platform.login.hold = False, 0.1
    async with bot.running():
        await until(lambda: len(platform.login.codes) == 3)
        codes = {code.id for code in platform.login.codes}
        assert any(id in str(getattr(bot.adapter.login_code(), "content", "")) for id in codes)
        platform.login.scans = True
        await platform.listening()


async def test_codes_that_lead_nowhere_follow_each_other_more_and_more_slowly(
    platform: SimulatedWeixin, bot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.weixin.login._PAUSE", 0.1)
    monkeypatch.setattr("adapters.weixin.login._LONGEST_PAUSE", 0.4)
    platform.login.plan("bot", *["expired"] * 4)
    async with bot.running():
        await platform.listening()
    times = [code.made_at for code in platform.login.codes]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert all(pause > least for pause, least in zip(pauses, (0.1, 0.2, 0.4, 0.4), strict=True))
    assert pauses[3] < 0.7


async def test_a_code_is_asked_about_at_a_distance_whatever_is_said_of_it(
    platform: SimulatedWeixin, bot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def elsewhere() -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"status": "scaned_but_redirect"})

    monkeypatch.setattr("adapters.weixin.login._PAUSE", 1.0)
    platform.api.instead["get_qrcode_status"] = elsewhere
    async with bot.running():
        await until(lambda: asked)
        await holds(lambda: asked == 1)


async def test_a_scan_may_lead_to_another_host(platform: SimulatedWeixin, bot: Running) -> None:
    platform.login.plan("bot", "scaned_but_redirect", "scaned")
    async with bot.running():
        await platform.listening()
        await bot.asked("there")
    assert [message.text for message in bot.messages] == ["there"]


async def test_a_stale_token_is_followed_by_a_new_code_and_answers_wait_for_it(
    platform: SimulatedWeixin, bot: Running
) -> None:
    async with bot.running() as task:
        reply = await bot.asked()
        platform.login.scans = False
        platform.grow_stale()
        with pytest.raises(ConnectionLost, match="new code"):
            await task
        with pytest.raises(HeldBack):
            await reply.send("too late", key=key(1))
    async with bot.running():
        await until(lambda: bot.step() is LoginStep.SCAN)
        with pytest.raises(HeldBack):
            await reply.send("too late", key=key(1))
        platform.login.scan()
        await platform.listening()
        await (await bot.asked("again")).send("in time", key=key(2))
    assert [shown.text for shown in platform.visible("bot/ann")] == ["in time"]
    assert platform.login.codes[1].local_tokens == [platform.state.bot("bot").tokens[0]]


async def test_a_bot_that_is_bound_already_goes_on_with_what_is_stored(platform: SimulatedWeixin, bot: Running) -> None:
    async with bot.running() as task:
        await platform.listening()
        platform.grow_stale()
        with pytest.raises(ConnectionLost):
            await task
    platform.login.plan("bot", "binded_redirect")
    async with bot.running():
        await platform.listening()
        await bot.asked("still me")
    assert len(platform.state.bot("bot").tokens) == 1


async def test_questions_that_get_no_answer_say_nothing_about_the_code(platform: SimulatedWeixin, bot: Running) -> None:
    platform.login.scans = False
    async with bot.running():
        await until(lambda: bot.step() is LoginStep.SCAN)
        platform.refuse_links(9)
        await until(lambda: not platform.api.refuse["bot"])
        platform.login.scan()
        await platform.listening()
    assert len(platform.login.codes) == 1


async def test_a_platform_that_is_away_during_the_scan_is_asked_again(platform: SimulatedWeixin, bot: Running) -> None:
    platform.login.scans = False
    async with bot.running():
        await until(lambda: bot.step() is LoginStep.SCAN)
        platform.refuse_links(2)
        platform.login.scan()
        await platform.listening()
    assert len(platform.login.codes) == 1


async def test_damaged_credentials_are_no_credentials(platform: SimulatedWeixin, bot: Running, tmp_path: Path) -> None:
    folder = tmp_path / "accounts" / "bot"
    folder.mkdir(parents=True)
    (folder / "credentials.json").write_text('{"token": ')
    (folder / "cursor").write_bytes(b"\xff\xfe")
    async with bot.running():
        await platform.listening()
    assert len(platform.login.codes) == 1


def test_another_bots_cursor_is_forgotten(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path)
    first = Credentials(token="a-token", url="", bot="one@im.bot", owner="ann@im.wechat")
    keeper.keep(first)
    keeper.keep_cursor("somewhere")
    keeper.keep(first)
    assert Keeper(tmp_path).cursor() == "somewhere"
    keeper.keep(Credentials(token="b-token", url="", bot="two@im.bot", owner="ann@im.wechat"))
    assert Keeper(tmp_path).cursor() == ""
    assert "a-token" not in repr(first)


async def test_what_the_account_lacks_is_told_and_changes_nothing(
    platform: SimulatedWeixin, bot: Running, again: Callable[..., Running]
) -> None:
    async with bot.adapter:
        assert "nobody has scanned" in " ".join(await bot.adapter.diagnose())
    async with bot.running():
        await platform.listening()
    second = again()
    async with second.adapter:
        assert list(await second.adapter.diagnose()) == []
        platform.api.instead["getconfig"] = lambda: web.json_response({"ret": -1, "errmsg": "no such user"})
        assert list(await second.adapter.diagnose()) == []
        del platform.api.instead["getconfig"]
        platform.grow_stale()
        assert "has expired" in " ".join(await second.adapter.diagnose())
    assert not [call for call in platform.api.calls if call[1] == "msg/notifystart"][1:]


@pytest.mark.parametrize("endpoint", ["get_bot_qrcode", "getconfig"])
async def test_an_address_that_leads_elsewhere_is_told_with_the_way_out(
    platform: SimulatedWeixin, bot: Running, endpoint: str
) -> None:
    if endpoint == "getconfig":
        async with bot.running():
            await platform.listening()
    platform.api.instead[endpoint] = lambda: web.Response(text="<html>hello</html>", content_type="text/html")
    async with bot.adapter:
        with pytest.raises(ConnectionLost, match="api_url"):
            await bot.adapter.diagnose()


# Receiving


async def test_a_platform_that_takes_everything_and_says_nothing_does_not_hold_the_end_up(
    tmp_path: Path,
) -> None:
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    Keeper(tmp_path).keep(Credentials(token="a-token", url=url, bot="one@im.bot", owner=""))
    adapter = WeixinAdapter(AccountId("bot"), Config(api_url=url))
    adapter.use_folder(tmp_path)
    clock = asyncio.get_running_loop().time
    async with server:
        await adapter.__aenter__()
        task = asyncio.create_task(adapter.run(never))
        await until(lambda: connections)
        began = clock()
        task.cancel()
        await asyncio.wait({task})
        await adapter.__aexit__(None, None, None)
        assert clock() - began < 2.0
        for writer in connections:
            writer.close()


async def never(message: InboundMessage) -> Receipt:
    raise AssertionError("nobody wrote")


@pytest.mark.parametrize("said", [Receipt.OVERLOADED, Receipt.CLOSED, StorageUnavailable("the disk is full")])
async def test_what_could_not_be_stored_is_handed_over_again_and_the_cursor_waits(
    platform: SimulatedWeixin, bot: Running, said: Receipt | Exception
) -> None:
    async with bot.running():
        await platform.listening()
        bot.receipts = [said] * 3
        delivery = await platform.person_writes("first")
        await platform.person_writes("second")
        await until(lambda: len(bot.messages) == 2)
        await until(lambda: platform.acknowledged(delivery))
    assert [message.text for message in bot.messages] == ["first", "second"]


async def test_a_poll_that_is_not_held_is_not_repeated_at_once(platform: SimulatedWeixin, bot: Running) -> None:
    platform.api.hold = 0.0
    async with bot.running():
        await until(lambda: bot.adapter.last_heard() is not None)
        heard: list[Any] = []
        await holds(lambda: not heard.append(bot.adapter.last_heard()))  # type: ignore[func-returns-value]  # a loop
        assert len(set(heard)) <= 3


async def test_a_poll_that_brings_the_same_again_and_again_is_not_repeated_at_once(
    platform: SimulatedWeixin, bot: Running
) -> None:
    asked = 0

    def the_same() -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"ret": 0, "msgs": [payload]})

    ann = platform.state.bot("bot").person("ann")
    payload = platform.state.message(platform.state.bot("bot"), ann, [{"type": 1, "text_item": {"text": "hi"}}])
    platform.api.instead["getupdates"] = the_same
    async with bot.running():
        await until(lambda: asked)
        await holds(lambda: asked <= 3)


@pytest.mark.parametrize(("quick", "ends"), [(0.0, False), (60.0, True)])
async def test_a_poll_that_was_held_may_be_broken_off(
    platform: SimulatedWeixin, bot: Running, monkeypatch: pytest.MonkeyPatch, quick: float, ends: bool
) -> None:
    monkeypatch.setattr("adapters.weixin.adapter._QUICK", quick)
    platform.api.hold = 30.0
    async with bot.running() as task:
        await platform.listening()
        await platform.drop()
        if ends:
            with pytest.raises(DeliveryUncertain):
                await task
        else:
            for number in range(3):
                await platform.listening()
                await bot.asked(f"after drop {number}")
                await platform.drop()
            assert not task.done()


@pytest.mark.parametrize(
    "answer",
    [
        lambda: web.Response(status=404, text="not found"),
        lambda: web.Response(text="<html>please log in</html>", content_type="text/html"),
        lambda: web.Response(status=502, text="bad gateway"),
        lambda: web.json_response({"ret": -1}),
        lambda: web.Response(status=401),
    ],
)
async def test_nothing_depends_on_being_told_of_as_online_or_writing(
    platform: SimulatedWeixin, bot: Running, answer: Callable[[], web.Response]
) -> None:
    for endpoint in ("msg/notifystart", "msg/notifystop", "getconfig", "sendtyping"):
        platform.api.instead[endpoint] = answer
    async with bot.running():
        reply = await bot.asked()
        with pytest.raises(DeliveryError):
            await reply.typing()
        await reply.typing_over()
        await reply.send("hi", key=key(1))
    assert [shown.text for shown in platform.visible("bot/ann")] == ["hi"]


async def test_the_bot_is_online_while_it_receives(platform: SimulatedWeixin, bot: Running) -> None:
    async with bot.running():
        await platform.listening()
        assert platform.state.bot("bot").online
    assert not platform.state.bot("bot").online


async def test_success_may_be_told_by_saying_nothing(platform: SimulatedWeixin, bot: Running) -> None:
    platform.api.bare = True
    async with bot.running():
        await (await bot.asked()).send("hi", key=key(1))
    assert [shown.text for shown in platform.visible("bot/ann")] == ["hi"]


@pytest.mark.parametrize("status", [200, 204])
async def test_an_answer_without_a_word_leaves_in_doubt_what_was_sent(
    platform: SimulatedWeixin, bot: Running, status: int
) -> None:
    """The vendor's client reads an object there."""
    async with bot.running():
        reply = await bot.asked()
        platform.api.instead["sendmessage"] = lambda: web.Response(status=status)
        with pytest.raises(DeliveryUncertain):
            await reply.send("hi", key=key(1))


async def test_a_typing_sign_may_be_answered_without_a_word(platform: SimulatedWeixin, bot: Running) -> None:
    async with bot.running():
        reply = await bot.asked()
        platform.api.instead["sendtyping"] = web.Response
        await reply.typing()
    assert "sendtyping" in [endpoint for _, endpoint, _ in platform.api.calls]


# Answering


async def test_an_answer_is_plain_text_with_the_newest_token_of_the_person(
    platform: SimulatedWeixin, bot: Running
) -> None:
    async with bot.running():
        first = await bot.asked("one")
        await bot.asked("two")
        id = await first.send("# Title\n\n- **bold** [link](https://example.com)", key=key(1))
    (shown,) = platform.state.bot("bot").shown
    assert shown.text == "【Title】\n\n• bold link (https://example.com)"
    assert id == shown.id
    assert shown.client_id == f"chatgpt-ms:{key(1)}"
    assert not isinstance(first, Keyed | CanFind)
    sent = [body["msg"] for _, endpoint, body in platform.api.calls if endpoint == "sendmessage"]
    context = json.loads(bot.messages[1].reply_to)["context"]
    assert [message["context_token"] for message in sent] == [context]


async def test_a_failure_in_an_answer_with_status_200_is_a_failure(platform: SimulatedWeixin, bot: Running) -> None:
    async with bot.running():
        reply = await bot.asked()
        platform.outbox.faults.append(Fault(("sendmessage",), "limit"))
        with pytest.raises(RateLimited) as limited:
            await reply.send("hi", key=key(1))
        assert limited.value.retry_after == 2.0
        await reply.send("hi", key=key(1))
    assert len(platform.visible("bot/ann")) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"ret": -1, "errcode": -14}, DeliveryUnavailable),
        ({"errcode": -14}, DeliveryUnavailable),
        ({"ret": -1, "errcode": -2}, RateLimited),
        ({"errcode": "-2"}, RateLimited),
        ({"ret": -7}, DeliveryUnavailable),
        ({"ret": "no number"}, DeliveryUnavailable),
    ],
)
async def test_a_failure_is_known_by_either_of_its_numbers(
    platform: SimulatedWeixin, bot: Running, answer: dict[str, Any], error: type[DeliveryError]
) -> None:
    async with bot.running():
        reply = await bot.asked()
        platform.api.instead["sendmessage"] = lambda: web.json_response(answer)
        with pytest.raises(error):
            await reply.send("hi", key=key(1))


@pytest.mark.parametrize("status", [302, 403, 404])
async def test_what_stands_before_the_platform_may_let_a_message_through_later(
    platform: SimulatedWeixin, bot: Running, status: int
) -> None:
    async with bot.running():
        reply = await bot.asked()
        platform.api.instead["sendmessage"] = lambda: web.Response(status=status)
        with pytest.raises(DeliveryUnavailable, match=f"HTTP {status}"):
            await reply.send("hi", key=key(1))


async def test_what_the_platform_says_of_a_refusal_is_logged_without_the_token(
    platform: SimulatedWeixin, bot: Running
) -> None:
    async with bot.running():
        reply = await bot.asked()
        token = platform.state.bot("bot").token
        said = {"ret": -7, "errmsg": f"{token} may not do this"}
        platform.api.instead["sendmessage"] = lambda: web.json_response(said)
        with capture_logs() as logs, pytest.raises(DeliveryUnavailable) as refused:
            await reply.send("hi", key=key(1))
    assert [entry["reason"] for entry in logs if entry["event"] == "iLink refuses"] == ["… may not do this"]
    assert str(refused.value) == "sendmessage: ret -7"
    assert token not in str(logs)


async def test_where_pauses_do_not_help_the_rest_waits_for_the_person(platform: SimulatedWeixin, bot: Running) -> None:
    platform.outbox.most_answers, platform.outbox.most_in_a_second = 1, None
    async with bot.running():
        reply = await bot.asked()
        await reply.send("1", key=key(1))
        pauses = []
        for _ in range(3):
            with pytest.raises(RateLimited) as limited:
                await reply.send("2", key=key(2))
            pauses.append(limited.value.retry_after)
        assert pauses == [2.0, 8.0, 30.0]
        for _ in range(2):
            with pytest.raises(HeldBack):
                await reply.send("2", key=key(2))
        tried = len([call for call in platform.api.calls if call[1] == "sendmessage"])
        assert tried == 5  # once it is known, the platform is left alone
        await bot.asked("more")
        await reply.send("2", key=key(2))
    assert [shown.text for shown in platform.visible("bot/ann")] == ["1", "2"]


async def test_after_ten_answers_one_pause_is_enough_to_know(platform: SimulatedWeixin, bot: Running) -> None:
    platform.outbox.most_in_a_second = None
    async with bot.running():
        reply = await bot.asked()
        for number in range(10):
            await reply.send(str(number), key=key(number))
        with pytest.raises(RateLimited):
            await reply.send("10", key=key(10))
        with pytest.raises(HeldBack):
            await reply.send("10", key=key(10))
    assert len(platform.visible("bot/ann")) == 10


async def test_a_message_that_comes_again_opens_nothing(platform: SimulatedWeixin, bot: Running) -> None:
    platform.outbox.most_answers, platform.outbox.most_in_a_second = 0, None
    async with bot.running():
        delivery = await platform.person_writes("hello")
        await until(lambda: bot.messages)
        reply = bot.adapter.reply(bot.messages[0].reply_to)
        for _ in range(3):
            with pytest.raises(RateLimited):
                await reply.send("hi", key=key(1))
        with pytest.raises(HeldBack):
            await reply.send("hi", key=key(1))
        await platform.redeliver(delivery)
        await until(lambda: len(bot.messages) == 2)
        with pytest.raises(HeldBack):
            await reply.send("hi", key=key(1))


async def test_a_day_after_the_person_wrote_nothing_is_sent(platform: SimulatedWeixin, bot: Running) -> None:
    async with bot.running():
        reply = await bot.asked("long ago", age=timedelta(hours=25))
        with pytest.raises(HeldBack, match="a day ago"):
            await reply.send("too late", key=key(1))
        await bot.asked("now")
        await reply.send("in time", key=key(1))
    assert platform.state.bot("bot").refusals == []


async def test_messages_keep_their_distance(
    platform: SimulatedWeixin, again: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.weixin.outgoing._GAP", 0.1)
    bot = again(pace=2.0)
    async with bot.running():
        ann, bob = await bot.asked("a"), await bot.asked("b", user="bob")
        await asyncio.gather(*(reply.send("x", key=key(n)) for n, reply in enumerate((ann, bob, ann, bob))))
    times = sorted(shown.at for shown in platform.state.bot("bot").shown)
    assert all(later - earlier > 0.18 for earlier, later in pairwise(times))


async def test_who_would_wait_too_long_is_asked_to_come_back_and_has_a_turn_of_their_own_then(
    platform: SimulatedWeixin, again: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.departures.LONGEST_WAIT", 0.0)
    monkeypatch.setattr("adapters.weixin.outgoing._GAP", 0.1)
    platform.outbox.most_in_a_second = None
    bot = again(pace=1.0)
    async with bot.running():
        reply = await bot.asked()
        await reply.send("1", key=key(1))
        with pytest.raises(RateLimited, match="other messages") as second:
            await reply.send("2", key=key(2))
        with pytest.raises(RateLimited) as third:
            await reply.send("3", key=key(3))
        assert third.value.retry_after > second.value.retry_after + 0.05
        monkeypatch.setattr("core.departures.LONGEST_WAIT", 12.0)
        await asyncio.gather(reply.send("3", key=key(3)), reply.send("2", key=key(2)))
    assert [shown.text for shown in platform.visible("bot/ann")] == ["1", "2", "3"]


@pytest.mark.parametrize(("kind", "error"), [("lost", DeliveryUncertain), ("broken", DeliveryUncertain)])
async def test_an_answer_that_got_lost_leaves_a_doubt(
    platform: SimulatedWeixin, bot: Running, kind: str, error: type[DeliveryError]
) -> None:
    async with bot.running():
        reply = await bot.asked()
        platform.outbox.faults.append(Fault(("sendmessage",), kind))
        with pytest.raises(error):
            await reply.send("hi", key=key(1))


async def test_a_message_on_its_way_is_answered_before_the_connection_ends(
    platform: SimulatedWeixin, bot: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, came, send = asyncio.Event(), asyncio.Event(), platform.outbox.send

    async def held(*args: Any) -> dict[str, Any]:
        came.set()
        await gate.wait()
        return await send(*args)

    monkeypatch.setattr(platform.outbox, "send", held)
    async with bot.running():
        reply = await bot.asked()
        sending = asyncio.create_task(reply.send("hi", key=key(1)))
        await came.wait()
        asyncio.get_running_loop().call_later(0.1, gate.set)
    await sending
    assert len(platform.visible("bot/ann")) == 1


async def test_between_two_connections_an_answer_is_kept(platform: SimulatedWeixin, bot: Running) -> None:
    async with bot.running():
        reply = await bot.asked()
    with pytest.raises(HeldBack, match="not connected"):
        await reply.send("hi", key=key(1))
    assert platform.visible("bot/ann") == []


async def test_the_sign_of_writing_needs_one_ticket(platform: SimulatedWeixin, bot: Running) -> None:
    async with bot.running():
        reply = await bot.asked()
        await reply.typing_over()
        for _ in range(3):
            await reply.typing()
        await reply.typing_over()
    assert [status for _, status in platform.state.bot("bot").typing] == [1, 1, 1, 2]
    assert len([call for call in platform.api.calls if call[1] == "getconfig"]) == 1


@pytest.mark.parametrize("answer", [lambda: web.Response(status=502), lambda: web.json_response({"ret": -1})])
async def test_a_sign_that_is_not_taken_away_at_once_is_soon(
    platform: SimulatedWeixin, bot: Running, answer: Callable[[], web.Response]
) -> None:
    left = [answer, answer]

    def in_vain() -> web.Response:
        if len(left) == 1:
            del platform.api.instead["sendtyping"]
        return left.pop()()

    async with bot.running():
        reply = await bot.asked()
        await reply.typing()
        platform.api.instead["sendtyping"] = in_vain
        await reply.typing_over()
    assert [status for _, status in platform.state.bot("bot").typing] == [1, 2]


# Files


@pytest.mark.parametrize("full_urls", [True, False])
@pytest.mark.parametrize(
    ("file", "shown"),
    [
        (OutboundFile(name="a.png", media_type="image/png", content=b"\x89PNG" * 9), "[image]"),
        (OutboundFile(name="a.mp4", media_type="video/mp4", content=b"film" * 8), "[video]"),
        (OutboundFile(name="ä b.txt", media_type="text/plain", content=b""), "[ä b.txt]"),
    ],
)
async def test_files_are_shown(
    platform: SimulatedWeixin, bot: Running, full_urls: bool, file: OutboundFile, shown: str
) -> None:
    platform.cdn.full_urls = full_urls
    async with bot.running():
        reply = await bot.asked()
        await reply.attach(file, key=key(1))
    assert [message.text for message in platform.visible("bot/ann")] == [shown]


async def test_a_file_that_could_not_be_uploaded_is_surely_not_shown(platform: SimulatedWeixin, bot: Running) -> None:
    platform.cdn.broken = 1
    file = OutboundFile(name="a.txt", media_type="text/plain", content=b"x")
    async with bot.running():
        reply = await bot.asked()
        with pytest.raises(DeliveryUnavailable):
            await reply.attach(file, key=key(1))
        await reply.attach(file, key=key(1))
    assert len(platform.visible("bot/ann")) == 1


@pytest.mark.parametrize("full_urls", [True, False])
async def test_files_of_people_are_decrypted(platform: SimulatedWeixin, bot: Running, full_urls: bool) -> None:
    platform.cdn.full_urls = full_urls
    async with bot.running():
        await bot.asked("look", files=[File(name="a.jpg", media_type="image/jpeg", content=b"picture" * 1000)])
        (file,) = bot.messages[0].attachments
        assert await bot.adapter.fetch(file, most_bytes=7000) == b"picture" * 1000
