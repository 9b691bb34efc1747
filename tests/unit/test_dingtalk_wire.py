"""The adapter for DingTalk alone, on the simulated wire: tokens, refusals, the stream, messages, files."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from adapters.dingtalk import Config, DingTalkAdapter
from adapters.dingtalk.address import Address
from adapters.dingtalk.api import DingTalkApi, _json
from adapters.dingtalk.failures import CredentialsRefused, DingTalkError, ScopeMissing, ShutOut, refusal
from adapters.dingtalk.messages import title_of
from core.adapter import IdempotencyKey, Receipt
from core.errors import (
    AuthenticationError,
    ConnectionLost,
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    FileRefused,
    RateLimited,
    StorageUnavailable,
    TargetGone,
)
from core.messages import AccountId, InboundMessage
from tests.clock import HeldClock
from tests.contract.platform import Delivery
from tests.contract.world import holds, until
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.dingtalk_api import GROUP, ONE_TO_ONE, TOKEN, WEBHOOK, Fault
from tests.simulators.dingtalk_gateway import OPEN

KEY = IdempotencyKey("0123456789abcdef-0")


@pytest.fixture
async def dingtalk() -> AsyncIterator[SimulatedDingTalk]:
    async with SimulatedDingTalk(card=False) as dingtalk:
        yield dingtalk
        assert dingtalk.complaints() == []


class Running:
    """One attempt of an adapter, with an inbox that remembers."""

    def __init__(self, dingtalk: SimulatedDingTalk, **changes: Any) -> None:
        self.dingtalk = dingtalk
        self.adapter = DingTalkAdapter(AccountId("bot"), Config(**{**dingtalk.account(), **changes}))
        self.heard: list[InboundMessage] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.refuse: Receipt | None = None
        self.fails = False
        self.task: asyncio.Task[None] | None = None

    async def inbox(self, message: InboundMessage) -> Receipt:
        await self.gate.wait()
        if self.fails:
            raise StorageUnavailable("the test says so")
        if self.refuse is not None:
            return self.refuse
        self.heard.append(message)
        return Receipt.ACCEPTED

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        async with self.adapter:
            task = self.task = asyncio.create_task(self.adapter.run(self.inbox))
            try:
                await until(lambda: task.done() or self.dingtalk.links(), seconds=10)
                yield
            finally:
                self.task.cancel()
                await asyncio.gather(self.task, return_exceptions=True)

    async def hears(self, text: str, **where: Any) -> InboundMessage:
        """Somebody writes, and the inbox gets it."""
        delivery = await self.dingtalk.person_writes(text, **where)
        return await self.got(delivery)

    async def got(self, delivery: Delivery) -> InboundMessage:
        await until(lambda: any(message.id == delivery.message for message in self.heard))
        return next(message for message in self.heard if message.id == delivery.message)

    async def answers(self, message: InboundMessage, text: str, **changes: Any) -> None:
        address = replace(Address.load(message.reply_to), **changes)
        await self.adapter.reply(address.dump()).send(text, key=KEY)

    def ended(self) -> BaseException | None:
        assert self.task is not None
        return self.task.exception()

    def calls(self, call: str) -> list[dict[str, Any]]:
        return [arguments for name, arguments in self.dingtalk.world.calls if name == call]


@asynccontextmanager
async def running(dingtalk: SimulatedDingTalk, **changes: Any) -> AsyncIterator[Running]:
    bot = Running(dingtalk, **changes)
    async with bot.attempt():
        yield bot


def shown(dingtalk: SimulatedDingTalk, message: InboundMessage) -> list[str]:
    return [each.text for each in dingtalk.visible(message.channel)]


# ---- refusals ----


@pytest.mark.parametrize(
    ("status", "data", "kind"),
    [
        (200, {"errcode": 0, "errmsg": "ok"}, None),
        (200, {"errcode": "0"}, None),
        (200, {"accessToken": "x"}, None),
        (403, {"code": "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"}, RateLimited),
        (403, {"code": "Forbidden.AccessDenied.QpmLimitForAppkeyAndApi"}, RateLimited),
        (200, {"errcode": 90018}, RateLimited),
        (400, {"code": "send.too.fast"}, RateLimited),
        (200, {"status": 1111, "wait": 5, "punish": "deny"}, ShutOut),
        (429, {}, RateLimited),
        (429, None, RateLimited),
        (400, {"code": "InvalidAuthentication"}, CredentialsRefused),
        (401, {"code": "Unauthorized"}, CredentialsRefused),
        (401, None, CredentialsRefused),
        (400, {"code": "invalidClientIdOrSecret"}, CredentialsRefused),
        (401, {"code": "authFailed"}, CredentialsRefused),
        (403, {"code": "Forbidden.AccessDenied.IpNotInWhiteList"}, CredentialsRefused),
        (403, {"Code": "Forbidden.AccessDenied.AccessTokenPermissionDenied"}, ScopeMissing),
        (400, {"code": "group.disbanded"}, TargetGone),
        (200, {"errcode": 400013}, TargetGone),
        (500, {"code": "system.busy"}, DeliveryUnavailable),
        (503, None, DeliveryUnavailable),
        (500, {"code": "system.error"}, DeliveryUncertain),
        (400, {"code": "unknown.send.result"}, DeliveryUncertain),
        (502, None, DeliveryUncertain),
        (200, None, DeliveryUncertain),
        (302, None, DeliveryUncertain),
        (200, {}, None),
        (200, _json(b""), DeliveryUncertain),
        (503, _json(b""), DeliveryUnavailable),
        (200, {"errcode": 430102}, DingTalkError),
        (400, {"code": "contain.notAllowed.text"}, DingTalkError),
        (500, {"code": "unknownError", "message": "card streaming key invalid"}, DingTalkError),
        (404, None, DingTalkError),
    ],
)
def test_a_refusal_says_what_to_do(status: int, data: Any, kind: type[DeliveryError] | None) -> None:
    found = refusal("a call", status, data)
    assert type(found) is (kind or type(None))


@pytest.mark.parametrize(
    "detail",
    [
        {"AccessDeniedDetail": {"requiredScopes": ["Card.Streaming.Write"]}},
        {"accessdenieddetail": {"requiredScopes": ["Card.Streaming.Write"]}},
        {"accessDeniedDetail": '{"requiredScopes": ["Card.Streaming.Write"]}'},
    ],
)
def test_a_missing_scope_is_named(detail: dict[str, Any]) -> None:
    found = refusal("x", 403, {"code": "Forbidden.AccessDenied.AccessTokenPermissionDenied", **detail})
    assert isinstance(found, ScopeMissing)
    assert found.scopes == ("Card.Streaming.Write",)
    assert str(found).endswith("the app lacks Card.Streaming.Write")


# ---- signing in, tokens ----


async def test_wrong_credentials_are_final_and_named_without_the_secret(dingtalk: SimulatedDingTalk) -> None:
    bot = Running(dingtalk, client_secret="a-wrong-secret")
    with pytest.raises(AuthenticationError) as refused:
        await bot.adapter.__aenter__()
    assert "client_secret" in str(refused.value)
    assert "a-wrong-secret" not in str(refused.value)


async def test_credentials_are_refused_without_a_word_too(dingtalk: SimulatedDingTalk) -> None:
    dingtalk.api.faults.append(Fault((TOKEN,), "bare", status=401))
    with pytest.raises(AuthenticationError):
        await Running(dingtalk).adapter.__aenter__()


async def test_a_platform_that_fails_or_is_not_there_is_tried_again(dingtalk: SimulatedDingTalk) -> None:
    for changes in ({"api_url": "http://127.0.0.1:9"}, {"api_url": f"{dingtalk.url}/files"}):
        with pytest.raises(ConnectionLost):
            await Running(dingtalk, **changes).adapter.__aenter__()


async def test_a_token_that_is_over_is_replaced_once_for_all_who_wait(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        dingtalk.forget_tokens()
        await asyncio.gather(*(bot.answers(asked, f"answer {number}", webhook="") for number in range(8)))
        assert sorted(shown(dingtalk, asked)) == [f"answer {number}" for number in range(8)]
        assert len(bot.calls(TOKEN)) == 2  # one at sign-in


@pytest.mark.parametrize("fault", [Fault((GROUP,), "Unauthorized", status=401), Fault((GROUP,), "bare", status=401)])
async def test_a_token_may_be_refused_in_other_words(dingtalk: SimulatedDingTalk, fault: Fault) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        dingtalk.api.faults.append(replace(fault))
        await bot.answers(asked, "the answer", webhook="")
        assert shown(dingtalk, asked) == ["the answer"]
        assert len(bot.calls(TOKEN)) == 2


@pytest.mark.parametrize("told", [{}, {"expireIn": "7200"}, {"expireIn": None}])
async def test_a_token_is_kept_whatever_is_told_of_its_end(dingtalk: SimulatedDingTalk, told: dict[str, Any]) -> None:
    dingtalk.world.token_end = told
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        for number in range(3):
            await bot.answers(asked, f"answer {number}", webhook="")
        assert len(bot.calls(TOKEN)) == 1


async def test_a_send_for_which_there_is_no_token_surely_did_not_happen(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        for fault in ("lost", "html"):
            dingtalk.forget_tokens()
            dingtalk.api.faults.append(Fault((TOKEN,), fault))
            with pytest.raises(DeliveryUnavailable):
                await bot.answers(asked, "the answer", webhook="")
        assert shown(dingtalk, asked) == []


async def test_who_waits_for_a_token_when_the_account_is_left_is_told(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
    called: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: called.append(writer), "127.0.0.1", 0)  # answers nothing
    async with server:
        stuck = Running(dingtalk, api_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        signing_in = asyncio.create_task(stuck.adapter.__aenter__())
        await until(lambda: called)
        reply = asyncio.create_task(stuck.answers(asked, "the answer", webhook=""))
        await holds(lambda: not reply.done())
        signing_in.cancel()
        with pytest.raises(DeliveryUnavailable):
            await reply
        await asyncio.gather(signing_in, return_exceptions=True)
        assert signing_in.cancelled()
        for writer in called:
            writer.close()


async def test_credentials_that_are_withdrawn_end_the_account_at_the_next_token(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        dingtalk.refuse_credentials()
        dingtalk.forget_tokens()
        with pytest.raises(DeliveryUnavailable):
            await bot.answers(asked, "late", webhook="")
        await until(lambda: bot.task is not None and bot.task.done())
        assert isinstance(bot.ended(), AuthenticationError)


async def test_a_reply_that_comes_before_the_sign_in_waits_for_it(
    dingtalk: SimulatedDingTalk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello")
    later = Running(dingtalk)
    early = asyncio.create_task(later.answers(asked, "the answer"))
    await holds(lambda: not early.done())
    async with later.attempt():
        await early
    assert shown(dingtalk, asked) == ["the answer"]
    monkeypatch.setattr("adapters.dingtalk.api._SIGN_IN", 0.2)
    async with asyncio.timeout(1):  # they wait side by side
        late = [
            later.answers(asked, "too late", webhook=webhook) for webhook in ("", asked.reply_to) for _ in range(20)
        ]
        assert {type(each) for each in await asyncio.gather(*late, return_exceptions=True)} == {DeliveryUnavailable}


async def test_two_accounts_have_each_an_api_of_its_own(dingtalk: SimulatedDingTalk) -> None:
    async with SimulatedDingTalk(card=False) as elsewhere, running(dingtalk) as one, running(elsewhere) as other:
        assert (await one.hears("here")).text == "here"
        assert (await other.hears("there")).text == "there"
        assert [len(each.heard) for each in (one, other)] == [1, 1]
        assert elsewhere.complaints() == []


# ---- the stream ----


async def test_messages_that_come_in_a_burst_keep_their_order(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        bot.gate.clear()
        texts = [f"message {number}" for number in range(80)]
        for text in texts:
            delivery = await dingtalk.person_writes(text)
        await holds(lambda: not bot.heard)
        bot.gate.set()
        await bot.got(delivery)
        assert [message.text for message in bot.heard] == texts


async def test_an_acknowledgement_is_what_the_protocol_shows(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        await bot.hears("hello")
        await until(lambda: dingtalk.gateway.answers)
    (answer,) = dingtalk.gateway.answers
    assert (answer["code"], answer["message"], json.loads(answer["data"])) == (200, "OK", {"response": None})


@pytest.mark.parametrize("why", ["fails", Receipt.OVERLOADED, Receipt.CLOSED])
async def test_what_is_not_stored_is_not_acknowledged_in_any_way(dingtalk: SimulatedDingTalk, why: Any) -> None:
    async with running(dingtalk) as bot:
        bot.fails, bot.refuse = (True, None) if why == "fails" else (False, why)
        delivery = await dingtalk.person_writes("hello")
        await holds(lambda: not dingtalk.acknowledged(delivery) and not dingtalk.gateway.failed)
        bot.fails, bot.refuse = False, None
        assert dingtalk.gateway.after_a_minute() == 1
        await bot.got(delivery)
        await until(lambda: dingtalk.acknowledged(delivery) == 1)


async def test_over_quota_is_told_and_acknowledged(dingtalk: SimulatedDingTalk) -> None:
    with structlog.testing.capture_logs() as logs:
        async with running(dingtalk) as bot:
            for _ in range(3):
                dingtalk.push({"msgtype": "text", "errorCode": 20001, "errorMessage": "…", "conversationType": "1"})
            await until(lambda: sum(dingtalk.gateway.acknowledged.values()) == 3)
            assert bot.heard == []
    assert len([entry for entry in logs if "20001" in entry["event"]]) == 1


async def test_a_connection_that_breaks_is_replaced_at_once(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        for number in range(5):
            await dingtalk.drop()
            await until(dingtalk.links, seconds=2)
            assert (await bot.hears(f"message {number}")).text == f"message {number}"
        assert len(bot.calls(TOKEN)) == 1


async def test_an_app_without_a_stream_is_told_the_way_out(dingtalk: SimulatedDingTalk) -> None:
    dingtalk.api.faults.append(Fault((OPEN,), "param.error"))
    async with running(dingtalk) as bot:
        await until(lambda: bot.task is not None and bot.task.done())
        assert "Stream mode" in str(bot.ended())
        assert isinstance(bot.ended(), ConnectionLost)


async def test_a_connection_that_is_refused_is_left_to_the_supervisor(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        dingtalk.refuse_links(1)
        await dingtalk.drop()
        await until(lambda: bot.task is not None and bot.task.done())
        assert isinstance(bot.ended(), ConnectionLost)


async def test_an_announced_end_is_met_by_a_second_connection_and_loses_nothing(dingtalk: SimulatedDingTalk) -> None:
    dingtalk.gateway.farewell = 1.0
    async with running(dingtalk) as bot:
        bot.gate.clear()
        before = await dingtalk.person_writes("before")
        await until(dingtalk.gateway.unacknowledged)
        await holds(lambda: not bot.heard)
        await dingtalk.gateway.disconnect("bot")
        await until(lambda: dingtalk.links() == 2)
        after = await dingtalk.person_writes("after")
        bot.gate.set()
        await bot.got(before)
        await bot.got(after)
        await until(lambda: dingtalk.links() == 1)
        assert [dingtalk.acknowledged(each) for each in (before, after)] == [1, 1]
        assert bot.task is not None
        assert not bot.task.done()


async def test_what_comes_over_an_old_connection_after_the_announcement_is_taken(dingtalk: SimulatedDingTalk) -> None:
    dingtalk.gateway.farewell = 1.0
    async with running(dingtalk) as bot:
        await dingtalk.gateway.disconnect("bot", pushes_on=True)
        await until(lambda: dingtalk.links() == 2)
        old, new = dingtalk.gateway.open("bot")
        new.leaving = True  # the old one is the only one that is pushed to
        late = await dingtalk.person_writes("on its way")
        await bot.got(late)
        await until(lambda: dingtalk.acknowledged(late) == 1)
        new.leaving = False
        await until(lambda: dingtalk.gateway.open("bot") == [new])
        assert old.response.closed


async def test_a_platform_that_only_says_goodbye_is_left_to_the_supervisor(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        task = bot.task
        assert task is not None
        for _ in range(22):
            await until(lambda: task.done() or not all(each.leaving for each in dingtalk.gateway.open("bot")))
            await dingtalk.gateway.disconnect("bot")
        await until(task.done)
        assert isinstance(bot.ended(), ConnectionLost | RateLimited)


async def test_a_half_open_connection_is_noticed_by_a_ping(
    dingtalk: SimulatedDingTalk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.dingtalk.link._PONG_WITHIN", 0.2)
    monkeypatch.setattr("adapters.dingtalk.link._Client.keepalive.__defaults__", (0.05,))
    with structlog.testing.capture_logs() as logs:
        async with running(dingtalk) as bot:
            await holds(lambda: dingtalk.gateway.opened["bot"] == 1)
            dingtalk.go_silent()
            await until(lambda: dingtalk.gateway.opened["bot"] == 2, seconds=5)
            await dingtalk.listening()
            assert (await bot.hears("still there?")).text == "still there?"
    assert [entry["reason"] for entry in logs if entry["event"] == "a connection ends"] == [
        "no answer to a ping for 0.2 s"
    ]


@pytest.mark.parametrize("state", ["idle", "silent", "committing"])
async def test_cancelling_ends_within_two_seconds_and_leaves_nothing(dingtalk: SimulatedDingTalk, state: str) -> None:
    threads, tasks, loop = _threads(), asyncio.all_tasks(), asyncio.get_running_loop()
    async with running(dingtalk) as bot:
        if state == "silent":
            dingtalk.go_silent()
        elif state == "committing":
            bot.gate.clear()
            await dingtalk.person_writes("hello")
            await holds(lambda: not bot.heard)
        began = loop.time()
    assert loop.time() - began < 2
    assert _threads() == threads
    left = [repr(task) for task in asyncio.all_tasks() - tasks]
    assert not [task for task in left if "/adapters/" in task or "/dingtalk_stream/" in task]


def _threads() -> set[threading.Thread]:
    """But for those of the loop's own pool, which stay until the loop is closed."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


