"""The web chat's server side: who is let in, what a socket may say, and what it is told."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from adapters.web import SPEC, Config, WebAdapter
from adapters.web.visitor import new_token
from core.account import AccountConfig
from core.adapter import Failure, FailureCode, IdempotencyKey, Receipt
from core.clock import SystemClock
from core.errors import StorageUnavailable
from core.headroom import Headroom
from core.host import Host
from core.journal import Outcome, Quota, TurnState
from core.keys import KeyRing, new_key
from core.limits import Limits, LimitSettings, MessageRates
from core.messages import AccountId, ConversationKey, InboundMessage, Scope
from core.paid import PaidCalls
from core.storage.sqlite import SqliteStore

ACCOUNT = AccountId("web")
Event = dict[str, Any]


@dataclass
class Gateway:
    """What stands behind the adapter: a real store, and an inbox that does what the test says."""

    store: SqliteStore
    adapter: WebAdapter
    keys: KeyRing
    client: TestClient[web.Request, web.Application]
    received: list[InboundMessage] = field(default_factory=list)
    receipt: Receipt | Exception = Receipt.ACCEPTED
    stopped: list[ConversationKey] = field(default_factory=list)
    welcome: bool = True
    """Whether people may talk to the bot."""

    async def inbox(self, message: InboundMessage) -> Receipt:
        if isinstance(self.receipt, Exception):
            raise self.receipt
        if self.receipt is not Receipt.ACCEPTED:
            return self.receipt
        key = ConversationKey.of(message, Scope.THREAD)
        if message.text == "/forget yes":
            await self.store.forget(key)
            await self.adapter.reply(message.reply_to).send("Forgotten.", key=IdempotencyKey(f"k-{message.id}"))
            return Receipt.ACCEPTED
        accepted = await self.store.accept(message, key, Quota())
        if accepted.receipt is Receipt.ACCEPTED:
            self.received.append(message)
        return accepted.receipt

    async def answer(self, text: str) -> None:
        """Do what the dispatcher does for the oldest message that waits."""
        message = self.received[-1]
        key = ConversationKey.of(message, Scope.THREAD)
        turn = await self.store.begin(key, most=1, idle_after=None)
        assert turn is not None
        for part in await self.store.finish(turn, Outcome(state=TurnState.COMPLETE, parts=(text,))):
            await self.adapter.reply(message.reply_to).send(part.text, key=part.key)
            await self.store.sent(part, None)

    @property
    def origin(self) -> dict[str, str]:
        return {"Origin": f"http://{self.client.host}:{self.client.port}"}

    async def session(self) -> Event:
        response = await self.client.post("/web/session", headers=self.origin)
        assert response.status == 200
        body: Event = await response.json()
        return body

    @asynccontextmanager
    async def socket(self, csrf: str | None = None) -> AsyncIterator[Tab]:
        """A tab that has said hello."""
        session = await self.session()
        async with self.client.ws_connect("/web/socket", headers=self.origin) as socket:
            tab = Tab(socket)
            await tab.say(type="hello", csrf=session["csrf"] if csrf is None else csrf)
            yield tab


@dataclass
class Tab:
    """One socket of a page."""

    socket: aiohttp.ClientWebSocketResponse

    async def say(self, **message: Any) -> None:
        await self.socket.send_json(message)

    async def hear(self, kind: str) -> Event:
        """The next message of this kind; others are passed over."""
        async with asyncio.timeout(20):
            while True:
                received = await self.socket.receive()
                assert received.type is aiohttp.WSMsgType.TEXT, received
                event: Event = json.loads(received.data)
                if event["type"] == kind:
                    return event

    async def closed(self) -> int | None:
        """Wait until the server closes; the code."""
        async with asyncio.timeout(20):
            while (await self.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        return self.socket.close_code


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Makes a gateway behind the web adapter; one per test."""
    stack: list[Callable[[], Any]] = []

    async def build(*, required: bool = False, secure: bool = False) -> Gateway:
        clock = SystemClock()
        store = SqliteStore(tmp_path / "data" / "web.db", clock=clock)
        await store.__aenter__()
        keys = KeyRing((), required=required)
        adapter = WebAdapter(ACCOUNT, Config())
        limits = Limits(LimitSettings())
        stopped: list[ConversationKey] = []

        def stop(key: ConversationKey) -> bool:
            stopped.append(key)
            return True

        adapter.host(
            Host(
                journal=store,
                archive=store,
                chat=None,  # type: ignore[arg-type]  # the page never asks a model
                clock=clock,
                keys=keys,
                rates=MessageRates(limits, clock),
                limits=limits,
                paid=PaidCalls(store, limits, Headroom(), clock),
                models=lambda: ("small", "large"),
                notice=lambda: "Be kind.",
                wake=lambda _: None,
                stop=stop,
                secure_cookies=secure,
            )
        )
        app = web.Application()
        app.add_routes(adapter.routes())
        await adapter.__aenter__()
        client = TestClient(TestServer(app), cookie_jar=aiohttp.CookieJar(unsafe=True))
        await client.start_server()
        gateway = Gateway(store, adapter, keys, client, stopped=stopped)
        adapter.ask_leave(lambda _: gateway.welcome)
        receiving = asyncio.create_task(adapter.run(gateway.inbox))

        async def end() -> None:
            receiving.cancel()
            with suppress(asyncio.CancelledError):
                await receiving
            await adapter.__aexit__(None, None, None)
            await client.close()
            await store.__aexit__(None, None, None)

        stack.append(end)
        return gateway

    yield build
    for end in stack:
        await end()


