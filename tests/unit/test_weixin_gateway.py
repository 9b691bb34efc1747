"""Weixin in the whole program: a code that waits to be scanned, who may see it, and answers longer than the platform takes."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from adapters.wechat.config import Config as WechatConfig
from adapters.weixin.config import Config as WeixinConfig
from core.account import AccountConfig
from core.adapter import AwaitsScan, HasOwner, LoginCode, LoginStep, TakesDigits
from core.clock import SystemClock
from core.keys import KeyRing
from core.messages import AccountId
from gateway.scanning import Scanning
from gateway.settings import Server
from gateway.supervisor import AccountState
from tests.contract.suite import hurry, long_answer
from tests.contract.world import Gateway, World, missing, until
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.weixin import SimulatedWeixin

ADMIN = "cms-of-the-administrator"


@pytest.fixture
async def platform() -> AsyncIterator[SimulatedWeixin]:
    async with SimulatedWeixin() as platform:
        yield platform
        assert list(platform.complaints()) == []


@pytest.fixture
async def world(platform: SimulatedWeixin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    hurry(monkeypatch)
    async with OpenAIServer() as model:
        yield World(platform, model, tmp_path)


async def ask(url: str, *, headers: Mapping[str, str] | None = None, form: Any = None) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request("GET" if form is None else "POST", url, headers=headers, data=form) as response,
    ):
        return response.status, await response.text()


async def waiting(gateway: Gateway) -> LoginCode:
    """The code that is to be scanned."""
    adapter = gateway.adapter()
    assert isinstance(adapter, AwaitsScan)
    await until(lambda: adapter.login_code() is not None and gateway.state() is AccountState.WAITING)
    code = adapter.login_code()
    assert code is not None
    return code


async def test_an_account_that_waits_for_a_scan_says_so_and_nothing_more(
    world: World, platform: SimulatedWeixin
) -> None:
    platform.login.scans = False
    async with world.gateway(listening=False) as gateway:
        code = await waiting(gateway)
        await until(lambda: any(entry["event"] == "waiting for scan" for entry in gateway.logs))
        status, body = await ask(f"{gateway.app.url}/readyz")
        account = json.loads(body)["accounts"]["bot"]
        assert (status, account["state"], account["reason"]) == (503, "waiting", "waiting for scan")
        told = body + json.dumps([str(entry) for entry in gateway.logs])
        assert code.content not in told
        assert platform.login.codes[0].id not in told
        assert gateway.health().reconnects == 0
        platform.login.scan()
        await until(lambda: gateway.state() is AccountState.CONNECTED)
        asked = await platform.person_writes("hello")
        await world.answered(gateway, asked, "answer to: hello")
        assert platform.state.bot("bot").token not in json.dumps([str(entry) for entry in gateway.logs])


async def test_the_page_shows_the_code_takes_digits_and_forgets_it(world: World, platform: SimulatedWeixin) -> None:
    platform.login.scans = False
    async with world.gateway(listening=False) as gateway:
        await waiting(gateway)
        page = f"{gateway.app.url}/scan/bot"
        status, body = await ask(page)
        assert status == 200
        assert "<svg" in body
        assert 'http-equiv="refresh"' in body
        platform.login.plan("bot", "scaned", "need_verifycode", "confirmed")
        adapter = gateway.adapter()
        assert isinstance(adapter, AwaitsScan)
        await until(lambda: (code := adapter.login_code()) is not None and code.step is LoginStep.DIGITS)
        status, body = await ask(page)
        assert "<svg" not in body
        assert 'http-equiv="refresh"' not in body
        proof = body.partition('name="proof" value="')[2].partition('"')[0]
        status, _ = await ask(page, form={"digits": platform.login.number, "proof": "of another site"})
        assert status == 403
        status, _ = await ask(page, form={"digits": " 47 11 ", "proof": proof})
        assert status == 200
        await until(lambda: gateway.state() is AccountState.CONNECTED)
        status, body = await ask(page)
        assert (status, "<svg" in body) == (200, False)
        status, _ = await ask(f"{gateway.app.url}/scan/other")
        assert status == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
        {"X-Real-IP": "203.0.113.7"},
        {"Authorization": "Bearer nothing", "Via": "1.1 proxy"},
    ],
)
async def test_whoever_comes_through_a_proxy_needs_a_key(
    world: World, platform: SimulatedWeixin, headers: dict[str, str]
) -> None:
    platform.login.scans = False
    async with world.gateway(listening=False) as gateway:
        code = await waiting(gateway)
        for form in (None, {"digits": "1"}):
            status, body = await ask(f"{gateway.app.url}/scan/bot", headers=headers, form=form)
            assert status == 401
            assert "<svg" not in body
            assert code.content not in body


class Waits(AwaitsScan, TakesDigits):
    """An account without a platform."""

    def __init__(self) -> None:
        self.code: LoginCode | None = LoginCode(content="the code")

    def login_code(self) -> LoginCode | None:
        return self.code

    def enter_digits(self, digits: str) -> None:
        raise AssertionError("nobody may enter digits here")


def basic(secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anybody:{secret}".encode()).decode()}


@pytest.mark.parametrize(
    ("settings", "headers", "opens"),
    [
        ({}, {}, True),
        ({"api_keys": [ADMIN]}, {}, True),
        ({"public_url": "https://chat.example.com"}, {}, False),
        ({"trusted_proxies": ["10.0.0.0/8"]}, {}, False),
        ({"public_url": "https://chat.example.com"}, basic(ADMIN), False),  # there are no keys: this is none
        ({"public_url": "https://chat.example.com", "api_keys": [ADMIN]}, basic(ADMIN), True),
        ({"public_url": "https://chat.example.com", "api_keys": [ADMIN]}, basic("something else"), False),
        ({"public_url": "https://chat.example.com", "api_keys": [ADMIN]}, {"Authorization": f"Bearer {ADMIN}"}, True),
        ({"public_url": "https://chat.example.com", "api_keys": [ADMIN]}, {"Authorization": "Basic ***"}, False),
        ({}, {"Host": "chat.example.com"}, False),
    ],
)
async def test_who_may_see_a_code(settings: dict[str, Any], headers: dict[str, str], opens: bool) -> None:
    server = Server.model_validate(settings)
    scanning = Scanning(
        {AccountId("bot"): Waits()},
        server,
        KeyRing(server.key_pairs(), required=False),
        SystemClock(),
        terminal=io.StringIO(),
    )
    app = aiohttp.web.Application()
    app.add_routes(scanning.routes())
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    try:
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        status, body = await ask(f"http://127.0.0.1:{runner.addresses[0][1]}/scan/bot", headers=headers)
    finally:
        await runner.cleanup()
    assert (status, "<svg" in body) == ((200, True) if opens else (401, False))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("terminal", "draws"), [(Terminal(), True), (io.StringIO(), False)])
async def test_a_code_is_drawn_for_people_at_a_terminal_alone(terminal: io.StringIO, draws: bool) -> None:
    account = Waits()
    scanning = Scanning(
        {AccountId("bot"): account}, Server(), KeyRing((), required=False), SystemClock(), terminal=terminal
    )
    task = asyncio.create_task(scanning.run("http://127.0.0.1:5000"))
    try:
        if draws:
            await until(lambda: "▄" in terminal.getvalue() or "█" in terminal.getvalue())
            account.code = LoginCode(content="the code", step=LoginStep.CONFIRM)
            await until(lambda: "Confirm on your phone" in terminal.getvalue())
            assert terminal.getvalue().count("owns the bot") == 1
            account.code = LoginCode(content="another code")
            await until(lambda: terminal.getvalue().count("owns the bot") == 2)
        account.code = None
        if draws:
            await until(lambda: "signed in" in terminal.getvalue())
    finally:
        task.cancel()
    assert draws or terminal.getvalue() == ""


# Longer than what the platform takes


async def test_an_answer_of_many_messages_arrives_whole_with_the_persons_next_messages(
    world: World, platform: SimulatedWeixin
) -> None:
    platform.outbox.most_in_a_second = None
    answer = long_answer()
    world.model.configure(reply=f"={answer}", piece=250)
    async with world.gateway() as gateway:
        asked = await platform.person_writes("tell me everything")
        await until(lambda: gateway.store.accepted)
        await until(lambda: gateway.idle)
        assert len(world.texts(asked)) == 10
        assert missing(answer, world.texts(asked)) != ""
        assert await gateway.store.dead_letters() == []
        world.model.configure(reply="=the next answer")
        for number in range(1, 4):
            await platform.person_writes(f"and {number}")
            await until(lambda number=number: len(gateway.store.accepted) == number + 1)  # type: ignore[misc]
            await until(lambda: gateway.idle)
        texts = world.texts(asked)
        first = next(index for index, text in enumerate(texts) if text == "the next answer")
        assert missing(answer, texts[:first]) == ""
        assert texts[first:] == ["the next answer"] * 3
        assert not [text for text in texts if "may be repeated" in text]


async def test_what_waits_for_the_person_survives_a_restart(world: World, platform: SimulatedWeixin) -> None:
    platform.outbox.most_in_a_second = None
    answer = long_answer(22_000)
    world.model.configure(reply=f"={answer}", piece=250)
    async with world.gateway() as gateway:
        asked = await platform.person_writes("tell me everything")
        await until(lambda: gateway.store.accepted)
        await until(lambda: gateway.idle)
        assert len(world.texts(asked)) == 10
    world.model.configure(reply="=the next answer")
    await platform.person_writes("go on")
    async with world.gateway() as gateway:
        await until(lambda: "the next answer" in world.texts(asked))
        await until(lambda: gateway.idle)
        texts = world.texts(asked)
        assert missing(answer, texts[:-1]) == ""
        assert texts[-1] == "the next answer"


async def test_what_is_not_accepted_because_the_person_waits_too_long_is_no_dead_letter(
    world: World, platform: SimulatedWeixin
) -> None:
    async with world.gateway() as gateway:
        world.model.pause()
        asked = await platform.person_writes("hello")
        await until(lambda: world.model.requests)
        platform.login.scans = False
        platform.grow_stale()
        await waiting(gateway)
        world.model.resume()
        await until(lambda: gateway.idle)
        assert world.texts(asked) == []
        assert await gateway.store.dead_letters() == []
        platform.login.scan()
        await platform.listening()
        again = await platform.person_writes("are you back?")
        await world.answered(gateway, again, "answer to: are you back?")
        assert world.texts(asked) == ["answer to: hello", "answer to: are you back?"]


async def test_an_answer_that_is_due_while_the_platform_is_away_comes_as_soon_as_it_is_back(
    world: World, platform: SimulatedWeixin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.delivery.RETRY_AFTER", (600.0,) * 5)
    async with world.gateway() as gateway:
        world.model.pause()
        asked = await platform.person_writes("hello")
        await until(lambda: world.model.requests)
        platform.refuse_links(1_000_000)
        await platform.drop()
        await until(lambda: gateway.state() is AccountState.WAITING)
        world.model.resume()
        await until(lambda: gateway.idle)
        platform.refuse_links(0)
        await world.answered(gateway, asked, "answer to: hello")


# ---- who may talk ----


async def test_strangers_need_a_code_and_who_scanned_owns_the_account(world: World, platform: SimulatedWeixin) -> None:
    world.changes = {"access": {}}
    async with world.gateway() as gateway:
        adapter = gateway.adapter()
        assert isinstance(adapter, HasOwner)
        mine = await platform.person_writes("/approve ABCDEFGH", user="owner")
        await until(lambda: world.texts(mine))
        assert adapter.owner() == gateway.store.accepted[0].sender.id
        assert "admin" not in world.texts(mine)[0].lower(), "it is not refused as nobody's command"
        asked = await platform.person_writes("hello")
        await until(lambda: world.texts(asked))
        (code,) = re.findall(r"/approve ([A-Z2-9]{8})", world.texts(asked)[0])
        await platform.person_writes(f"/approve {code}", user="owner")
        await until(lambda: len(world.texts(mine)) > 1)
        again = await platform.person_writes("hello again")
        await until(lambda: "answer to: hello again" in world.texts(again))
    async with world.gateway() as gateway:
        assert isinstance(owned := gateway.adapter(), HasOwner)
        assert owned.owner() is not None, "the scan is remembered"


async def test_nobody_owns_an_account_that_was_never_scanned(world: World, platform: SimulatedWeixin) -> None:
    platform.login.scans = False
    async with world.gateway(listening=False) as gateway:
        await waiting(gateway)
        assert isinstance(adapter := gateway.adapter(), HasOwner)
        assert adapter.owner() is None


@pytest.mark.parametrize("config", [WeixinConfig, WechatConfig])
def test_a_personal_account_is_closed_to_strangers_whatever_else_is_set(config: type[AccountConfig]) -> None:
    assert config().access.direct == "pairing"
    assert config.model_validate({"access": {"admins": ["wxid_me"]}}).access.direct == "pairing"
    assert config.model_validate({"access": {"direct": "open"}}).access.direct == "open"
