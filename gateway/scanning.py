"""Showing the codes that a person scans to sign an account in: drawn in the terminal, and at /scan/<account>.

Whoever scans a code owns the bot. So the page opens for this machine itself or for a key with the scope admin, the code
is drawn for a person at a terminal and never written to a log file, and both are gone once the account is signed in.
"""

from __future__ import annotations

import hmac
import io
import secrets
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable, Mapping
from html import escape
from typing import TextIO
from urllib.parse import quote

import structlog
from aiohttp import web

from core.adapter import Adapter, AwaitsScan, LoginCode, LoginStep, TakesDigits
from core.clock import Clock
from core.keys import KeyRing
from core.messages import AccountId
from core.proxy import is_loopback
from gateway.settings import Server as ServerSettings

log = structlog.get_logger(__name__)

_LOOK = 0.5
"""Seconds between two looks for a new code."""

_REFRESH = 3
"""Seconds after which the page is asked for again."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via", "CF-Connecting-IP")
"""A request that carries one of these comes from further away than its address says."""

_WORDS = {
    LoginStep.SCAN: ("Scan this code with the app on your phone.", "请用手机扫描此二维码。"),
    LoginStep.CONFIRM: ("Scanned. Confirm on your phone.", "已扫描，请在手机上确认。"),
    LoginStep.DIGITS: ("Enter the digits that your phone shows.", "请输入手机上显示的数字。"),
    LoginStep.WRONG_DIGITS: ("Those were not the digits. Enter them again.", "数字不匹配，请重新输入。"),
}

_WARNING = "Whoever scans the code owns the bot: show it to nobody. / 扫码者即成为机器人的所有者，请勿外传。"


class Scanning:
    """Watches the accounts that await a scan, and shows their codes."""

    def __init__(
        self,
        accounts: Mapping[AccountId, AwaitsScan],
        settings: ServerSettings,
        keys: KeyRing,
        clock: Clock,
        *,
        terminal: TextIO,
    ) -> None:
        """Nothing is drawn on a `terminal` that is a file or a pipe."""
        self._accounts = accounts
        self._keys = keys
        self._clock = clock
        self._terminal = terminal if terminal.isatty() else None
        self._proof = secrets.token_urlsafe(24)
        """Goes with the form: another site cannot know it."""
        self._reached_by_others = bool(settings.public_url or settings.allowed_hosts or settings.trusted_proxies)

    def routes(self) -> Iterable[web.RouteDef]:
        """The pages."""
        return (web.get("/scan/{account}", self._show), web.post("/scan/{account}", self._enter))

    # The terminal

    async def run(self, url: str) -> None:
        """Draw each new code, until cancelled. `url` is where the HTTP server is."""
        shown: dict[AccountId, LoginCode | None] = {}
        while True:
            for account, adapter in self._accounts.items():
                code = adapter.login_code()
                if code != shown.get(account):
                    if code is not None and shown.get(account) is None:
                        log.warning("waiting for scan", account=account, page=f"{url}/scan/{quote(account)}")
                    self._draw(account, code, shown.get(account), url)
                    shown[account] = code
            await self._clock.sleep(_LOOK)

    def _draw(self, account: AccountId, code: LoginCode | None, before: LoginCode | None, url: str) -> None:
        if self._terminal is None:
            return
        lines = [""]
        if code is None:
            lines.append(f"{account}: signed in, or no longer waiting for a scan.")
        else:
            if before is None or before.content != code.content:
                lines += [_for_terminal(code.content), _WARNING]
            lines.append(f"{account}: {' / '.join(_WORDS[code.step])} ({url}/scan/{quote(account)})")
        self._terminal.write("\n".join(lines) + "\n")
        self._terminal.flush()

    # The page

    async def _show(self, request: web.Request) -> web.Response:
        return self._refusal(request) or self._page(request)

    async def _enter(self, request: web.Request) -> web.Response:
        """The digits that the phone shows."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        form = await request.post()
        if not hmac.compare_digest(str(form.get("proof", "")).encode(), self._proof.encode()):
            return _answer("This form has expired. Open the page again. / 页面已过期，请重新打开。", status=403)
        adapter: object = self._adapter(request)
        digits = "".join(str(form.get("digits", "")).split())
        if isinstance(adapter, TakesDigits) and digits.isascii() and digits.isdecimal() and len(digits) <= 12:
            adapter.enter_digits(digits)
        raise web.HTTPSeeOther(request.path, headers=_headers())

    def _refusal(self, request: web.Request) -> web.Response | None:
        """What is said to those who may not see the page; None for those who may."""
        if not (self._is_this_machine(request) or self._is_admin(request)):
            answer = _answer(
                "This page opens on the gateway's own machine, or with a key that has the scope admin (as the password).",
                status=401,
            )
            answer.headers["WWW-Authenticate"] = 'Basic realm="a key with the scope admin", charset="UTF-8"'
            return answer
        if self._adapter(request) is None:
            return _answer("No such account is signed in by a code. / 没有此类帐号。", status=404)
        return None

    def _is_this_machine(self, request: web.Request) -> bool:
        """A reverse proxy on this machine brings others here, so nothing may speak of one."""
        if self._reached_by_others or any(name in request.headers for name in _FORWARDED):
            return False
        host = request.headers.get("Host", "")
        name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        return is_loopback(request.remote) and is_loopback(name.lower())

    def _is_admin(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                given = b64decode(given, validate=True).decode().partition(":")[2]
            except (NotBase64, UnicodeDecodeError, ValueError):
                return False
        # where no key is asked for, everybody would be the administrator
        caller = self._keys.caller(given.strip()) if given.strip() and self._keys.required else None
        return caller is not None and "admin" in caller.scopes

    def _adapter(self, request: web.Request) -> AwaitsScan | None:
        return self._accounts.get(AccountId(request.match_info["account"]))

    def _page(self, request: web.Request) -> web.Response:
        adapter = self._adapter(request)
        code = adapter.login_code() if adapter is not None else None
        if code is None:
            return _answer("Nothing is to be scanned now. / 现在没有需要扫描的二维码。", refresh=True)
        title = " / ".join(_WORDS[code.step])
        if code.step in (LoginStep.DIGITS, LoginStep.WRONG_DIGITS):
            return _answer(title, f"{_FORM.format(proof=escape(self._proof))}")  # not refreshed: somebody is typing
        picture = _picture(code.content) if code.step is LoginStep.SCAN else ""
        return _answer(title, f"{picture}<p>{escape(_WARNING)}</p>", refresh=True)


_FORM = (
    '<form method="post"><input type="hidden" name="proof" value="{proof}">'
    '<input name="digits" inputmode="numeric" autocomplete="off" maxlength="12" autofocus required> '
    "<button>OK</button></form>"
)

_STYLE = (
    "body{font:18px sans-serif;margin:2em;text-align:center;color:#111;background:#fff}svg{max-width:90vw;height:auto}"
)


def _headers(nonce: str = "") -> dict[str, str]:
    return {name: value.replace("{nonce}", nonce) for name, value in _HEADERS.items()}


def _answer(title: str, body: str = "", *, status: int = 200, refresh: bool = False) -> web.Response:
    nonce = secrets.token_urlsafe(12)
    again = f'<meta http-equiv="refresh" content="{_REFRESH}">' if refresh else ""
    text = (
        f'<!doctype html><html><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">{again}'
        f'<title>chatgpt-ms</title><style nonce="{nonce}">{_STYLE}</style></head>'
        f"<body><h1>{escape(title)}</h1>{body}</body></html>"
    )
    return web.Response(text=text, status=status, content_type="text/html", headers=_headers(nonce))


_WHITE_ON_BLACK, _RESET = "\x1b[97;40m", "\x1b[0m"


def _for_terminal(content: str) -> str:
    """The code in half blocks, dark on light whatever the terminal's colours are."""
    import segno

    out = io.StringIO()
    segno.make(content, error="l").terminal(out, compact=True)
    return "\n".join(f"{_WHITE_ON_BLACK}{line}{_RESET}" for line in out.getvalue().splitlines())


def _picture(content: str) -> str:
    """The code as SVG."""
    import segno

    return str(segno.make(content, error="m").svg_inline(scale=8, border=4))


def scanning_of(
    adapters: Mapping[AccountId, Adapter], server: ServerSettings, keys: KeyRing, clock: Clock, *, terminal: TextIO
) -> Scanning | None:
    """For the accounts among these that are signed in by a scan; None where there are none."""
    awaiting = {name: adapter for name, adapter in adapters.items() if isinstance(adapter, AwaitsScan)}
    return Scanning(awaiting, server, keys, clock, terminal=terminal) if awaiting else None
