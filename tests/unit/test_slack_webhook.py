"""Requests that claim to be Slack's."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import pytest

from adapters.slack.adapter import WebhookAdapter
from adapters.slack.config import Config
from adapters.slack.signature import Signatures
from core.adapter import Receipt
from core.messages import AccountId, InboundMessage
from core.webhooks import LARGEST_BODY
from tests.clock import HeldClock
from tests.contract.world import until
from tests.simulators.loopback import serving
from tests.simulators.slack import SimulatedSlack
from tests.simulators.slack_delivery import sign

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
BODY = b'{"type":"event_callback","event":{"type":"app_home_opened"}}'


def headers(body: bytes, *, age: int = 0, secret: str = SECRET) -> dict[str, str]:
    timestamp = str(int(NOW.timestamp()) - age)
    return {"X-Slack-Request-Timestamp": timestamp, "X-Slack-Signature": sign(secret, timestamp, body)}


@pytest.fixture
def signatures() -> Signatures:
    return Signatures(SECRET, HeldClock(NOW))


def test_the_example_of_slacks_documentation_is_verified() -> None:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    at = datetime.fromtimestamp(1531420618, UTC)
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar"
        b"&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com"
        b"%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121"
        b".803a0bc887a14d10d2c447fce8b6703c"
    )
    signed = {
        "X-Slack-Request-Timestamp": "1531420618",
        "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
    }
    assert Signatures(SECRET, HeldClock(at)).verify(signed, body)


@pytest.mark.parametrize(("age", "accepted"), [(0, True), (299, True), (-299, True), (301, False), (-301, False)])
def test_a_request_is_good_for_five_minutes(signatures: Signatures, age: int, accepted: bool) -> None:
    assert bool(signatures.verify(headers(BODY, age=age), BODY)) is accepted


def test_a_replay_is_refused_and_a_retry_of_what_was_not_accepted_is_not(signatures: Signatures) -> None:
    signature = signatures.verify(headers(BODY), BODY)
    assert signature == signatures.verify(headers(BODY), BODY)
    assert signature is not None
    signatures.accepted(signature)
    assert signatures.verify(headers(BODY), BODY) is None
    assert signatures.verify(headers(BODY, age=1), BODY)


@pytest.mark.parametrize(
    "change",
    [
        {"X-Slack-Request-Timestamp": ""},
        {"X-Slack-Request-Timestamp": "now"},
        {"X-Slack-Request-Timestamp": "١٢٣"},
        {"X-Slack-Request-Timestamp": "1e9"},
        {"X-Slack-Request-Timestamp": "9" * 400},
        {"X-Slack-Signature": ""},
        {"X-Slack-Signature": "v0="},
        {"X-Slack-Signature": "v1=" + "0" * 64},
        {"X-Slack-Signature": "v0=" + "ü" * 64},
        {"X-Slack-Signature": "v0=" + "0" * 64},
    ],
)
def test_headers_that_are_none_are_refused_and_raise_nothing(signatures: Signatures, change: dict[str, str]) -> None:
    assert signatures.verify({**headers(BODY), **change}, BODY) is None


def test_of_ten_thousand_altered_requests_none_is_accepted(signatures: Signatures) -> None:
    chance = random.Random(1)
    for _ in range(10_000):
        signed, body = headers(BODY), bytearray(BODY)
        match chance.randrange(4):
            case 0:
                body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
            case 1:
                at = chance.randrange(3, 67)
                old = signed["X-Slack-Signature"]
                new = chance.choice("0123456789abcdef".replace(old[at], ""))
                signed["X-Slack-Signature"] = old[:at] + new + old[at + 1 :]
            case 2:
                signed["X-Slack-Request-Timestamp"] = str(int(NOW.timestamp()) + chance.choice((-1, 1, 10, 100)))
            case _:
                body = body[: chance.randrange(len(body))]
        assert signatures.verify(signed, bytes(body)) is None
    assert signatures.verify(headers(BODY), BODY)


# The route


class Door:
    """The adapter's route on a server of its own."""

    def __init__(self, url: str, adapter: WebhookAdapter, slack: SimulatedSlack) -> None:
        self.url = url
        self.adapter = adapter
        self.slack = slack
        self.received: list[InboundMessage] = []
        self.receipt = Receipt.ACCEPTED

    async def inbox(self, message: InboundMessage) -> Receipt:
        self.received.append(message)
        return self.receipt

    async def post(self, body: bytes, *, content_type: str = "application/json", **change: str) -> tuple[int, str]:
        timestamp = str(int(time.time()))
        secret = self.slack.state.app("bot").signing_secret
        signed = {
            "Content-Type": content_type,
            "X-Slack-Request-Timestamp": timestamp,
            "X-Slack-Signature": sign(secret, timestamp, body),
            **{name.replace("_", "-"): value for name, value in change.items()},
        }
        async with aiohttp.ClientSession() as session, session.post(self.url, data=body, headers=signed) as response:
            return response.status, await response.text()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    async with SimulatedSlack(mode="http") as slack:
        adapter = WebhookAdapter(AccountId("bot"), Config(**slack.account()))
        async with serving(adapter.routes()) as url:
            door = Door(f"{url}/webhooks/bot", adapter, slack)
            async with adapter:
                task = asyncio.create_task(adapter.run(door.inbox))
                await until(adapter.gaps)
                yield door
                task.cancel()
                await asyncio.wait({task})


