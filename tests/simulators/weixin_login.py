"""Codes to scan: how a bot gets its credentials from a simulated iLink.

The wire: https://github.com/Tencent/openclaw-weixin (src/auth/login-qr.ts).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.simulators.weixin_state import WeixinBot, WeixinState

_OVER = ("expired", "verify_code_blocked", "binded_redirect", "confirmed")
"""After one of these the code is of no use."""
_WRONG_NUMBERS = 3


@dataclass
class WeixinCode:
    """A code that is shown somewhere, waiting for somebody with a phone."""

    id: str
    bot: WeixinBot
    made_at: float
    local_tokens: list[str]
    said: list[str] = field(default_factory=list)
    """Every status that was told."""
    wrong_numbers: int = 0
    moved: bool = False
    """Its status is told at `redirect_host` from now on."""


class WeixinLogin:
    """`steps` is what happens to a bot's codes, one status after the other; then, with `scans`, they are confirmed."""

    def __init__(self, state: WeixinState, *, address: Callable[[WeixinBot], str]) -> None:
        self.state = state
        self.codes: list[WeixinCode] = []
        self.steps: dict[str, deque[str]] = {}
        """By the bot's name: wait, scaned, need_verifycode, verify_code_blocked, scaned_but_redirect, binded_redirect,
        expired, confirmed."""
        self.scans = True
        """Whether somebody scans each code at once; otherwise `scan` does."""
        self.number = "4711"
        """What the phone shows after `need_verifycode`."""
        self.redirect_host = ""
        self.lasts = 300.0
        """Seconds until a code expires."""
        self.hold = 0.5
        """Seconds for which the question for a status is held while nothing happens."""
        self._address = address

    def plan(self, name: str, *statuses: str) -> None:
        """What happens to the next codes of a bot."""
        self.steps.setdefault(name, deque()).extend(statuses)
        self.state.bot(name).change()

    def scan(self, name: str = "bot") -> None:
        """The owner scans the code that is shown and confirms."""
        self.plan(name, "scaned", "confirmed")

    def shown(self, name: str = "bot") -> WeixinCode | None:
        """The code that somebody could scan now."""
        mine = [code for code in self.codes if code.bot.name == name]
        return mine[-1] if mine and not set(mine[-1].said) & set(_OVER) else None

    def make(self, bot: WeixinBot, request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        """`get_bot_qrcode`."""
        tokens = body.get("local_token_list")
        if request.query.get("bot_type") != "3":
            self.state.complain("get_bot_qrcode: wants bot_type=3")
        if not isinstance(tokens, list) or len(tokens) > 10 or not all(isinstance(each, str) for each in tokens):
            self.state.complain("get_bot_qrcode: wants local_token_list, at most 10 tokens")
            tokens = []
        for token in tokens:
            if self.state.owner(token) not in (bot, None):
                self.state.complain("get_bot_qrcode: the token of another account is told")
        code = WeixinCode(secrets.token_hex(16), bot, self.state.clock(), tokens)
        self.codes.append(code)
        address = f"https://liteapp.weixin.qq.com/q/{code.id[:6]}?qrcode={code.id}&bot_type=3"
        return {"ret": 0, "qrcode": code.id, "qrcode_img_content": address}

    async def status(self, request: web.Request) -> dict[str, Any]:
        """`get_qrcode_status`: held until something happens."""
        code = next((code for code in self.codes if code.id == request.query.get("qrcode")), None)
        if code is None:
            self.state.complain("get_qrcode_status: there is no such code")
            return {"ret": 0, "status": "expired"}
        if code.said and code.said[-1] in _OVER:
            self.state.complain(f"get_qrcode_status: asked again after {code.said[-1]}")
            return {"ret": 0, "status": "expired"}
        if code.moved and request.host != self.redirect_host:
            self.state.complain("get_qrcode_status: asked at the old host after scaned_but_redirect")
        status = await self._next(code, request.query.get("verify_code", ""))
        if status != "wait" or not code.said or code.said[-1] != "wait":
            code.said.append(status)
        return {"ret": 0, "status": status, **self._more(code, status)}

    async def _next(self, code: WeixinCode, number: str) -> str:
        steps = self.steps.setdefault(code.bot.name, deque())
        if steps and steps[0] == "need_verifycode" and number:
            if number == self.number:
                steps.popleft()
            else:
                code.wrong_numbers += 1
                if code.wrong_numbers >= _WRONG_NUMBERS:
                    steps.popleft()
                    return "verify_code_blocked"
                return "need_verifycode"
        waits_for_number = bool(steps) and steps[0] == "need_verifycode" and "need_verifycode" in code.said
        if waits_for_number or (not steps and not self.scans):
            await self._something(code.bot)
        if self.state.clock() - code.made_at > self.lasts:
            return "expired"
        if not steps:
            return "confirmed" if self.scans else "wait"
        if steps[0] == "need_verifycode":
            return "need_verifycode"  # until the right number comes
        return steps.popleft()

    async def _something(self, bot: WeixinBot) -> None:
        """Hold the question until somebody does something with the code."""
        try:
            async with asyncio.timeout(self.hold):
                await bot.changed.wait()
        except TimeoutError:
            pass

    def _more(self, code: WeixinCode, status: str) -> dict[str, Any]:
        match status:
            case "scaned_but_redirect":
                code.moved = bool(self.redirect_host)
                return {"redirect_host": self.redirect_host}
            case "binded_redirect":
                if not set(code.local_tokens) & set(code.bot.tokens):
                    self.state.complain("binded_redirect: nothing is bound to a client that told no token")
                code.bot.valid = True
                return {}
            case "confirmed":
                return {
                    "bot_token": code.bot.new_token(),
                    "ilink_bot_id": code.bot.id,
                    "ilink_user_id": code.bot.person("owner").id,
                    "baseurl": self._address(code.bot),
                }
            case _:
                return {}
