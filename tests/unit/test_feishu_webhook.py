"""Requests that claim to be Feishu's."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from adapters.feishu.adapter import WebhookAdapter
from adapters.feishu.config import Config
from adapters.feishu.sdk import load_decrypt
from adapters.feishu.signature import Signatures
from core.adapter import Receipt
from core.messages import AccountId, InboundMessage
from core.webhooks import LARGEST_BODY
from tests.clock import HeldClock
from tests.contract.world import until
from tests.simulators.feishu import PAYLOADS, SimulatedFeishu
from tests.simulators.feishu_webhook import encrypt, sign
from tests.simulators.loopback import serving

KEY = "kudryavka"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
BODY = json.dumps({"encrypt": encrypt(KEY, '{"schema":"2.0"}')}).encode()


def headers(body: bytes, *, age: int = 0, key: str = KEY, nonce: str = "n0nce") -> dict[str, str]:
    timestamp = str(int(NOW.timestamp()) - age)
    return {
        "X-Lark-Request-Timestamp": timestamp,
        "X-Lark-Request-Nonce": nonce,
        "X-Lark-Signature": sign(key, timestamp, nonce, body),
    }


@pytest.fixture
def signatures() -> Signatures:
    return Signatures(KEY, HeldClock(NOW))


@pytest.mark.parametrize(("age", "accepted"), [(0, True), (299, True), (-299, True), (301, False), (-301, False)])
def test_a_request_is_good_for_five_minutes(signatures: Signatures, age: int, accepted: bool) -> None:
    assert bool(signatures.verify(headers(BODY, age=age), BODY)) is accepted


def test_a_replay_is_refused_and_a_retry_of_what_was_not_accepted_is_not(signatures: Signatures) -> None:
    signature = signatures.verify(headers(BODY), BODY)
    assert signature == signatures.verify(headers(BODY), BODY)
    assert signature is not None
    signatures.accepted(signature)
    assert signatures.verify(headers(BODY), BODY) is None
    assert signatures.verify(headers(BODY, nonce="another"), BODY)


@pytest.mark.parametrize(
    "change",
    [
        {"X-Lark-Request-Timestamp": ""},
        {"X-Lark-Request-Timestamp": "now"},
        {"X-Lark-Request-Timestamp": "١٢٣"},
        {"X-Lark-Request-Timestamp": "1e9"},
        {"X-Lark-Request-Timestamp": "9" * 400},
        {"X-Lark-Request-Nonce": ""},
        {"X-Lark-Request-Nonce": "\udce4"},
        {"X-Lark-Request-Nonce": "n" * 10_000},
        {"X-Lark-Signature": ""},
        {"X-Lark-Signature": "ü" * 64},
        {"X-Lark-Signature": "0" * 64},
        {"X-Lark-Signature": "0" * 63},
    ],
)
def test_headers_that_are_none_are_refused_and_raise_nothing(signatures: Signatures, change: dict[str, str]) -> None:
    assert signatures.verify({**headers(BODY), **change}, BODY) is None


def test_of_ten_thousand_altered_requests_none_is_accepted(signatures: Signatures) -> None:
    chance = random.Random(1)
    for _ in range(10_000):
        signed, body = headers(BODY), bytearray(BODY)
        match chance.randrange(5):
            case 0:
                body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
            case 1:
                at = chance.randrange(64)
                old = signed["X-Lark-Signature"]
                new = chance.choice("0123456789abcdef".replace(old[at], ""))
                signed["X-Lark-Signature"] = old[:at] + new + old[at + 1 :]
            case 2:
                signed["X-Lark-Request-Timestamp"] = str(int(NOW.timestamp()) + chance.choice((-1, 1, 10, 100)))
            case 3:
                signed["X-Lark-Request-Nonce"] = f"n0nc{chance.choice('abcdfgh')}"
            case _:
                body = body[: chance.randrange(len(body))]
        assert signatures.verify(signed, bytes(body)) is None
    assert signatures.verify(headers(BODY), BODY)


def test_only_what_the_key_encrypted_is_decrypted() -> None:
    decrypt = load_decrypt(KEY)
    assert decrypt(encrypt(KEY, "hello")) == "hello"
    chance = random.Random(2)
    for text in (
        "",
        "hello",
        "é",
        "AAAA",
        encrypt("another", "{}"),
        encrypt(KEY, "x")[:-4],
        chance.randbytes(48).hex(),
    ):
        with pytest.raises(ValueError):  # noqa: PT011 - that it is one is all that is promised
            decrypt(text)


# The route


class Door:
    """The adapter's route on a server of its own."""

    def __init__(self, url: str, feishu: SimulatedFeishu) -> None:
        self.url = url
        self.app = feishu.state.app("bot")
        self.received: list[InboundMessage] = []
        self.receipt = Receipt.ACCEPTED

    async def inbox(self, message: InboundMessage) -> Receipt:
        self.received.append(message)
        return self.receipt

    def sealed(self, payload: Any) -> bytes:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        return json.dumps({"encrypt": encrypt(self.app.encrypt_key, text)}).encode()

    async def post(self, body: bytes, *, signed: bool = True, **change: str) -> tuple[int, str]:
        timestamp, nonce = str(int(time.time())), f"{random.random()}"
        signature = {
            "X-Lark-Request-Timestamp": timestamp,
            "X-Lark-Request-Nonce": nonce,
            "X-Lark-Signature": sign(self.app.encrypt_key, timestamp, nonce, body),
            **{name.replace("_", "-"): value for name, value in change.items()},
        }
        sent = {"Content-Type": "application/json", **(signature if signed else {})}
        async with aiohttp.ClientSession() as session, session.post(self.url, data=body, headers=sent) as response:
            return response.status, await response.text()

    def event(self, **changes: Any) -> dict[str, Any]:
        found = json.loads((PAYLOADS / "direct-message.json").read_text(encoding="utf-8"))["payload"]
        found["event"]["message"] |= {"create_time": str(int(time.time() * 1000)), **changes}
        found["header"]["token"] = self.app.verification_token
        return dict(found)

    def question(self, **changes: str) -> dict[str, str]:
        return {
            "challenge": "ajls384kdjxxxx",
            "token": self.app.verification_token,
            "type": "url_verification",
        } | changes


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with SimulatedFeishu(mode="webhook") as feishu:
        adapter = WebhookAdapter(AccountId("bot"), Config(**feishu.account()))
        async with serving(adapter.routes()) as url:
            door = Door(f"{url}/webhooks/bot", feishu)
            async with adapter:
                task = asyncio.create_task(adapter.run(door.inbox))
                await until(adapter.gaps)
                yield door
                task.cancel()
                await asyncio.wait({task})


