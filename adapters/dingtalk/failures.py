"""What DingTalk's refusals mean, by remedy.

The new API refuses with an HTTP status and a `code`, the old one with HTTP 200 and an `errcode`:
https://open.dingtalk.com/document/development/server-api-error-codes-1. Limits:
https://open.dingtalk.com/document/development/how-to-process-api-throttling-on-the-dingtalk-server and
https://open.dingtalk.com/document/development/call-frequency-limit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain, RateLimited, TargetGone
from core.untrusted import json_of

_SECOND = 1.0
"""Seconds that a limit per second lasts."""
_MINUTE = 20.0
"""Seconds after which a limit per minute is tried again."""
SHUT_OUT = 300.0
"""Seconds for which an address that called more than 10,000 times in 20 s gets no answer but a page."""

_TOO_FAST = frozenset(
    (
        "90002",
        "90018",
        "qps.exceed.limit",
        "send.byToken.tooFast",
        "send.too.fast",
        "too.many.group",
        "too.many.people",
    )
)
_GONE = frozenset(
    (
        "400013",  # the group was disbanded
        "400102",  # the robot is stopped
        "400106",  # the robot is not in the group
        "bot.forbidden.sendMessage",
        "bot.stopped",
        "chatbotId.notAllow.sendOTO",
        "conversation.org.notMatch",
        "group.disbanded",
        "invalid.openConversationId",
        "param.cardNotExist",
        "param.stream.outTrackId",  # the card does not exist
        "param.userIdNotExist",
        "resource.unavailable",
        "robot.oto.notExist",
        "send.forbidden",
        "session.expired",
        "session.notExisted",
        "staffId.notExisted",
    )
)
_LATER = frozenset(("-1", "system.busy", "ServiceUnavailable"))
_DOUBTFUL = frozenset(("unknown.send.result",))
_NOT_AUTHENTIC = frozenset(
    (
        "40014",  # an access token
        "40089",
        "42001",  # an access token that is over
        "Forbidden.AccessDenied.IpNotInWhiteList",
        "InvalidAuthentication",  # an access token
        "Unauthorized",
        "authFailed",
        "invalid.client",
        "invalidClientIdOrSecret",
    )
)
_CODE = re.compile(r"[\w.-]{1,100}")


class DingTalkError(DeliveryError):
    """DingTalk will not do this; `code` is its name for the reason."""

    def __init__(self, call: str, code: str, detail: str = "") -> None:
        super().__init__(f"{call}: {code}")
        self.code = code
        self.detail = detail
        """DingTalk's words, for the log alone."""


class ScopeMissing(DingTalkError):
    """The app may not make this call."""

    def __init__(self, call: str, code: str, scopes: tuple[str, ...]) -> None:
        super().__init__(call, code)
        self.args = (f"{call}: {code}, the app lacks {' and '.join(scopes) or 'a scope'}",)
        self.scopes = scopes
        """What it would need, as far as DingTalk tells."""


class CredentialsRefused(DeliveryUnavailable):
    """The access token is not valid (any more), or the app's credentials are not. In the first case a fresh one may be;
    in the second a reply waits, and the account is what has failed."""

    def __init__(self, code: str) -> None:
        super().__init__(f"DingTalk refuses the credentials ({code})")
        self.code = code


class ShutOut(RateLimited):
    """DingTalk answers nothing of what this machine's address asks."""


def refusal(call: str, status: int, data: Any, *, pause: float | None = None) -> DeliveryError | None:
    """What an answer that is no success means; None for a success.

    `data` is its JSON: None if it has none. `pause`: the seconds that the answer asks to wait for, if it does.
    """
    if not isinstance(data, Mapping):
        if status < 400:  # a page of something in between: it says nothing about what became of the call
            return DeliveryUncertain(f"{call}: status {status} without JSON")
        data = {}
    if data.get("status") == 1111:
        return ShutOut(f"{call}: this machine's address calls DingTalk too often", retry_after=SHUT_OUT)
    code = _code(data)
    if 200 <= status < 300 and code in ("", "0"):
        return None
    found = _meaning(call, status, code, data)
    if pause is not None and isinstance(found, RateLimited):
        found.retry_after = max(found.retry_after, pause)
    return found


def _code(data: Mapping[str, Any]) -> str:
    """`errcode` is a number in practice and a text in the documents' examples; `Code` occurs beside `code`."""
    for name in ("errcode", "code", "Code"):
        value = data.get(name)
        if isinstance(value, str | int) and _CODE.fullmatch(str(value)):
            return str(value)
    return ""


def _meaning(call: str, status: int, code: str, data: Mapping[str, Any]) -> DeliveryError:
    if "QpsLimit" in code or "Throttling" in code or code in _TOO_FAST or status == 429:
        return RateLimited(f"{call}: {code or 'too many calls'}", retry_after=_SECOND)
    if "QpmLimit" in code:
        return RateLimited(f"{call}: {code}", retry_after=_MINUTE)
    if code in _NOT_AUTHENTIC or (status == 401 and not code):
        return CredentialsRefused(code or "status 401")
    if code.endswith("AccessTokenPermissionDenied"):
        return ScopeMissing(call, code, _scopes(data))
    if code in _GONE:
        return TargetGone(f"{call}: {code}")
    if code in _LATER or status == 503:
        return DeliveryUnavailable(f"{call}: {code or f'status {status}'}")
    detail = str(data.get("message") or data.get("errmsg") or "")
    if code == "unknownError" and "key invalid" in detail:  # a card's variable, though the status is 500
        return DingTalkError(call, "key invalid", detail)
    if code in _DOUBTFUL or status >= 500:
        return DeliveryUncertain(f"{call}: {code or f'status {status}'}")
    return DingTalkError(call, code or f"status {status}", detail)


def _scopes(data: Mapping[str, Any]) -> tuple[str, ...]:
    """https://open.dingtalk.com/document/development/add-api-permission; field names come in several spellings."""
    detail = next((value for name, value in data.items() if name.lower() == "accessdenieddetail"), None)
    if isinstance(detail, str):
        try:
            detail = json_of(detail)
        except ValueError:
            detail = None
    found = detail.get("requiredScopes") if isinstance(detail, Mapping) else None
    return tuple(str(scope) for scope in found if _CODE.fullmatch(str(scope))) if isinstance(found, list) else ()
