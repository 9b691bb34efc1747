"""A simulated DingTalk's cards: made, delivered, streamed into, updated.

https://open.dingtalk.com/document/development/create-and-deliver-cards and its neighbours,
https://open.dingtalk.com/document/development/api-streamingupdate,
https://open.dingtalk.com/document/development/ai-card-template for the states.
"""

from __future__ import annotations

import re
from typing import Any

from tests.simulators.dingtalk_api import (
    CREATE,
    CREATE_AND_DELIVER,
    DELIVER,
    STREAMING,
    UPDATE,
    Arguments,
    DingTalkApi,
    Refused,
)
from tests.simulators.dingtalk_robot import encrypted_key
from tests.simulators.dingtalk_world import TEMPLATES, DingTalkApp, DingTalkCard, DingTalkMessage, DingTalkWorld

LARGEST_VALUE = 1024
"""Bytes of a value that a card is made or updated with."""
MOST_CHARACTERS = 3000
"""Beyond, clients show an empty card: https://github.com/soimy/openclaw-channel-dingtalk/issues/615; the document on
streaming advises 3 K too, and names no other limit."""
LONGEST_ID = 64
_SPACE = re.compile(r"(im_group|im_robot)\.(.+)", re.IGNORECASE)
_MODELS = {
    "IM_GROUP": ("imGroupOpenSpaceModel", "imGroupOpenDeliverModel"),
    "IM_ROBOT": ("imRobotOpenSpaceModel", "imRobotOpenDeliverModel"),
}
_STATES: dict[str, Any] = {"1": "processing", "2": "inputing", "3": "done", "5": "failed"}


