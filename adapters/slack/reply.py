"""The ways back: what each place in Slack lets an answer do."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar
from urllib.parse import urlsplit

import aiohttp
import structlog

from adapters.slack.address import Address, message_id
from adapters.slack.api import SlackError
from adapters.slack.stream import GrowingAnswer
from adapters.slack.workspace import Workspace
from core.adapter import (
    CanAttach,
    CanEdit,
    CanFind,
    CanStream,
    CanType,
    CanWhisper,
    IdempotencyKey,
    OutboundFile,
    ReplyChannel,
    StreamSink,
    TextLimits,
)
from core.errors import DeliveryUnavailable, DeliveryUncertain, TargetGone
from core.markdown.dialect import Dialect
from core.markdown.dialects.slack import SLACK_MARKDOWN
from core.messages import MessageId

log = structlog.get_logger(__name__)

_RESPONSE_TIMEOUT = aiohttp.ClientTimeout(total=15.0)


class SlackReply(ReplyChannel):
    """Posted messages."""

    limits: ClassVar[TextLimits] = SLACK_MARKDOWN.limits
    dialect: ClassVar[Dialect | None] = SLACK_MARKDOWN

    def __init__(self, workspace: Workspace, address: Address) -> None:
        self._workspace = workspace
        self._address = address

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        await self._workspace.settle(self._address)
        ts = await self._workspace.post(self._address, text, key)
        self._workspace.answered(self._address)
        return message_id(self._address.channel, ts)


class CommandReply(SlackReply, CanWhisper):
    """To a slash command: in the channel if the bot may write there, else to the person alone; to them alone also what is
    private.

    What goes to the person alone can be neither changed nor looked up
    (https://docs.slack.dev/interactivity/handling-user-interaction#message_responses: 5 times within 30 minutes).
    """

    AWAITED: ClassVar[bool] = True

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        if not (self._address.private and self._address.response_url):
            try:
                return await super().send(text, key=key)
            except TargetGone:
                if not self._address.response_url:
                    raise
        await self._respond(text)
        return None

    async def whisper(self, text: str, *, key: IdempotencyKey) -> None:
        if self._address.response_url:
            await self._respond(text)
        else:
            await self.send(text, key=key)

    async def _respond(self, text: str) -> None:
        api, url = self._workspace.api, self._address.response_url
        host = urlsplit(url).hostname or ""
        if not (host == api.host or host.endswith((".slack.com", ".slack-gov.com"))):
            raise TargetGone(f"a response URL at {host!r} is not Slack's")
        block = {"type": "markdown", "text": SLACK_MARKDOWN.render(text)}
        body = {"response_type": "ephemeral", "blocks": [block]}
        try:
            async with api.session.post(
                url, json=body, proxy=api.proxy, timeout=_RESPONSE_TIMEOUT, allow_redirects=False
            ) as response:
                if response.status >= 500:
                    raise DeliveryUncertain(f"response_url: status {response.status}")
                if response.status != 200:
                    raise TargetGone(f"response_url: status {response.status}")
        except aiohttp.ClientConnectorError as error:
            raise DeliveryUnavailable(f"response_url: no connection ({type(error).__name__})") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise DeliveryUncertain(f"response_url: no answer ({type(error).__name__})") from None


class ChannelReply(SlackReply, CanEdit, CanAttach, CanWhisper):
    """Outside of threads: messages that can be changed, and some that only who asked can see."""

    async def whisper(self, text: str, *, key: IdempotencyKey) -> None:
        """Slack keeps such a message nowhere: who is not there just now may never see it."""
        if not self._address.direct:
            try:
                await self._workspace.whisper(self._address, text)
            except SlackError as error:
                log.debug("a text for one person is shown to all", reason=str(error))
            else:
                return
        await self.send(text, key=key)

    async def edit(self, message: MessageId, text: str) -> None:
        await self._workspace.replace(self._address, message, text)

    async def attach(self, file: OutboundFile, *, key: IdempotencyKey) -> MessageId | None:
        del key  # Slack has nothing to put it in
        await self._workspace.upload(self._address, file)
        return None


class ThreadReply(ChannelReply, CanStream, CanType):
    """In a thread: answers that grow, and the sign that one is being written."""

    def stream(self, *, key: IdempotencyKey) -> AbstractAsyncContextManager[StreamSink]:
        return GrowingAnswer(self._workspace, self._address, key)

    async def typing(self) -> None:
        await self._workspace.typing(self._address)


class FoundChannelReply(ChannelReply, CanFind):
    """The same, where the token may read the history: what is in doubt can be looked up."""

    async def find(self, key: IdempotencyKey) -> MessageId | None:
        return await self._workspace.find(self._address, key)


class FoundThreadReply(ThreadReply, FoundChannelReply):
    """The richest."""


def reply_to(workspace: Workspace, address: Address) -> SlackReply:
    """The reply channel for a place, as rich as the token's scopes allow."""
    if address.response_url or not address.after:
        return CommandReply(workspace, address)
    identity = workspace.identity
    scopes = ("im:history",) if address.direct else ("channels:history", "groups:history", "mpim:history")
    readable = identity is None or identity.may(*scopes)
    if address.thread:
        return FoundThreadReply(workspace, address) if readable else ThreadReply(workspace, address)
    return FoundChannelReply(workspace, address) if readable else ChannelReply(workspace, address)
