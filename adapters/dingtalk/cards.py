"""AI cards: made once for each part of an answer, streamed into, ended.

https://open.dingtalk.com/document/development/create-and-deliver-cards,
https://open.dingtalk.com/document/development/api-streamingupdate,
https://open.dingtalk.com/document/development/ai-card-template (states: in process, typing, done, failed).

A card is named by us (`outTrackId`): a second one with the same name is the first one, so that whoever makes a card for
the same part of the same answer, also after a crash, finds it. Its name is the part's idempotency key.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import structlog

from adapters.dingtalk.address import Address
from adapters.dingtalk.api import DingTalkApi
from adapters.dingtalk.config import Template
from adapters.dingtalk.failures import DingTalkError, ScopeMissing
from core.clock import Clock
from core.errors import DeliveryError, DeliveryUncertain, TargetGone
from core.latest import Latest

log = structlog.get_logger(__name__)

UPDATES_PER_SECOND = 10.0
"""Of all growing cards together. An app may call each API 20 times a second in the standard edition
(https://open.dingtalk.com/document/development/how-to-process-api-throttling-on-the-dingtalk-server)."""

_INTERVAL = 0.7
"""Seconds. Each update is a call, and a company's calls are counted by the month."""
_LEFT_OVER = "—"
_REMEMBERED = 5_000
_TRY_AGAIN = 600.0
"""Seconds for which cards are left alone after DingTalk refused one for a reason that only a person can remove."""
_END = 5.0
"""Seconds for ending a card in whose place a message was shown: whoever showed it waits."""
_INSTANCES = "/v1.0/card/instances"
_STREAMING = "/v1.0/card/streaming"
_FAILED = "5"
_EXISTS = "param.cardAlreadyExist"
_SETTINGS = {
    "param.templateNotExist": "card_template names no template that this app may use",
    "param.templateUnpublished": "the template that card_template names is not published; publish it on the card platform",
    "param.cardTemplateIdEmpty": "card_template names no template",
    "key invalid": "the template has no Markdown variable of the name card_key",
}
"""Refusals that a person can remove, by changing the configuration or the template."""


class NoCard(DeliveryError):
    """There is no card for this; a Markdown message goes."""


class Cards:
    """The cards of one account. Lives as long as its adapter, across sign-ins. Text is in DingTalk's dialect."""

    def __init__(self, api: DingTalkApi, clock: Clock, *, template: Template | None, robot: str) -> None:
        """`template` is None where no cards are wanted. `robot`: its code, for questions that do not tell it."""
        self.clock = clock
        self.growing = 0
        """Answers that are being streamed."""
        self._api = api
        self._template = template
        self._robot = robot
        self._off_until = 0.0
        self._known: Latest[str, bool] = Latest(_REMEMBERED)
        """Cards that this process made, or may have made, and whether it has left them over."""

    def usable(self, address: Address) -> bool:
        """Whether there can be a card: in groups, and for people whose id in the company is known."""
        on = self._template is not None and self.clock.monotonic() >= self._off_until
        return on and (not address.direct or bool(address.staff))

    @property
    def interval(self) -> float:
        """Seconds between two updates of one card."""
        return max(_INTERVAL, self.growing / UPDATES_PER_SECOND)

    async def make(self, address: Address, card: str) -> None:
        """Put up a card that is still empty; nothing happens if it is there. Raises NoCard, and what the API raises."""
        template = self._template
        if template is None:
            raise NoCard("no card template is configured any more")
        space = f"IM_ROBOT.{address.staff}" if address.direct else f"IM_GROUP.{address.conversation}"
        robot = address.robot or self._robot
        body: dict[str, Any] = {
            "cardTemplateId": template.id,
            "outTrackId": card,
            "callbackType": "STREAM",
            "cardData": {"cardParamMap": {template.variable: "", **template.settings}},
            "userIdType": 1,
            "openSpaceId": f"dtv1.card//{space}",
            "imGroupOpenSpaceModel": {"supportForward": True},
            "imRobotOpenSpaceModel": {"supportForward": True},
        }
        if address.direct:
            body["imRobotOpenDeliverModel"] = {"spaceType": "IM_ROBOT", "robotCode": robot}
        else:
            body["imGroupOpenDeliverModel"] = {"robotCode": robot}
        try:
            data = await self._api.call("POST", f"{_INSTANCES}/createAndDeliver", body)
        except DingTalkError as error:
            if error.code == _EXISTS:
                self._known[card] = False
                return
            self._explain(error)
            raise NoCard(str(error)) from None
        except DeliveryUncertain:
            self._known[card] = False
            raise
        result = data.get("result")
        deliveries = result.get("deliverResults") if isinstance(result, dict) else None
        if data.get("success") is False or not all(
            not isinstance(each, dict) or each.get("success") is not False
            for each in (deliveries if isinstance(deliveries, list) else ())
        ):
            raise NoCard("createAndDeliver: the card was not delivered")
        self._known[card] = False

    async def write(self, card: str, text: str, *, last: bool) -> None:
        """Let `text` be all that the card says. `last`: it is done, and no longer shown as being written.

        Raises what the API raises; NoCard where the card cannot say it.
        """
        if self._template is None:
            raise TargetGone("no card template is configured any more")
        body = {
            "outTrackId": card,
            "guid": secrets.token_hex(16),  # the same text may have to be written twice
            "key": self._template.variable,
            "content": text,
            "isFull": True,  # Markdown is only taken whole
            "isFinalize": last,
            "isError": False,
        }
        try:
            await self._api.call("PUT", _STREAMING, body)
        except DingTalkError as error:
            self._explain(error)
            raise NoCard(str(error)) from None

    async def leave_over(self, first: str, others: Sequence[str]) -> None:
        """End the later cards of an attempt at an answer that was broken off, once: cards cannot be taken back."""
        ours = first in self._known
        for card in others:
            if self._known.get(card) or (ours and card not in self._known):
                continue  # done before, or announced and never made
            try:
                await self.write(card, _LEFT_OVER, last=True)
            except TargetGone:
                return  # an earlier process announced it and never made it
            except NoCard as error:
                log.info("a card that is left over could not be ended", error=str(error))
            self._known[card] = True

    def may_be(self, card: str) -> bool:
        """Whether this process has made the card, as far as it knows."""
        return card in self._known

    async def fail(self, card: str) -> None:
        """End a card that cannot say its text, so that it does not look as if it were still being written."""
        params = {"flowStatus": _FAILED}
        options = {"updateCardDataByKey": True}
        body = {"outTrackId": card, "cardData": {"cardParamMap": params}, "cardUpdateOptions": options}
        try:
            async with asyncio.timeout(_END):
                await self._api.call("PUT", _INSTANCES, body)
        except TargetGone:
            pass
        except (DeliveryError, TimeoutError) as error:
            log.info("a card that failed could not be ended", error=str(error))
            return
        self._known.pop(card, None)

    def _explain(self, error: DingTalkError) -> None:
        """Leave cards alone for a while where only a person can help, and say how."""
        if isinstance(error, ScopeMissing):
            scopes = " and ".join(error.scopes) or "Card.Instance.Write and Card.Streaming.Write"
            reason = f"the app lacks {scopes}; add it under Permissions in the developer console, and publish the app"
        elif error.code.endswith("ApiCountLimitForOrg"):
            reason = "the company has used up its calls of this month; its administrator can buy more"
        elif error.code in _SETTINGS:
            reason = _SETTINGS[error.code]
        else:
            return
        if self.clock.monotonic() >= self._off_until:
            log.error("no AI cards; answers are Markdown messages", reason=reason)
        self._off_until = self.clock.monotonic() + _TRY_AGAIN
