"""What an account lacks, told before somebody wonders why the bot is silent.

DingTalk has no call that lists an app's scopes: each is tried with a call that can change nothing, since the file or card
that it names does not exist. Whether robot messages are set to stream mode, and whether the app is published, cannot be
asked.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.dingtalk.api import DingTalkApi
from adapters.dingtalk.config import Config
from adapters.dingtalk.failures import DingTalkError, ScopeMissing
from adapters.dingtalk.link import AGENT, SUBSCRIPTIONS, no_stream
from core.errors import ConnectionLost, DeliveryError, TargetGone

_NO_FILE = "invalidParameter.robotCode.downloadCode"
_ROBOT = "invalidParameter.robotCode"


async def diagnose(api: DingTalkApi, config: Config) -> Sequence[str]:
    """One sentence for each thing that is missing. Raises ConnectionLost."""
    findings = []
    try:
        await api.ticket(SUBSCRIPTIONS, AGENT)  # a ticket that nobody uses ends by itself
    except DingTalkError as error:
        findings.append(no_stream(error))
    except DeliveryError as error:
        raise ConnectionLost(str(error)) from error
    nothing = f"check-{secrets.token_hex(8)}"
    file = {"downloadCode": nothing, "robotCode": config.robot}
    refusal = await _refusal(api, "POST", "/v1.0/robot/messageFiles/download", file)
    if isinstance(refusal, DingTalkError) and refusal.code.startswith(_ROBOT) and refusal.code != _NO_FILE:
        findings.append(f"robot_code: DingTalk knows no robot {config.robot!r} of this app; leave it empty")
    else:
        findings += _lacks(refusal, "qyapi_robot_sendmsg", "only the webhook of a question can be answered by")
    if config.template is not None:
        findings += await _card_findings(api, config.template.variable, nothing)
    return findings


async def _card_findings(api: DingTalkApi, variable: str, nothing: str) -> list[str]:
    update = {"outTrackId": nothing, "cardData": {"cardParamMap": {variable: ""}}}
    frame = {"outTrackId": nothing, "guid": nothing, "key": variable, "content": " ", "isFull": True}
    calls: tuple[tuple[str, Mapping[str, Any], str], ...] = (
        ("/v1.0/card/instances", update, "Card.Instance.Write"),
        ("/v1.0/card/streaming", frame, "Card.Streaming.Write"),
    )
    found = []
    for path, body, scope in calls:
        refusal = await _refusal(api, "PUT", path, body)
        found += _lacks(refusal, scope, "answers are Markdown messages, not AI cards")
    return found


async def _refusal(api: DingTalkApi, method: str, path: str, body: Mapping[str, Any]) -> DeliveryError | None:
    """What DingTalk says to a call about something that does not exist; None where that is all it says."""
    try:
        await api.call(method, path, body)
    except TargetGone:
        return None
    except DeliveryError as error:
        return error
    return None


def _lacks(refusal: DeliveryError | None, scope: str, without: str) -> list[str]:
    """Whether the app has `scope`, by how a call that needs it was refused."""
    match refusal:
        case ScopeMissing():
            scopes = " and ".join(refusal.scopes) or scope
            way_out = "add it in the developer console under Permissions, and publish a version"
            return [f"the app lacks the scope {scopes}: {without}; {way_out}"]
        case None | DingTalkError():
            return []
    return [f"whether the app has the scope {scope} could not be seen ({refusal}); try again later"]
