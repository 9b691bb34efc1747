"""The HTTP API over real HTTP: what its callers get, for every kind of question and every kind of mistake."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from yarl import URL

from adapters.api import ApiReply, Config, WholeReply, intake, reading
from core.adapter import Failure, FailureCode, IdempotencyKey, Receipt
from core.errors import (
    ChatMisconfigured,
    ChatRateLimited,
    ChatRefused,
    ChatUnavailable,
    ContextTooLong,
    StorageUnavailable,
)
from core.keys import KeyRing, new_key
from core.messages import InboundMessage
from tests.clock import HeldClock
from tests.scenario.api_gateway import MAX_BODY, ApiGateway, api_gateway, until

ALICE = {"message": "Who are you?", "user": "alice"}
COMPLETION = {"messages": [{"role": "user", "content": "Who are you?"}]}


@pytest.fixture
async def gateway() -> AsyncIterator[ApiGateway]:
    async with api_gateway() as served:
        yield served


# Answers


async def test_a_question_is_answered(gateway: ApiGateway) -> None:
    status, body, headers = await gateway.post("/chat", ALICE)
    assert (status, body) == (200, {"response": "local/alice says: Who are you?"})
    assert headers["Content-Type"] == "application/json; charset=utf-8" or headers["Content-Type"] == "application/json"
    assert headers["Cache-Control"] == "no-store"


async def test_a_request_becomes_a_direct_message_of_its_user(gateway: ApiGateway) -> None:
    await gateway.post("/chat", {"message": "你好 😀", "user": "a/b"}, headers={"Accept-Language": "zh-CN,zh;q=0.9"})
    (row,) = gateway.desk.rows.values()
    message = row.message
    assert message.text == "你好 😀"
    assert message.sender.id == "local/a%2Fb"
    assert message.channel == "local/a%2Fb"
    assert message.sender.locale == "zh-CN"
    assert message.sender.display_name == "a/b"
    assert message.is_direct
    assert message.mentions_bot
    assert str(message.id) == message.event


@pytest.mark.parametrize("text", ["reset", "  Reset\n"])
async def test_reset_answers_done_in_every_shape(gateway: ApiGateway, text: str) -> None:
    ask = {"message": text, "user": "alice"}
    assert (await gateway.post("/chat", ask))[1] == {"response": "done"}
    assert await gateway.lines(ask) == [{"response": "done"}, {"response": "[DONE]"}]
    completion = {"messages": [{"role": "user", "content": text}], "user": "alice"}
    _, body, _ = await gateway.post("/v1/chat/completions", completion)
    assert body["choices"][0]["message"]["content"] == "done"
    async with gateway.http.post(f"{gateway.url}/v1/chat/completions", json={**completion, "stream": True}) as response:
        assert "".join(deltas(await response.text())) == "done"
    assert len(gateway.desk.rows) == 4


async def test_a_stream_grows_line_by_line_and_ends_with_done(gateway: ApiGateway) -> None:
    written, go_on = asyncio.Event(), asyncio.Event()

    async def pausing(message: InboundMessage, reply: WholeReply) -> str:
        assert isinstance(reply, ApiReply)
        async with reply.stream(key=IdempotencyKey("t-0")) as sink:
            await sink.append("One")
            written.set()
            await go_on.wait()
            await sink.append(" two")
        return "One two"

    gateway.desk.answering = pausing
    async with gateway.http.post(f"{gateway.url}/chat-stream", json=ALICE) as response:
        assert response.headers["Content-Type"] == "application/x-ndjson"
        assert json.loads(await response.content.readline()) == {"response": "One"}
        go_on.set()
        rest = [json.loads(line) async for line in response.content]
    assert rest == [{"response": "One two"}, {"response": "[DONE]"}]


async def test_a_long_stream_is_not_sent_anew_with_every_word(gateway: ApiGateway) -> None:
    words = [f"word{number} " for number in range(5000)]

    async def long(message: InboundMessage, reply: WholeReply) -> str:
        assert isinstance(reply, ApiReply)
        async with reply.stream(key=IdempotencyKey("t-0")) as sink:
            for word in words:
                await sink.append(word)
                await asyncio.sleep(0)
        return "".join(words)

    gateway.desk.answering = long
    lines = await gateway.lines(ALICE)
    assert lines[-2:] == [{"response": "".join(words)}, {"response": "[DONE]"}]
    texts = [line["response"] for line in lines[:-1]]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))
    assert len(lines) < 1000


async def test_many_users_at_once_get_their_own_answers(gateway: ApiGateway) -> None:
    async def ask(number: int) -> None:
        user = f"user{number % 20}"
        _, body, _ = await gateway.post("/chat", {"message": f"canary {number}", "user": user})
        assert body == {"response": f"local/{user} says: canary {number}"}

    await asyncio.gather(*(ask(number) for number in range(200)))


# Failures


FAILURES = {
    FailureCode.RATE_LIMITED: 429,
    FailureCode.OVERLOADED: 503,
    FailureCode.NOT_ALLOWED: 403,
    FailureCode.TOO_LONG: 413,
    FailureCode.MODEL_UNAVAILABLE: 503,
    FailureCode.MODEL_MISCONFIGURED: 502,
    FailureCode.MODEL_REFUSED: 422,
    FailureCode.EXPIRED: 503,
    FailureCode.SUPERSEDED: 409,
    FailureCode.INTERNAL: 500,
}


@pytest.mark.parametrize("path", ["/chat", "/chat-stream", "/v1/chat/completions", "stream"])
@pytest.mark.parametrize("code", list(FailureCode))
async def test_every_failure_has_its_status(gateway: ApiGateway, code: FailureCode, path: str) -> None:
    async def failing(message: InboundMessage, reply: WholeReply) -> Failure:
        return Failure(code=code, text="Sorry (id 12ab).", id="12ab", retry_after=1.2)

    gateway.desk.answering = failing
    ask: Any = ALICE if path.startswith("/chat") else {**COMPLETION, "user": "alice", "stream": path == "stream"}
    status, body, headers = await gateway.post("/v1/chat/completions" if path == "stream" else path, ask)
    assert status == FAILURES[code]
    assert headers["Retry-After"] == "2"
    assert headers["X-Request-Id"] == "12ab"
    if path.startswith("/chat"):
        assert body == {"error": {"code": code.value, "message": "Sorry (id 12ab).", "id": "12ab"}}
    else:
        assert body["error"]["code"] == code.value
        assert body["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", ["/chat-stream", "/v1/chat/completions"])
async def test_a_stream_that_breaks_off_ends_with_an_error_and_without_done(gateway: ApiGateway, path: str) -> None:
    async def breaking(message: InboundMessage, reply: WholeReply) -> Failure:
        assert isinstance(reply, ApiReply)
        with suppress(ConnectionError):
            async with reply.stream(key=IdempotencyKey("t-0")) as sink:
                await sink.append("Half an ")
                await shown.wait()
                raise ConnectionError
        return Failure(code=FailureCode.MODEL_UNAVAILABLE, text="Broken off.", id="x1")

    shown = asyncio.Event()
    gateway.desk.answering = breaking
    ask: Any = ALICE if path == "/chat-stream" else {**COMPLETION, "user": "alice", "stream": True}
    async with gateway.http.post(gateway.url + path, json=ask) as response:
        assert response.status == 200
        first = await response.content.readline()
        shown.set()
        text = (first + await response.content.read()).decode()
    assert "Half an " in text
    assert "[DONE]" not in text
    last = [line for line in text.splitlines() if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "Broken off."


@pytest.mark.parametrize(
    ("receipt", "status", "code"),
    [
        (Receipt.OVERLOADED, 503, "overloaded"),
        (Receipt.CLOSED, 503, "closed"),
        (Receipt.IGNORED, 422, "ignored"),
        (Receipt.STALE, 422, "ignored"),
        (StorageUnavailable("disk full"), 503, "storage_unavailable"),
        (RuntimeError("secret detail"), 500, "internal"),
    ],
)
async def test_a_message_that_is_not_accepted_has_its_status(
    gateway: ApiGateway, receipt: Receipt | Exception, status: int, code: str
) -> None:
    gateway.desk.receipt = receipt
    got, body, headers = await gateway.post("/chat", ALICE)
    assert (got, body["error"]["code"]) == (status, code)
    assert ("Retry-After" in headers) == (status == 503)
    assert "secret" not in json.dumps(body)


async def test_a_refused_message_is_answered_with_the_reason(gateway: ApiGateway) -> None:
    gateway.desk.receipt = Receipt.REFUSED
    gateway.desk.reason = Failure(code=FailureCode.RATE_LIMITED, text="Slow down.", id="r1", retry_after=30)
    status, body, headers = await gateway.post("/chat", ALICE)
    assert (status, body["error"]["message"], headers["Retry-After"]) == (429, "Slow down.", "30")


async def test_a_refused_message_without_a_reason_does_not_wait_for_ever(
    gateway: ApiGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "REFUSAL_WAIT", 0.01)
    gateway.desk.receipt = Receipt.REFUSED
    status, body, _ = await gateway.post("/chat", ALICE)
    assert (status, body["error"]["code"]) == (429, "refused")


async def test_a_gateway_that_does_not_receive_says_so(gateway: ApiGateway) -> None:
    await gateway.adapter.__aexit__(None, None, None)
    gateway.adapter._hosted().intake.inbox = None
    status, body, headers = await gateway.post("/chat", ALICE)
    assert (status, body["error"]["code"], headers["Retry-After"]) == (503, "closed", "5")


async def test_leaving_the_adapter_answers_those_who_wait(gateway: ApiGateway) -> None:
    gateway.desk.answering = never
    asking = asyncio.create_task(gateway.post("/chat", ALICE))
    await until(lambda: gateway.desk.begun == 1)
    await gateway.adapter.__aexit__(None, None, None)
    status, body, _ = await asking
    assert (status, body["error"]["code"]) == (503, "overloaded")


async def never(message: InboundMessage, reply: WholeReply) -> str:
    await asyncio.Event().wait()
    return ""


# Repeating, hanging up, waiting


async def test_a_repeated_request_is_answered_from_the_journal(gateway: ApiGateway) -> None:
    first = await gateway.post("/chat", ALICE, key="k1")
    again = await gateway.post("/chat", ALICE, key="k1")
    assert again[:2] == first[:2]
    assert "Idempotent-Replayed" not in first[2]
    assert again[2]["Idempotent-Replayed"] == "true"
    assert gateway.desk.begun == 1
    lines = await gateway.lines(ALICE, headers={"Idempotency-Key": "k1"})
    assert lines == [first[1], {"response": "[DONE]"}]
    assert gateway.desk.begun == 1


async def test_a_key_used_for_another_message_is_refused(gateway: ApiGateway) -> None:
    await gateway.post("/chat", ALICE, key="k1")
    status, body, _ = await gateway.post("/chat", {**ALICE, "message": "Something else"}, key="k1")
    assert (status, body["error"]["code"], body["error"]["field"]) == (422, "idempotency_key_reused", "Idempotency-Key")


async def test_two_users_may_use_the_same_key(gateway: ApiGateway) -> None:
    await gateway.post("/chat", ALICE, key="k1")
    _, body, _ = await gateway.post("/chat", {**ALICE, "user": "bob"}, key="k1")
    assert body == {"response": "local/bob says: Who are you?"}


async def test_requests_that_repeat_each_other_at_once_are_one_question(gateway: ApiGateway) -> None:
    go_on = asyncio.Event()

    async def slow(message: InboundMessage, reply: WholeReply) -> str:
        await go_on.wait()
        return "once"

    gateway.desk.answering = slow
    asking = [asyncio.create_task(gateway.post("/chat", ALICE, key="k1")) for _ in range(5)]
    await until(lambda: len(gateway.adapter._answers) == 1 and waiting(gateway) == 5)
    go_on.set()
    assert [(await task)[:2] for task in asking] == [(200, {"response": "once"})] * 5
    assert gateway.desk.begun == 1


def waiting(gateway: ApiGateway) -> int:
    return sum(answer.readers for answer in gateway.adapter._answers._by_event.values())


async def test_a_failed_question_is_asked_again_when_the_request_is_repeated(gateway: ApiGateway) -> None:
    outcomes: list[str | Failure] = [
        Failure(code=FailureCode.MODEL_UNAVAILABLE, text="Down.", id="d1"),
        "up again",
    ]

    async def flaky(message: InboundMessage, reply: WholeReply) -> str | Failure:
        return outcomes[gateway.desk.begun - 1]

    gateway.desk.answering = flaky
    assert (await gateway.post("/chat", ALICE, key="k1"))[0] == 503
    assert (await gateway.post("/chat", ALICE, key="k1"))[:2] == (200, {"response": "up again"})
    assert gateway.desk.begun == 2


async def test_asking_again_counts_against_the_rate() -> None:
    async with api_gateway(per_minute=1) as gateway:

        async def failing(message: InboundMessage, reply: WholeReply) -> Failure:
            return Failure(code=FailureCode.MODEL_UNAVAILABLE, text="Down.", id="d1")

        gateway.desk.answering = failing
        statuses = [(await gateway.post("/chat", ALICE, key="k1"))[0] for _ in range(3)]
        assert statuses == [503, 503, 429]  # the desk itself does not count, as the real inbox would
        assert gateway.desk.begun == 2


@pytest.mark.parametrize("key", ["", "two words", "é", "x" * 256])
async def test_a_malformed_key_is_refused(gateway: ApiGateway, key: str) -> None:
    status, body, _ = await gateway.post("/chat", ALICE, headers={"Idempotency-Key": key})
    assert (status, body["error"]["field"]) == (400, "Idempotency-Key")


async def test_a_client_that_hangs_up_does_not_lose_the_turn(gateway: ApiGateway) -> None:
    go_on = asyncio.Event()

    async def slow(message: InboundMessage, reply: WholeReply) -> str:
        await go_on.wait()
        return "late"

    gateway.desk.answering = slow
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await gateway.post("/chat", ALICE, key="k1")
    await until(lambda: gateway.desk.begun == 1)
    go_on.set()
    await until(lambda: next(iter(gateway.desk.rows.values())).outcome == "late")
    assert (await gateway.post("/chat", ALICE, key="k1"))[1] == {"response": "late"}
    assert gateway.desk.begun == 1


async def test_a_client_that_hangs_up_in_a_stream_leaves_nothing_behind(gateway: ApiGateway) -> None:
    async def endless(message: InboundMessage, reply: WholeReply) -> str:
        assert isinstance(reply, ApiReply)
        async with reply.stream(key=IdempotencyKey("t-0")) as sink:
            while len(gateway.adapter._answers):
                await sink.append("word ")
                await asyncio.sleep(0.001)
        return "over"

    gateway.desk.answering = endless
    async with gateway.http.post(f"{gateway.url}/chat-stream", json=ALICE) as response:
        await response.content.readline()
        response.close()
    await until(lambda: not len(gateway.adapter._answers))
    await until(lambda: next(iter(gateway.desk.rows.values())).outcome == "over")


@pytest.mark.parametrize("path", ["/chat", "/chat-stream"])
async def test_an_answer_that_takes_too_long_can_be_fetched_later(path: str) -> None:
    async with api_gateway(config=Config(timeout=timedelta(milliseconds=50))) as gateway:
        go_on = asyncio.Event()

        async def slow(message: InboundMessage, reply: WholeReply) -> str:
            await go_on.wait()
            return "late"

        gateway.desk.answering = slow
        status, body, headers = await gateway.post(path, ALICE, key="k1")
        assert (status, body["error"]["code"]) == (504, "timeout")
        assert "Repeat" in body["error"]["message"]
        assert "X-Should-Retry" not in headers
        _, _, unkeyed = await gateway.post(path, {**ALICE, "user": "bob"})
        assert unkeyed["X-Should-Retry"] == "false"
        go_on.set()
        await until(lambda: all(row.outcome for row in gateway.desk.rows.values()))
        assert (await gateway.post("/chat", ALICE, key="k1"))[1] == {"response": "late"}


async def test_an_answer_that_came_another_way_is_found_in_the_journal(clock: HeldClock) -> None:
    async with api_gateway(clock=clock) as gateway:
        gateway.desk.answering = never
        asking = asyncio.create_task(gateway.post("/chat", ALICE))
        await until(lambda: gateway.desk.begun == 1)
        next(iter(gateway.desk.rows.values())).outcome = "answered by another node"
        async with asyncio.timeout(30):
            while not asking.done():
                await clock.advance(1)
        assert (await asking)[1] == {"response": "answered by another node"}


# Keys and origins


@pytest.fixture
async def locked(clock: HeldClock) -> AsyncIterator[ApiGateway]:
    ring = KeyRing([("secret-of-red", "red"), ("secret-of-blue", "blue")], required=True)
    metrics, secret = new_key("metrics", namespace="ops", scopes=["admin"], clock=clock)
    ring.load([(metrics, hashlib.sha256(secret.encode()).digest())])
    async with api_gateway(keys=ring) as served:
        served.host.keys.secret_of_ops = secret  # type: ignore[attr-defined]  # handed to one test
        yield served


@pytest.mark.parametrize("path", ["/chat", "/chat-stream", "/v1/chat/completions"])
@pytest.mark.parametrize(
    "sent", [None, "Bearer wrong", "Basic secret-of-red", "Bearer", "Bearer ключ", "secret-of-red"]
)
async def test_without_a_valid_key_there_is_no_answer(locked: ApiGateway, path: str, sent: str | None) -> None:
    status, body, headers = await locked.post(path, ALICE, headers={"Authorization": sent} if sent else {})
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")
    assert headers["WWW-Authenticate"].startswith("Bearer")
    assert not locked.desk.rows


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Authorization: Bearer \xff\xfe", 401),
        (b"Idempotency-Key: \xff", 400),
        (b"Origin: \xff", 403),
        (b"Accept-Language: \xff", 200),
        (b"Content-Type: application/json; charset=\xff", 415),
    ],
)
async def test_headers_that_are_no_text_are_harmless(locked: ApiGateway, header: bytes, status: int) -> None:
    body = json.dumps(ALICE).encode()
    lines = [b"POST /chat HTTP/1.1", b"Host: x", b"Connection: close", b"Content-Length: %d" % len(body), header]
    if not header.startswith(b"Authorization"):
        lines.append(b"Authorization: Bearer secret-of-red")
    if not header.startswith(b"Content-Type"):
        lines.append(b"Content-Type: application/json")
    reader, writer = await asyncio.open_connection("127.0.0.1", int(locked.url.rsplit(":", 1)[1]))
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer


async def test_a_key_without_the_scope_is_refused(locked: ApiGateway) -> None:
    secret = locked.host.keys.secret_of_ops  # type: ignore[attr-defined]  # see the fixture
    status, body, _ = await locked.post("/chat", ALICE, headers={"Authorization": f"Bearer {secret}"})
    assert (status, body["error"]["code"]) == (403, "missing_scope")


async def test_the_same_user_of_two_keys_is_two_people(locked: ApiGateway) -> None:
    for namespace in ("red", "blue"):
        authorization = {"Authorization": f"bearer secret-of-{namespace}"}
        _, body, _ = await locked.post("/chat", ALICE, key="same", headers=authorization)
        assert body == {"response": f"{namespace}/alice says: Who are you?"}


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://[", ""])
async def test_pages_of_other_sites_are_refused(gateway: ApiGateway, origin: str) -> None:
    status, body, _ = await gateway.post("/chat", ALICE, headers={"Origin": origin})
    assert (status, body["error"]["code"]) == (403, "foreign_origin")
    assert not gateway.desk.rows


async def test_a_page_of_the_own_host_is_served(gateway: ApiGateway) -> None:
    assert (await gateway.post("/chat", ALICE, headers={"Origin": gateway.url}))[0] == 200


# Bad input

JSON = "application/json"
CHAT_TABLE: list[tuple[str, bytes, str, int, str, str | None]] = [
    ("not JSON", b"{", JSON, 400, "invalid_json", None),
    ("nothing", b"", JSON, 400, "invalid_json", None),
    ("not an object", b"[]", JSON, 400, "invalid_json", None),
    ("a string", b'"x"', JSON, 400, "invalid_json", None),
    ("not UTF-8", b'{"message": "\xff", "user": "a"}', JSON, 400, "invalid_json", None),
    ("UTF-16", '{"message": "x", "user": "a"}'.encode("utf-16"), JSON, 400, "invalid_json", None),
    ("NaN", b'{"message": "x", "user": "a", "x": NaN}', JSON, 400, "invalid_json", None),
    ("infinite", b'{"message": "x", "user": "a", "x": 1e999}', JSON, 400, "invalid_json", None),
    ("digits", b'{"message": "x", "user": "a", "x": ' + b"9" * 5000 + b"}", JSON, 400, "invalid_json", None),
    ("deep", b'{"a":' * 100_000, JSON, 400, "invalid_json", None),
    ("deep and closed", b"[" * 100_000 + b"]" * 100_000, JSON, 400, "invalid_json", None),
    ("half a pair", b'{"message": "\\ud83d", "user": "a"}', JSON, 400, "invalid_json", None),
    ("half a pair in a name", b'{"\\udc00": 1, "message": "x", "user": "a"}', JSON, 400, "invalid_json", None),
    ("twice", b'{"message": "x", "user": "a", "user": "b"}', JSON, 400, "duplicate_field", "user"),
    ("no message", b'{"user": "a"}', JSON, 400, "missing_field", "message"),
    ("no user", b'{"message": "x"}', JSON, 400, "missing_field", "user"),
    ("null", b'{"message": null, "user": "a"}', JSON, 400, "invalid_field", "message"),
    ("a number", b'{"message": 1, "user": "a"}', JSON, 400, "invalid_field", "message"),
    ("a number as user", b'{"message": "x", "user": 7}', JSON, 400, "invalid_field", "user"),
    ("empty", b'{"message": "", "user": "a"}', JSON, 400, "invalid_field", "message"),
    ("blank", b'{"message": " \\n\\t ", "user": "a"}', JSON, 400, "invalid_field", "message"),
    ("invisible", b'{"message": "\\u200b\\ufeff", "user": "a"}', JSON, 400, "invalid_field", "message"),
    ("NUL", b'{"message": "a\\u0000b", "user": "a"}', JSON, 400, "invalid_field", "message"),
    ("NUL in user", b'{"message": "x", "user": "a\\u0000"}', JSON, 400, "invalid_field", "user"),
    ("a raw control", b'{"message": "a\x01b", "user": "a"}', JSON, 400, "invalid_json", None),
    ("empty user", b'{"message": "x", "user": ""}', JSON, 400, "invalid_field", "user"),
    ("long user", b'{"message": "x", "user": "' + b"u" * 257 + b'"}', JSON, 400, "invalid_field", "user"),
    ("a form", b"message=x&user=a", "application/x-www-form-urlencoded", 415, "unsupported_media_type", None),
    ("plain text", b'{"message": "x", "user": "a"}', "text/plain", 415, "unsupported_media_type", None),
    ("no type", b'{"message": "x", "user": "a"}', "", 415, "unsupported_media_type", None),
    ("a charset", b'{"message": "x", "user": "a"}', f"{JSON}; charset=latin-1", 415, "unsupported_media_type", None),
    ("no charset", b'{"message": "x", "user": "a"}', f"{JSON}; charset=", 200, "", None),
    ("UTF-8 by name", b'{"message": "x", "user": "a"}', f'{JSON}; charset="UTF-8"', 200, "", None),
    ("unknown fields", b'{"message": "x", "user": "a", "more": [1]}', JSON, 200, "", None),
    ("other controls", b'{"message": "a\\u0001\\u001b[31m", "user": "a"}', JSON, 200, "", None),
    ("1 MB", b'{"user": "a", "message": "' + b"x" * 1_000_000 + b'"}', JSON, 413, "too_long", None),
]


@pytest.mark.parametrize("path", ["/chat", "/chat-stream"])
@pytest.mark.parametrize(
    ("body", "media_type", "status", "code", "field"),
    [pytest.param(*row[1:], id=row[0]) for row in CHAT_TABLE],
)
async def test_bad_input_gets_an_answer_that_helps(
    gateway: ApiGateway, path: str, body: bytes, media_type: str, status: int, code: str, field: str | None
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    skip = () if media_type else ("Content-Type",)
    async with gateway.http.post(gateway.url + path, data=body, headers=headers, skip_auto_headers=skip) as response:
        assert response.status == status, await response.text()
        if status == 200:
            return
        error = (await response.json())["error"]
    assert error["code"] == code
    assert error.get("field") == field
    assert error["message"].endswith(".")
    assert len(error["message"]) < 300
    assert "validation" not in error["message"]
    assert not gateway.desk.rows


COMPLETION_TABLE: list[tuple[str, Any, int, str, str | None]] = [
    ("no messages", {}, 400, "missing_field", "messages"),
    ("empty messages", {"messages": []}, 400, "invalid_field", "messages"),
    ("messages of text", {"messages": "x"}, 400, "invalid_field", "messages"),
    ("no role", {"messages": [{"content": "x"}]}, 400, "missing_field", "messages[0].role"),
    ("a tool", {"messages": [{"role": "tool", "content": "x"}]}, 400, "unsupported_value", "messages[0].role"),
    ("no content", {"messages": [{"role": "user"}]}, 400, "missing_field", "messages[0].content"),
    ("null", {"messages": [{"role": "user", "content": None}]}, 400, "invalid_field", "messages[0].content"),
    (
        "an image",
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        400,
        "unsupported_value",
        "messages[0].content[0].type",
    ),
    ("NUL", {"messages": [{"role": "user", "content": "\0"}]}, 400, "invalid_field", "messages[0].content"),
    ("two answers", {**COMPLETION, "n": 2}, 400, "unsupported_parameter", "n"),
    ("true answers", {**COMPLETION, "n": True}, 400, "unsupported_parameter", "n"),
    ("tools", {**COMPLETION, "tools": [{"type": "function"}]}, 400, "unsupported_parameter", "tools"),
    ("audio", {**COMPLETION, "audio": {"voice": "x"}}, 400, "unsupported_parameter", "audio"),
    ("log probabilities", {**COMPLETION, "logprobs": True}, 400, "unsupported_parameter", "logprobs"),
    ("too hot", {**COMPLETION, "temperature": 3}, 400, "invalid_field", "temperature"),
    ("hot in words", {**COMPLETION, "temperature": "hot"}, 400, "invalid_field", "temperature"),
    ("no tokens", {**COMPLETION, "max_tokens": 0}, 400, "invalid_field", "max_tokens"),
    ("a stream in words", {**COMPLETION, "stream": "yes"}, 400, "invalid_field", "stream"),
    ("another model", {**COMPLETION, "model": "gpt-9"}, 404, "model_not_found", "model"),
    ("an empty user", {**COMPLETION, "user": ""}, 400, "invalid_field", "user"),
    (
        "nothing asked",
        {"user": "a", "messages": [{"role": "assistant", "content": "x"}]},
        400,
        "invalid_field",
        "messages",
    ),
    (
        "a blank one",
        {"user": "a", "messages": [{"role": "user", "content": " "}]},
        400,
        "invalid_field",
        "messages[0].content",
    ),
]


@pytest.mark.parametrize(
    ("body", "status", "code", "field"), [pytest.param(*row[1:], id=row[0]) for row in COMPLETION_TABLE]
)
async def test_bad_completions_are_told_in_openai_s_shape(
    gateway: ApiGateway, body: Any, status: int, code: str, field: str | None
) -> None:
    got, answer, headers = await gateway.post("/v1/chat/completions", body)
    assert got == status, answer
    error = answer["error"]
    assert (error["code"], error["param"], error["type"]) == (code, field, "invalid_request_error")
    assert "validation" not in error["message"]
    assert headers["X-Request-Id"]
    assert not gateway.desk.rows
    assert not gateway.chat.calls


async def test_a_field_that_asks_for_nothing_special_is_fine(gateway: ApiGateway) -> None:
    harmless = {"n": 1, "tools": [], "tool_choice": "auto", "logprobs": False, "modalities": ["text"], "audio": None}
    assert (await gateway.post("/v1/chat/completions", {**COMPLETION, **harmless, "metadata": {"a": "b"}}))[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
@pytest.mark.parametrize("path", ["/chat", "/chat-stream", "/v1/chat/completions"])
async def test_other_methods_are_refused_with_the_right_one(gateway: ApiGateway, method: str, path: str) -> None:
    async with gateway.http.request(method, gateway.url + path) as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        if method != "HEAD":
            assert (await response.json())["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/model-a", "/openapi.json"])
async def test_documents_are_read_only(gateway: ApiGateway, path: str) -> None:
    async with gateway.http.post(gateway.url + path, json={}) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET")


@pytest.mark.parametrize("path", ["/v1/", "/v1/embeddings", "/v1/chat/completions/", "/v1/%00"])
async def test_unknown_paths_of_openai_s_api_get_openai_s_error(gateway: ApiGateway, path: str) -> None:
    status, body, _ = await gateway.post(path, {})
    assert (status, body["error"]["code"]) == (404, "not_found")


async def test_a_body_without_a_length_is_capped_too(gateway: ApiGateway) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(3 * MAX_BODY // 10_000):
            yield b" " * 10_000

    status = 413
    try:
        async with gateway.http.post(f"{gateway.url}/chat", data=endless(), headers={"Content-Type": JSON}) as response:
            status = response.status
            assert (await response.json())["error"]["code"] == "too_long"
    except aiohttp.ClientConnectionError:
        pass  # the server may hang up on what it will not read
    assert status == 413


async def test_a_compressed_body_is_capped_after_unpacking_and_a_broken_one_refused(gateway: ApiGateway) -> None:
    headers = {"Content-Type": JSON, "Content-Encoding": "gzip"}
    bomb = gzip.compress(b" " * 20 * MAX_BODY)
    async with gateway.http.post(f"{gateway.url}/chat", data=bomb, headers=headers) as response:
        assert response.status == 413
    async with gateway.http.post(f"{gateway.url}/chat", data=b"not gzip at all", headers=headers) as response:
        assert response.status == 400
        assert response.content_type == JSON
    async with gateway.http.post(
        f"{gateway.url}/chat", data=gzip.compress(json.dumps(ALICE).encode()), headers=headers
    ) as response:
        assert response.status == 200


async def test_a_body_that_does_not_come_is_not_waited_for(
    gateway: ApiGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "READ_TIMEOUT", 0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rsplit(":", 1)[1]))
    writer.write(b"POST /chat HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith("HTTP/1.1 408 ")
    assert '"code":"body_timeout"' in answer


# OpenAI's shapes


def deltas(text: str) -> list[str]:
    """The pieces of text in a stream of events."""
    return [
        choice["delta"]["content"]
        for event in events(text)
        for choice in event.get("choices", [])
        if "content" in choice["delta"]
    ]


def events(text: str) -> list[Any]:
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(item) for item in data if item != "[DONE]"]


async def test_models_are_listed(gateway: ApiGateway) -> None:
    async with gateway.http.get(f"{gateway.url}/v1/models") as response:
        body = await response.json()
    assert [model["id"] for model in body["data"]] == ["model-a", "vendor/model-b"]
    for path, number in (("model-a", 0), ("vendor/model-b", 1), ("vendor%2Fmodel-b", 1)):
        async with gateway.http.get(URL(f"{gateway.url}/v1/models/{path}", encoded=True)) as response:
            assert (response.status, await response.json()) == (200, body["data"][number])
    async with gateway.http.get(f"{gateway.url}/v1/models/model-c") as response:
        assert (response.status, (await response.json())["error"]["code"]) == (404, "model_not_found")


async def test_with_a_user_the_last_question_goes_into_the_session(gateway: ApiGateway) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "First"},
        {"role": "assistant", "content": "Yes"},
        {"role": "user", "content": [{"type": "text", "text": "Second"}, {"type": "text", "text": "line"}]},
    ]
    status, body, _ = await gateway.post("/v1/chat/completions", {"messages": messages, "user": "alice"})
    assert status == 200
    assert body["choices"][0]["message"]["content"] == "local/alice says: Second\nline"
    assert body["model"] == "answered-by"
    assert body["usage"] == {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
    assert [row.message.text for row in gateway.desk.rows.values()] == ["Second\nline"]
    assert not gateway.chat.calls


async def test_without_a_user_the_request_s_own_messages_are_asked_and_nothing_is_kept(gateway: ApiGateway) -> None:
    ask = {
        "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "model": "vendor/model-b",
        "temperature": 0.5,
        "max_tokens": 10,
        "seed": None,
        "metadata": {"ignored": "yes"},
    }
    status, body, _ = await gateway.post("/v1/chat/completions", ask)
    assert (status, body["choices"][0]["message"]["content"]) == (200, "Hello")
    assert body["usage"]["total_tokens"] == 5
    (call,) = gateway.chat.calls
    assert [(message.role, message.content) for message in call.messages] == [("system", "Be brief."), ("user", "Hi")]
    assert call.options == {"temperature": 0.5, "max_tokens": 10}
    assert (call.model, call.end_user) == ("vendor/model-b", "api/local/")
    assert not gateway.desk.rows


@pytest.mark.parametrize("user", [None, "alice"])
async def test_a_completion_streams_as_openai_s_do(gateway: ApiGateway, user: str | None) -> None:
    ask = {**COMPLETION, "user": user, "stream": True, "stream_options": {"include_usage": True}}
    async with gateway.http.post(f"{gateway.url}/v1/chat/completions", json=ask) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        text = await response.text()
    assert text.endswith("data: [DONE]\n\n")
    chunks = events(text)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(deltas(text)) == ("local/alice says: Who are you?" if user else "Hello")
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == (12 if user else 5)
    assert len({chunk["id"] for chunk in chunks}) == 1


async def test_requests_without_a_session_respect_the_rate() -> None:
    async with api_gateway(per_minute=1) as gateway:
        assert (await gateway.post("/v1/chat/completions", COMPLETION))[0] == 200
        status, body, headers = await gateway.post("/v1/chat/completions", COMPLETION)
        assert (status, body["error"]["type"], headers["Retry-After"]) == (429, "rate_limit_error", "60")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ChatUnavailable("x", detail="upstream secret"), 503, "model_unavailable"),
        (ChatRateLimited("x", detail="upstream secret", retry_after=3), 503, "model_unavailable"),
        (ChatMisconfigured("x", detail="upstream secret"), 502, "model_misconfigured"),
        (ChatRefused("x", detail="upstream secret"), 422, "model_refused"),
        (ContextTooLong("x", detail="upstream secret"), 400, "context_length_exceeded"),
    ],
)
async def test_what_the_model_s_server_says_stays_inside(
    gateway: ApiGateway, error: Any, status: int, code: str, stream: bool
) -> None:
    gateway.chat.refusal = error
    got, body, _ = await gateway.post("/v1/chat/completions", {**COMPLETION, "stream": stream})
    assert (got, body["error"]["code"]) == (status, code)
    assert "secret" not in json.dumps(body)


@pytest.mark.parametrize("field", ["temperature", "response_format.json_schema.schema"])
async def test_an_option_that_the_model_does_not_take_is_told(gateway: ApiGateway, field: str) -> None:
    gateway.chat.refusal = ChatRefused("x", detail="upstream secret", field=field)
    options = {"temperature": 0.5, "response_format": {"type": "json_schema"}}
    status, body, _ = await gateway.post("/v1/chat/completions", {**COMPLETION, **options})
    name = field.partition(".")[0]
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "unsupported_value", name)
    assert name in body["error"]["message"]
    assert "secret" not in json.dumps(body)


async def test_a_direct_stream_that_breaks_ends_with_an_error(gateway: ApiGateway) -> None:
    gateway.chat.pieces = ("Half", ChatUnavailable("x", detail="upstream secret"))
    async with gateway.http.post(f"{gateway.url}/v1/chat/completions", json={**COMPLETION, "stream": True}) as response:
        text = await response.text()
    assert deltas(text) == ["", "Half"]
    assert events(text)[-1]["error"]["code"] == "model_unavailable"
    assert "[DONE]" not in text
    assert "secret" not in text


async def test_an_empty_answer_is_an_answer(gateway: ApiGateway) -> None:
    gateway.chat.pieces = ()
    _, body, _ = await gateway.post("/v1/chat/completions", COMPLETION)
    assert body["choices"][0]["message"]["content"] == ""
    async with gateway.http.post(f"{gateway.url}/v1/chat/completions", json={**COMPLETION, "stream": True}) as response:
        assert (await response.text()).endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [True, False])
async def test_hanging_up_on_a_direct_request_ends_the_model_s_work(gateway: ApiGateway, stream: bool) -> None:
    gateway.chat.pieces = ["word "] * 1_000_000
    asking = asyncio.create_task(gateway.post("/v1/chat/completions", {**COMPLETION, "stream": stream}))
    await until(lambda: len(gateway.chat.calls) == 1)
    asking.cancel()
    await until(lambda: gateway.chat.finished == 1)
