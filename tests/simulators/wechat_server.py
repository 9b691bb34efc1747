"""The server of a simulated puppet service, without the adapter that talks to it."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import Self

from grpclib.server import Server

from tests.simulators.wechat_cable import WechatCable, listening_socket
from tests.simulators.wechat_puppet import WechatPuppet
from tests.simulators.wechat_state import WechatBot, WechatState


class WechatServer:
    """One account's. Enter it to listen; its address, `cable.endpoint`, is known before."""

    def __init__(self, state: WechatState, bot: WechatBot, *, tls: ssl.SSLContext | None = None) -> None:
        self.cable = WechatCable()
        self.puppet = WechatPuppet(state, bot, self.cable)
        self._tls = tls
        self._server: Server | None = None

    async def __aenter__(self) -> Self:
        await self.cable.__aenter__()
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        await self.cable.__aexit__(kind, error, trace)

    async def start(self) -> None:
        """Be there, with the same account as before."""
        listening = listening_socket()
        self._server = Server([self.puppet])
        await self._server.start(sock=listening, ssl=self._tls)
        self.cable.target = listening.getsockname()[1]

    async def stop(self) -> None:
        """Be gone: connections break, new ones are refused."""
        self.cable.target = 0
        self.cable.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
        self.puppet.forget_files()
