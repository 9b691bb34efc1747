"""CardKit: cards that grow while they are shown.

https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/cardkit-v1/feishu-card-resource-overview,
https://open.feishu.cn/document/uAjLw4CM/ukzMukzMukzM/feishu-cards/streaming-updates-openapi-overview: ten operations a
second on one card, a sequence that rises over all of them, a streaming mode that ends by itself.
"""

from __future__ import annotations

import copy
import json
import time
from typing import Any

from tests.simulators.feishu_content import Refused, card_sources, card_text, check_card, elements, object_in
from tests.simulators.feishu_rest import Api, Call, text_of
from tests.simulators.feishu_state import FeishuCard, FeishuState

OPERATIONS_PER_SECOND = 10
_A_SECOND = 0.9


class FeishuCardKit:
    """Handlers for `FeishuApi.apis`."""

    def __init__(self, state: FeishuState) -> None:
        self.state = state

    def apis(self) -> list[Api]:
        one = "/cardkit/v1/cards/{card}"
        element = f"{one}/elements/{{element}}"
        return [
            Api("cardkit.v1.card.id_convert", "POST", "/cardkit/v1/cards/id_convert", "card", self._convert),
            Api("cardkit.v1.card.create", "POST", "/cardkit/v1/cards", "card", self._create),
            Api("cardkit.v1.card.update", "PUT", one, "card", self._update),
            Api("cardkit.v1.card.settings", "PATCH", f"{one}/settings", "card", self._settings),
            Api("cardkit.v1.card.batch_update", "POST", f"{one}/batch_update", "card", self._batch),
            Api("cardkit.v1.card_element.create", "POST", f"{one}/elements", "card", self._add),
            Api("cardkit.v1.card_element.update", "PUT", element, "card", self._replace),
            Api("cardkit.v1.card_element.patch", "PATCH", element, "card", self._partly),
            Api("cardkit.v1.card_element.delete", "DELETE", element, "card", self._remove),
            Api("cardkit.v1.card_element.content", "PUT", f"{element}/content", "card", self._content),
        ]

    async def _create(self, call: Call) -> dict[str, Any]:
        if text_of(call, "type", code=10002) != "card_json":
            raise Refused(10002, "only card_json is known here", mistake=True)
        data = self._json_card(text_of(call, "data", code=300307, most=3_000_000))
        card = FeishuCard(str(7_000_000_000_000_000_000 + self.state.number()), call.app, data)
        self._switch(card, bool(data.get("config", {}).get("streaming_mode")))
        self.state.cards[card.id] = card
        return {"card_id": card.id}

    async def _convert(self, call: Call) -> dict[str, Any]:
        """The card of a message that is not older than two weeks."""
        message = self.state.messages.get(text_of(call, "message_id", code=10002))
        if message is None or message.card is None or message.app is not call.app:
            raise Refused(10002, "no card of this app", mistake=True)
        self.state.cards.setdefault(message.card.id, message.card)
        return {"card_id": message.card.id}

    def _json_card(self, text: str) -> dict[str, Any]:
        data = object_in(text, 200220, "data")
        if data.get("schema") != "2.0":
            raise Refused(300303, "Only schema 2.0 is supported", mistake=True)
        check_card(data, list(self.state.files))
        return data

    def _switch(self, card: FeishuCard, on: bool) -> None:
        card.streaming, card.timed_out, card.began = on, False, time.monotonic()

    # One operation

    def _begin(self, call: Call) -> FeishuCard:
        """The card, if this operation on it is in its turn."""
        card = self.state.cards.get(call.path["card"])
        if card is None:
            raise Refused(200740, "The card entity does not exist", mistake=True)
        if card.app is not call.app:
            text = "The current application does not have permission to update/use this card"
            raise Refused(300311, text, mistake=True)
        now = time.monotonic()
        if sum(at > now - _A_SECOND for at in card.operations) >= OPERATIONS_PER_SECOND:
            self.state.complain(f"card {card.id}: more than {OPERATIONS_PER_SECOND} operations a second")
            raise Refused(
                99991400, "request trigger frequency limit", status=429, headers={"x-ogw-ratelimit-reset": "1"}
            )
        card.operations.append(now)
        uuid, sequence = call.body.get("uuid"), call.body.get("sequence")
        if uuid is not None and not (isinstance(uuid, str) and 1 <= len(uuid) <= 64):
            raise Refused(10002, "uuid has 1 to 64 characters", mistake=True)
        if not isinstance(sequence, int) or isinstance(sequence, bool) or not 1 <= sequence < 2**31:
            raise Refused(10002, "sequence is a positive int32", mistake=True)
        if uuid in card.uuids:
            raise Refused(200770, "UUID conflict")
        if sequence <= card.sequence:
            text = "The sequence number for operating on the card did not increment consecutively"
            raise Refused(300317, f"{text}: {sequence} after {card.sequence}", mistake=True)
        return card

    def _end(self, card: FeishuCard, call: Call, data: dict[str, Any]) -> dict[str, Any]:
        """What the operation made of the card is shown, if a card may be so."""
        check_card(data, list(self.state.files))
        card.sequence = call.body["sequence"]
        if call.body.get("uuid"):
            card.uuids.add(call.body["uuid"])
        card.data = data
        if card.message is not None:
            message = card.message
            if message.recalled:
                self.state.complain(f"card {card.id}: its message is recalled, so nobody sees what it shows")
            message.sent += card_sources(data)
            message.show(card_text(data))
            received = {"title": None, "elements": [[{"tag": "text", "text": card_text(data)}]]}
            message.content = json.dumps(received, ensure_ascii=False)
            message.updated = self.state.milliseconds()
        return {}

    # The whole card

    async def _update(self, call: Call) -> dict[str, Any]:
        card = self._begin(call)
        new = call.body.get("card")
        if not isinstance(new, dict) or new.get("type") != "card_json" or not isinstance(new.get("data"), str):
            raise Refused(10002, "card wants type card_json and data", mistake=True)
        data = self._json_card(new["data"])
        result = self._end(card, call, data)
        mode = data.get("config", {}).get("streaming_mode")
        if isinstance(mode, bool) and not self.state.settings_end_streaming:
            self._switch(card, mode)  # the documents do not say what a card means that does not name it
        return result

    async def _settings(self, call: Call) -> dict[str, Any]:
        card = self._begin(call)
        settings = object_in(text_of(call, "settings", code=10002, most=100_000), 300122, "settings")
        data = copy.deepcopy(card.data)
        mode = _set(data, settings)
        result = self._end(card, call, data)
        if mode is not None:
            self._switch(card, mode)
        return result

    async def _batch(self, call: Call) -> dict[str, Any]:
        card = self._begin(call)
        data = copy.deepcopy(card.data)
        mode: bool | None = None
        for action in json.loads(text_of(call, "actions", code=10002)):
            params = action.get("params") or {}
            match action.get("action"):
                case "partial_update_setting":
                    mode = _set(data, params["settings"])
                case "add_elements":
                    _insert(data, params.get("type"), params.get("target_element_id"), params["elements"])
                case "delete_elements":
                    for id in params["element_ids"]:
                        _drop(data, id)
                case "partial_update_element":
                    _find(data, params["element_id"]).update(params["partial_element"])
                case "update_element":
                    found = _find(data, params["element_id"])
                    found.clear()
                    found.update(params["element"])
                case other:
                    raise Refused(10002, f"no action {other}", mistake=True)
        result = self._end(card, call, data)
        if mode is not None:
            self._switch(card, mode)
        return result

    # Its elements

    async def _add(self, call: Call) -> dict[str, Any]:
        card = self._begin(call)
        data = copy.deepcopy(card.data)
        new = json.loads(text_of(call, "elements", code=300315))
        _insert(data, call.body.get("type"), call.body.get("target_element_id"), new)
        return self._end(card, call, data)

    async def _replace(self, call: Call) -> dict[str, Any]:
        card = self._begin(call)
        data = copy.deepcopy(card.data)
        found = _find(data, call.path["element"])
        found.clear()
        found.update(object_in(text_of(call, "element", code=300313), 300313, "element"))
        return self._end(card, call, data)

    async def _partly(self, call: Call) -> dict[str, Any]:
        card = self._begin(call)
        data = copy.deepcopy(card.data)
        change = object_in(text_of(call, "partial_element", code=300313), 300313, "partial_element")
        if "tag" in change:
            raise Refused(300312, "Unable to update element tag", mistake=True)
        _find(data, call.path["element"]).update(change)
        return self._end(card, call, data)

    async def _remove(self, call: Call) -> dict[str, Any]:
        card = self._begin(call)
        data = copy.deepcopy(card.data)
        _drop(data, call.path["element"])
        return self._end(card, call, data)

    async def _content(self, call: Call) -> dict[str, Any]:
        """The whole text of an element; only while the streaming mode is on."""
        card = self._begin(call)
        content = text_of(call, "content", code=10002, most=100_000)
        if not self.state.is_streaming(card):
            if card.timed_out:
                card.timed_out = False
                raise Refused(200850, "Card streaming timeout")
            raise Refused(300309, "Card streaming closed")
        data = copy.deepcopy(card.data)
        found = _find(data, call.path["element"])
        if found.get("tag") not in ("markdown", "plain_text"):
            raise Refused(300310, "Only update text", mistake=True)
        found["content"] = content
        return self._end(card, call, data)


