"""The doors that stand open to the world: webhooks of Slack and Feishu under altered, replayed and garbled requests.

Nothing that the platform did not sign is taken in, nothing is answered with 5xx but 503 for what could not be stored, and
the next good request is. CHATGPT_MS_EXAMPLES sets how many requests each experiment makes.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from adapters.feishu.adapter import WebhookAdapter as FeishuWebhook
from adapters.feishu.config import Config as FeishuConfig
from adapters.feishu.signature import Signatures as FeishuSignatures
from adapters.slack.adapter import WebhookAdapter as SlackWebhook
from adapters.slack.config import Config as SlackConfig
from adapters.slack.signature import Signatures as SlackSignatures
from core.adapter import Receipt
from core.messages import AccountId, InboundMessage
from core.webhooks import LARGEST_BODY
from tests.clock import HeldClock
from tests.contract.world import until
from tests.fuzzing import EXAMPLES, Heard, Mutator, examples, figure, request, spoken, text_of
from tests.simulators.feishu import PAYLOADS as FEISHU_PAYLOADS
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_webhook import encrypt
from tests.simulators.feishu_webhook import sign as feishu_sign
from tests.simulators.loopback import serving
from tests.simulators.slack import SimulatedSlack
from tests.simulators.slack_delivery import sign as slack_sign

PATH = "/webhooks/bot"
NOW = datetime(2026, 11, 23, tzinfo=UTC)

Headers = list[tuple[str, str | bytes]]


class Door(ABC):
    """A platform's webhook, with what its platform would send there."""

    def __init__(self) -> None:
        self.port = 0
        self.received: list[InboundMessage] = []
        self.asked = 0
        self.receipt = Receipt.ACCEPTED
        self.held: asyncio.Event | None = None
        """While it is there and not set, nothing is committed."""
        self.number = 0

    async def inbox(self, message: InboundMessage) -> Receipt:
        self.asked += 1
        if self.held is not None:
            await self.held.wait()
        if self.receipt is Receipt.ACCEPTED:
            self.received.append(message)
        return self.receipt

    @abstractmethod
    def serving(self) -> Any:
        """A context: the adapter runs, and its route is served."""

    @abstractmethod
    def sealed(self, payload: Any) -> bytes:
        """A body that says `payload`, which is text or JSON."""

    @abstractmethod
    def signed(self, body: bytes, *, age: int = 0) -> Headers:
        """What the platform adds to `body`."""

    @abstractmethod
    def event(self) -> dict[str, Any]:
        """Somebody's message, another one each time."""

    def good(self) -> tuple[Headers, bytes]:
        """A request that is taken in."""
        body = self.sealed(self.event())
        return [("Content-Type", "application/json"), *self.signed(body)], body

    async def post(self, headers: Sequence[tuple[str, str | bytes]], body: bytes) -> Heard:
        return await spoken(self.port, request(PATH, headers, body))

    async def is_open(self) -> bool:
        """A good request is taken in."""
        before = len(self.received)
        heard = await self.post(*self.good())
        return heard.status == 200 and len(self.received) == before + 1

    @asynccontextmanager
    async def run(self, adapter: Any) -> AsyncIterator[None]:
        async with serving(adapter.routes()) as url:
            self.port = int(url.rpartition(":")[2])
            async with adapter:
                task = asyncio.create_task(adapter.run(self.inbox))
                await until(adapter.gaps)
                yield
                task.cancel()
                await asyncio.wait({task})


class SlackDoor(Door):
    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with SimulatedSlack(mode="http") as slack:
            self.secret = slack.state.app("bot").signing_secret
            async with self.run(SlackWebhook(AccountId("bot"), SlackConfig(**slack.account()))):
                yield

    def sealed(self, payload: Any) -> bytes:
        return (payload if isinstance(payload, str) else json.dumps(payload)).encode("utf-8", "surrogatepass")

    def signed(self, body: bytes, *, age: int = 0) -> Headers:
        timestamp = str(int(time.time()) - age)
        signature = slack_sign(self.secret, timestamp, body)
        return [("X-Slack-Request-Timestamp", timestamp), ("X-Slack-Signature", signature)]

    def event(self) -> dict[str, Any]:
        self.number += 1
        ts = f"{time.time():.0f}.{self.number:06d}"
        inner = {"type": "message", "channel_type": "im", "channel": "D1", "user": "U1", "text": "hello", "ts": ts}
        return {"type": "event_callback", "event_id": f"Ev{self.number}", "event": inner}


