"""No secret is written anywhere, at the level that writes most: every platform in one process, while much goes wrong.

Looked through afterwards: the log, the database's files, /metrics, /readyz and the other documents, what commands print, and
everything that anybody was shown on any platform. One-time codes are part of messages, and messages are in the database;
that the codes are not stored beside them is shown in tests/core/test_linking.py and test_pairing.py.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from tests.scenario.breaking import broken
from tests.scenario.broken_secrets import MISTAKE
from tests.scenario.conftest import MakeGateway
from tests.scenario.fronts import Front, fronts, on_all
from tests.scenario.gateway_process import MODEL_KEY, GatewayProcess, until
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.openai_server import Fault, OpenAIServer
from tests.simulators.slack import SimulatedSlack
from tests.simulators.weixin import SimulatedWeixin

pytestmark = pytest.mark.process

CONFIGURED = (
    "app_secret",
    "app_token",
    "bot_token",
    "client_secret",
    "encrypt_key",
    "signing_secret",
    "token",
    "verification_token",
)
"""Keys of accounts whose values are secret."""

KEY = "cms-canary-of-the-configuration-0123456789"
PROXY = "canary-of-the-proxy"
WRONG = "canary-of-wrong-credentials"
TEXT = "canary-text-of-a-person"
CODE = re.compile(r"/(?:link|approve) ([A-HJ-NP-Z2-9]{8})")

DOCUMENTS = ("/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/models", "/nowhere", "/webhooks/slackhttp")


@dataclass
class Secrets:
    """What must not be seen, by what it is."""

    values: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    """One-time codes: in the messages that tell them to the one person they are for, and nowhere else."""
    issued: dict[str, str] = field(default_factory=dict)
    """What platforms gave out while it ran."""

    def found_in(self, text: str, *, codes: bool = True) -> set[str]:
        """Which of them are in a text."""
        everything = {**self.values, **self.issued, **(self.codes if codes else {})}
        return {what for what, secret in everything.items() if secret in text}


def configured(made: Iterable[Front]) -> dict[str, str]:
    """The credentials of all accounts."""
    return {
        f"{front.name} {key}": str(value)
        for front in made
        for key, value in front.platform.account().items()
        if key in CONFIGURED and value
    }


def issued(made: Iterable[Front]) -> dict[str, str]:
    """What platforms have given the gateway to prove itself with."""
    found: list[tuple[str, str]] = []
    for front in made:
        match front.platform:
            case SimulatedFeishu() as feishu:
                found += [(front.name, token) for app in feishu.state.apps.values() for token in app.tokens]
            case SimulatedDingTalk() as dingtalk:
                found += [(front.name, token) for app in dingtalk.world.apps.values() for token in app.tokens]
            case SimulatedWeixin() as weixin:
                found += [(front.name, token) for bot in weixin.state.bots.values() for token in bot.tokens]
    return {f"{name} token {number}": token for number, (name, token) in enumerate(found)}


def watch_tickets(made: Iterable[Front], secrets: Secrets) -> None:
    """Slack's addresses of sockets have the right to open them in their query."""
    for front in made:
        if isinstance(front.platform, SimulatedSlack):
            give = front.platform.api._ticket

            def note(app: Any, give: Any = give, name: str = front.name) -> str:
                url: str = give(app)
                secrets.issued[f"{name} ticket {len(secrets.issued)}"] = url.partition("ticket=")[2].partition("&")[0]
                return url

            front.platform.api._ticket = note


def impostors(made: Iterable[Front]) -> Mapping[str, Any]:
    """Accounts whose credentials are wrong, and one behind a proxy that is not there."""
    accounts: dict[str, Any] = {}
    for front in made:
        block = {"platform": front.platform.spec.platform, **front.platform.account()}
        secret = {key: f"{WRONG}-{front.name}-{key}-0123456789" for key in CONFIGURED if block.get(key)}
        if front.name in ("slack", "discord", "feishu", "dingtalk"):
            for prefix, key in (("xoxb-", "bot_token"), ("xapp-", "app_token")):
                if key in secret:
                    secret[key] = prefix + secret[key]
            accounts[f"wrong-{front.name}"] = {**block, **secret}
        if front.name == "discord":
            accounts["proxied"] = {**block, "proxy": f"http://ann:{PROXY}@127.0.0.1:9"}
            doors = {"platform": block["platform"], **front.platform.account("doors")}
            accounts["doors"] = {**doors, "access": {"direct": "pairing"}}
    return accounts


