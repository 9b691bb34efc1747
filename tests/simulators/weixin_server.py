"""The server of a simulated iLink, without the adapter that talks to it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from tests.simulators.loopback import serving
from tests.simulators.weixin_api import WeixinApi
from tests.simulators.weixin_cdn import WeixinCdn
from tests.simulators.weixin_login import WeixinLogin
from tests.simulators.weixin_send import WeixinOutbox
from tests.simulators.weixin_state import WeixinBot, WeixinState


class WeixinServer:
    """Enter it to listen. `url` is its origin; each bot has its API at `address`."""

    def __init__(self) -> None:
        self.state = WeixinState()
        self.cdn = WeixinCdn(self.state)
        self.outbox = WeixinOutbox(self.state, self.cdn)
        self.login = WeixinLogin(self.state, address=self.address)
        self.api = WeixinApi(self.state, self.login, self.cdn, self.outbox)
        self.url = ""
        self._served = AsyncExitStack()

    def address(self, bot: WeixinBot) -> str:
        """What an account has as `api_url`, and what a confirmed scan names as `baseurl`."""
        return f"{self.url}/{bot.name}"

    async def __aenter__(self) -> Self:
        routes = [*self.cdn.routes(), *self.api.routes()]
        self.url = await self._served.enter_async_context(serving(routes, cancelling=True))
        self.cdn.base = f"{self.url}/c2c"
        other = await self._served.enter_async_context(serving(routes, cancelling=True))
        self.login.redirect_host = other.removeprefix("http://")  # where `scaned_but_redirect` leads
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for polls in self.api.polls.values():
            for poll in polls:
                poll.abort()
        await self._served.aclose()
