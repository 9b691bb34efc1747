"""Feishu's HTTP API as we call it: tokens, typed errors, the pauses that it asks for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from adapters.feishu import api as module
from adapters.feishu.address import Address
from adapters.feishu.api import FeishuApi
from adapters.feishu.chats import Chats
from adapters.feishu.errors import CredentialsRefused, FeishuError, Gone
from adapters.feishu.pace import A_WHILE, AT_ONCE, PER_MINUTE, Pace
from adapters.feishu.reply import reply_to
from core.clock import SystemClock
from core.errors import (
    AuthenticationError,
    ConnectionLost,
    DeliveryError,
    DeliveryUnavailable,
    DeliveryUncertain,
    RateLimited,
)
from tests.clock import HeldClock
from tests.contract.world import holds, until
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_desk import KEY, api_for, desk

SECRET = "the-secret-of-the-app"
TOKEN_PATH = "/open-apis/auth/v3/tenant_access_token/internal"
ME = "/open-apis/bot/v3/info"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Scripted:
    """A server that answers what a test says."""

    url: str = ""
    token: dict[str, Any] = field(default_factory=lambda: {"code": 0, "tenant_access_token": "t-1", "expire": 7200})
    status: int = 200
    body: str = '{"code": 0}'
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    raw: bytes = b""
    gate: asyncio.Event | None = None
    """While it is there and not set, nobody gets a token."""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        self.raw = await request.read()
        if request.path == TOKEN_PATH:
            if self.gate is not None:
                await self.gate.wait()
            return web.json_response(self.token)
        return web.Response(status=self.status, text=self.body, headers=self.headers)

    def answers(self, code: int, *, status: int = 400, msg: str = "", **headers: str) -> None:
        self.status, self.body = status, json.dumps({"code": code, "msg": msg})
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @property
    def tokens(self) -> int:
        """How often a token was asked for."""
        return self.asked.count(TOKEN_PATH)


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    scripted = Scripted()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", scripted.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield scripted
    await runner.cleanup()


@pytest.fixture
def time() -> HeldClock:
    return HeldClock()


@pytest.fixture
async def api(server: Scripted, time: HeldClock) -> AsyncIterator[FeishuApi]:
    api = FeishuApi("cli_a1", SECRET, url=server.url, proxy=None, clock=time)
    await api.open()
    yield api
    await api.close()


@pytest.fixture
async def feishu() -> AsyncIterator[SimulatedFeishu]:
    async with SimulatedFeishu() as feishu:
        yield feishu
        assert feishu.complaints() == []


# The token


async def test_one_token_is_fetched_for_all_who_wait(server: Scripted, api: FeishuApi) -> None:
    server.gate = asyncio.Event()
    calls = [asyncio.create_task(api.call("GET", ME)) for _ in range(AT_ONCE)]
    await until(lambda: server.tokens)
    await holds(lambda: server.tokens == 1)
    server.gate.set()
    assert [answer["code"] for answer in await asyncio.gather(*calls)] == [0] * AT_ONCE
    assert server.tokens == 1


async def test_whoever_gives_up_waiting_takes_the_token_from_nobody(server: Scripted, api: FeishuApi) -> None:
    server.gate = asyncio.Event()
    impatient, patient = (asyncio.create_task(api.call("GET", ME)) for _ in range(2))
    await until(lambda: server.tokens)
    impatient.cancel()
    await asyncio.wait([impatient])
    server.gate.set()
    assert (await patient)["code"] == 0


async def test_a_token_without_an_end_lasts_as_long_as_others(
    server: Scripted, api: FeishuApi, time: HeldClock
) -> None:
    del server.token["expire"]
    await api.call("GET", ME)
    await time.advance(3600)
    await api.call("GET", ME)
    assert server.tokens == 1


async def test_a_token_is_renewed_before_its_end_and_nobody_waits_for_it(
    server: Scripted, api: FeishuApi, time: HeldClock
) -> None:
    await api.call("GET", ME)
    await time.advance(7200 - 1300)
    await api.call("GET", ME)
    assert server.tokens == 1
    await time.advance(200)
    server.gate = asyncio.Event()
    await api.call("GET", ME)  # the new one is not there, and not needed
    await until(lambda: server.tokens == 2)
    await api.call("GET", ME)
    assert server.tokens == 2
    server.token["tenant_access_token"] = "t-2"
    server.gate.set()
    await until(lambda: api._token._value == "t-2")
    await time.advance(6000)
    assert await api.token() == "t-2"


async def test_a_token_is_not_used_to_its_last_second(server: Scripted, api: FeishuApi, time: HeldClock) -> None:
    await api.token()
    await time.advance(7200 - 30)
    server.token["tenant_access_token"] = "t-2"
    assert await api.token() == "t-2"


async def test_a_server_without_tokens_is_not_asked_at_every_call(
    server: Scripted, api: FeishuApi, time: HeldClock
) -> None:
    await api.call("GET", ME)
    await time.advance(7200 - 1000)
    server.token = {"code": 2200, "msg": "internal error"}
    for _ in range(AT_ONCE):
        await api.call("GET", ME)
    await until(lambda: server.tokens == 2)
    await time.advance(61)
    await api.call("GET", ME)
    await until(lambda: server.tokens == 3)


@pytest.mark.parametrize("code", [99991661, 99991663, 99991671])
async def test_a_token_that_is_not_taken_is_replaced_once(server: Scripted, api: FeishuApi, code: int) -> None:
    server.answers(code)
    with pytest.raises(DeliveryUnavailable) as raised:
        await api.call("GET", ME)
    assert not isinstance(raised.value, CredentialsRefused)
    assert server.tokens == 2
    assert server.asked.count(ME) == 2
    assert not api.refused.is_set()


async def test_a_forgotten_token_costs_no_call(feishu: SimulatedFeishu) -> None:
    async with desk(feishu) as place:
        await place.reply().send("one", key="k-0")  # type: ignore[arg-type]  # a literal
        feishu.forget_tokens()
        await asyncio.gather(*(place.chats.api.call("GET", ME) for _ in range(10)))
        assert len(feishu.state.apps["bot"].tokens) == 1


async def test_signing_in_takes_the_right_secret(feishu: SimulatedFeishu) -> None:
    account = feishu.account()
    for id, secret in ((account["app_id"], "wrong"), ("cli_other", account["app_secret"]), ("x", "x")):
        api = FeishuApi(id, secret, url=feishu.url, proxy=None, clock=SystemClock())
        await api.open()
        with pytest.raises(AuthenticationError, match="copy both anew"):
            await api.sign_in()
        assert api.refused.is_set()
        await api.close()
    api = api_for(feishu)
    await api.open()
    await api.sign_in()
    assert not api.refused.is_set()
    feishu.refuse_credentials()
    with pytest.raises(CredentialsRefused):
        await api.call("GET", ME)
    assert api.refused.is_set()
    await api.close()


@pytest.mark.parametrize(
    ("code", "words"), [(10014, "api_url"), (10015, "copy both anew"), (99991662, "disabled"), (99991401, "allow list")]
)
async def test_what_only_a_person_can_help_is_said(server: Scripted, api: FeishuApi, code: int, words: str) -> None:
    server.token = {"code": code, "msg": "no"}
    with pytest.raises(AuthenticationError, match=words):
        await api.sign_in()
    assert api.refused.is_set()


@pytest.mark.parametrize("token", [{"code": 2200, "msg": "internal"}, {"code": 0}, {}, {"code": "x"}])
async def test_a_server_that_gives_no_token_may_later(server: Scripted, api: FeishuApi, token: dict[str, Any]) -> None:
    server.token = token
    with pytest.raises(ConnectionLost):
        await api.sign_in()
    assert not api.refused.is_set()


async def test_signing_out_ends_those_who_wait(server: Scripted, api: FeishuApi) -> None:
    server.gate = asyncio.Event()
    waiting = asyncio.create_task(api.call("GET", ME))
    await until(lambda: server.tokens)
    before = asyncio.all_tasks()
    await api.close()
    with pytest.raises(DeliveryUnavailable, match="not signed in"):
        await waiting
    assert not {task for task in before if "_renew" in repr(task) and not task.done()}
    with pytest.raises(DeliveryUnavailable, match="not signed in"):
        await api.call("GET", ME)
    await api.open()
    server.gate.set()
    assert (await api.call("GET", ME))["code"] == 0


async def test_the_secret_and_the_token_are_in_no_error(server: Scripted, api: FeishuApi) -> None:
    errors = []
    for code in (230002, 230001, 99991663, 99991662):
        server.answers(code, msg="no")
        with pytest.raises(DeliveryError) as raised:
            await api.call("GET", ME)
        errors.append(repr(raised.value))
    server.token = {"code": 10014, "msg": "app secret invalid"}
    with pytest.raises(AuthenticationError) as refused:
        await api.sign_in()
    assert SECRET not in repr((errors, refused.value, api, vars(refused.value)))
    assert "t-1" not in repr((errors, refused.value))


# Answers


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"code": 230002, "msg": "The bot can not be outside the group."}, Gone),
        (400, {"code": 230011, "msg": "The message is recalled."}, Gone),
        (400, {"code": 232009, "msg": "dissolved"}, Gone),
        (400, {"code": 230001, "msg": "invalid"}, FeishuError),
        (400, {"code": 99991672, "msg": "Access denied."}, FeishuError),
        (403, {"code": 99991673, "msg": "unauthorized app"}, CredentialsRefused),
        (400, {"code": 230049, "msg": "The message is being sent."}, DeliveryUncertain),
        (400, {"code": 2200, "msg": "internal error"}, DeliveryUncertain),
        (500, {"code": 77, "msg": "internal error"}, DeliveryUncertain),
        (400, {"code": 99991403, "msg": "quota"}, FeishuError),
        (200, {"code": 230013, "msg": "an error with status 200"}, Gone),
        (502, "<html>502 Bad Gateway</html>", DeliveryUncertain),
        (503, "", DeliveryUncertain),
        (200, "<html>a login page</html>", DeliveryUncertain),
        (200, "[1]", DeliveryUncertain),
        (200, '{"data": {}}', DeliveryUncertain),
        (200, '{"code": "0"}', DeliveryUncertain),
        (200, '{"code": true}', DeliveryUncertain),
        (403, "<html>a proxy says no</html>", DeliveryUnavailable),
        (302, "", DeliveryUnavailable),
        (404, "404 page not found", FeishuError),
        (413, "<html>too large</html>", DeliveryUnavailable),
    ],
)
async def test_every_answer_has_a_meaning(
    server: Scripted, api: FeishuApi, status: int, body: str | dict[str, Any], error: type[DeliveryError]
) -> None:
    server.status, server.body = status, body if isinstance(body, str) else json.dumps(body)
    server.headers = {"Location": "http://127.0.0.1:1/elsewhere"} if status == 302 else {}
    with pytest.raises(error) as raised:
        await api.call("POST", "/open-apis/im/v1/messages", body={})
    assert type(raised.value) is error
    assert api.refused.is_set() == (error is CredentialsRefused)


async def test_the_months_calls_are_used_up_with_the_way_out(server: Scripted, api: FeishuApi) -> None:
    server.answers(99991403, msg="This month's API call quota has been exceeded")
    with pytest.raises(FeishuError, match=r"99991403 .* used up .* administrator can get a larger plan"):
        await api.call("POST", "/open-apis/im/v1/messages", body={})


async def test_without_a_connection_nothing_was_sent(server: Scripted) -> None:
    api = FeishuApi("cli_a1", SECRET, url="http://127.0.0.1:9", proxy=None, clock=SystemClock())
    await api.open()
    with pytest.raises(DeliveryUnavailable):
        await api.call("GET", ME)
    with pytest.raises(ConnectionLost):
        await api.sign_in()
    await api.close()


async def test_a_broken_connection_leaves_a_doubt(feishu: SimulatedFeishu) -> None:
    async with desk(feishu) as place:
        feishu.break_send(after=True)
        with pytest.raises(DeliveryUncertain):
            await place.reply().send("x", key="k-0")  # type: ignore[arg-type]  # a literal


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST", "PATCH"])
async def test_what_is_true_when_said_twice_is_said_again_where_a_kept_connection_ends(method: str) -> None:
    """The server may have taken the first one; a message is never sent twice."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers the first request of each connection, and hangs up on the second."""
        body = b'{"code": 0, "tenant_access_token": "t-1", "expire": 7200}'
        asked.append(await reader.read(65_536))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        asked.append(await reader.read(65_536))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        api = FeishuApi("cli_a1", SECRET, url=url, proxy=None, clock=SystemClock())
        await api.open()
        try:
            call = api.call(method, "/open-apis/im/v1/messages", body=None if method == "GET" else {"a": 1})
            if method in ("POST", "PATCH"):
                with pytest.raises(DeliveryUncertain, match="StaleConnection"):
                    await call
            else:
                await call
        finally:
            await api.close()
    said = [request for request in asked if request.startswith(method.encode()) and b"/messages" in request]
    assert len(said) == (1 if method in ("POST", "PATCH") else 2)