@pytest.fixture
async def gateway(make: Callable[..., Any]) -> Gateway:
    made: Gateway = await make()
    return made


def grant(keys: KeyRing, namespace: str, *scopes: str) -> str:
    """A key that is valid from now on, in place of all earlier ones."""
    key, secret = new_key("test", namespace=namespace, scopes=scopes or ("chat",), clock=SystemClock())
    from core.keys import digest

    keys.load([(key, digest(secret))])
    return secret


# The page


async def test_every_answer_has_the_headers_that_keep_the_page_safe(gateway: Gateway) -> None:
    for path in ("/", f"/web/{gateway.adapter.version}/app.js", f"/web/{gateway.adapter.version}/icon.svg"):
        response = await gateway.client.get(path)
        assert response.status == 200, path
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in response.headers["Content-Security-Policy"]
        assert "unsafe" not in response.headers["Content-Security-Policy"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "camera=()" in response.headers["Permissions-Policy"]
        assert "Set-Cookie" not in response.headers


async def test_the_page_is_light_and_complete_and_asks_no_other_host(gateway: Gateway) -> None:
    index = await (await gateway.client.get("/")).text()
    names, size = {"app.js"}, len(index)
    seen: set[str] = set()
    names |= set(re.findall(r"/web/[0-9a-f]{12}/([\w.]+)", index))
    while names - seen:
        name = (names - seen).pop()
        seen.add(name)
        response = await gateway.client.get(f"/web/{gateway.adapter.version}/{name}")
        assert response.status == 200, name
        assert "immutable" in response.headers["Cache-Control"]
        text = await response.text()
        names |= set(re.findall(r'from "\./([\w.]+)"', text))
        assert re.findall(r"https?://(?!www\.w3\.org/)[^\s\"'`]*", text) == [], name
        size += int(response.headers["Content-Length"])  # as it is sent: packed
    assert {"app.js", "chat.js", "app.css", "icon.svg", "boot.js"} <= seen
    assert size < 60_000


@pytest.mark.parametrize(
    "path",
    ["/web/000000000000/app.js", "/web/{}/missing.js", "/web/{}/index.html", "/web/{}/..%2Fadapter.py", "/web/{}/.."],
)
async def test_there_is_nothing_else(gateway: Gateway, path: str) -> None:
    response = await gateway.client.get(path.format(gateway.adapter.version), allow_redirects=False)
    assert response.status == 404


# Who may come in


async def test_a_browser_keeps_its_cookie_and_scripts_cannot_read_it(gateway: Gateway) -> None:
    response = await gateway.client.post("/web/session", headers=gateway.origin)
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Secure" not in cookie
    first = response.cookies["chatgpt_ms_browser"].value
    again = await gateway.client.post("/web/session", headers=gateway.origin)
    assert again.cookies["chatgpt_ms_browser"].value == first


async def test_over_https_the_cookie_is_bound_to_it(make: Callable[..., Any]) -> None:
    gateway = await make(secure=True)
    response = await gateway.client.post("/web/session", headers=gateway.origin)
    assert response.headers["Set-Cookie"].startswith("__Host-chatgpt_ms_browser=")
    assert "Secure" in response.headers["Set-Cookie"]


@pytest.mark.parametrize("path", ["/web/session", "/web/login", "/web/logout"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://[::1"},
        {"Origin": "file://"},
        {"Origin": "own", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "own", "Sec-Fetch-Site": "same-site"},
    ],
)
async def test_requests_of_other_sites_are_refused(gateway: Gateway, path: str, headers: dict[str, str]) -> None:
    if headers.get("Origin") == "own":
        headers = headers | gateway.origin
    response = await gateway.client.post(path, json={"key": "x"}, headers=headers)
    assert response.status == 403
    assert "Set-Cookie" not in response.headers
    await gateway.session()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await gateway.client.ws_connect("/web/socket", headers=headers)
    assert refused.value.status == 403


async def test_behind_a_proxy_that_ends_tls_the_origin_is_https(gateway: Gateway) -> None:
    headers = {"Origin": "https://chat.example", "Host": "chat.example"}
    assert (await gateway.client.post("/web/session", headers=headers)).status == 200
    headers = {"Origin": "https://chat.example", "Host": "chat.example:443"}
    assert (await gateway.client.post("/web/session", headers=headers)).status == 200
    headers = {"Origin": "https://chat.example:8443", "Host": "chat.example"}
    assert (await gateway.client.post("/web/session", headers=headers)).status == 403


async def test_a_socket_needs_a_browser_and_the_token_of_our_own_page(gateway: Gateway) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await gateway.client.ws_connect("/web/socket", headers=gateway.origin)
    assert refused.value.status == 401
    for csrf in ("", "0" * 64, "ä"):
        async with gateway.socket(csrf) as tab:
            assert await tab.closed() == 1008
    async with gateway.socket() as tab:
        ready = await tab.hear("ready")
        assert ready["notice"] == "Be kind."
        assert ready["models"] == ["small", "large"]
        assert ready["version"] == gateway.adapter.version


@pytest.mark.parametrize("cookie", ["", "short", "x" * 42, "x" * 44, "é" * 43, "../" + "x" * 40, '"' + "x" * 42])
async def test_a_cookie_that_cannot_be_ours_is_replaced(gateway: Gateway, cookie: str) -> None:
    header = {"Cookie": f"chatgpt_ms_browser={cookie}"}
    response = await gateway.client.post("/web/session", headers=gateway.origin | header)
    assert response.status == 200
    assert len(response.cookies["chatgpt_ms_browser"].value) == len(new_token())
    assert response.cookies["chatgpt_ms_browser"].value != cookie


# Keys


async def test_without_a_key_nothing_opens_and_with_one_it_does(make: Callable[..., Any]) -> None:
    gateway = await make(required=True)
    key = grant(gateway.keys, "ada")
    assert (await gateway.session())["welcome"] is False
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await gateway.client.ws_connect("/web/socket", headers=gateway.origin)
    for wrong in ("", "cms-wrong", key[:-1], None, 5, [key]):
        response = await gateway.client.post("/web/login", json={"key": wrong}, headers=gateway.origin)
        assert response.status == 401
    response = await gateway.client.post("/web/login", json={"key": f" {key}\n"}, headers=gateway.origin)
    assert response.status == 200
    assert key not in response.headers["Set-Cookie"]
    assert (await gateway.session())["welcome"] is True
    async with gateway.socket() as tab:
        assert (await tab.hear("ready"))["keys"] is True


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'"key"', 400),
        (b'{"key": 1}', 401),
        (b"x" * 10_000, 413),
        (b"\xff", 400),
    ],
)
async def test_a_bad_login_body_is_the_callers_fault(make: Callable[..., Any], body: bytes, status: int) -> None:
    gateway = await make(required=True)
    await gateway.session()
    headers = gateway.origin | {"Content-Type": "application/json"}
    assert (await gateway.client.post("/web/login", data=body, headers=headers)).status == status
    headers["Content-Type"] = "text/plain"
    assert (await gateway.client.post("/web/login", data=body, headers=headers)).status == 415