async def test_no_secret_is_logged_by_us_or_the_sdk(
    dingtalk: SimulatedDingTalk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with structlog.testing.capture_logs() as logs:
        async with running(dingtalk) as bot:
            asked = await bot.hears("hello")
            await bot.answers(asked, "hi")
            dingtalk.refuse_links(1)
            await dingtalk.drop()
            await until(lambda: bot.task is not None and bot.task.done())
    told = caplog.text + repr(logs) + repr(bot.adapter.__dict__["_config"])
    app = dingtalk.world.app("bot")
    secrets = [app.client_secret, *app.tokens, *dingtalk.world.sessions, "ticket="]
    assert not [secret for secret in secrets if secret in told]


# ---- messages ----


async def test_the_webhook_goes_first_and_calls_nobody(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        await bot.answers(asked, "# Plan\n\nfor @all")
        (body,) = bot.calls(WEBHOOK)
        assert set(body) == {"msgtype", "markdown"}
        assert body["markdown"]["title"] == "Plan"
        assert not bot.calls(GROUP)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {"until": 1},
        {"webhook": ""},
        {"webhook": "https://oapi.dingtalk.com.evil.example/robot/sendBySession?session=x"},
        {"webhook": "http://oapi.dingtalk.com/robot/sendBySession?session=x"},
        {"webhook": "https://user@oapi.dingtalk.com/robot/sendBySession?session=x"},
        {"webhook": "http://127.0.0.1:9/robot/sendBySession?session=x"},
        {"webhook": "not an address"},
    ],
)
async def test_without_a_webhook_of_dingtalks_the_api_is_used(
    dingtalk: SimulatedDingTalk, direct: bool, changes: dict[str, Any]
) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=direct)
        await bot.answers(asked, "the answer", **changes)
        assert shown(dingtalk, asked) == ["the answer"]
        assert len(bot.calls(ONE_TO_ONE if direct else GROUP)) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault((WEBHOOK,), "300001"),
        Fault((WEBHOOK,), "410100"),
        Fault((WEBHOOK,), "400105"),
        Fault((WEBHOOK,), "310000"),
        Fault((WEBHOOK,), "-1"),
        Fault((WEBHOOK,), "bare", status=404),
        Fault((WEBHOOK,), "bare", status=429),
        Fault((WEBHOOK,), "bare", status=503),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