async def test_bodies_are_sent_as_short_as_they_are(server: Scripted, api: FeishuApi) -> None:
    await api.call("POST", "/open-apis/im/v1/messages", body={"content": "答案 \ud83d"})
    assert server.raw.decode() == '{"content":"答案 ?"}'


async def test_the_api_may_be_below_a_path(server: Scripted, time: HeldClock) -> None:
    api = FeishuApi("cli_a1", SECRET, url=f"{server.url}/feishu/", proxy=None, clock=time)
    await api.open()
    server.token = {"code": 1}
    with pytest.raises(ConnectionLost):
        await api.sign_in()
    assert server.asked == [f"/feishu{TOKEN_PATH}"]
    await api.close()


async def test_a_message_without_an_id_was_sent_all_the_same(server: Scripted, api: FeishuApi, time: HeldClock) -> None:
    reply = reply_to(Chats(api, time), Address(message_id="", chat_id="oc_1"))
    assert await reply.send("Because.", key=KEY) is None
    assert server.asked.count("/open-apis/im/v1/messages") == 1


# Pauses


async def test_the_pause_of_an_api_is_kept_and_is_no_others(server: Scripted, api: FeishuApi, time: HeldClock) -> None:
    card = "/open-apis/cardkit/v1/cards/{}/elements/answer/content"
    server.answers(99991400, status=429, x_ogw_ratelimit_reset="52")
    with pytest.raises(RateLimited) as limited:
        await api.call("PUT", card.format("7355372766134157313"), body={})
    assert limited.value.retry_after == 52
    server.answers(0, status=200)
    asked = len(server.asked)
    await time.advance(50)
    with pytest.raises(RateLimited) as refused:
        await api.call("PUT", card.format("7355372766134157314"), body={})
    assert refused.value.retry_after == pytest.approx(2)
    assert len(server.asked) == asked
    await api.call("PUT", "/open-apis/cardkit/v1/cards/7355372766134157313", body={})
    await time.advance(2.1)
    await api.call("PUT", card.format("7355372766134157314"), body={})


