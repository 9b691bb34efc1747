"""A signed-in way back to one question in Feishu, without adapter and gateway around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from adapters.feishu.address import Address
from adapters.feishu.api import FeishuApi
from adapters.feishu.chats import Chats
from adapters.feishu.reply import FeishuReply, reply_to
from core.adapter import IdempotencyKey, StreamSink
from core.clock import Clock, SystemClock
from core.messages import MessageId
from tests.contract.platform import Visible
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_state import FeishuMessage

KEY = IdempotencyKey("turn1-0")


@dataclass
class Desk:
    """One question, and what an account has to answer it with."""

    feishu: SimulatedFeishu
    chats: Chats
    question: FeishuMessage

    @property
    def address(self) -> Address:
        return Address(
            message_id=self.question.id,
            chat_id=self.question.chat.id,
            thread_id=self.question.thread_id,
            direct=self.question.chat.kind == "p2p",
            user="ou_ann",
            sent_at_ms=self.question.created,
        )

    def reply(self, **changes: Any) -> FeishuReply:
        """The way back to the question, or to another place."""
        return reply_to(self.chats, replace(self.address, **changes))

    @property
    def shown(self) -> list[FeishuMessage]:
        """What the bot has put up and not taken back."""
        return [each for each in self.question.chat.messages if each.app is not None and not each.recalled]

    @property
    def visible(self) -> list[Visible]:
        """The same, as a person sees it."""
        return list(self.feishu.visible(self.question.chat.id))

    def texts(self) -> list[str]:
        """The same, texts alone."""
        return [each.text for each in self.visible]

    def calls(self, *names: str) -> list[tuple[str, dict[str, Any]]]:
        """The calls so far, of APIs whose names end so."""
        return [call for call in self.feishu.state.calls if not names or call[0].endswith(names)]


def api_for(feishu: SimulatedFeishu, *, clock: Clock | None = None, kind: type[FeishuApi] = FeishuApi) -> FeishuApi:
    """The API of the account `bot`, not opened yet."""
    account = feishu.account()
    return kind(account["app_id"], account["app_secret"], url=feishu.url, proxy=None, clock=clock or SystemClock())


@asynccontextmanager
async def desk(
    feishu: SimulatedFeishu, *, direct: bool = False, channel: str = "general", clock: Clock | None = None
) -> AsyncIterator[Desk]:
    """`feishu` is entered; the question was asked after this process began."""
    clock = clock or SystemClock()
    api = api_for(feishu, clock=clock)
    chats = Chats(api, clock)
    await api.open()
    try:
        asked = await feishu.person_writes("how?", direct=direct, channel=channel)
        yield Desk(feishu, chats, feishu.state.messages[asked.message])
    finally:
        await api.close()


async def feed(sink: StreamSink, pieces: Iterable[str], stored: list[MessageId] | None = None) -> None:
    """What core/preview.py does, but for long pauses; `stored` gets each id when it is stored."""
    stored = [] if stored is None else stored
    for piece in pieces:
        if 0 < (wait := sink.due()) < 2:
            await asyncio.sleep(wait)
        await sink.append(piece)
        while sink.message is not None and stored[-1:] != [sink.message]:
            stored.append(sink.message)
            await sink.stored()