async def test_guessing_keys_is_slow(make: Callable[..., Any]) -> None:
    gateway = await make(required=True)
    await gateway.session()
    statuses = []
    for _ in range(12):
        response = await gateway.client.post("/web/login", json={"key": "guess"}, headers=gateway.origin)
        statuses.append(response.status)
    assert statuses[0] == 401
    assert statuses[-1] == 429


async def test_a_key_without_the_scope_chat_opens_nothing(make: Callable[..., Any]) -> None:
    gateway = await make(required=True)
    key = grant(gateway.keys, "ops", "admin")
    await gateway.session()
    assert (await gateway.client.post("/web/login", json={"key": key}, headers=gateway.origin)).status == 401


async def test_the_proof_is_worthless_in_another_browser_and_after_the_key_is_revoked(make: Callable[..., Any]) -> None:
    gateway = await make(required=True)
    key = grant(gateway.keys, "ada")
    await gateway.session()
    response = await gateway.client.post("/web/login", json={"key": key}, headers=gateway.origin)
    login = response.cookies["chatgpt_ms_login"].value
    stolen = {"Cookie": f"chatgpt_ms_browser={new_token()}; chatgpt_ms_login={login}"}
    gateway.client.session.cookie_jar.clear()
    response = await gateway.client.post("/web/session", headers=gateway.origin | stolen)
    assert (await response.json())["welcome"] is False

    await gateway.session()
    await gateway.client.post("/web/login", json={"key": key}, headers=gateway.origin)
    async with gateway.socket() as tab:
        await tab.hear("ready")
        gateway.keys.load([])
        await tab.say(type="list")
        assert await tab.closed() == 1008
    assert (await gateway.session())["welcome"] is False


