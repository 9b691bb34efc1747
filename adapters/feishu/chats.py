"""What all replies of one account share: messages put up, changed and taken away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import structlog

from adapters.feishu.address import Address, Shown, load_shown
from adapters.feishu.api import FeishuApi
from adapters.feishu.card import Card, Cards, message_path
from adapters.feishu.content import CARD, PLACEHOLDER, card, entity, file_content, forms
from adapters.feishu.errors import NO_REPLY, UNSHOWABLE, USED_UP, FeishuError, Gone
from adapters.feishu.signs import Signs
from core.adapter import OutboundFile
from core.clock import Clock
from core.errors import DeliveryError, DeliveryUnavailable, DeliveryUncertain, TargetGone
from core.latest import Latest
from core.messages import MessageId
from core.untrusted import items_in, text_in

log = structlog.get_logger(__name__)

_KEPT = 5_000
_PICTURES = ("image/bmp", "image/gif", "image/jpeg", "image/png", "image/webp")
_MOST_PICTURE = 10_000_000
"""Bytes of what is shown as a picture; more of it is a file, of 30 MB at most."""
_FILE_TYPES = {"pdf": "pdf", "doc": "doc", "docx": "doc", "xls": "xls", "xlsx": "xls", "ppt": "ppt", "pptx": "ppt"}


class Chats:
    """Lives as long as its adapter, across sign-ins. Text is CommonMark, one part of an answer."""

    def __init__(self, api: FeishuApi, clock: Clock) -> None:
        self.api = api
        self.clock = clock
        self.cards = Cards(api, clock)
        self.growing = 0
        """Answers that are being shown while they are written; they share the calls that an app may make."""
        self.signs = Signs(api, clock)
        self._born_ms = int(clock.now().timestamp() * 1000)
        self._answers: Latest[str, list[Card]] = Latest(_KEPT)

    async def send(self, address: Address, text: str, uuid: str) -> Shown:
        """A new message, as rich as it can be there."""
        refusal: FeishuError | None = None
        for kind, content in forms(text):
            try:
                shown = await self.post(address, kind, content, uuid)
            except FeishuError as error:
                if error.code not in UNSHOWABLE:
                    raise
                log.warning(
                    "Feishu refuses an answer in this form; a simpler one is tried", kind=kind, error=str(error)
                )
                refusal = error
            else:
                await self.answered(address)
                return shown
        assert refusal is not None
        raise refusal

    async def post(self, address: Address, kind: str, content: str, uuid: str) -> Shown:
        """A new message with this content: a reply to the question in groups and topics, else just in the chat.

        Within an hour a second one with the same `uuid` is refused or answered with the first one's id, the documents
        do not say which; a refusal names no message.
        """
        try:
            data = await self._reply_or_create(address, {"msg_type": kind, "content": content, "uuid": uuid})
        except FeishuError as error:
            if not error.repeated:
                raise
            return Shown()
        kind = str(data.get("msg_type") or kind)
        return Shown(text_in(data, "message_id"), kind="" if kind == CARD else kind)

    async def put_up(self, address: Address, made: Card) -> None:
        """Send a card that was made, or let Feishu say that it was sent before."""
        content = entity(made.shown.card) if made.shown.card else card(PLACEHOLDER, PLACEHOLDER)
        shown = await self.post(address, CARD, content, made.shown.uuid)
        if not (shown.message or made.shown.card):
            raise TargetGone("a message was sent before, and Feishu does not say which one it is")
        made.shown.message, made.shown.uuid = shown.message, ""

    async def replace(self, address: Address, message: MessageId, text: str) -> None:
        """Let `text` be the answer that `message` begins; what a broken one left after it is taken away.

        Raises TargetGone where it cannot be; nothing of it is left then.
        """
        answer = self._answers.get(message)
        if answer is None:
            answer = [Card(shown, inherited=True) for shown in load_shown(message)]
        self._answers[message] = answer
        if not answer:
            raise TargetGone("the answer was taken away, since it could not be changed")
        while len(answer) > 1:
            await self.take_away(address, answer[-1])
            answer.pop()
        first = answer[0]
        try:
            sent = not first.shown.uuid or await self._settled(address, first)
            if not sent and await self._stood_in(address, first, text):
                return
            if first.inherited:
                await self._take_over(first, text)
            await self.cards.write(first, text)
        except FeishuError as error:
            if error.code == USED_UP:
                raise  # to send it anew will not do either
            log.warning("an answer cannot be changed; it is sent anew", error=str(error))
            await self.take_away(address, first)
            answer.clear()  # CardKit goes on taking changes of a card that nobody sees any more
            raise TargetGone(str(error)) from None
        await self.answered(address)

    async def take_away(self, address: Address, unwanted: Card) -> None:
        """Recall a message; one that may have been put up is looked for first."""
        try:
            if unwanted.shown.uuid:
                await self._settled(address, unwanted)
            if unwanted.shown.message:
                await self.api.call("DELETE", message_path(unwanted.shown.message))
            elif unwanted.shown.card:
                await self.cards.write(unwanted, PLACEHOLDER)
        except TargetGone:
            return
        except FeishuError as error:
            log.warning("a part of an earlier answer cannot be taken away", error=str(error))

    async def typing(self, address: Address) -> None:
        """Show that an answer is being written."""
        await self.signs.put(address)

    async def answered(self, address: Address) -> None:
        """There is something to read."""
        await self.signs.take_away(address, earlier=address.sent_at_ms < self._born_ms)

    async def attach(self, address: Address, file: OutboundFile, uuid: str) -> Shown:
        """Upload a file and send it.

        https://open.feishu.cn/document/server-docs/im-v1/image/create, …/im-v1/file/create
        """
        if file.media_type in _PICTURES and len(file.content) <= _MOST_PICTURE:
            kind, name, fields = "image", "image_key", {"image_type": "message"}
        else:
            ending = file.name.rpartition(".")[2].lower()
            kind, name = "file", "file_key"
            fields = {"file_type": _FILE_TYPES.get(ending, "stream"), "file_name": file.name}

        def form() -> aiohttp.FormData:
            data = aiohttp.FormData(fields, quote_fields=False)  # names of files may be Chinese
            data.add_field(kind, file.content, filename=file.name, content_type=file.media_type)
            return data

        uploaded = await self.api.call("POST", f"/open-apis/im/v1/{kind}s", form=form)
        key = str((uploaded.get("data") or {}).get(name) or "")
        return await self.post(address, kind, file_content(name, key), uuid)

    async def _settled(self, address: Address, doubtful: Card) -> bool:
        """Whether a card that may have been sent was: it is sent again, which Feishu does once. False: it is refused,
        since it was sent before, or never can be."""
        try:
            await self.put_up(address, doubtful)
        except FeishuError as error:
            if not doubtful.shown.card or error.code == USED_UP:
                raise
            log.info("a card was sent before, or never can be", error=str(error))
            return False
        return True

    async def _stood_in(self, address: Address, refused: Card, text: str) -> bool:
        """Let `text` be seen, whether a refused card is there or not: as a message with its `uuid`, which is sent if the
        card was not, and else is the card's. False: that is refused, too, so the card is there, known by its entity."""
        try:
            shown = await self.send(address, text, refused.shown.uuid)
        except FeishuError as error:
            log.info("a card was sent before", error=str(error))
            shown = Shown()
        if not shown.message:
            refused.shown.uuid = ""
            return False
        try:
            await self.cards.write(refused, text)
            await self.cards.stop(refused, text)
        except DeliveryError as error:
            log.info("a card that is not there could not be changed", error=str(error))
        refused.shown, refused.inherited = shown, False
        return True

    async def _take_over(self, inherited: Card, text: str) -> None:
        """Make sure that whoever reads the chat sees the card, and that it does not stream. Raises TargetGone.

        CardKit goes on taking changes of a card whose message was recalled: by a person, or by a process that died before
        it could send the text anew. https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/reference/im-v1/message/get
        """
        if inherited.shown.card:
            if inherited.shown.message and await self._is_recalled(inherited.shown.message):
                raise TargetGone("the answer that was begun is recalled")
            try:
                await self.cards.stop(inherited, text)
            except FeishuError as error:
                log.info("a card's streaming cannot be ended, or is over", error=str(error))
            except (DeliveryUnavailable, DeliveryUncertain) as error:
                log.info("whether a card still streams is not known", error=str(error))
                return  # to write it anew may do; else this is tried again, too
        inherited.inherited = False

    async def _is_recalled(self, message: str) -> bool:
        try:
            answer = await self.api.call("GET", message_path(message))
        except (FeishuError, DeliveryUnavailable, DeliveryUncertain) as error:
            log.info("whether a message is still there is not known", error=str(error))
            return False
        return any(item.get("deleted") is True for item in items_in(answer.get("data"), "items"))

    async def _reply_or_create(self, address: Address, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if address.message_id and (address.thread_id or not address.direct):
            reply = {**body, "reply_in_thread": True} if address.thread_id else body
            try:
                return await self._new(address, f"{message_path(address.message_id)}/reply", reply)
            except (Gone, FeishuError) as error:
                if error.code not in NO_REPLY:
                    raise
                log.info("a question cannot be replied to; the answer goes to its chat", error=str(error))
        create = {**body, "receive_id": address.chat_id}
        return await self._new(address, "/open-apis/im/v1/messages", create, receive_id_type="chat_id")

    async def _new(self, address: Address, path: str, body: Mapping[str, Any], **params: str) -> Mapping[str, Any]:
        answer = await self.api.call("POST", path, params=params, body=body, pace=address.chat_id)
        data = answer.get("data")
        return data if isinstance(data, Mapping) else {}