def _set(data: dict[str, Any], settings: dict[str, Any]) -> bool | None:
    """Merge settings; returns the streaming mode if they name it."""
    config = settings.get("config") or {}
    if set(settings) - {"config", "card_link"} or not isinstance(config, dict):
        raise Refused(300122, "Failed to update card configuration", mistake=True)
    data["config"] = {**data.get("config", {}), **config}
    mode = config.get("streaming_mode")
    return mode if isinstance(mode, bool) else None


def _find(data: dict[str, Any], id: str) -> dict[str, Any]:
    for element in elements(data):
        if element.get("element_id") == id:
            return element
    raise Refused(300313, f"Failed to update element properties, ErrMsg: no element {id}", mistake=True)


def _siblings(value: Any, id: str) -> tuple[list[Any], int] | None:
    """The list that holds an element, and its place there."""
    if isinstance(value, list):
        for index, each in enumerate(value):
            if isinstance(each, dict) and each.get("element_id") == id:
                return value, index
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next(filter(None, (_siblings(each, id) for each in inner)), None)


def _drop(data: dict[str, Any], id: str) -> None:
    place = _siblings(data, id)
    if place is None:
        raise Refused(300314, "Failed to delete element", mistake=True)
    del place[0][place[1]]


def _insert(data: dict[str, Any], where: str | None, target: str | None, new: list[Any]) -> None:
    place = _siblings(data, target) if target else None
    if where in ("insert_before", "insert_after") and place is not None:
        at = place[1] + (where == "insert_after")
        place[0][at:at] = new
    elif where == "append" and not target:
        data["body"]["elements"] += new
    else:
        raise Refused(300315, "Failed to add element", mistake=True)