async def test_signing_out_closes_the_tabs_of_this_browser(make: Callable[..., Any]) -> None:
    gateway = await make(required=True)
    key = grant(gateway.keys, "ada")
    await gateway.session()
    await gateway.client.post("/web/login", json={"key": key}, headers=gateway.origin)
    async with gateway.socket() as tab:
        await tab.hear("ready")
        assert (await gateway.client.post("/web/logout", headers=gateway.origin)).status == 200
        assert await tab.closed() == 4010
    assert (await gateway.session())["welcome"] is False


async def test_two_namespaces_in_one_browser_never_meet(make: Callable[..., Any]) -> None:
    gateway = await make(required=True)
    for namespace in ("ada", "bob"):
        key = grant(gateway.keys, namespace)
        await gateway.session()
        await gateway.client.post("/web/login", json={"key": key}, headers=gateway.origin)
        async with gateway.socket() as tab:
            await tab.say(type="open", conversation="conversation-1")
            assert (await tab.hear("conversation"))["turns"] == []
            await tab.say(type="send", conversation="conversation-1", client_id=f"question-{namespace}", text="mine")
            await tab.hear("accepted")
    ada, bob = gateway.received
    assert ada.channel != bob.channel


# What a socket may say


async def test_a_question_becomes_a_message_of_this_browser(gateway: Gateway) -> None:
    async with gateway.socket() as tab:
        await tab.say(
            type="send",
            conversation="conversation-1",
            client_id="question-1",
            text=" Hello\n**you** ",
            language="zh-CN",
        )
        assert (await tab.hear("accepted"))["client_id"] == "question-1"
    (message,) = gateway.received
    assert message.text == " Hello\n**you** "
    assert message.is_direct
    assert message.mentions_bot
    assert message.sender.locale == "zh-CN"
    assert str(message.channel) == message.sender.id
    assert re.fullmatch("[0-9a-f]{32}", message.channel)
    assert message.thread == "conversation-1"
    token = next(iter(gateway.client.session.cookie_jar)).value
    assert token not in repr(message)


async def test_a_question_that_is_sent_again_is_the_same_event(gateway: Gateway) -> None:
    question = {"type": "send", "conversation": "conversation-1", "client_id": "question-1", "text": "Hello"}
    async with gateway.socket() as tab:
        await tab.say(**question)
        await tab.hear("accepted")
    async with gateway.socket() as tab:
        await tab.say(**question)
        await tab.hear("accepted")
        await tab.say(type="open", conversation="conversation-1")
        turns = (await tab.hear("conversation"))["turns"]
    assert [turn["question"] for turn in turns] == ["Hello"]
    assert len(gateway.received) == 1


