"""The session webhook of a question: a message to its conversation, for a while and not too often.

https://open.dingtalk.com/document/development/robot-message-type (bodies),
https://open.dingtalk.com/document/development/custom-robots-send-group-messages (limits and codes). HTTP 200 with an
`errcode` is a refusal.
"""

from __future__ import annotations

from collections import deque

from yarl import URL

from adapters.dingtalk.address import Address
from adapters.dingtalk.api import DingTalkApi
from adapters.dingtalk.failures import DingTalkError
from core.clock import Clock
from core.errors import RateLimited
from core.latest import Latest

_A_MINUTE = 20
"""Messages that a robot may post to one conversation in a minute."""
_WINDOW = 62.0
"""Seconds; a little more than a minute, since DingTalk's begins when a message arrives."""
_SHUT_OUT = 600.0
"""Seconds for which DingTalk takes no more after too many."""
_NEAR_THE_END = 30_000
"""Milliseconds before its end from which on a webhook is not used."""
_REMEMBERED = 5_000
_TOO_FAST = "410100"
_WORDS = frozenset(("430101", "430102", "430103", "430104"))


class WebhookRefuses(DingTalkError):
    """The webhook has ended (300001), or does not take this; by the API it may go."""


class Webhooks:
    """Posts by session webhooks, and keeps count for each conversation."""

    def __init__(self, api: DingTalkApi, clock: Clock, *, origins: tuple[str, ...]) -> None:
        """`origins`: addresses that a webhook may lead to as they are. Others are DingTalk's own, by https."""
        self._api = api
        self._clock = clock
        self._origins = tuple(URL(origin).origin() for origin in origins)
        self._sent: Latest[str, deque[float]] = Latest(_REMEMBERED)
        self._shut: Latest[str, float] = Latest(_REMEMBERED)
        """Until when a conversation takes no more."""

    def usable(self, address: Address) -> bool:
        """Whether the question has a webhook that leads to DingTalk and has not ended."""
        now = self._clock.now().timestamp() * 1000
        ended = address.until > 0 and address.until - _NEAR_THE_END <= now
        return bool(address.webhook) and not ended and self._is_ours(address.webhook)

    async def post(self, address: Address, title: str, text: str) -> None:
        """Show a Markdown message. Raises WebhookRefuses, RateLimited, and what the API raises; DingTalkError only
        where the words are what is refused."""
        self._count(address.conversation)
        body = {"msgtype": "markdown", "markdown": {"title": title, "text": text}}
        try:
            await self._api.post(URL(address.webhook, encoded=True), body, name="sessionWebhook")
        except DingTalkError as error:
            if error.code in _WORDS:
                raise
            if error.code != _TOO_FAST:
                raise WebhookRefuses("sessionWebhook", error.code) from None
            self._shut[address.conversation] = self._clock.monotonic() + _SHUT_OUT
            raise RateLimited("sessionWebhook: too many messages", retry_after=_SHUT_OUT) from None

    def _count(self, conversation: str) -> None:
        now = self._clock.monotonic()
        sent = self._sent.of(conversation, lambda: deque(maxlen=_A_MINUTE))
        free = max(self._shut.get(conversation, now), sent[0] + _WINDOW if len(sent) == _A_MINUTE else now)
        if free > now:
            raise RateLimited("sessionWebhook: many messages in a minute", retry_after=free - now)
        sent.append(now)

    def _is_ours(self, webhook: str) -> bool:
        try:
            url = URL(webhook, encoded=True)
            origin = url.origin()
        except ValueError:
            return False
        if url.user is not None:
            return False
        host = (url.host or "").lower()
        ours = host == "dingtalk.com" or host.endswith(".dingtalk.com")
        return origin in self._origins or (ours and url.scheme == "https" and url.port == 443)
