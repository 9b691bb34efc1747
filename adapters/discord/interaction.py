"""The way back to a slash command.

The command is deferred when it is committed: the person sees that the bot is thinking. The first message of the reply
takes that one's place; the others are ordinary messages that answer it. After 15 minutes, or when the command could not
be deferred in time, all are ordinary messages. What is private is shown to its person alone, or not at all. https://docs.discord.com/developers/interactions/receiving-and-responding
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar

from adapters.discord.address import Address
from adapters.discord.parse import snowflake_time
from adapters.discord.reply import MESSAGE, NOBODY, answered_by, own_messages, part_number, post
from adapters.discord.rest import Gone, Refused, Rest
from core.adapter import (
    CanAttach,
    CanEdit,
    CanFind,
    CanWhisper,
    IdempotencyKey,
    Keyed,
    OutboundFile,
    ReplyChannel,
    TextLimits,
)
from core.clock import Clock
from core.errors import DeliveryError, DeliveryUncertain
from core.markdown.dialect import Dialect
from core.markdown.dialects.discord import DISCORD
from core.messages import MessageId

ANSWERABLE = timedelta(minutes=14, seconds=30)
"""How long a command can be answered as one; Discord says 15 minutes."""

_THINKING = 1 << 7
"""The flag LOADING of a message that only says that the bot is thinking."""

EPHEMERAL = 1 << 6
"""The flag of what one person alone sees."""

CALLBACK = "/interactions/{interaction}/{webhook_token}/callback"
DEFER, ANSWER = 5, 4
"""Kinds of answers to a slash command: later, or at once."""
_ANSWERED_ALREADY = 40060

_ORIGINAL = "/webhooks/{webhook_id}/{webhook_token}/messages/@original"
_FOLLOW_UP = "/webhooks/{webhook_id}/{webhook_token}"
_NO_ACCESS = (50001, 50013)


class InteractionReply(ReplyChannel, CanEdit, CanAttach, CanFind, CanWhisper, Keyed):
    """Answers one slash command. Replacing the first message repeats nothing; the others carry our key as nonce."""

    limits: ClassVar[TextLimits] = DISCORD.limits
    dialect: ClassVar[Dialect | None] = DISCORD
    KEY_LIFETIME: ClassVar[timedelta] = timedelta(minutes=1)
    AWAITED: ClassVar[bool] = True

    def __init__(
        self,
        rest: Callable[[], Rest],
        clock: Clock,
        address: Address,
        deferred: Callable[[], Awaitable[None]],
    ) -> None:
        """`deferred` returns once Discord was told that the answer comes later, or could not be."""
        self._rest = rest
        self._clock = clock
        self._address = address
        self._deferred = deferred

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        """Show the first part in the place of the command's own answer, post the others below."""
        body = {"content": DISCORD.render(text), "allowed_mentions": NOBODY}
        if part_number(key) == 0 and self._answerable:
            await self._deferred()
            try:
                return _id(await self._on_original("PATCH", body))
            except Gone:
                pass  # it was never deferred: Discord has told the person that nothing came
        return await self._post(body, key)

    async def whisper(self, text: str, *, key: IdempotencyKey) -> None:
        """Answer at once, to the person alone."""
        del key  # a second answer is refused
        await self._deferred()
        rest, here = self._rest(), self._address
        data = {"content": DISCORD.render(text), "flags": EPHEMERAL, "allowed_mentions": NOBODY}
        try:
            body = {"type": ANSWER, "data": data}
            await rest.call("POST", CALLBACK, body=body, interaction=here.interaction, webhook_token=here.token)
        except (Gone, Refused) as refused:
            if refused.code != _ANSWERED_ALREADY:
                raise
            await self._call("POST", _FOLLOW_UP, data)

    async def attach(self, file: OutboundFile, *, key: IdempotencyKey) -> MessageId | None:
        """Post a file below; 10 MiB unless the server has more."""
        return await self._post({"attachments": [{"id": 0, "filename": file.name}]}, key, file)

    async def edit(self, message: MessageId, text: str) -> None:
        """Replace the text of one of our messages."""
        body = {"content": DISCORD.render(text), "allowed_mentions": NOBODY}
        if self._answerable:
            path = _FOLLOW_UP + "/messages/{message_id}"
            try:
                await self._call("PATCH", path, body, message_id=message)
            except Gone:
                pass  # not one of the command's own
            else:
                return
        here = self._address
        await self._rest().object("PATCH", MESSAGE, body=body, channel_id=here.channel, message_id=message)

    async def find(self, key: IdempotencyKey) -> MessageId | None:
        """The message that was sent with `key`, by what Discord keeps with it."""
        number = part_number(key)
        original = await self._original()
        if number == 0 or original is None:
            return original
        async for message in own_messages(self._rest(), self._address.channel, after=original):
            if answered_by(message) == original:
                number -= 1
                if number == 0:
                    return _id(message)
        return None

    @property
    def _answerable(self) -> bool:
        return self._clock.now() - snowflake_time(self._address.interaction) < ANSWERABLE

    async def _original(self) -> MessageId | None:
        """The message that took the place of the thinking one."""
        if self._answerable:
            await self._deferred()
            try:
                message = await self._on_original("GET", None)
            except Gone:
                return None
            return None if message.get("flags", 0) & _THINKING else _id(message)
        async for message in own_messages(self._rest(), self._address.channel, after=self._address.interaction):
            cause = message.get("interaction_metadata")
            ours = isinstance(cause, Mapping) and cause.get("id") == self._address.interaction
            if ours and not message.get("flags", 0) & _THINKING:
                return _id(message)
        return None

    async def _post(self, body: Mapping[str, Any], key: IdempotencyKey, *files: OutboundFile) -> MessageId:
        here = self._address
        if here.private:
            return await self._follow_up({**body, "flags": EPHEMERAL}, *files)
        original = await self._original() if part_number(key) else None
        try:
            return _id(await post(self._rest(), here.channel, body, key, original or "", *files))
        except Gone as gone:
            if gone.code not in _NO_ACCESS or not self._answerable:
                raise
        return await self._follow_up(body, *files)  # commands can be given where the bot may not write

    async def _follow_up(self, body: Mapping[str, Any], *files: OutboundFile) -> MessageId:
        await self._deferred()
        try:
            return _id(await self._call("POST", _FOLLOW_UP, {**body, "allowed_mentions": NOBODY}, *files))
        except DeliveryUncertain as error:
            raise DeliveryError(f"it may have arrived, and a follow-up cannot be sent twice: {error}") from error

    async def _on_original(self, method: str, body: Any) -> Mapping[str, Any]:
        return await self._call(method, _ORIGINAL, body)

    async def _call(self, method: str, path: str, body: Any, *files: OutboundFile, **ids: str) -> Mapping[str, Any]:
        rest, here = self._rest(), self._address
        ids = {"webhook_id": rest.application, "webhook_token": here.token, **ids}
        return await rest.object(method, path, body=body, files=files, params=None, **ids)


class Deferrals:
    """The slash commands of which Discord is being told that their answer comes later."""

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Event] = {}

    def begin(self, interaction: str) -> bool:
        """Answers to it wait from now on; False if they do already."""
        return self._under_way.setdefault(interaction, event := asyncio.Event()) is event

    def end(self, interaction: str) -> None:
        """Answers to it may go."""
        if (event := self._under_way.pop(interaction, None)) is not None:
            event.set()

    def end_all(self) -> None:
        """The connection is over."""
        for interaction in tuple(self._under_way):
            self.end(interaction)

    async def wait(self, interaction: str) -> None:
        """Returns once it was told, at once for those of earlier times."""
        if (event := self._under_way.get(interaction)) is not None:
            await event.wait()


def _id(message: Mapping[str, Any]) -> MessageId:
    return MessageId(str(message["id"]))