class DingTalkCards:
    """Registers the calls for cards with the API."""

    def __init__(self, world: DingTalkWorld, api: DingTalkApi) -> None:
        self.world = world
        self.most_characters = MOST_CHARACTERS
        self.refuses_repetition = False
        """Whether a second card with the same outTrackId is refused (`param.cardAlreadyExist`). Else it is the first
        one, unchanged. Both are documented, and not which of them happens."""
        api.serve(CREATE, "Card.Instance.Write", self._create)
        api.serve(DELIVER, "Card.Instance.Write", self._deliver)
        api.serve(CREATE_AND_DELIVER, "Card.Instance.Write", self._create_and_deliver)
        api.serve(UPDATE, "Card.Instance.Write", self._update)
        api.serve(STREAMING, "Card.Streaming.Write", self._stream)

    def _mistake(self, call: str, code: str, message: str = "") -> Refused:
        self.world.complain(f"{call}: {message or code}")
        return Refused(400, code, message)

    def _params(self, call: str, data: Any) -> dict[str, str]:
        params = data.get("cardParamMap") if isinstance(data, dict) else None
        if not isinstance(params, dict):
            raise self._mistake(call, "param.cardPublicDataEmpty")
        for name, value in params.items():
            if not isinstance(value, str):
                raise self._mistake(call, "param.invalid", f"the value of {name} is not a string")
            if len(value.encode()) > LARGEST_VALUE:
                self.world.complain(f"{call}: the value of {name} has {len(value.encode())} bytes")
        return params

    def _card(self, call: str, app: DingTalkApp, arguments: Arguments, missing: tuple[str, str]) -> DingTalkCard:
        """The card that is meant. To ask for one that is not there is no mistake: so it is seen what the app may do."""
        card = self.world.cards.get(str(arguments.get("outTrackId")))
        if card is None:
            raise Refused(400, *missing)
        if card.app is not app:
            raise self._mistake(call, *missing)
        return card

    # Making and delivering

    async def _create(self, app: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        return {"success": True, "result": self._made(CREATE, app, arguments).out_track_id}

    def _made(self, call: str, app: DingTalkApp, arguments: Arguments) -> DingTalkCard:
        id, template = arguments.get("outTrackId"), arguments.get("cardTemplateId")
        if not isinstance(id, str) or not id:
            raise self._mistake(call, "param.outTrackIdEmpty")
        if len(id) > LONGEST_ID:
            raise self._mistake(call, "outTrackId.outOfLimit", "outTrackId不要超过64个字符")
        if not template:
            raise self._mistake(call, "param.cardTemplateIdEmpty")
        if template not in TEMPLATES:
            raise Refused(400, "param.templateNotExist")
        params = self._params(call, arguments.get("cardData"))
        if id in self.world.cards:
            if self.refuses_repetition:
                raise Refused(400, "param.cardAlreadyExist")
            return self.world.cards[id]
        spaces = {kind for kind, (model, _) in _MODELS.items() if isinstance(arguments.get(model), dict)}
        card = DingTalkCard(id, app, template, dict(params), spaces)
        card.status = _STATES.get(params.get("flowStatus", "1"), "processing")
        card.at = [str(each) for each in arguments.get("cardAtUserIds") or ()]
        card.say()
        self.world.cards[id] = card
        return card

    async def _deliver(self, app: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        card = self._card(DELIVER, app, arguments, ("param.cardNotExist", ""))
        return {"success": True, "result": self._delivered(DELIVER, card, arguments)}

    async def _create_and_deliver(self, app: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        self._places(CREATE_AND_DELIVER, app, arguments)
        card = self._made(CREATE_AND_DELIVER, app, arguments)
        results = self._delivered(CREATE_AND_DELIVER, card, arguments)
        return {"success": True, "result": {"outTrackId": card.out_track_id, "deliverResults": results}}

    def _places(self, call: str, app: DingTalkApp, arguments: Arguments) -> list[tuple[str, str, list[str]]]:
        """Kind and id of each place, and whom the delivery notifies there."""
        text = arguments.get("openSpaceId")
        if not isinstance(text, str) or not text:
            raise self._mistake(call, "param.openSpaceIdEmpty")
        found = [_SPACE.fullmatch(each) for each in text.removeprefix("dtv1.card//").split(";")]
        if not text.startswith("dtv1.card//") or not all(found):
            raise self._mistake(call, "param.openSpaceIdInvalid")
        places = []
        for match in filter(None, found):
            kind, id = match[1].upper(), match[2]
            model = arguments.get(_MODELS[kind][1])
            if not isinstance(model, dict):
                raise self._mistake(call, "param.openDeliverModelEmpty")
            wanted = {"robotCode": app.robot_code} if kind == "IM_GROUP" else {"spaceType": "IM_ROBOT"}
            if any(model.get(name) != value for name, value in wanted.items()):
                raise self._mistake(call, "param.openDeliverModelError")
            if model.get("robotCode", app.robot_code) != app.robot_code:
                raise self._mistake(call, "param.openDeliverModelError")
            at = model.get("atUserIds") or {}
            if "@ALL" in at:
                self.world.complain(f"{call}: everybody is called")
            places.append((kind, id, [str(each) for each in at]))
        return places

    def _delivered(self, call: str, card: DingTalkCard, arguments: Arguments) -> list[dict[str, Any]]:
        results = []
        for kind, id, at in self._places(call, card.app, arguments):
            error, carrier = self._show(call, card, kind, id, at), ""
            if not error:
                carrier = card.shown[id].id
            results.append(
                {"spaceType": kind, "spaceId": id, "success": not error, "carrierId": carrier, "errorMsg": error}
            )
        return results

    def _show(self, call: str, card: DingTalkCard, kind: str, id: str, at: list[str]) -> str:
        """Put the card into a place where it is not yet; what is wrong with the place."""
        if kind == "IM_GROUP":
            room = self.world.rooms.get(id)
            wrong = room is None or room.direct
        else:
            person = self.world.staff(id)
            room = self.world.direct(person, card.app) if person is not None else None
            wrong = room is None
        if wrong:
            self.world.complain(f"{call}: there is no {kind} {id!r}")
        if wrong or room is None or room.gone:
            return "spaceId is illegal"
        if kind not in card.spaces:
            self.world.complain(f"{call}: the card was made without the model of {kind}")
            return "card not support space"
        if id not in card.shown:
            card.shown[id] = DingTalkMessage(encrypted_key(), card.app, "", kind="card", at=at, card=card)
            room.messages.append(card.shown[id])
        return ""

    # Changing

    async def _stream(self, app: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        content, full = arguments.get("content"), arguments.get("isFull")
        for name, code in (("key", "param.stream.keyEmpty"), ("guid", "param.stream.guidEmpty")):
            if not isinstance(arguments.get(name), str) or not arguments[name]:
                raise self._mistake(STREAMING, code)
        if not isinstance(content, str):
            raise self._mistake(STREAMING, "param.stream.contentEmpty")
        if full is not True:  # every template here shows the variable as Markdown
            raise self._mistake(STREAMING, "param.stream.isFull", "streaming update the parameter isFull is null")
        card = self._card(STREAMING, app, arguments, ("param.stream.outTrackId", "card is not exist"))
        if arguments["key"] != card.key:
            self.world.complain(f"{STREAMING}: {arguments['key']!r} is no variable of the card")
            raise Refused(500, "unknownError", "card streaming key invalid")
        if arguments["guid"] in card.guids:
            return {"success": True, "result": True}
        if len(content) > self.most_characters:
            raise self._mistake(STREAMING, "param.stream.content", "content is too large")
        if arguments.get("isFinalize") and not content.strip() and not arguments.get("isError"):
            self.world.complain(f"{STREAMING}: the card ends empty")
        card.guids.add(arguments["guid"])
        card.params[card.key] = content
        card.status = "failed" if arguments.get("isError") else "done" if arguments.get("isFinalize") else "inputing"
        card.say()
        return {"success": True, "result": True}

    async def _update(self, app: DingTalkApp, arguments: Arguments) -> dict[str, Any]:
        if not arguments.get("outTrackId"):
            raise self._mistake(UPDATE, "param.outTrackIdEmpty")
        card = self._card(UPDATE, app, arguments, ("param.cardNotExist", ""))
        if not arguments.get("cardData") and not arguments.get("privateData"):
            raise self._mistake(UPDATE, "param.cardDataAndPrivateDataBothEmpty")
        params = self._params(UPDATE, arguments.get("cardData"))
        options = arguments.get("cardUpdateOptions") or {}
        card.params = {**card.params, **params} if options.get("updateCardDataByKey") else dict(params)
        card.status = _STATES.get(params.get("flowStatus", ""), card.status)
        card.say()
        return {"success": True, "result": True}
