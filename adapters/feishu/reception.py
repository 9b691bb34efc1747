"""What Feishu delivers, whichever way it comes: into the inbox, then acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

import structlog

from adapters.feishu.api import FeishuApi
from adapters.feishu.bot import Bot
from adapters.feishu.parse import RECEIVED, Original, kind_of, parse_message, quoted_by, tenant_of
from adapters.feishu.quotes import Quotes
from adapters.feishu.topics import lacks_topic, with_topic
from adapters.feishu.verdict import REFUSED, TAKEN, Verdict
from core.adapter import Inbox, Receipt
from core.clock import Clock
from core.errors import StorageUnavailable
from core.latest import Latest
from core.messages import AccountId, InboundMessage

log = structlog.get_logger(__name__)

_QUOTE = 1.0
"""Seconds that a message may wait for the one it replies to."""
_QUOTES = 1.5
"""The same for all that came before it in its chat; Feishu wants its acknowledgement within 3 s."""
_REMEMBERED = 5_000

_CALLBACKS = frozenset(("card.action.trigger", "url.preview.get", "profile.view.get"))
"""Events that somebody waits for: https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/event-subscription-guide/callback-subscription/callback-overview"""


class Reception:
    """One sign-in's. Enter it to take events, leave it to end what it began."""

    def __init__(
        self,
        account: AccountId,
        bot: Bot,
        api: FeishuApi,
        clock: Clock,
        inbox: Inbox,
        *,
        everything: Callable[[str], bool],
    ) -> None:
        """`everything`: whether messages in a chat are answered that do not mention the bot."""
        self._account = account
        self._bot = bot
        self._clock = clock
        self._inbox = inbox
        self._everything = everything
        self._api = api
        self._quotes = Quotes(api, bot, clock)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._begun: Latest[tuple[str, str], None] = Latest(_REMEMBERED)
        """Topics in which a person has asked before: every message in a topic replies to its root."""

    async def __aenter__(self) -> Self:
        await self._quotes.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._quotes.__aexit__(kind, error, trace)

    async def take(self, payload: Mapping[str, Any]) -> Verdict:
        """Deal with an event. What is not stored is not acknowledged: Feishu sends it again after 15 s."""
        kind = kind_of(payload)
        self._bot.tenant = tenant_of(payload) or self._bot.tenant
        try:
            if kind == RECEIVED:
                return await self._message(payload)
            log.debug("an event that nothing is done about", account=self._account, kind=kind)
        except StorageUnavailable as error:
            log.warning("an event was not taken in", account=self._account, error=str(error))
            return REFUSED
        except Exception:
            log.exception("an event could not be dealt with", account=self._account, kind=kind)
        return Verdict(acknowledged=True, body={}) if kind in _CALLBACKS else TAKEN

    def parse(self, payload: Mapping[str, Any]) -> InboundMessage | None:
        """The message in `payload`, without what it replies to."""
        return parse_message(payload, account=self._account, identity=self._bot.identity)

    async def complete(self, message: InboundMessage, payload: Mapping[str, Any], *, within: float) -> InboundMessage:
        """`message` of `payload` with the one that it replies to, if that can be had `within` so many seconds."""
        quoted = quoted_by(payload)
        if not quoted or not self._is_asked(message) or within <= 0 or _topic(message) in self._begun:
            return message
        original = await self._quotes.of(quoted, within=within)
        if original is None or (message.thread and _was_asked(original, message)):
            return message
        return replace(message, quoted=original.quoted)

    async def _message(self, payload: Mapping[str, Any]) -> Verdict:
        came = self._clock.monotonic()
        await self._bot.ask_again()
        message = self.parse(payload)
        if message is None:
            return TAKEN
        async with self._turn(message.channel):  # the messages of a chat go on in the order in which they came
            if lacks_topic(payload) and self._is_asked(message):
                payload = await with_topic(self._api, payload, within=min(_QUOTE, self._left(came)))
                message = self.parse(payload) or message
            message = await self.complete(message, payload, within=min(_QUOTE, self._left(came)))
        receipt = await self._inbox(message)
        if receipt is Receipt.ACCEPTED and message.thread is not None:
            self._begun[_topic(message)] = None
        return REFUSED if receipt in (Receipt.OVERLOADED, Receipt.CLOSED) else TAKEN

    def _is_asked(self, message: InboundMessage) -> bool:
        """Whether the bot is meant, as far as the place tells."""
        return message.is_direct or message.mentions_bot or self._everything(message.channel)

    def _left(self, came: float) -> float:
        """Seconds that a message may still wait for what is asked about it."""
        return _QUOTES - (self._clock.monotonic() - came)

    def _turn(self, chat: str) -> asyncio.Lock:
        lock = self._turns.get(chat)
        if lock is None:
            lock = self._turns[chat] = asyncio.Lock()
        return lock


def _was_asked(root: Original, message: InboundMessage) -> bool:
    """Whether the root of a topic was a question of the same person, which their conversation has."""
    return root.author == message.sender.id and (root.asks or message.is_direct)


def _topic(message: InboundMessage) -> tuple[str, str]:
    return str(message.thread or ""), str(message.sender.id)
