"""Personal WeChat over iLink against the contract, and what is special about it: codes to scan, the cursor, the limits."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from adapters.weixin import WeixinAdapter, WeixinReply
from core.adapter import IdempotencyKey, LoginStep, OutboundFile
from gateway.supervisor import WAITING_FOR_SCAN, AccountState
from tests.contract.platform import Delivery, File, SimulatedPlatform
from tests.contract.suite import AdapterContract, hurry, long_answer
from tests.contract.world import Gateway, World, holds, missing, once, until
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.weixin import SimulatedWeixin
from tests.simulators.weixin_state import IMAGE, TEXT


def unlimited() -> SimulatedWeixin:
    """Without the platform's limits on sends."""
    weixin = SimulatedWeixin()
    weixin.outbox.most_answers = weixin.outbox.most_in_a_second = None
    return weixin


class TestWeixin(AdapterContract):
    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        """The suite asks for an answer of 30,000 characters, and for no pause between two messages. The limits have
        tests of their own below."""
        return unlimited()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def weixin() -> SimulatedWeixin:
    return unlimited()


@pytest.fixture
async def world(weixin: SimulatedWeixin, tmp_path: Path) -> AsyncIterator[World]:
    """As in the suite: whatever the platform complained of fails the test."""
    async with OpenAIServer() as model, weixin:
        yield World(weixin, model, tmp_path)
        assert list(weixin.complaints()) == []


def adapter_of(gateway: Gateway) -> WeixinAdapter:
    adapter = gateway.adapter()
    assert isinstance(adapter, WeixinAdapter)
    return adapter


def step(gateway: Gateway) -> LoginStep | None:
    code = adapter_of(gateway).login_code()
    return code.step if code is not None else None


# Signing in


async def test_a_code_waits_for_a_person_and_is_told_to_nobody_else(world: World, weixin: SimulatedWeixin) -> None:
    weixin.login.scans = False
    async with world.gateway(listening=False) as gateway:
        await until(lambda: gateway.state() is AccountState.WAITING)
        shown = weixin.login.shown()
        code = adapter_of(gateway).login_code()
        assert shown is not None
        assert code is not None
        assert shown.id in code.content
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{gateway.app.url}/readyz") as response:
                told = await response.text()
            async with session.get(f"{gateway.app.url}/scan/bot") as response:
                page = await response.text()
        assert WAITING_FOR_SCAN in told
        assert "<svg" in page
        asked = await weixin.person_writes("early")
        weixin.login.scan()
        await world.answered(gateway, asked, "answer to: early")
        await until(lambda: gateway.state() is AccountState.CONNECTED)
        assert adapter_of(gateway).login_code() is None
        told += json.dumps([str(entry) for entry in gateway.logs])
    told += json.dumps([str(entry) for entry in gateway.logs])
    assert not [secret for secret in (shown.id, code.content, weixin.state.bot("bot").token) if secret in told]


async def test_every_step_of_a_sign_in(world: World, weixin: SimulatedWeixin) -> None:
    weixin.login.plan("bot", "wait", "scaned", "need_verifycode", "scaned", "scaned_but_redirect", "confirmed")
    async with world.gateway(listening=False) as gateway:
        adapter = adapter_of(gateway)
        await until(lambda: step(gateway) is LoginStep.DIGITS)
        adapter.enter_digits("0000")
        await until(lambda: step(gateway) is LoginStep.WRONG_DIGITS)
        adapter.enter_digits(weixin.login.number)
        await weixin.listening()
        await world.fence(gateway)
    (code,) = weixin.login.codes
    assert code.said == [
        "wait",
        "scaned",
        "need_verifycode",
        "need_verifycode",
        "scaned",
        "scaned_but_redirect",
        "confirmed",
    ]


async def test_codes_that_lead_nowhere_are_replaced(world: World, weixin: SimulatedWeixin) -> None:
    weixin.login.plan("bot", "expired", "scaned", "expired", "need_verifycode")
    async with world.gateway(listening=False) as gateway:
        for _ in range(3):
            await until(lambda: step(gateway) in (LoginStep.DIGITS, LoginStep.WRONG_DIGITS))
            asked = len(weixin.login.codes[-1].said)
            adapter_of(gateway).enter_digits("0000")
            await until(lambda asked=asked: len(weixin.login.codes[-1].said) != asked)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        await weixin.listening()
        await world.fence(gateway)
    assert [code.said[-1] for code in weixin.login.codes] == ["expired", "expired", "verify_code_blocked", "confirmed"]


async def test_credentials_outlive_a_restart_and_are_for_their_owner_alone(
    world: World, weixin: SimulatedWeixin
) -> None:
    for _ in range(2):
        async with world.gateway() as gateway:
            await world.fence(gateway)
    assert len(weixin.login.codes) == 1
    token = weixin.state.bot("bot").token
    files = [path for path in world.folder.rglob("*") if path.is_file() and token.encode() in path.read_bytes()]
    assert len(files) == 1
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700


