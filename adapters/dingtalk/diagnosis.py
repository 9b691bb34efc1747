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
from adapters.dingtalk.link import AGENT, SUBSCRIPTIONS
from core.errors import ConnectionLost, DeliveryError, TargetGone

_NO_FILE = "invalidParameter.robotCode.downloadCode"
_ROBOT = "invalidParameter.robotCode"


async def diagnose(api: DingTalkApi, config: Config) -> Sequence[str]:
    """One sentence for each thing that is missing. Raises ConnectionLost."""
    findings = []
    try:
        await api.ticket(SUBSCRIPTIONS, AGENT)  # a ticket that nobody uses ends by itself
    except DingTalkError as error:
        findings.append(
            f"DingTalk opens no stream for the app ({error.code}); add the robot to the app, "
            "with Stream mode for its messages, and publish a version"
        )
    except DeliveryError as error:
        raise ConnectionLost(str(error)) from error
    nothing = f"check-{secrets.token_hex(8)}"
    file = {"downloadCode": nothing, "robotCode": config.robot}
    refusal = await _refusal(api, "POST", "/v1.0/robot/messageFiles/download", file)
    if isinstance(refusal, ScopeMissing):
        findings.append(_lacks(refusal, "qyapi_robot_sendmsg", "only the webhook of a question can be answered by"))
    elif refusal is not None and refusal.code.startswith(_ROBOT) and refusal.code != _NO_FILE:
        findings.append(f"robot_code: DingTalk knows no robot {config.robot!r} of this app; leave it empty")
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
        if isinstance(refusal, ScopeMissing):
            found.append(_lacks(refusal, scope, "answers are Markdown messages, not AI cards"))
    return found


async def _refusal(api: DingTalkApi, method: str, path: str, body: Mapping[str, Any]) -> DingTalkError | None:
    """What DingTalk says to a call about something that does not exist; None where that is all it says."""
    try:
        await api.call(method, path, body)
    except DingTalkError as error:
        return error
    except TargetGone:
        return None
    except DeliveryError as error:
        raise ConnectionLost(str(error)) from error
    return None


def _lacks(error: ScopeMissing, scope: str, without: str) -> str:
    scopes = " and ".join(error.scopes) or scope
    return (
        f"the app lacks the scope {scopes}: {without}; add it in the developer console under Permissions, "
        "and publish a version"
    )
