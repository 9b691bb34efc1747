"""Every simulated platform behind a bad network of its own, and one gateway on all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.contract.platform import SimulatedPlatform
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import PATIENCE, GatewayProcess, until
from tests.scenario.stage import Asked, Stage
from tests.scenario.test_dingtalk_kill import DingTalkStage
from tests.scenario.test_discord_kill import DiscordStage
from tests.scenario.test_feishu_kill import FeishuStage
from tests.scenario.test_slack_kill import SlackStage
from tests.scenario.test_wechat_kill import WechatStage
from tests.scenario.test_weixin_kill import WeixinStage
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.discord import DiscordPlatform
from tests.simulators.fault_proxy import FaultProxy
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.loopback import IN_FRONT
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.slack import SimulatedSlack
from tests.simulators.wechat import SimulatedWechat
from tests.simulators.weixin import SimulatedWeixin
from tests.simulators.wire_faults import Fault

LONG_POLLS = "/getupdates"
"""Weixin's link."""


def _stages() -> dict[str, tuple[type[Stage[Any]], SimulatedPlatform]]:
    discord = DiscordPlatform()
    discord.gateway.identify_interval = 0.0
    return {
        "slack": (SlackStage, SimulatedSlack()),
        "slackhttp": (SlackStage, SimulatedSlack(mode="http")),
        "discord": (DiscordStage, discord),
        "feishu": (FeishuStage, SimulatedFeishu()),
        "feishuhttp": (FeishuStage, SimulatedFeishu(mode="webhook")),
        "dingtalk": (DingTalkStage, SimulatedDingTalk(card=True)),
        "dingtalktext": (DingTalkStage, SimulatedDingTalk(card=False)),
        "wechat": (WechatStage, SimulatedWechat(replays=True)),
        "weixin": (WeixinStage, SimulatedWeixin()),
    }


PLATFORMS = tuple(_stages())


@dataclass
class Front:
    """One platform, as the account `name` of the gateway."""

    name: str
    stage: Stage[Any]
    proxy: FaultProxy
    """Before the platform."""
    door: FaultProxy | None = None
    """Before the gateway, where the platform sends webhooks."""
    asked: list[Asked] = field(default_factory=list)
    away: list[float] = field(default_factory=list)
    """Seconds from each drop until the platform heard the gateway again."""

    @property
    def platform(self) -> SimulatedPlatform:
        platform: SimulatedPlatform = self.stage.platform
        return platform

    @property
    def incoming(self) -> FaultProxy:
        """Over which messages come."""
        return self.door or self.proxy

    async def ask(self, what: str = "question", *, place: str | None = None) -> Asked:
        question = f"{self.name} {what} {len(self.asked)}"
        asked = await self.stage.ask(question, place or self.stage.places[-1 if len(self.asked) % 2 == 0 else 0])
        self.asked.append(asked)
        return asked

    async def drop(self) -> None:
        """Its link breaks; returns when there is another one. Without links, what the platform is told of a message gets
        lost."""
        if self.door is not None:
            self.door.faults = [Fault(kind="reset", carried_out=True, times=1)]
            await self.ask()
            return
        await until(lambda: self.proxy.links > 0)  # a poll may just have been answered
        since, before = time.monotonic(), len(self.proxy.tried)
        self.proxy.cut()
        await until(lambda: len(self.proxy.tried) > before)
        await self.heard_again()
        self.away.append(time.monotonic() - since)

    async def heard_again(self) -> None:
        """Returns once the platform hears the gateway."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.platform.listening()
        except TimeoutError:
            raise AssertionError(f"{self.name} does not hear the gateway within {PATIENCE:g} s") from None

    @property
    def wrong(self) -> list[str]:
        """Questions whose place shows anything but one whole answer."""
        return self.stage.wrong(self.asked)


@asynccontextmanager
async def fronts(
    model: OpenAIServer, make_gateway: MakeGateway, *, names: Sequence[str] = PLATFORMS
) -> AsyncIterator[list[Front]]:
    """The platforms, each behind a proxy."""
    async with AsyncExitStack() as stack:
        made = []
        for name, (kind, platform) in _stages().items():
            if name in names:
                proxy = await _behind_a_proxy(stack, platform)
                made.append(Front(name, kind(name, platform, model, make_gateway), proxy))
        yield made


async def _behind_a_proxy(stack: AsyncExitStack, platform: SimulatedPlatform) -> FaultProxy:
    proxies: list[FaultProxy] = []

    @asynccontextmanager
    async def in_front(url: str) -> AsyncIterator[str]:
        async with FaultProxy(url, polls=LONG_POLLS, seed=len(url)) as proxy:
            proxies.append(proxy)
            yield proxy.url

    token = IN_FRONT.set(in_front)
    try:
        await stack.enter_async_context(platform)
    finally:
        IN_FRONT.reset(token)
    if isinstance(platform, SimulatedWechat):  # its servers begin to listen when they are first spoken of
        proxies.append(await stack.enter_async_context(FaultProxy(platform.server().cable.endpoint)))
    return proxies[0]


def account(front: Front) -> dict[str, Any]:
    """Its block of config.yaml."""
    block = {"platform": front.platform.spec.platform, **front.platform.account()}
    return {**block, "endpoint": front.proxy.host} if "endpoint" in block else block


@asynccontextmanager
async def on_all(
    made: Sequence[Front], make_gateway: MakeGateway, *, config: Mapping[str, Any] | None = None, **options: Any
) -> AsyncIterator[GatewayProcess]:
    """A gateway that hears all of them, by way of the proxies; it is stopped in the end. `config` may bring accounts."""
    more = (config or {}).get("accounts", {})
    accounts = {"web": "off", **more, **{front.name: account(front) for front in made}}
    gateway = await make_gateway(config={**(config or {}), "accounts": accounts}, **options)
    await gateway.start()
    async with AsyncExitStack() as stack:
        for front in made:
            if front.name.endswith("http"):
                front.door = await stack.enter_async_context(FaultProxy(gateway.url))
                front.platform.gateway_listens(front.door.url)
                for app in front.stage.platform.state.apps.values():
                    app.url = f"{front.door.url}/webhooks/{front.name}"
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(front.platform.listening() for front in made))
        yield gateway
        if gateway.running:
            assert await gateway.stop() == 0