class FeishuDoor(Door):
    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with SimulatedFeishu(mode="webhook") as feishu:
            self.app = feishu.state.app("bot")
            async with self.run(FeishuWebhook(AccountId("bot"), FeishuConfig(**feishu.account()))):
                yield

    def sealed(self, payload: Any) -> bytes:
        text = payload if isinstance(payload, str) else json.dumps(payload)
        return json.dumps({"encrypt": encrypt(self.app.encrypt_key, text.encode("utf-8", "replace").decode())}).encode()

    def signed(self, body: bytes, *, age: int = 0) -> Headers:
        self.number += 1
        timestamp, nonce = str(int(time.time()) - age), f"nonce{self.number}"
        signature = feishu_sign(self.app.encrypt_key, timestamp, nonce, body)
        return [
            ("X-Lark-Request-Timestamp", timestamp),
            ("X-Lark-Request-Nonce", nonce),
            ("X-Lark-Signature", signature),
        ]

    def event(self) -> dict[str, Any]:
        self.number += 1
        found: dict[str, Any] = json.loads((FEISHU_PAYLOADS / "direct-message.json").read_text("utf-8"))["payload"]
        found["event"]["message"] |= {"create_time": str(int(time.time() * 1000)), "message_id": f"om_{self.number}"}
        found["header"]["token"] = self.app.verification_token
        return found


DOORS: dict[str, type[Door]] = {"slack": SlackDoor, "feishu": FeishuDoor}


@pytest.fixture(params=DOORS)
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    made = DOORS[request.param]()
    with capture_logs() as logs:
        async with made.serving():
            assert await made.is_open()
            yield made
            assert await made.is_open(), "the door does not open any more"
    assert [entry for entry in logs if entry.get("exc_info")] == []


# What nobody signed


def forged(good: tuple[Headers, bytes], chance: Random) -> tuple[str, bytes]:
    """A good request with something changed that is signed, or its signature. What was done, and the bytes."""
    headers, body = list(good[0]), bytearray(good[1])
    at = chance.randrange(1, len(headers))
    name, value = headers[at]
    signature = len(headers) - 1
    text = str(value)
    way = chance.choice(("bit", "cut", "longer", "signature", "time", "none", "bytes", "huge", "twice", "case", "odd"))
    match way:
        case "bit":
            body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        case "cut":
            del body[chance.randrange(len(body)) :]
        case "longer":
            body += bytes(chance.randrange(256) for _ in range(chance.randint(1, 9)))
        case "signature":
            name, whole = headers[signature]
            where = chance.randrange(len(whole) - 64, len(whole))
            other = chance.choice("0123456789abcdef".replace(str(whole)[where], ""))
            headers[signature] = (name, str(whole)[:where] + other + str(whole)[where + 1 :])
        case "time":
            name, stamp = headers[1]
            headers[1] = (name, str(int(stamp) + chance.choice((-1, 1, 60, -301, 10**9))))
        case "none":
            del headers[at]
        case "bytes":
            headers[at] = (name, bytes(chance.randrange(128, 256) for _ in range(chance.randint(1, 70))))
        case "huge":
            headers[at] = (name, text * chance.choice((2, 100, 300)))
        case "twice":
            headers.insert(at, (name, chance.choice(("", "0", "v0=", "\u00fc", text[:-1], f"{text},{text}"))))
        case "case":
            headers[signature] = (headers[signature][0], str(headers[signature][1]).swapcase())
        case _:
            headers[at] = (
                name,
                chance.choice(("", "now", "1e9", "\u0661", "9" * 400, "-1", "v0=" + "\u00fc" * 64, "x\ty")),
            )
    return way, request(PATH, headers, bytes(body))


