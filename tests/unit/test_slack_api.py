"""What Slack's Web API is sent, byte for byte, and what its answers mean: above all whether something may have been done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from slack_sdk.web.async_client import AsyncWebClient
from yarl import URL

from adapters.slack import api as slack_api
from adapters.slack.api import CredentialsRefused, SlackApi, SlackError
from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain, RateLimited, TargetGone
from tests.clock import HeldClock
from tests.unit.test_http_client import Proxy, Server, answer, listening

JSON = "Content-Type: application/json; charset=utf-8"
FINE = answer(b'{"ok": true, "ts": "1.2"}', JSON)
POST: dict[str, Any] = {"channel": "C1", "markdown_text": "hi", "thread_ts": None}


@asynccontextmanager
async def opened(url: URL, *, token: str = "xoxb-1", proxy: URL | None = None) -> AsyncIterator[SlackApi]:
    api = SlackApi(token, url=f"{url}api/", proxy=str(proxy) if proxy else None, clock=HeldClock())
    await api.open()
    try:
        yield api
    finally:
        await api.close()


def said(code: str) -> bytes:
    return answer(json.dumps({"ok": False, "error": code}).encode(), JSON)


async def test_each_method_gets_its_arguments_where_it_looks_for_them() -> None:
    server = Server(FINE, FINE, FINE, FINE)
    async with listening(server.serve) as url, opened(url, token="xoxb-1\n") as api:
        assert await api.call("chat_postMessage", **POST, unfurl_links=False) == {"ok": True, "ts": "1.2"}
        await api.call("chat_delete", channel="C1", ts="1.2")
        await api.call("conversations_replies", channel="C1", inclusive=True, limit=100, cursor=None)
        await api.call("apps_connections_open", token="xapp-1")
    line, head, body = _parts(server.asked[0])
    assert line == "POST /api/chat.postMessage HTTP/1.1"
    assert head["Authorization"] == "Bearer xoxb-1"
    assert head["Content-Type"] == "application/json;charset=utf-8"
    assert json.loads(body) == {"channel": "C1", "markdown_text": "hi", "unfurl_links": False}
    line, head, body = _parts(server.asked[1])
    assert (line, body) == ("POST /api/chat.delete?channel=C1&ts=1.2 HTTP/1.1", b"")
    line, head, body = _parts(server.asked[2])
    assert (line, body) == ("GET /api/conversations.replies?channel=C1&inclusive=1&limit=100 HTTP/1.1", b"")
    line, head, body = _parts(server.asked[3])
    assert (line, head["Authorization"]) == ("POST /api/apps.connections.open HTTP/1.1", "Bearer xapp-1")
    assert server.connections == 1


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("apps_connections_open", {}),
        ("assistant_threads_setStatus", {"channel_id": "C1", "thread_ts": "1.2", "status": "is writing…"}),
        (
            "assistant_threads_setSuggestedPrompts",
            {"channel_id": "C1", "thread_ts": "1.2", "prompts": [{"title": "T"}]},
        ),
        ("assistant_threads_setTitle", {"channel_id": "C1", "thread_ts": "1.2", "title": "Ä & b"}),
        ("auth_test", {}),
        ("chat_appendStream", {"channel": "C1", "ts": "1.2", "markdown_text": "ü"}),
        ("chat_delete", {"channel": "C1", "ts": "1.2"}),
        ("chat_postEphemeral", {"channel": "C1", "user": "U1", "thread_ts": None, "markdown_text": "hi"}),
        (
            "chat_postMessage",
            {"channel": "C1", "markdown_text": "hi", "unfurl_links": False, "metadata": {"a": {"b": 1}}},
        ),
        ("chat_startStream", {"channel": "C1", "thread_ts": "1.2", "markdown_text": "hi", "recipient_user_id": "U1"}),
        ("chat_stopStream", {"channel": "C1", "ts": "1.2", "metadata": {"a": {"b": 1}}}),
        ("chat_update", {"channel": "C1", "ts": "1.2", "markdown_text": "hi", "metadata": None}),
        ("conversations_history", {"channel": "C1", "oldest": "1.2", "inclusive": True, "limit": 100, "cursor": "a=="}),
        ("conversations_info", {"channel": "C1"}),
        ("conversations_replies", {"channel": "C1", "ts": "1.2", "include_all_metadata": True, "latest": None}),
        ("files_info", {"file": "F1"}),
        ("users_conversations", {"types": "im,public_channel", "exclude_archived": True, "limit": 200}),
        ("users_info", {"user": "U1"}),
    ],
)
async def test_a_call_is_that_of_the_sdk(method: str, arguments: dict[str, Any]) -> None:
    server = Server(FINE, FINE)
    async with listening(server.serve) as url, opened(url, token="xapp-1") as api:
        sdk = AsyncWebClient("xapp-1", base_url=f"{url}api/", session=api.session, retry_handlers=[])
        given = {"app_token": "xapp-1"} if method == "apps_connections_open" else arguments
        await getattr(sdk, method)(**given)
        await api.call(method, **arguments)
    theirs, ours = (_meaning(asked) for asked in server.asked)
    assert ours == theirs


def _meaning(asked: bytes) -> tuple[object, ...]:
    line, head, body = _parts(asked)
    verb, target, _ = line.split(" ")
    url = URL(target, encoded=True)
    kind = head.get("Content-Type") if body else None
    return verb, url.path, sorted(url.query.items()), head["Authorization"], kind, json.loads(body) if body else None


def _parts(asked: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = asked.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines), body


@pytest.mark.parametrize(
    ("told", "meaning"),
    [
        (said("channel_not_found"), TargetGone),
        (said("invalid_auth"), CredentialsRefused),
        (said("service_unavailable"), DeliveryUnavailable),
        (said("fatal_error"), DeliveryUncertain),
        (said("msg_too_long"), SlackError),
        (answer(b"<html>", "Content-Type: text/html", status="503 Service Unavailable"), DeliveryUncertain),
        (answer(b"", "Location: https://example.com/", status="302 Found"), DeliveryUncertain),
        (answer(b'{"ok": true}', "Content-Type: text/plain"), DeliveryUncertain),
        (answer(b'{"ok": true}', JSON, status="502 Bad Gateway"), DeliveryUncertain),
        (answer(b'["ok"]', JSON), DeliveryUncertain),
        (answer(b'{"ok": tr', JSON), DeliveryUncertain),
        (answer(b"[" * 100_000, JSON), DeliveryUncertain),
        (answer(b'{"ok": true}', JSON)[:-4], DeliveryUncertain),
        (b"SSH-2.0\r\n\r\n", DeliveryUncertain),
        (b"", DeliveryUncertain),
    ],
)
async def test_what_an_answer_means(told: bytes, meaning: type[DeliveryError]) -> None:
    server = Server(told, FINE, hang_up=True)
    async with listening(server.serve) as url, opened(url) as api:
        with pytest.raises(meaning) as raised:
            await api.call("chat_postMessage", **POST)
        assert type(raised.value) is meaning
        assert api.refused.is_set() is (meaning is CredentialsRefused)
    assert len(server.asked) == 1  # nothing is posted twice by itself


async def test_slack_is_left_alone_for_as_long_as_it_asks_whatever_it_says_besides() -> None:
    limited = answer(b"<html>", "Retry-After: 7", "Content-Type: text/html", status="429 Too Many Requests")
    server = Server(limited, FINE)
    async with listening(server.serve) as url, opened(url) as api:
        for _ in range(2):
            with pytest.raises(RateLimited) as raised:
                await api.call("chat_update", channel="C1", ts="1.2", markdown_text="hi")
            assert raised.value.retry_after == 7.0
        await api.call("chat_postMessage", **POST)
    assert len(server.asked) == 2


async def test_where_nobody_is_nothing_was_done() -> None:
    async with listening(Server().serve) as url:
        pass
    async with opened(url) as api:
        with pytest.raises(DeliveryUnavailable, match="no connection to 127"):
            await api.call("chat_postMessage", **POST)


async def test_what_a_proxy_does_not_connect_was_not_done() -> None:
    refusal = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    async with listening(Proxy(refusal).serve) as door, opened(URL("https://slack.test/"), proxy=door) as api:
        with pytest.raises(
            DeliveryUnavailable, match=r"no connection to slack\.test \(the proxy answered with HTTP 502"
        ):
            await api.call("chat_postMessage", **POST)


@pytest.mark.parametrize(
    ("method", "asked"),
    [("chat_postMessage", 2), ("chat_delete", 2), ("conversations_history", 3)],
)
async def test_what_went_into_a_connection_that_ended_is_sent_again_only_where_nothing_is_done(
    method: str, asked: int
) -> None:
    """Slack may have taken it before it hung up."""
    server = Server(FINE, b"", FINE)
    async with listening(server.serve) as url, opened(url) as api:
        await api.call("auth_test")
        server.hang_up = True
        if asked == 3:
            assert await api.call(method, channel="C1") == {"ok": True, "ts": "1.2"}
        else:
            with pytest.raises(DeliveryUncertain, match="StaleConnection"):
                await api.call(method, channel="C1")
    assert len(server.asked) == asked


async def test_no_answer_in_time_leaves_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slack_api, "CALL_TIMEOUT", 0.05)
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client hangs up
        await reader.read()
        gone.set()
        writer.close()

    async with listening(silent) as url, opened(url) as api:
        with pytest.raises(DeliveryUncertain, match="TimeoutError"):
            await api.call("chat_postMessage", **POST)
        await asyncio.wait_for(gone.wait(), 5)


async def test_a_token_that_would_break_out_of_its_header_is_refused_unsent() -> None:
    server = Server(FINE)
    async with listening(server.serve) as url, opened(url, token="xoxb-1\r\nHost: other") as api:
        with pytest.raises(CredentialsRefused, match="line break") as raised:
            await api.call("auth_test")
        assert "xoxb" not in str(raised.value)
    assert not server.connections


async def test_before_and_after_nothing_is_called() -> None:
    server = Server(FINE)
    async with listening(server.serve) as url:
        async with opened(url) as api:
            await api.call("auth_test")
        with pytest.raises(DeliveryUnavailable, match="not signed in"):
            await api.call("chat_postMessage", **POST)
    assert len(server.asked) == 1


async def test_no_more_connections_than_slack_may_be_burdened_with() -> None:
    server = Server(*[FINE] * 100)
    async with listening(server.serve) as url, opened(url) as api:
        await asyncio.gather(*(api.call("users_info", user=f"U{number}") for number in range(100)))
    assert len(server.asked) == 100
    assert server.connections <= 64