async def test_two_browsers_may_use_the_same_ids_and_share_nothing(gateway: Gateway) -> None:
    question = {"type": "send", "conversation": "conversation-1", "client_id": "question-1"}
    async with gateway.socket() as tab:
        await tab.say(**question, text="of the first")
        await tab.hear("accepted")
        await gateway.answer("answer to the first")
    gateway.client.session.cookie_jar.clear()
    async with gateway.socket() as tab:
        assert (await tab.hear("conversations"))["conversations"] == []
        await tab.say(type="open", conversation="conversation-1")
        assert (await tab.hear("conversation"))["turns"] == []
        await tab.say(**question, text="of the second")
        await tab.hear("accepted")
        await tab.say(type="delete", conversation="conversation-1")
        await tab.hear("deleted")
    first, second = gateway.received
    assert first.event != second.event
    stored = await gateway.store.turns(ConversationKey.of(first, Scope.THREAD))
    assert [turn.answer for turn in stored] == ["answer to the first"]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "not json",
        "[]",
        "null",
        '{"type": "unknown"}',
        '{"type": "send"}',
        '{"type": "send", "conversation": "conversation-1", "client_id": "question-1", "text": ""}',
        '{"type": "send", "conversation": "conversation-1", "client_id": "question-1", "text": 5}',
        '{"type": "send", "conversation": "conversation-1", "client_id": "question-1", "text": "\\ud800"}',
        '{"type": "send", "conversation": "conversation-1", "client_id": "short", "text": "x"}',
        '{"type": "send", "conversation": "../../etc", "client_id": "question-1", "text": "x"}',
        '{"type": "send", "conversation": "conversation-1\\n", "client_id": "question-1", "text": "x"}',
        '{"type": "open", "conversation": "conversation-1", "turns": 1000000}',
        '{"type": "open", "conversation": {"a": 1}}',
        '{"type": "open", "conversation": "conversation-1", "browser": "another"}',
        "[" * 5000,
    ],
)
async def test_nonsense_is_told_so_and_changes_nothing(gateway: Gateway, message: str) -> None:
    async with gateway.socket() as tab:
        await tab.socket.send_str(message)
        assert (await tab.hear("error"))["code"] == "bad_message"
        await tab.say(type="list")
        await tab.hear("conversations")
    assert gateway.received == []


async def test_bytes_and_messages_without_end_close_the_socket(gateway: Gateway) -> None:
    async with gateway.socket() as tab:
        await tab.hear("ready")
        await tab.socket.send_str('{"type": "list", "x": "' + "x" * 600_000 + '"}')
        assert await tab.closed() == 1009
    async with gateway.socket() as tab:
        await tab.hear("ready")
        await tab.socket.send_bytes(b"\x00")
        await tab.closed()
        assert tab.socket.closed


@pytest.mark.parametrize(
    ("receipt", "reason"),
    [
        (Receipt.OVERLOADED, "overloaded"),
        (Receipt.CLOSED, "closed"),
        (Receipt.REFUSED, "refused"),
        (Receipt.IGNORED, "ignored"),
        (Receipt.STALE, "stale"),
        (StorageUnavailable("the disk is full"), "storage"),
    ],
)
async def test_a_question_that_is_not_stored_is_rejected(
    gateway: Gateway, receipt: Receipt | Exception, reason: str
) -> None:
    gateway.receipt = receipt
    async with gateway.socket() as tab:
        await tab.say(type="send", conversation="conversation-1", client_id="question-1", text="Hello")
        assert (await tab.hear("rejected")) == {"type": "rejected", "client_id": "question-1", "reason": reason}
        gateway.receipt = Receipt.ACCEPTED
        await tab.say(type="send", conversation="conversation-1", client_id="question-1", text="Hello")
        await tab.hear("accepted")


async def test_the_stop_of_somebody_who_may_not_talk_stops_nothing(gateway: Gateway) -> None:
    async with gateway.socket() as tab:
        gateway.welcome = False
        await tab.say(type="stop", conversation="conversation-1")
        await tab.say(type="nonsense")
        await tab.hear("error")  # the stop was heard before
    assert gateway.stopped == []