@pytest.mark.parametrize("direct", [True, False])
async def test_a_webhook_that_refuses_is_followed_by_the_api(
    dingtalk: SimulatedDingTalk, fault: Fault, direct: bool
) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=direct)
        dingtalk.api.faults.append(replace(fault))
        await bot.answers(asked, "the answer")
        assert shown(dingtalk, asked) == ["the answer"]
        assert len(bot.calls(ONE_TO_ONE if direct else GROUP)) == 1


async def test_a_webhook_that_cannot_be_reached_is_followed_by_the_api(dingtalk: SimulatedDingTalk) -> None:
    """As where a firewall lets the API through and not the older half, where webhooks lead."""
    elsewhere = "http://127.0.0.1:9"
    async with running(dingtalk, oapi_url=elsewhere) as bot:
        asked = await bot.hears("hello", direct=False)
        await bot.answers(asked, "the answer", webhook=f"{elsewhere}/robot/sendBySession?session=x")
        assert shown(dingtalk, asked) == ["the answer"]


async def test_an_answer_without_a_body_leaves_in_doubt_what_was_sent(dingtalk: SimulatedDingTalk) -> None:
    """DingTalk says `errcode` or `processQueryKey`; with nothing at all answers a machine in between."""
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        dingtalk.api.faults += [Fault((call,), "bare", status=200) for call in (WEBHOOK, GROUP)]
        for webhook in ({}, {"webhook": ""}):
            with pytest.raises(DeliveryUncertain):
                await bot.answers(asked, "hello", **webhook)