async def test_of_altered_requests_none_is_taken_in(door: Door) -> None:
    chance, counted = Random(1), Counter[str]()
    number = EXAMPLES or 250
    before = len(door.received)
    for _ in range(number):
        way, data = forged(door.good(), chance)
        heard = await spoken(door.port, data)
        counted[str(heard.status)] += 1
        assert heard.status in (400, 401), f"{way}: {heard}"
        assert heard.status == 400 or heard.body == b""
    figure(f"altered requests to {type(door).__name__}, 0 taken in", counted)
    assert door.received[before:] == []
    assert counted["401"] > number * 0.7


async def test_a_verifier_that_looks_at_nothing_is_found(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paired negative."""
    kind = SlackSignatures if isinstance(door, SlackDoor) else FeishuSignatures
    with monkeypatch.context() as patched:
        patched.setattr(kind, "verify", lambda *_: "signature")
        with pytest.raises(AssertionError):
            await test_of_altered_requests_none_is_taken_in(door)


async def test_copies_of_a_request_that_come_at_once_are_taken_in_once(door: Door) -> None:
    headers, body = door.good()
    door.asked, door.held = 0, asyncio.Event()
    posts = [asyncio.create_task(door.post(headers, body)) for _ in range(20)]
    await until(lambda: sum(post.done() for post in posts) == 19, seconds=5)
    door.held.set()
    statuses = Counter(heard.status for heard in await asyncio.gather(*posts))
    door.held = None
    assert statuses == {200: 1, 401: 19}
    assert door.asked == 1
    assert (await door.post(headers, body)).status == 401


async def test_what_was_not_stored_may_come_again_as_it_is(door: Door) -> None:
    headers, body = door.good()
    door.receipt = Receipt.OVERLOADED
    assert [(await door.post(headers, body)).status for _ in range(2)] == [503, 503]
    door.receipt = Receipt.ACCEPTED
    assert [(await door.post(headers, body)).status for _ in range(2)] == [200, 401]


@pytest.mark.parametrize("kind", ["slack", "feishu"])
def test_a_request_is_good_for_five_minutes_to_either_side(kind: str) -> None:
    body, clock = b"{}", HeldClock(NOW)
    counted = Counter[str]()

    @examples(200)
    @given(st.one_of(st.integers(-400, 400), st.integers(-(10**11), 10**11)))
    @example(300)
    @example(-300)
    @example(301)
    @example(-301)
    def fire(age: int) -> None:
        stamp = str(int(NOW.timestamp()) - age)
        if kind == "slack":
            sent = {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": slack_sign("secret", stamp, body)}
            good = SlackSignatures("secret", clock).verify(sent, body)
        else:
            sent = {
                "X-Lark-Request-Timestamp": stamp,
                "X-Lark-Request-Nonce": "n",
                "X-Lark-Signature": feishu_sign("secret", stamp, "n", body),
            }
            good = FeishuSignatures("secret", clock).verify(sent, body)
        counted["good" if good else "too old or too new"] += 1
        assert (good is not None) is (abs(age) <= 300)

    fire()
    figure(f"ages of requests of {kind}", counted)


# What is signed, and nonsense all the same


@pytest.fixture
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.webhooks._READ", 0.3)


def nonsense(door: Door, mutator: Mutator, chance: Random) -> tuple[Headers, bytes]:
    """Signed by the platform's key."""
    challenge = {"type": "url_verification", "challenge": mutator.junk(), "token": ""}
    if isinstance(door, FeishuDoor):
        challenge["token"] = door.app.verification_token
    event = door.event()
    command = {"command": "/chatgpt", "user_id": "U1", "channel_id": "D1", "trigger_id": "1.2", "text": "x"}
    click = {"type": "block_actions", "user": {"id": "U1"}, "actions": [{"action_id": "stop", "value": "{}"}]}
    kind = "application/json"
    match chance.randrange(6):
        case 0 | 1:
            body = door.sealed(text_of(mutator.altered([event], 3)))
        case 2:
            body = door.sealed(text_of(challenge))
        case 3:
            kind = "application/x-www-form-urlencoded"
            form = {**command, chance.choice(list(command)): chance.choice(("", "\0", "x" * 9_000, "\u0661", "/new"))}
            other = {"payload": text_of(mutator.altered([click], 3))}
            body = urlencode(chance.choice((form, other)), errors="surrogatepass").encode()
        case 4:
            body = mutator.broken(door.sealed(event).decode("utf-8", "replace"))
        case _:
            body = door.sealed(mutator.broken(json.dumps(event)).decode("latin-1"))
    if chance.randrange(4) == 0:
        kind = chance.choice(
            ("", "text/plain", "application/xml", "a/b; charset=utf-7", "\u00fc", ";;;", "multipart/form-data")
        )
    return [("Content-Type", kind), *door.signed(body)], body


async def test_signed_nonsense_is_refused_politely(door: Door) -> None:
    chance, counted = Random(2), Counter[str]()
    mutator = Mutator(chance)
    for _ in range(EXAMPLES or 200):
        headers, body = nonsense(door, mutator, chance)
        heard = await door.post(headers, body)
        counted[str(heard.status)] += 1
        assert heard.status in (200, 400, 401), (heard, headers, body[:300])
    figure(f"signed nonsense to {type(door).__name__}", counted)
    assert counted["400"]
    assert counted["200"]


# Bodies that are none


_BOMB = gzip.compress(bytes(20_000_000))


def bodies(headers: Headers, body: bytes) -> dict[str, tuple[bytes, ...]]:
    """Ways to send a body that the server must not wait for, unpack, or believe."""

    def chunk(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    def encoded(name: str, data: bytes) -> bytes:
        return request(PATH, [*headers, ("Content-Encoding", name)], data)

    chunked = request(PATH, [*headers, ("Transfer-Encoding", "chunked")], length=False)
    return {
        "announced too large": (request(PATH, [*headers, ("Content-Length", str(LARGEST_BODY + 1))], length=False),),
        "too large": (request(PATH, headers, b"x" * (LARGEST_BODY + 1)),),
        "chunks without end": (chunked, *(chunk(b"x" * 100_000) for _ in range(12))),
        "a chunk, and nothing more": (chunked, chunk(b"{")),
        "a broken chunk": (chunked, b"zz\r\n{}\r\n0\r\n\r\n"),
        "a chunk of a huge size": (chunked, b"f" * 30 + b"\r\n{}"),
        "shorter than announced": (request(PATH, headers, body)[:-1],),
        "a gzip bomb": (encoded("gzip", _BOMB),),
        "no gzip": (encoded("gzip", body),),
        "half a gzip": (encoded("gzip", gzip.compress(body)[:40]),),
        "no deflate": (encoded("deflate", b"\xff" * 50),),
        "no brotli": (encoded("br", body),),
        "half a deflate": (encoded("deflate", zlib.compress(body)[:40]),),
        "negative length": (request(PATH, [*headers, ("Content-Length", "-1")], length=False),),
        "two lengths": (request(PATH, [*headers, ("Content-Length", "1")], body),),
        "both ways": (request(PATH, [*headers, ("Transfer-Encoding", "chunked")], body),),
    }


@pytest.mark.usefixtures("_hasty")
async def test_a_body_that_is_none_costs_nothing(door: Door) -> None:
    counted = Counter[str]()
    before = len(door.received)
    for hang_up in (False, True):
        for name in bodies(*door.good()):
            headers, body = door.good()
            heard = await spoken(door.port, *bodies(headers, body)[name], hang_up=hang_up, seconds=5)
            counted[str(heard.status)] += 1
            assert heard.status in (0, 400, 401), f"{name}: {heard}"
            assert await door.is_open(), name
    figure(f"bodies that are none, to {type(door).__name__}", counted)
    assert all(message.sent_at > NOW - timedelta(days=1) for message in door.received[before:])