def event(text: str = "hello", *, id: str = "Ev1") -> bytes:
    inner = {
        "type": "message",
        "channel_type": "im",
        "channel": "D1",
        "user": "U1",
        "text": text,
        "ts": f"{time.time():.6f}",
    }
    return json.dumps({"type": "event_callback", "event_id": id, "event": inner}).encode()


async def test_a_signed_event_is_taken_in_and_acknowledged(door: Door) -> None:
    assert await door.post(event()) == (200, "")
    assert [message.text for message in door.received] == ["hello"]


async def test_slacks_question_about_the_url_is_answered_if_it_is_signed(door: Door) -> None:
    body = b'{"type":"url_verification","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}'
    assert await door.post(body) == (200, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P")
    assert await door.post(body.replace(b"3", b"4"), X_Slack_Signature="v0=" + "0" * 64) == (401, "")


async def test_whatever_is_wrong_gets_401_and_no_word(door: Door) -> None:
    body = event()
    assert await door.post(body, X_Slack_Signature="v0=" + "0" * 64) == (401, "")
    assert await door.post(body, X_Slack_Request_Timestamp=str(int(time.time()) - 301)) == (401, "")
    assert await door.post(b"x" * (LARGEST_BODY + 1)) == (401, "")
    async with aiohttp.ClientSession() as session, session.post(door.url, data=body) as response:
        assert (response.status, await response.text()) == (401, "")
    assert door.received == []


async def test_a_replayed_request_is_refused(door: Door) -> None:
    body, timestamp = event(), str(int(time.time()))
    same = {
        "X_Slack_Request_Timestamp": timestamp,
        "X_Slack_Signature": sign(door.slack.state.app("bot").signing_secret, timestamp, body),
    }
    assert await door.post(body, **same) == (200, "")
    assert await door.post(body, **same) == (401, "")
    assert len(door.received) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"7", b"null", b"[" * 100_000])
async def test_a_signed_body_that_is_none_is_refused_politely(door: Door, body: bytes) -> None:
    assert await door.post(body) == (400, "")


async def test_what_cannot_be_stored_comes_again(door: Door) -> None:
    for receipt in (Receipt.OVERLOADED, Receipt.CLOSED):
        door.receipt = receipt
        status, text = await door.post(event(id=receipt.value))
        assert (status, text) == (503, "")


async def test_without_a_signing_secret_there_is_no_route() -> None:
    config = Config(bot_token="xoxb-1", mode="http")
    assert list(WebhookAdapter(AccountId("bot"), config).routes()) == []
    assert config.credentials_missing() == ("signing_secret",)