@pytest.mark.parametrize("answer", [{"code": 99991400, "status": 400}, {"code": 0, "status": 429}])
async def test_a_limit_without_a_time_is_a_second(server: Scripted, api: FeishuApi, answer: dict[str, int]) -> None:
    server.answers(answer["code"], status=answer["status"])
    with pytest.raises(RateLimited) as limited:
        await api.call("GET", ME)
    assert limited.value.retry_after == 1


async def test_the_limit_of_a_chat_is_no_other_chats(server: Scripted, api: FeishuApi, time: HeldClock) -> None:
    server.answers(230020)
    with pytest.raises(RateLimited):
        await api.call("POST", "/open-apis/im/v1/messages", body={}, pace="oc_1")
    server.answers(0, status=200)
    with pytest.raises(RateLimited):
        await api.call("POST", "/open-apis/im/v1/messages/om_1/reply", body={}, pace="oc_1")
    await api.call("POST", "/open-apis/im/v1/messages", body={}, pace="oc_2")
    await time.advance(1.1)
    await api.call("POST", "/open-apis/im/v1/messages", body={}, pace="oc_1")


async def test_one_chat_gets_less_than_five_messages_a_second(
    server: Scripted, api: FeishuApi, time: HeldClock
) -> None:
    await api.token()
    path = "/open-apis/im/v1/messages"
    calls = [asyncio.create_task(api.call("POST", path, body={}, pace="oc_1")) for _ in range(60)]
    other = asyncio.create_task(api.call("POST", path, body={}, pace="oc_2"))
    await other
    await until(lambda: server.asked.count(path) == 2)
    await holds(lambda: server.asked.count(path) == 2)
    refused = [call for call in calls if call.done() and call.exception() is not None]
    taken = len(calls) - len(refused)
    assert taken in (32, 33)  # 8 seconds' worth
    assert all(isinstance(call.exception(), RateLimited) for call in refused)
    for done in range(5):
        await time.advance(0.2)
        await holds(lambda: server.asked.count(path) == done + 2)  # noqa: B023 - looked at at once
        await time.advance(0.05)
        await until(lambda: server.asked.count(path) >= done + 3)  # noqa: B023
        assert server.asked.count(path) == done + 3
    await time.advance(8)
    await until(lambda: server.asked.count(path) == taken + 1)
    await asyncio.gather(*calls, return_exceptions=True)


