"""Cards that change while they are shown: entities of CardKit, and cards that are replaced as a whole where the app may
not use that.

https://open.feishu.cn/document/uAjLw4CM/ukzMukzMukzM/feishu-cards/streaming-updates-openapi-overview: 10 operations a
second on one card, each with a `sequence` that is greater than that of the one before, whoever did that; here it comes
from the time since the card was created, so that it rises in a later process too. A streaming card takes new text for
10 minutes, and can be written anew as a whole at any time.

A card ends as that page describes it: the last text as text of its element, then `streaming_mode: false` in its settings.
That is a call more than to write the card anew with `streaming_mode: false` in it, of which no page says that it ends the
streaming; the field does both (https://github.com/larksuite/openclaw-lark). The text is whole and seen after the first
call, and the second one takes its line in the list of chats from "generating" to how it begins. Where either is refused,
or it is not known whether the card streams, it is written anew as a whole.

https://open.feishu.cn/document/server-docs/im-v1/message-card/patch: 5 changes of a message a second, for 14 days. It does
not reach a card that shows an entity.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog

from adapters.feishu.address import Shown
from adapters.feishu.api import FeishuApi
from adapters.feishu.content import ELEMENT, card, simpler, streamed
from adapters.feishu.errors import NO_SCOPE, NO_SUCH_API, REPEATED_OPERATION, SEQUENCE, UNSHOWABLE, FeishuError
from core.clock import Clock
from core.errors import DeliveryError, DeliveryUncertain
from core.latest import Latest
from core.markdown.dialects.feishu import FEISHU

log = structlog.get_logger(__name__)

STREAM_LASTS = 540.0
"""Seconds for which a card streams; Feishu ends it after 600, and some updates before that are said to get lost."""
_OPERATION = 0.11
"""Seconds between two operations on one card."""
_PATCH = 0.22
"""Seconds between two changes of one message."""
_JUMP = 3_600_000
"""An hour, as the sequence counts: milliseconds since the card was created. An int32 lasts for 24 days, a card for 14."""
_KEPT = 5_000


@dataclass(slots=True)
class Card:
    """A message of ours that may change, and what this process did with it."""

    shown: Shown
    rendered: str = ""
    """Its text, in Feishu's dialect, as far as it is known."""
    streaming: bool = False
    """It takes text for its element: made by this process, and not ended."""
    inherited: bool = False
    """What became of it is not known: it was put up by an earlier process, or its end is in doubt."""


@dataclass(slots=True)
class _Turns:
    """What was done to one card, or message, by this process."""

    sequence: int = 0
    """Of the last operation."""
    free_at: float = 0.0
    """When the next one may come."""