async def test_stop_and_retry_reach_this_conversation_alone(gateway: Gateway) -> None:
    async with gateway.socket() as tab:
        await tab.say(type="stop", conversation="conversation-1")
        await tab.say(type="retry", conversation="conversation-1", client_id="question-1")
        await tab.hear("accepted")
    (message,) = gateway.received
    assert message.text == "/retry"
    assert gateway.stopped == [ConversationKey(ACCOUNT, channel=message.channel, thread=message.thread)]


# What a page is told


async def test_every_tab_hears_questions_and_answers_of_what_it_shows(gateway: Gateway) -> None:
    async with gateway.socket() as first, gateway.socket() as second, gateway.socket() as elsewhere:
        for tab in (first, second):
            await tab.say(type="open", conversation="conversation-1")
            await tab.hear("conversation")
        await elsewhere.say(type="open", conversation="conversation-2")
        await elsewhere.hear("conversation")
        await first.say(type="send", conversation="conversation-1", client_id="question-1", text="Hello?")
        assert (await second.hear("question"))["text"] == "Hello?"
        await gateway.answer("*Hello*")
        for tab in (first, second):
            answer = await tab.hear("answer")
            assert answer["settled"] + answer["tail"] == "<p><em>Hello</em></p>\n"
            assert (answer["from"], answer["state"], answer["message"]) == (0, "done", "question-1")
        listed = (await elsewhere.hear("conversations"))["conversations"]
        while not listed:
            listed = (await elsewhere.hear("conversations"))["conversations"]
        assert [item["title"] for item in listed] == ["Hello?"]


async def test_a_page_that_comes_late_gets_the_answer_so_far_and_the_rest(gateway: Gateway) -> None:
    async with gateway.socket() as tab:
        await tab.say(type="send", conversation="conversation-1", client_id="question-1", text="Hello?")
        await tab.hear("accepted")
    (message,) = gateway.received
    turn = await gateway.store.begin(ConversationKey.of(message, Scope.THREAD), most=1, idle_after=None)
    assert turn is not None
    channel = gateway.adapter.reply(message.reply_to)
    async with channel.stream(key=turn.part_key(0)) as sink:  # type: ignore[attr-defined]  # the adapter's own class
        await sink.append("one\n\ntwo\n\nthr")
        async with gateway.socket() as tab:
            await tab.say(type="open", conversation="conversation-1")
            (shown,) = (await tab.hear("conversation"))["turns"]
            assert (shown["state"], shown["html"], shown["message"]) == ("running", "", "question-1")
            answer = await tab.hear("answer")
            assert (answer["from"], answer["state"]) == (0, "running")
            html = answer["settled"]
            count = 1
            await sink.append("ee\n\nfour")
            answer = await tab.hear("answer")
            assert answer["from"] == count
            html += answer["settled"]
            assert html + answer["tail"] == "<p>one</p>\n<p>two</p>\n<p>three</p>\n<p>four</p>\n"


async def test_a_page_that_comes_between_the_last_word_and_its_commit_is_told_that_it_was_the_last(
    gateway: Gateway,
) -> None:
    async with gateway.socket() as tab:
        await tab.say(type="send", conversation="conversation-1", client_id="question-1", text="Hello?")
        await tab.hear("accepted")
    (message,) = gateway.received
    turn = await gateway.store.begin(ConversationKey.of(message, Scope.THREAD), most=1, idle_after=None)
    assert turn is not None
    channel = gateway.adapter.reply(message.reply_to)
    async with channel.stream(key=turn.part_key(0)) as sink:  # type: ignore[attr-defined]  # the adapter's own class
        await sink.append("one")
    async with gateway.socket() as tab:
        await tab.say(type="open", conversation="conversation-1")
        (shown,) = (await tab.hear("conversation"))["turns"]
        assert (shown["state"], shown["html"]) == ("running", "")
        for part in await gateway.store.finish(turn, Outcome(state=TurnState.COMPLETE, parts=("one",))):
            await channel.send(part.text, key=part.key)
        answer = await tab.hear("answer")
        assert (answer["message"], answer["state"]) == ("question-1", "done")
        assert answer["settled"] + answer["tail"] == "<p>one</p>\n"