async def test_a_signed_event_is_taken_in_and_acknowledged(door: Door) -> None:
    assert await door.post(door.sealed(door.event())) == (200, "{}")
    assert [message.text for message in door.received] == ["hello there"]


@pytest.mark.parametrize("signed", [True, False])
async def test_feishus_question_about_the_url_is_answered_if_it_is_encrypted(door: Door, signed: bool) -> None:
    status, text = await door.post(door.sealed(door.question()), signed=signed)
    assert (status, json.loads(text)) == (200, {"challenge": "ajls384kdjxxxx"})
    for body in (door.sealed(door.question(token="another")), json.dumps(door.question()).encode()):
        assert (await door.post(body, signed=False)) == (401, "")


async def test_whatever_is_wrong_gets_401_and_no_word(door: Door) -> None:
    body = door.sealed(door.event())
    assert await door.post(body, X_Lark_Signature="0" * 64) == (401, "")
    assert await door.post(body, X_Lark_Request_Timestamp=str(int(time.time()) - 301)) == (401, "")
    assert await door.post(body, signed=False) == (401, "")
    assert await door.post(b"x" * (LARGEST_BODY + 1)) == (401, "")
    other = door.event()
    other["header"]["token"] = "of another app"
    assert await door.post(door.sealed(other)) == (401, "")
    del other["header"]["token"]
    assert await door.post(door.sealed(other)) == (401, "")
    assert door.received == []


async def test_an_event_that_is_not_encrypted_is_refused_though_it_is_signed(door: Door) -> None:
    assert await door.post(json.dumps(door.event()).encode()) == (400, "")
    assert await door.post(json.dumps(door.event()).encode(), signed=False) == (401, "")
    assert door.received == []


async def test_a_replayed_request_is_refused(door: Door) -> None:
    body, timestamp = door.sealed(door.event()), str(int(time.time()))
    same: dict[str, Any] = {
        "X_Lark_Request_Timestamp": timestamp,
        "X_Lark_Request_Nonce": "once",
        "X_Lark_Signature": sign(door.app.encrypt_key, timestamp, "once", body),
    }
    assert await door.post(body, **same) == (200, "{}")
    assert await door.post(body, **same) == (401, "")
    assert len(door.received) == 1


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b"7", b"null", b"[" * 100_000, b'{"encrypt": 7}', b'{"encrypt": "AAAA"}']
)
async def test_a_signed_body_that_is_none_is_refused_politely(door: Door, body: bytes) -> None:
    assert await door.post(body) == (400, "")


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "[" * 100_000])
async def test_what_decrypts_to_garbage_is_refused_politely(door: Door, text: str) -> None:
    assert await door.post(door.sealed(text)) == (400, "")


@pytest.mark.parametrize("event", [{}, {"header": 7}, {"header": {"token": "\ud800"}}, {"type": 7, "token": []}])
async def test_an_event_without_its_token_is_not_ours(door: Door, event: dict[str, Any]) -> None:
    assert await door.post(door.sealed(event)) == (401, "")


async def test_what_cannot_be_stored_comes_again(door: Door) -> None:
    for receipt in (Receipt.OVERLOADED, Receipt.CLOSED):
        door.receipt = receipt
        assert await door.post(door.sealed(door.event(message_id=f"om_{receipt.value}"))) == (503, "")


async def test_a_click_and_events_of_other_kinds_are_acknowledged(door: Door) -> None:
    for name in ("card-action", "message-read", "bot-added"):
        found = json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))["payload"]
        found["header"]["token"] = door.app.verification_token
        assert await door.post(door.sealed(found)) == (200, "{}"), name
    assert door.received == []


async def test_without_an_encrypt_key_there_is_no_route() -> None:
    config = Config(app_id="cli_1", app_secret="secret", mode="webhook")
    assert list(WebhookAdapter(AccountId("bot"), config).routes()) == []
    assert config.credentials_missing() == ("encrypt_key",)


async def test_while_the_account_does_not_run_events_come_again() -> None:
    feishu = SimulatedFeishu(mode="webhook")
    app = feishu.state.app("bot")
    adapter = WebhookAdapter(
        AccountId("bot"), Config(app_id=app.id, app_secret=app.secret, mode="webhook", encrypt_key=app.encrypt_key)
    )
    async with serving(adapter.routes()) as url:
        door = Door(f"{url}/webhooks/bot", feishu)
        assert (await door.post(door.sealed(door.event())))[0] == 503