class Cards:
    """Makes and changes the cards of one account."""

    def __init__(self, api: FeishuApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._has_entities = True
        """The app has the scope cardkit:card:write, and its server knows CardKit."""
        self._turns: Latest[str, _Turns] = Latest(_KEPT)

    async def make(self, rendered: str, text: str, uuid: str) -> Card:
        """A card that streams, not sent yet; `uuid` is what it is to be sent with."""
        if self._has_entities:
            created = self._now_ms()
            body = {"type": "card_json", "data": card(rendered, text, streaming=True)}
            try:
                data = await self._api.call("POST", "/open-apis/cardkit/v1/cards", body=body)
                id = str((data.get("data") or {}).get("card_id") or "")
            except FeishuError as error:
                if error.code in UNSHOWABLE:
                    raise
                self._has_entities, id = error.code not in (NO_SCOPE, NO_SUCH_API), ""
                log.warning("a card cannot stream; it is written anew all the time", error=str(error))
            if id:
                return Card(Shown(card=id, created=created, uuid=uuid), rendered, streaming=True)
        return Card(Shown(uuid=uuid))

    async def grow(self, shown: Card, rendered: str, text: str) -> None:
        """Show more of an answer that is being written. Raises as `FeishuApi.call`."""
        if rendered == shown.rendered:
            return
        if self._streams(shown):
            try:
                await self._type(shown, rendered)
            except FeishuError as error:
                if error.code in UNSHOWABLE:
                    raise
                log.info("a card does not stream any more; it is written anew from here on", error=str(error))
                shown.streaming = False
            else:
                return
        await self.write(shown, text, rendered)

    async def write(self, shown: Card, text: str, rendered: str | None = None) -> None:
        """Let it show `text` (CommonMark; `rendered` is that in Feishu's dialect) and nothing else; it does not stream
        any more. Raises as `FeishuApi.call`."""
        rendered = FEISHU.render(text) if rendered is None else rendered
        if self._streams(shown) and await self._ended(shown, text, rendered):
            return
        shown.rendered = ""  # whatever comes of it
        if shown.shown.kind:
            body = {"msg_type": shown.shown.kind, "content": simpler(shown.shown.kind, text)}
            await self._change(shown, "PUT", body)
        elif shown.shown.card:
            await self._operate(shown, "PUT", "", {"card": {"type": "card_json", "data": card(rendered, text)}})
        else:
            await self._change(shown, "PATCH", {"content": card(rendered, text)})
        shown.rendered, shown.streaming = rendered, False

    async def stop(self, shown: Card, text: str) -> None:
        """End its streaming; in the list of chats it looks like `text` from now on. Raises as `FeishuApi.call`."""
        settings = {"settings": streamed(text)}
        try:
            await self._operate(shown, "PATCH", "/settings", settings)
        except DeliveryUncertain:
            await self._operate(shown, "PATCH", "/settings", settings)  # said twice it is true, too
        shown.streaming = False

    async def _ended(self, shown: Card, text: str, rendered: str) -> bool:
        """Whether it shows `text` and its streaming is over, by the calls that are documented for that."""
        try:
            await self._type(shown, rendered)
            await self.stop(shown, text)
        except DeliveryError as error:  # to write it anew is another API, with calls of its own
            log.info("a card is written anew at its end", error=str(error))
            return False
        return True

    async def _type(self, shown: Card, rendered: str) -> None:
        """The whole text of the element, which goes on from the one before or takes its place."""
        if rendered != shown.rendered:
            shown.rendered = ""  # whatever comes of it
            await self._operate(shown, "PUT", f"/elements/{ELEMENT}/content", {"content": rendered})
            shown.rendered = rendered

    def _streams(self, shown: Card) -> bool:
        return shown.streaming and self._now_ms() - shown.shown.created <= STREAM_LASTS * 1000

    async def _operate(self, shown: Card, method: str, what: str, body: Mapping[str, Any]) -> None:
        entity = shown.shown.card
        path = f"/open-apis/cardkit/v1/cards/{quote(entity, safe='')}{what}"
        for jump in (_JUMP, 0):
            turns = await self._turn(entity, _OPERATION)
            elapsed = max(0, self._now_ms() - shown.shown.created)
            turns.sequence = max(turns.sequence, elapsed) + 1
            numbered = {**body, "sequence": turns.sequence, "uuid": secrets.token_hex(8)}
            try:
                await self._api.call(method, path, body=numbered)
            except FeishuError as error:
                if error.code == REPEATED_OPERATION:
                    return  # a PUT is sent again when its connection breaks: the first one took effect
                if error.code != SEQUENCE or not jump:
                    raise
                turns.sequence += jump  # the clock was set back, or somebody jumped before
            else:
                return

    async def _change(self, shown: Card, method: str, body: Mapping[str, Any]) -> None:
        await self._turn(shown.shown.message, _PATCH)
        await self._api.call(method, message_path(shown.shown.message), body=body)

    async def _turn(self, id: str, between: float) -> _Turns:
        """Wait until the card or message may be changed again."""
        turns = self._turns.of(id, _Turns)
        now = self._clock.monotonic()
        at = max(now, turns.free_at)
        turns.free_at = at + between
        if at > now:
            await self._clock.sleep(at - now)
        return turns

    def _now_ms(self) -> int:
        return int(self._clock.now().timestamp() * 1000)


def message_path(message: str) -> str:
    """The path of a message."""
    return f"/open-apis/im/v1/messages/{quote(message, safe='')}"
