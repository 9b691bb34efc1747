"""The server of a simulated iLink, without the adapter that talks to it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from aiohttp import web

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
        self._runner: web.AppRunner | None = None

    def address(self, bot: WeixinBot) -> str:
        """What an account has as `api_url`, and what a confirmed scan names as `baseurl`."""
        return f"{self.url}/{bot.name}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=128 * 1024 * 1024)
        app.add_routes(self.cdn.routes())
        app.add_routes(self.api.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2, handler_cancellation=True)
        await self._runner.setup()
        for _ in range(2):  # the second is where `scaned_but_redirect` leads
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        first, second = (f"127.0.0.1:{address[1]}" for address in self._runner.addresses)
        self.url, self.login.redirect_host = f"http://{first}", second
        self.cdn.base = f"{self.url}/c2c"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for polls in self.api.polls.values():
            for poll in polls:
                poll.abort()
        assert self._runner is not None
        await self._runner.cleanup()
