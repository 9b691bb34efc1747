"""Calls of Discord's HTTP API, through the SDK's client: it knows the buckets of the rate limits and waits for them.

The SDK repeats 429 (up to 30 s) and 500, 502, 504, 524 by itself, with the same body and so the same nonce; 503 and
broken connections it does not. What is left becomes an error by remedy. Error codes:
https://docs.discord.com/developers/topics/opcodes-and-status-codes#json
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import discord
from discord.http import Route

from adapters.discord.link import Link
from core.adapter import OutboundFile
from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain, RateLimited, TargetGone

_TIMEOUT = 60.0
"""Seconds for one call, the SDK's own attempts included; callers have shorter limits of their own."""

_FOREIGN = "what answered was not Discord"

_GONE = {
    10003: "the channel is gone",
    10004: "the server is gone, or the bot was removed from it",
    10008: "the message is gone",
    10015: "the slash command can no longer be answered",
    10062: "the slash command can no longer be answered",
    50001: "the bot has no access to the channel",
    50007: "this person takes no direct messages from the bot",
    50013: "the bot lacks a permission there (Send Messages, or Send Messages in Threads)",
    50027: "the slash command can no longer be answered",
    50083: "the thread is archived and locked",
    50278: "this person shares no server with the bot any more",
}

_REFUSED = {
    200000: "AutoMod of the server blocked the text",
    50006: "the message is empty",
    50035: "Discord finds the message malformed",
}

_SLOW = {
    20016: "the channel is in slow mode",
    20028: "the channel is written to too fast",
    30046: "old messages are edited too often",
}
_SLOW_PAUSE = 30.0
"""Seconds, where Discord says wait and not how long."""


class Refused(DeliveryError):
    """Discord will never take this call as it is."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Gone(TargetGone):
    """As TargetGone, with Discord's code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Rest:
    """The HTTP API, as long as the link lives. Every call raises DeliveryError; what the errors say is our own."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def me(self) -> str:
        """The bot's own user."""
        return str(self._link.user.id) if self._link.user else ""

    @property
    def application(self) -> str:
        """The bot's application."""
        return str(self._link.application_id or "")

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        files: Sequence[OutboundFile] = (),
        params: Mapping[str, Any] | None = None,
        **ids: str,
    ) -> Any:
        """One call; `ids` fill the path. Returns what the answer holds."""
        options: dict[str, Any] = {} if params is None else {"params": dict(params)}
        if files:
            options["form"] = _form(body, files)
        elif body is not None:
            options["json"] = body
        try:
            async with asyncio.timeout(_TIMEOUT):
                answer = await self._link.http.request(Route(method, path, **ids), **options)
        except (discord.DiscordException, aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            raise _by_remedy(error) from error
        if isinstance(answer, str) and answer:
            raise DeliveryUncertain(_FOREIGN)
        return answer

    async def object(self, method: str, path: str, **options: Any) -> Mapping[str, Any]:
        """A call that Discord answers with an object that has an id, such as the message that there is now. Raises
        DeliveryUncertain for any other answer: a machine in between gave it, and nobody knows whether Discord was asked."""
        answer = await self.call(method, path, **options)
        if not _is_object(answer):
            raise DeliveryUncertain(_FOREIGN)
        found: Mapping[str, Any] = answer
        return found

    async def objects(self, path: str, **options: Any) -> list[dict[str, Any]]:
        """Read a list of such objects. Raises DeliveryUncertain: nothing must not read as "there is nothing"."""
        answer = await self.call("GET", path, **options)
        if not isinstance(answer, list) or not all(map(_is_object, answer)):
            raise DeliveryUncertain(_FOREIGN)
        return answer


def _is_object(answer: Any) -> bool:
    return isinstance(answer, Mapping) and "id" in answer


def _form(body: Any, files: Sequence[OutboundFile]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [
        {"name": "payload_json", "value": json.dumps(body), "content_type": "application/json"}
    ]
    for number, file in enumerate(files):
        parts.append(
            {
                "name": f"files[{number}]",
                "value": file.content,
                "filename": file.name,
                "content_type": file.media_type,
            }
        )
    return parts


def _by_remedy(error: Exception) -> DeliveryError:
    match error:
        case discord.RateLimited():
            return RateLimited("Discord asks to wait", retry_after=error.retry_after)
        case discord.HTTPException():
            return _of_answer(error)
        case ValueError():  # a body that is no JSON, though it says so
            return DeliveryUncertain(_FOREIGN)
        case aiohttp.ClientConnectorError() | RuntimeError():  # RuntimeError: the session is closed
            return DeliveryUnavailable(f"Discord cannot be reached: {type(error).__name__}")
        case _:
            return DeliveryUncertain(f"the connection to Discord broke: {type(error).__name__}")


def _of_answer(error: discord.HTTPException) -> DeliveryError:
    status, code = error.status, error.code
    if status == 429 or code in _SLOW:
        told = getattr(error.response, "headers", {}).get("Retry-After", "")
        pause = float(told) if told.replace(".", "", 1).isdigit() else _SLOW_PAUSE
        return RateLimited(f"Discord asks to wait: {_SLOW.get(code, 'too many calls')}", retry_after=pause)
    if status >= 500:
        return DeliveryUncertain(f"Discord fails (HTTP {status})")
    if status == 401 and code not in _GONE:
        return DeliveryUnavailable("Discord does not accept the token any more")
    if code in _GONE or status in (403, 404):
        return Gone(f"{_GONE.get(code, 'Discord refuses the place')} (HTTP {status}, code {code})", code)
    return Refused(f"{_REFUSED.get(code, 'Discord refuses the call')} (HTTP {status}, code {code})", code)
