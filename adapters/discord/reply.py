"""The way back to a message: ordinary messages that answer it, edited while they grow."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any, ClassVar

from adapters.discord.address import Address
from adapters.discord.rest import Gone, Refused, Rest
from core.adapter import (
    CanAttach,
    CanEdit,
    CanFind,
    CanType,
    IdempotencyKey,
    Keyed,
    OutboundFile,
    ReplyChannel,
    TextLimits,
)
from core.errors import RateLimited
from core.latest import Latest
from core.markdown.dialect import Dialect
from core.markdown.dialects.discord import DISCORD
from core.messages import MessageId

NOBODY: Mapping[str, Any] = {"parse": [], "replied_user": False}
"""Allowed mentions: a text pings nobody, whatever it contains, and an answer does not ping whom it answers."""

MESSAGES = "/channels/{channel_id}/messages"
MESSAGE = "/channels/{channel_id}/messages/{message_id}"

PAGE = 100
"""Messages of one page of the history, the most there are."""

_PAGES = 10
"""Pages that are looked through for a message of our own."""

_OPENED = 5_000
"""Threads of which it is remembered that they are open, or cannot be."""

_NO_REFERENCE = (50035, 160002)
"""Codes for a message that cannot be answered: no permission to read the history, or not that kind of message."""
_THREAD_EXISTS = 160004


class Threads:
    """Which threads that were to be opened are; shared by the replies of an account."""

    def __init__(self) -> None:
        self._known: Latest[str, bool] = Latest(_OPENED)

    def opened(self, thread: str) -> bool | None:
        """None if it has not been tried."""
        return self._known.get(thread)

    def remember(self, thread: str, *, opened: bool) -> None:
        """Keep what became of it."""
        self._known[thread] = opened


class DiscordReply(ReplyChannel, CanEdit, CanType, CanAttach, CanFind, Keyed):
    """Answers one message.

    A send carries our key as `nonce` with `enforce_nonce`: within some minutes Discord answers a second one with the
    first one's message (https://docs.discord.com/developers/resources/message#create-message). It does not keep the
    nonce with the message (https://github.com/Rapptz/discord.py/issues/2451), so that after those minutes a send is
    looked up by what is kept: which message it answers, and which part of the reply it is.
    """

    limits: ClassVar[TextLimits] = DISCORD.limits
    dialect: ClassVar[Dialect | None] = DISCORD
    KEY_LIFETIME: ClassVar[timedelta] = timedelta(minutes=1)
    """Discord says "the past few minutes"; a send may still wait half a minute for its rate limit."""

    def __init__(self, rest: Callable[[], Rest], threads: Threads, address: Address) -> None:
        """`rest` raises DeliveryUnavailable while the account is not connected."""
        self._rest = rest
        self._threads = threads
        self._address = address

    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        """Post `text` as an answer to the message."""
        return await self._post({"content": DISCORD.render(text)}, key)

    async def attach(self, file: OutboundFile, *, key: IdempotencyKey) -> MessageId | None:
        """Post a file as an answer to the message; 10 MiB unless the server has more."""
        return await self._post({"attachments": [{"id": 0, "filename": file.name}]}, key, file)

    async def edit(self, message: MessageId, text: str) -> None:
        """Replace the text of one of our messages."""
        channel, _, id = message.rpartition("/")
        body = {"content": DISCORD.render(text), "allowed_mentions": NOBODY}
        where = {"channel_id": channel or self._address.channel, "message_id": id}
        await self._rest().object("PATCH", MESSAGE, body=body, **where)

    async def typing(self) -> None:
        """Show that something is being written, for 10 s."""
        here = self._address
        channel = here.channel if not here.opens_in or self._threads.opened(here.channel) else here.opens_in
        await self._rest().call("POST", "/channels/{channel_id}/typing", channel_id=channel)

    async def find(self, key: IdempotencyKey) -> MessageId | None:
        """The message that was sent with `key`, as far as it can be told from the history."""
        channel = await self._place()
        number, answered = part_number(key), self._reference(channel)
        async for message in own_messages(self._rest(), channel, after=self._address.message):
            if answered_by(message) == answered:
                if number == 0:
                    return self._shown(channel, message)
                number -= 1
        return None

    async def _post(self, body: Mapping[str, Any], key: IdempotencyKey, *files: OutboundFile) -> MessageId:
        channel = await self._place()
        answered = self._reference(channel)
        try:
            message = await post(self._rest(), channel, body, key, answered, *files)
        except Refused as refused:
            if not answered or refused.code not in _NO_REFERENCE:
                raise
            message = await post(self._rest(), channel, body, key, "", *files)
        return self._shown(channel, message)

    def _shown(self, channel: str, message: Mapping[str, Any]) -> MessageId:
        """The id of a message of ours, with its channel if that is not the usual one."""
        id = str(message["id"])
        return MessageId(id if channel == self._address.channel else f"{channel}/{id}")

    def _reference(self, channel: str) -> str:
        """The message that ours answer there; none in a thread that was opened on it, where it is not."""
        opened = self._address.opens_in and channel == self._address.channel
        return "" if opened else self._address.message

    async def _place(self) -> str:
        """The channel to write in: the thread, opened if need be, or the channel itself if that is not allowed."""
        here = self._address
        if not here.opens_in:
            return here.channel
        opened = self._threads.opened(here.channel)
        if opened is None:
            opened = await self._open(here)
            self._threads.remember(here.channel, opened=opened)
        return here.channel if opened else here.opens_in

    async def _open(self, here: Address) -> bool:
        body = {"name": here.title or "…", "auto_archive_duration": 1440}
        path = MESSAGE + "/threads"
        try:
            await self._rest().call("POST", path, body=body, channel_id=here.opens_in, message_id=here.message)
        except (Gone, Refused) as error:
            return error.code == _THREAD_EXISTS
        except RateLimited:
            return False  # ten minutes may pass: the answer is worth more than its thread
        return True


async def post(
    rest: Rest, channel: str, body: Mapping[str, Any], key: IdempotencyKey, answered: str, *files: OutboundFile
) -> Mapping[str, Any]:
    """Create a message; `answered` is the one it answers, if any. Returns Discord's message object."""
    whole = {**body, "nonce": key, "enforce_nonce": True, "allowed_mentions": NOBODY}
    if answered:
        whole["message_reference"] = {"message_id": answered, "fail_if_not_exists": False}
    return await rest.object("POST", MESSAGES, body=whole, files=files, channel_id=channel)


async def own_messages(rest: Rest, channel: str, *, after: str) -> AsyncIterator[Mapping[str, Any]]:
    """The bot's messages in a channel since `after`, oldest first."""
    for _ in range(_PAGES):
        page = await history(rest, channel, after=after)
        for message in page:
            if message.get("author", {}).get("id") == rest.me:
                yield message
        if len(page) < PAGE:
            return
        after = str(page[-1]["id"])


async def history(rest: Rest, channel: str, *, after: str) -> list[dict[str, Any]]:
    """Up to 100 messages that follow `after`, oldest first."""
    page = await rest.objects(MESSAGES, params={"after": after or "0", "limit": PAGE}, channel_id=channel)
    return sorted(page, key=lambda message: int(message["id"]))


def part_number(key: IdempotencyKey) -> int:
    """Which part of its reply a key names: keys end in the number of the part; a preview is the first, as is a notice."""
    number = re.search(r"-(\d{1,3})$", key)
    return int(number[1]) if number else 0


def answered_by(message: Mapping[str, Any]) -> str:
    """The id of the message that one answers; empty if it answers none."""
    reference = message.get("message_reference")
    return str(reference.get("message_id", "")) if isinstance(reference, Mapping) else ""