async def test_twenty_messages_a_minute_go_by_webhook_and_the_rest_by_the_api(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        for number in range(25):
            await bot.answers(asked, f"part {number}")
        assert shown(dingtalk, asked) == [f"part {number}" for number in range(25)]
        assert (len(bot.calls(WEBHOOK)), len(bot.calls(GROUP))) == (20, 5)


async def test_a_throttled_webhook_is_left_alone(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        dingtalk.api.faults.append(Fault((WEBHOOK,), "limit", 600.0))
        for number in range(3):
            await bot.answers(asked, f"part {number}")
        assert (len(bot.calls(WEBHOOK)), len(bot.calls(GROUP))) == (1, 3)


async def test_somebody_from_outside_is_answered_by_webhook_alone(dingtalk: SimulatedDingTalk) -> None:
    dingtalk.world.person("eve").outside = True
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", user="eve")
        await bot.answers(asked, "the answer")
        assert shown(dingtalk, asked) == ["the answer"]
        with pytest.raises(TargetGone):
            await bot.answers(asked, "too late", until=1)
        dingtalk.api.faults.append(Fault((WEBHOOK,), "410100"))
        with pytest.raises(RateLimited) as limited:
            await bot.answers(asked, "too fast")
        assert limited.value.retry_after > 60
        with pytest.raises(RateLimited):  # DingTalk is not even asked
            await bot.answers(asked, "too fast again")
        assert len(bot.calls(WEBHOOK)) == 2


async def test_people_whom_the_api_does_not_write_to(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello")
        dingtalk.robots.throttled.add(dingtalk.world.person("ann").staff_id)
        with pytest.raises(RateLimited):
            await bot.answers(asked, "held back", webhook="")
        dingtalk.remove(asked.channel)
        with pytest.raises(TargetGone):
            await bot.answers(asked, "gone", webhook="")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("html", DeliveryUncertain),
        ("lost", DeliveryUncertain),
        ("430102", DingTalkError),
        ("400013", TargetGone),
    ],
)
async def test_what_no_other_way_would_mend_is_raised(
    dingtalk: SimulatedDingTalk, fault: str, kind: type[DeliveryError]
) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        dingtalk.api.faults.append(Fault((WEBHOOK,), fault))
        with pytest.raises(DeliveryError) as refused:
            await bot.answers(asked, "the answer")
        assert type(refused.value) is kind
        assert not bot.calls(GROUP)


async def test_a_limit_is_waited_out_for_that_call_alone_and_longer_each_time(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        direct = await bot.hears("hello")
        dingtalk.api.faults.append(Fault((GROUP,), "limit", 0.9))
        with pytest.raises(RateLimited) as limited:
            await bot.answers(asked, "one", webhook="")
        assert limited.value.retry_after == pytest.approx(1.0)
        with pytest.raises(RateLimited):  # DingTalk is not even asked
            await bot.answers(asked, "two", webhook="")
        assert len(bot.calls(GROUP)) == 1
        dingtalk.api.faults.append(Fault((ONE_TO_ONE,), "bare", 600.0, status=429))
        with pytest.raises(RateLimited) as limited:
            await bot.answers(direct, "another", webhook="")
        assert limited.value.retry_after == pytest.approx(600.0)
        token = await bot.adapter._api.token()
        assert token in dingtalk.world.app("bot").tokens


async def test_many_calls_at_once_stay_below_the_limit_per_second(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        began = asyncio.get_running_loop().time()
        await asyncio.gather(*(bot.answers(asked, f"answer {number}", webhook="") for number in range(45)))
        assert 2.0 < asyncio.get_running_loop().time() - began < 5.0
        assert len(shown(dingtalk, asked)) == len(bot.calls(GROUP)) == 45
        crowd = (bot.answers(asked, "one of many", webhook="") for _ in range(80))
        results = await asyncio.gather(*crowd, return_exceptions=True)
        assert {type(each) for each in results} == {type(None), RateLimited}


async def test_calls_that_are_refused_together_make_one_pause() -> None:
    clock = HeldClock()
    api = DingTalkApi("id", "secret", url="http://127.0.0.1:9", proxy=None, clock=clock)
    limited = RateLimited("too many calls", retry_after=1.0)
    assert api._longer("a call", limited).retry_after == 1.0
    await clock.advance(0.5)
    assert api._longer("a call", limited).retry_after == 0.5
    await clock.advance(0.5)
    assert [api._longer(each, limited).retry_after for each in ("a call", "another")] == [2.0, 1.0]
    for _ in range(9):
        await clock.advance(60)
        longest = api._longer("a call", limited).retry_after
    assert longest == 30.0


async def test_a_machine_that_is_shut_out_calls_nothing(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk) as bot:
        asked = await bot.hears("hello", direct=False)
        direct = await bot.hears("hello")
        dingtalk.api.faults.append(Fault((GROUP,), "punished"))
        with pytest.raises(RateLimited) as limited:
            await bot.answers(asked, "one", webhook="")
        assert limited.value.retry_after == pytest.approx(300.0)
        with pytest.raises(RateLimited):
            await bot.answers(direct, "another call", webhook="")
        assert not bot.calls(ONE_TO_ONE)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# The **plan**\n\nfirst", "The plan"),
        ("```\ncode\n```\n\n- an item\n- another", "an item"),
        ("> quoted words", "quoted words"),
        ("---", "…"),
        ("word " * 30, "word word word word word word word word…"),
    ],
)
def test_a_title_is_the_first_words(text: str, title: str) -> None:
    assert title_of(text) == title


@pytest.mark.parametrize("text", ["@all", "@所有人 hello", "@13800000000"])
def test_a_title_mentions_nobody(text: str) -> None:
    assert text not in title_of(text)


# ---- files ----


async def test_plain_http_is_asked_of_the_platform_by_https_alone(dingtalk: SimulatedDingTalk) -> None:
    from adapters.dingtalk.files import _safe

    assert _safe("http://wukong.oss-cn-beijing.aliyuncs.com/a%2Fb?Signature=5BNf%3D&Expires=1") == (
        "https://wukong.oss-cn-beijing.aliyuncs.com/a%2Fb?Signature=5BNf%3D&Expires=1"
    )
    for untouched in ("http://evil.example/x", "http://a.aliyuncs.com.evil.example/", "http://x.aliyuncs.com:81/"):
        assert _safe(untouched) == untouched
    with pytest.raises(FileRefused):
        _safe("http://[")


# ---- configuration, what is missing ----


def test_the_configuration_says_what_a_template_needs() -> None:
    assert Config().template is None
    ready, own = Config(card_template="ready-made").template, Config(card_template="x.schema", card_key="md").template
    assert ready is not None
    assert own is not None
    assert (ready.variable, own.id, own.variable, dict(own.settings)) == ("msgContent", "x.schema", "md", {})
    assert Config(card_template=ready.id).template == ready
    assert Config(client_id=" a ").robot == "a"
    assert Config(client_id="a").credentials_missing() == ("client_secret",)
    with pytest.raises(ValueError, match="not an address"):
        Config(api_url="api.dingtalk.com")
    assert "s3cret" not in repr(Config(client_secret=SecretStr("s3cret")))


async def test_what_cannot_be_seen_is_told_and_hides_nothing_else(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk, card_template="ready-made") as bot:
        dingtalk.world.app("bot").scopes.remove("Card.Streaming.Write")
        dingtalk.api.faults.append(Fault(("POST /v1.0/robot/messageFiles/download",), "bare", status=500))
        found = list(await bot.adapter.diagnose())
    assert ["qyapi_robot_sendmsg could not be seen" in each for each in found] == [True, False]
    assert "Card.Streaming.Write" in found[1]


async def test_what_an_account_lacks_is_told_with_the_way_out(dingtalk: SimulatedDingTalk) -> None:
    async with running(dingtalk, card_template="ready-made") as bot:
        assert list(await bot.adapter.diagnose()) == []
        dingtalk.world.app("bot").scopes.clear()
        found = "\n".join(await bot.adapter.diagnose())
        for scope in ("qyapi_robot_sendmsg", "Card.Instance.Write", "Card.Streaming.Write"):
            assert scope in found
    async with running(dingtalk, robot_code="dingother") as bot:
        dingtalk.world.app("bot").scopes.add("qyapi_robot_sendmsg")
        dingtalk.api.faults.append(
            Fault(("POST /v1.0/robot/messageFiles/download",), "invalidParameter.robotCode.notExsit")
        )
        assert ["robot_code" in each for each in await bot.adapter.diagnose()] == [True]