async def test_each_api_gets_its_calls_a_second_and_never_all_at_once(time: HeldClock) -> None:
    pace, made = Pace(time), Counter[str]()

    async def call(api: str) -> None:
        await pace.turn(api)
        made[api] += 1

    calls = [asyncio.create_task(call(api)) for api in ("GET x",) * 100 + ("GET y",)]
    await time.advance(0)
    for tenths in range(40):
        assert made["GET x"] <= AT_ONCE * (1 + tenths // 3)
        assert made["GET y"] == 1
        await time.advance(0.1)
    await asyncio.gather(*calls)
    assert AT_ONCE / A_WHILE * 1.3 + AT_ONCE < 50  # a third of a second closer together


async def test_each_api_gets_its_calls_a_minute(time: HeldClock) -> None:
    pace = Pace(time)
    for _ in range(PER_MINUTE // AT_ONCE):
        for _ in range(AT_ONCE):
            await pace.turn("GET x")
        await time.advance(0.5)
    with pytest.raises(RateLimited) as limited:
        await pace.turn("GET x")
    assert limited.value.retry_after == pytest.approx(60 - 0.5 * PER_MINUTE / AT_ONCE)
    await time.advance(limited.value.retry_after + 0.001)
    await pace.turn("GET x")
    assert PER_MINUTE < 1000


def test_an_api_is_known_whatever_it_is_called_for() -> None:
    for path, api in (
        ("/open-apis/im/v1/messages/om_dc13264520392913993dd051dba21dcf/reply", "/open-apis/im/v1/messages/:id/reply"),
        ("/open-apis/im/v1/messages/om_a1/reactions/ZCaCIjUBVV%2A", "/open-apis/im/v1/messages/:id/reactions/:id"),
        (
            "/open-apis/cardkit/v1/cards/7355/elements/answer/content",
            "/open-apis/cardkit/v1/cards/:id/elements/answer/content",
        ),
        ("/open-apis/bot/v3/info", "/open-apis/bot/v3/info"),
        ("/open-apis/im/v1/messages/om_abc/reply", "/open-apis/im/v1/messages/:id/reply"),
        ("/open-apis/im/v1/chats", "/open-apis/im/v1/chats"),
        (TOKEN_PATH, TOKEN_PATH),
    ):
        assert module._ID.sub("/:id", path) == api
