"""Signing in: a code is shown until somebody has scanned it and confirmed on their phone.

The states of a code: https://github.com/Tencent/openclaw-weixin/blob/main/src/auth/login-qr.ts
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog

from adapters.weixin.api import IlinkApi, Refused
from adapters.weixin.keeper import Credentials
from core.adapter import LoginCode, LoginStep
from core.clock import Clock
from core.errors import ConnectionLost, DeliveryError, DeliveryUnavailable

log = structlog.get_logger(__name__)

_BOT_TYPE = "3"
"""What kind of bot the code is for; the vendor's client knows no other."""

LIFETIME = 300.0
"""Seconds after which a code is replaced even if the platform does not say that it has expired."""

_POLL = 45.0
"""Seconds for one question; the platform holds it for 35."""

_PAUSE = 1.0
"""Seconds between two questions about a code, as the vendor's client has it. Also before another code, and twice as
long before each further one."""

_LONGEST_PAUSE = 10.0

_AGAIN = 1.0
"""Seconds before the same question again, where there was no answer."""

_FAILURES = 3
"""Questions in a row that could not be asked after which the connection counts as lost."""


class _Spent(Exception):
    """This code leads nowhere any more: a new one is due."""


class Login:
    """One sign-in. `code` is what is to be shown meanwhile."""

    def __init__(self, api: IlinkApi, clock: Clock, *, heard: Callable[[], None]) -> None:
        self._api = api
        self._clock = clock
        self._heard = heard
        self._digits = ""
        self._entered = asyncio.Event()
        self.code: LoginCode | None = None

    def enter_digits(self, digits: str) -> None:
        """What the phone shows, as a person entered it."""
        if self.code is not None and self.code.step in (LoginStep.DIGITS, LoginStep.WRONG_DIGITS) and digits:
            self._digits = digits
            self._entered.set()

    async def credentials(self, known: Credentials | None) -> Credentials:
        """Wait for a person, however long it takes. `known`: those of an earlier scan, stale or not.

        Raises ConnectionLost or DeliveryError when the platform is out of reach.
        """
        pause = _PAUSE
        try:
            while True:
                id, content = await new_code(self._api, known)
                self._heard()
                try:
                    return await self._watch(id, content, known)
                except _Spent as spent:
                    log.info("the code is replaced by a new one", reason=str(spent))
                    await self._clock.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
        finally:
            self.code = None

    async def _watch(self, id: str, content: str, known: Credentials | None) -> Credentials:
        """Follow one code to its end. Raises _Spent."""
        self.code, self._digits = LoginCode(content=content), ""
        url, failures, ends = self._api.url, 0, self._clock.monotonic() + LIFETIME
        while self._clock.monotonic() < ends:
            query = {"qrcode": id} | ({"verify_code": self._digits} if self._digits else {})
            try:
                answer = await self._api.ask(url, "get_qrcode_status", query, seconds=_POLL)
            except Refused as refused:
                raise _Spent(str(refused)) from None
            except DeliveryError as error:
                # without an answer nothing is known of the code; somebody may be about to scan it
                failures = failures + 1 if isinstance(error, DeliveryUnavailable) else 0
                if failures == _FAILURES:
                    raise
                await self._clock.sleep(_AGAIN)
                continue
            failures = 0
            self._heard()
            match answer.get("status"):
                case "confirmed":
                    return _credentials(answer)
                case "binded_redirect":
                    return _bound_already(known)
                case "scaned_but_redirect":
                    self._show(content, LoginStep.CONFIRM)
                    host = answer.get("redirect_host")
                    url = self._api.at(host) if isinstance(host, str) and host else url
                case status:
                    await self._follow(status, content, ends)
            await self._clock.sleep(_PAUSE)
        raise _Spent("nobody scanned it in time")

    async def _follow(self, status: Any, content: str, ends: float) -> None:
        """The states that leave everything to the person. Raises _Spent."""
        match status:
            case "need_verifycode":
                await self._ask_for_digits(content, ends)
            case "scaned":
                self._show(content, LoginStep.CONFIRM)
                self._digits = ""
            case "verify_code_blocked":
                raise _Spent("wrong digits were entered too often")
            case "expired":
                raise _Spent("it has expired")

    def _show(self, content: str, step: LoginStep) -> None:
        self.code = LoginCode(content=content, step=step)

    async def _ask_for_digits(self, content: str, ends: float) -> None:
        """Wait until a person has entered them. Raises _Spent."""
        self._show(content, LoginStep.WRONG_DIGITS if self._digits else LoginStep.DIGITS)
        self._entered.clear()
        entered = asyncio.create_task(self._entered.wait())
        over = asyncio.create_task(self._clock.sleep(ends - self._clock.monotonic()))
        try:
            await asyncio.wait({entered, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (entered, over):
                task.cancel()
            await asyncio.wait({entered, over})
        if not self._entered.is_set():
            raise _Spent("nobody entered the digits in time")


async def new_code(api: IlinkApi, known: Credentials | None) -> tuple[str, str]:
    """A code's id, and what is to be scanned. Raises ConnectionLost or DeliveryError."""
    tokens = [known.token] if known else []
    try:
        answer = await api.call(f"get_bot_qrcode?bot_type={_BOT_TYPE}", {"local_token_list": tokens})
    except Refused as refused:
        raise ConnectionLost(f"the platform gave no code to scan ({refused}); check api_url") from None
    id, content = answer.get("qrcode"), answer.get("qrcode_img_content")
    if not isinstance(id, str) or not isinstance(content, str) or not id or not content:
        raise ConnectionLost("the platform gave no code to scan; check api_url")
    return id, content


def _bound_already(known: Credentials | None) -> Credentials:
    """The platform recognised the token that it was told of: it is good after all."""
    if known is None:
        raise _Spent("the bot is said to be bound already, and no credentials of it are here")
    log.info("the bot is bound already; its stored credentials are used")
    return known


def _credentials(answer: dict[str, Any]) -> Credentials:
    token, bot = answer.get("bot_token"), answer.get("ilink_bot_id")
    if not isinstance(token, str) or not isinstance(bot, str) or not token.strip() or not bot:
        raise _Spent("the scan was confirmed, and the platform gave no credentials")
    url, owner = answer.get("baseurl"), answer.get("ilink_user_id")
    return Credentials(
        token=token.strip(),
        bot=bot,
        url=url if isinstance(url, str) else "",
        owner=owner if isinstance(owner, str) else "",
    )