async def live(gateway: GatewayProcess, made: list[Front], http: aiohttp.ClientSession, secrets: Secrets) -> None:
    """People talk on every platform, links drop, the model fails, and the program makes mistakes."""
    for what in (TEXT, f"{MISTAKE} in a turn", f"{MISTAKE} in a send"):
        await asyncio.gather(*(front.ask(what) for front in made))
        await until(lambda: all(_shown(front, asked) for front in made for asked in front.asked))
    for front in made:
        if front.name in ("slack", "discord", "dingtalk"):
            await front.drop()
    model = made[0].stage.model
    echo = f"Incorrect API key provided: {MODEL_KEY}. You can find your key at https://model.example."
    for fault in (
        Fault(kind="status", status=401, body={"error": {"message": echo, "type": "invalid_request_error"}}),
        Fault(kind="status", status=500, body=f"<html>{MODEL_KEY}</html>"),
        Fault(kind="status", status=400, body={"error": {"message": echo}}),
    ):
        model.settings.script.append(fault)
        question = {"message": "hello", "user": f"ann{fault.status}"}
        told = await gateway.post(http, "/chat", question, headers={"Authorization": f"Bearer {KEY}"})
        assert told.status >= 400
        assert secrets.found_in(told.text) == set()
    sent = await made[0].platform.person_writes("/link", user="linker")
    await until(lambda: bool(_codes(made[0], sent.room)))
    secrets.codes |= {f"link code {code}": code for code in _codes(made[0], sent.room)}
    stranger = next(front for front in made if front.name == "discord")
    sent = await stranger.platform.person_writes("let me in", user="stranger", account="doors")
    await until(lambda: bool(_codes(stranger, sent.room)))
    secrets.codes |= {f"pairing code {code}": code for code in _codes(stranger, sent.room)}


def _codes(front: Front, room: str) -> list[str]:
    return [code for shown in front.platform.visible(room) for code in CODE.findall(shown.text)]


def _shown(front: Front, asked: Any) -> bool:
    """Something final is to be read there, or is going to be tried for longer than anybody waits."""
    shown = front.platform.visible(asked.delivery.room)
    return f"{MISTAKE} in a send" in asked.question or (bool(shown) and not any(each.growing for each in shown))


async def everything(gateway: GatewayProcess, made: list[Front], http: aiohttp.ClientSession) -> dict[str, str]:
    """Whatever is written of what happened, by where; the gateway is stopped with it."""
    texts: dict[str, str] = {}
    for path in DOCUMENTS:
        for key in ("", KEY):
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            texts[f"{path} {key and 'with a key'}"] = (await gateway.get(http, path, headers=headers)).text
    for words in ("deadletters list", "pairing list", "links list", "sessions list", "keys list", "check"):
        done = await gateway.command(*words.split())
        texts[words] = done.out + done.err
    for number in (11, 20):  # of a mistake in a turn, and in a send
        done = await gateway.command("trace", str(number))
        texts[f"trace {number}"] = done.out + done.err
    await gateway.kill()
    texts["log"] = "\n".join(gateway.lines)
    for file in gateway.database.parent.iterdir():
        if file.is_file():
            texts[file.name] = file.read_bytes().decode("latin-1")
    texts["chats"] = "\n".join(shown.text for front in made for shown in _everything_shown(front))
    return texts


def _everything_shown(front: Front) -> list[Any]:
    return [shown for asked in front.asked for shown in front.platform.visible(asked.delivery.room)]


async def play(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer, fault: str
) -> tuple[Secrets, dict[str, str]]:
    """All of it, with the mistakes of `fault`; what is secret, and whatever was written."""
    async with fronts(model, make_gateway) as made:
        secrets = Secrets({"model": MODEL_KEY, "key": KEY, "proxy": PROXY, "wrong": WRONG})
        secrets.values |= configured(made)
        watch_tickets(made, secrets)
        options = broken("broken_secrets", fault)
        options["environ"] = {**options["environ"], "CANARY": MODEL_KEY}
        config: dict[str, Any] = {
            "log": {"level": "debug"},
            "chat": {"retries": 0},
            "server": {"api_keys": [{"key": KEY, "namespace": "ours"}]},
        }
        config["accounts"] = impostors(made)
        async with on_all(made, make_gateway, config=config, **options) as gateway:
            await live(gateway, made, http, secrets)
            secrets.issued |= issued(made)
            return secrets, await everything(gateway, made, http)


def leaks(secrets: Secrets, texts: Mapping[str, str]) -> list[str]:
    """Which secret is where."""
    return [
        f"{what} in {where}"
        for where, text in texts.items()
        for what in sorted(secrets.found_in(text, codes=where != "chats" and ".db" not in where))
    ]


async def test_no_secret_is_written_anywhere_while_much_goes_wrong_on_every_platform(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    secrets, texts = await play(make_gateway, http, model, "mistaken")
    found = leaks(secrets, texts)
    lines, count = texts["log"].count("\n"), len({**secrets.values, **secrets.issued, **secrets.codes})
    with capsys.disabled():
        print(f"\nS7: {count} secrets, {lines} lines of log at DEBUG, {len(texts)} texts, {len(found)} found")
    assert found == []
    assert TEXT in texts["log"], "at DEBUG what people write is in the log, so this is that level"
    assert "Traceback" in texts["log"]
    assert texts["log"].count("[redacted]") >= 10
    assert len(secrets.codes) == 2
    assert len(secrets.issued) >= 5


async def test_a_log_that_hides_nothing_would_be_seen(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    secrets, texts = await play(make_gateway, http, model, "unredacted")
    assert {"model in log", "proxy in log"} & set(leaks(secrets, texts))


async def test_above_debug_nothing_that_people_write_is_in_the_log(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    async with fronts(model, make_gateway) as made, on_all(made, make_gateway) as gateway:
        await asyncio.gather(*(front.ask(TEXT) for front in made))
        await until(lambda: all(_shown(front, asked) for front in made for asked in front.asked))
        assert await gateway.stop() == 0
        assert gateway.lines
        assert TEXT not in "\n".join(gateway.lines)