async def test_a_stale_token_leads_to_a_new_code(world: World, weixin: SimulatedWeixin) -> None:
    async with world.gateway() as gateway:
        await world.fence(gateway)
        weixin.login.scans = False
        weixin.grow_stale()
        await until(lambda: gateway.health().reason == WAITING_FOR_SCAN)
        asked = await weixin.person_writes("while nobody listens")
        await holds(lambda: gateway.state() is AccountState.WAITING)
        weixin.login.scan()
        await world.answered(gateway, asked, "answer to: while nobody listens")
        await until(lambda: gateway.state() is AccountState.CONNECTED)
        assert weixin.login.codes[-1].local_tokens == weixin.state.bot("bot").tokens[:1]


async def test_a_bot_that_is_bound_already_goes_on_with_its_credentials(world: World, weixin: SimulatedWeixin) -> None:
    async with world.gateway() as gateway:
        await world.fence(gateway)
        weixin.login.plan("bot", "binded_redirect")
        weixin.grow_stale()
        await until(lambda: len(weixin.login.codes) == 2)
        async with asyncio.timeout(30):
            await weixin.listening()
        await world.fence(gateway)
    assert len(weixin.state.bot("bot").tokens) == 1


async def test_the_platform_is_told_when_the_bot_comes_writes_and_goes(world: World, weixin: SimulatedWeixin) -> None:
    bot = weixin.state.bot("bot")
    world.model.pause()
    async with world.gateway() as gateway:
        asked = await weixin.person_writes("hello")
        await until(lambda: ("ann", 1) in bot.typing)
        online = [bot.online]
        world.model.resume()
        await world.answered(gateway, asked, "answer to: hello")
    assert [*online, bot.online] == [True, False]


# The cursor


async def test_what_was_written_during_a_restart_is_answered_once(world: World, weixin: SimulatedWeixin) -> None:
    async with world.gateway() as gateway:
        before = await weixin.person_writes("before")
        await world.answered(gateway, before, "answer to: before")
    missed = [await weixin.person_writes(f"meanwhile {user}", user=user) for user in ("ann", "bob")]
    async with world.gateway() as gateway:
        for delivery, user in zip(missed, ("ann", "bob"), strict=True):
            await world.answered(gateway, delivery, f"answer to: meanwhile {user}")
        await world.fence(gateway)
    assert sorted(request.last for request in world.model.requests) == [
        "before",
        "fence 3",
        "meanwhile ann",
        "meanwhile bob",
    ]


async def test_a_cursor_that_was_lost_brings_nothing_twice(world: World, weixin: SimulatedWeixin) -> None:
    async with world.gateway() as gateway:
        asked = await weixin.person_writes("once")
        await world.answered(gateway, asked, "answer to: once")
    (cursor,) = world.folder.rglob("cursor")
    cursor.unlink()
    async with world.gateway() as gateway:
        await world.fence(gateway)
        assert once("answer to: once", world.texts(asked))
    assert [request.last for request in world.model.requests] == ["once", "fence 1"]


async def test_a_link_that_keeps_dropping_loses_and_doubles_nothing(world: World, weixin: SimulatedWeixin) -> None:
    async with world.gateway() as gateway:
        await world.fence(gateway)
        asked: list[tuple[str, Delivery]] = []
        for number in range(12):
            text = f"message {number}."
            asked.append((text, await weixin.person_writes(text, user=f"user{number % 4}")))
            await weixin.drop()
            if number % 2:
                async with asyncio.timeout(30):
                    await weixin.listening()
        for text, delivery in asked:
            await until(lambda text=text, delivery=delivery: world.told(delivery, f"answer to: {text}"))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        await until(lambda: gateway.idle)
        assert [sum(request.last == text for request in world.model.requests) for text, _ in asked] == [1] * len(asked)
        assert all(once(f"answer to: {text}", world.texts(delivery)) for text, delivery in asked)


# The limits


async def test_what_is_over_the_answers_to_one_message_waits_for_the_next(
    world: World, weixin: SimulatedWeixin
) -> None:
    weixin.outbox.most_answers = 10
    answer = long_answer(26_000)
    world.model.configure(reply=f"={answer}", piece=250)
    bot = weixin.state.bot("bot")
    async with world.gateway() as gateway:
        asked = await weixin.person_writes("tell me everything")
        await until(lambda: len(world.texts(asked)) == 10)
        await until(lambda: gateway.idle)
        assert missing(answer, world.texts(asked)) != ""
        refused = len(bot.refusals)
        assert refused <= 3
        await holds(lambda: len(bot.refusals) == refused)
    world.model.configure(reply="=and that was all", piece=250)
    async with world.gateway() as gateway:
        await holds(lambda: len(world.texts(asked)) == 10)
        await weixin.person_writes("go on")
        await until(lambda: world.told(asked, f"{answer}\n\nand that was all"))
        await until(lambda: gateway.idle)
        assert "".join(world.texts(asked)).count("ending 1.") == 1
        assert once("and that was all", world.texts(asked)[-1:])
        assert await gateway.store.dead_letters() == []