async def test_history_and_waiting_and_commands_stand_in_order(gateway: Gateway) -> None:
    async with gateway.socket() as tab:
        for number, text in enumerate(("first", "second")):
            await tab.say(type="send", conversation="conversation-1", client_id=f"question-{number}", text=text)
            await tab.hear("accepted")
        gateway.received.pop()
        await gateway.answer("**done**")
        await tab.say(type="open", conversation="conversation-1")
        first, second = (await tab.hear("conversation"))["turns"]
        assert (first["question"], first["state"], first["html"]) == (
            "first",
            "complete",
            "<p><strong>done</strong></p>\n",
        )
        assert (second["question"], second["state"]) == ("second", "waiting")


async def test_a_failure_is_shown_with_its_id_now_and_later(gateway: Gateway) -> None:
    failure = Failure(code=FailureCode.MODEL_UNAVAILABLE, text="Not now", id="abcd1234", retry_after=3)
    async with gateway.socket() as tab:
        await tab.say(type="open", conversation="conversation-1")
        await tab.say(type="send", conversation="conversation-1", client_id="question-1", text="Hello?")
        await tab.hear("accepted")
        (message,) = gateway.received
        await gateway.adapter.reply(message.reply_to).fail(failure, key=IdempotencyKey("k-0"))  # type: ignore[attr-defined]
        answer = await tab.hear("answer")
    assert answer["state"] == "failed"
    assert answer["failure"] == {"code": "model_unavailable", "text": "Not now", "id": "abcd1234", "retry_after": 3}


async def test_a_deleted_conversation_is_told_to_all_tabs_and_gone(gateway: Gateway) -> None:
    async with gateway.socket() as first, gateway.socket() as second:
        await first.say(type="send", conversation="conversation-1", client_id="question-1", text="secret")
        await first.hear("accepted")
        await gateway.answer("the secret")
        await first.say(type="delete", conversation="conversation-1")
        assert (await second.hear("deleted"))["conversation"] == "conversation-1"
        await first.say(type="open", conversation="conversation-1")
        turns = (await first.hear("conversation"))["turns"]
    assert "secret" not in json.dumps(turns)


async def test_a_deletion_that_is_refused_is_told(gateway: Gateway) -> None:
    async with gateway.socket() as tab:
        gateway.receipt = Receipt.OVERLOADED
        await tab.say(type="delete", conversation="conversation-1")
        assert (await tab.hear("error"))["code"] == "overloaded"


async def test_one_browser_has_so_many_tabs_and_the_oldest_gives_way(gateway: Gateway) -> None:
    tabs = []
    session = await gateway.session()
    for _ in range(13):
        socket = await gateway.client.ws_connect("/web/socket", headers=gateway.origin)
        tab = Tab(socket)
        await tab.say(type="hello", csrf=session["csrf"])
        await tab.hear("ready")
        tabs.append(tab)
    assert await tabs[0].closed() == 4009
    await tabs[1].say(type="list")
    await tabs[1].hear("conversations")
    for tab in tabs:
        await tab.socket.close()


async def test_leaving_the_adapter_closes_its_sockets(gateway: Gateway) -> None:
    async with gateway.socket() as tab:
        await tab.hear("ready")
        await gateway.adapter.__aexit__(None, None, None)
        assert await tab.closed() == 1001


async def test_a_page_that_does_not_read_costs_nothing_but_its_connection(gateway: Gateway) -> None:
    async with gateway.socket() as tab:
        await tab.hear("ready")
        (connection,) = gateway.adapter._connections
        for _ in range(10_000):
            connection.post({"type": "error", "code": "x"})
        assert len(connection._events) <= 256
        assert await tab.closed() == 4008


# The account


def test_the_scope_is_always_the_thread() -> None:
    assert Config().scope is Scope.THREAD
    assert Config(scope=None).scope is Scope.THREAD
    with pytest.raises(ValueError, match="leave `scope` out"):
        Config(scope=Scope.USER)
    assert issubclass(SPEC.config, AccountConfig)
    assert isinstance(SPEC.create(ACCOUNT, Config()), WebAdapter)