async def test_bursts_that_are_refused_are_sent_more_slowly(world: World, weixin: SimulatedWeixin) -> None:
    weixin.outbox.most_in_a_second = 2
    answer = long_answer(5_000)
    world.model.configure(reply=f"={answer}")
    async with world.gateway() as gateway:
        asked = await weixin.person_writes("a little more")
        await until(lambda: world.told(asked, answer))
        await until(lambda: gateway.idle)
        assert len(weixin.state.bot("bot").refusals) == 1
        assert "".join(world.texts(asked)).count("ending 1.") == 1


async def test_at_its_own_pace_no_burst_is_refused(world: World, weixin: SimulatedWeixin) -> None:
    weixin.outbox.most_in_a_second = 2
    world.changes = {"pace": 0.5}
    answer = long_answer(5_000)
    world.model.configure(reply=f"={answer}")
    async with world.gateway() as gateway:
        asked = await weixin.person_writes("a little more")
        await until(lambda: world.told(asked, answer))
        await until(lambda: gateway.idle)
    assert weixin.state.bot("bot").refusals == []


async def test_nothing_is_sent_to_who_wrote_more_than_a_day_ago(world: World, weixin: SimulatedWeixin) -> None:
    async with world.gateway() as gateway:
        old = await weixin.person_writes("yesterday", age=timedelta(hours=25))
        await until(lambda: weixin.acknowledged(old))
        await world.fence(gateway)
        assert world.texts(old) == []
    assert weixin.state.bot("bot").refusals == []


async def test_success_without_a_word_of_it_is_success(world: World, weixin: SimulatedWeixin) -> None:
    weixin.api.bare = True
    async with world.gateway() as gateway:
        asked = await weixin.person_writes("hello")
        await world.answered(gateway, asked, "answer to: hello")


# What messages bring


async def test_what_was_said_is_read_where_the_platform_wrote_it_down(world: World, weixin: SimulatedWeixin) -> None:
    async with world.gateway() as gateway:
        asked = weixin.person_speaks("what is the time?")
        await world.answered(gateway, asked, "answer to: what is the time?")
        assert gateway.store.accepted[0].attachments == ()
        weixin.person_speaks("", user="bob")
        await until(lambda: len(gateway.store.accepted) == 2)
        (voice,) = gateway.store.accepted[1].attachments
        assert (await adapter_of(gateway).fetch(voice, most_bytes=1000)).startswith(b"\x02#!SILK_V3")


@pytest.mark.parametrize("full_urls", [True, False])
async def test_pictures_and_films_are_decrypted(world: World, weixin: SimulatedWeixin, full_urls: bool) -> None:
    weixin.cdn.full_urls = full_urls
    content = bytes(range(256)) * 40
    async with world.gateway() as gateway:
        kinds = ("image/png", "video/mp4", "application/pdf")
        files = [File(name=f"f{number}", media_type=kind, content=content) for number, kind in enumerate(kinds)]
        asked = await weixin.person_writes("look", files=files)
        await world.answered(gateway, asked, "answer to: look")
        for attachment in gateway.store.accepted[0].attachments:
            assert await adapter_of(gateway).fetch(attachment, most_bytes=len(content)) == content
        media, _ = weixin.cdn.media(content, hex_key=False)
        words, picture = {"type": TEXT, "text_item": {"text": "here"}}, {"image_item": {"media": media}}
        asked = weixin.person_sends([words, {"type": IMAGE, **picture}], user="bob")
        await world.answered(gateway, asked, "answer to: here")
        (attachment,) = gateway.store.accepted[1].attachments
        assert await adapter_of(gateway).fetch(attachment, most_bytes=len(content)) == content


@pytest.mark.parametrize("full_urls", [True, False])
async def test_files_are_sent_encrypted(world: World, weixin: SimulatedWeixin, full_urls: bool) -> None:
    weixin.cdn.full_urls = full_urls
    async with world.gateway() as gateway:
        asked = await weixin.person_writes("hello")
        await world.answered(gateway, asked, "answer to: hello")
        reply = gateway.reply(gateway.store.accepted[0])
        assert isinstance(reply, WeixinReply)
        for number, kind in enumerate(("text/plain", "image/png", "video/mp4")):
            file = OutboundFile(name=f"f{number}", media_type=kind, content=bytes(range(200)) * 10)
            assert await reply.attach(file, key=IdempotencyKey(f"file-{number}"))
        assert world.texts(asked)[1:] == ["[f0]", "[image]", "[video]"]
