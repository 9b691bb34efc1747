"""What an app lacks, told before somebody wonders why its bot is silent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.feishu.api import FeishuApi
from adapters.feishu.bot import MISSING
from adapters.feishu.config import Config
from adapters.feishu.endpoint import find_endpoint
from adapters.feishu.errors import FeishuError
from adapters.feishu.parse import RECEIVED
from core.errors import AuthenticationError, ConnectionLost, DeliveryError
from core.untrusted import items_in, part_in, text_in

SCOPES: Mapping[str, tuple[Sequence[str], str]] = {
    "im:message:send_as_bot": (("im:message", "im:message:send"), "nothing can be answered"),
    "im:message.p2p_msg:readonly": (("im:message.p2p_msg",), "direct messages are not delivered"),
    "im:message.group_at_msg:readonly": (
        (
            "im:message.group_at_msg",
            "im:message.group_at_msg.include_bot:readonly",
            "im:message.group_msg",
            "im:message.group_msg:readonly",
        ),
        "mentions in groups are not delivered",
    ),
    "im:message:readonly": (
        ("im:message",),
        "quoted messages and files cannot be fetched, nor is what was missed read back",
    ),
    "cardkit:card:write": ((), "answers grow by edits of their card, more slowly"),
    "im:message.reactions:write_only": (("im:message",), "there is no sign that an answer is being written"),
    "im:resource": (("im:resource:upload",), "/export comes as text instead of a file"),
    "im:chat:read": (
        ("im:chat", "im:chat:readonly", "im:chat.group_info:readonly"),
        "missed questions are looked for only where the bot was spoken to lately",
    ),
}
"""Each permission of docs/platforms/feishu.md with others that include it, and what happens without any of them."""

_EVERYTHING = "im:message.group_msg"
_SELF = "application:application:self_manage"
_PUBLISH = "then create a version and publish it"
_GRANT = f"add it under Permissions & Scopes, {_PUBLISH}"

_STATES = {
    0: "the app is not installed in the organisation yet",
    1: "the organisation has switched the app off",
    3: "the app is installed and waits to be switched on",
    4: "a new version of the app waits to be switched on",
    5: "the app's licence has run out",
    6: "the organisation's plan no longer covers the app",
}
"""`activate_status` in words: https://open.feishu.cn/document/ukTMukTMukTM/uAjMxEjLwITMx4CMyETM"""


async def diagnose(api: FeishuApi, config: Config, bot: Mapping[str, Any]) -> Sequence[str]:
    """One sentence for each thing that is missing, or cannot be seen; `bot` is what `bot/v3/info` told."""
    found = [] if text_in(bot, "open_id") else [MISSING]
    if (state := _STATES.get(bot.get("activate_status", 2))) is not None:
        found.append(f"{state}: its administrator can change that in Feishu's admin console, under Workplace")
    found += await _scopes(api, config)
    found += await _version(api)
    if config.mode == "websocket":
        try:
            await find_endpoint(api, config)
        except (AuthenticationError, ConnectionLost) as error:
            found.append(str(error))
    return found


async def _scopes(api: FeishuApi, config: Config) -> list[str]:
    """https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/application-v6/scope/list"""
    try:
        answer = await api.call("GET", "/open-apis/application/v6/scopes")
    except DeliveryError as error:
        return [f"Feishu does not tell which permissions the app has ({_reason(error)}); see docs/platforms/feishu.md"]
    granted = {
        text_in(scope, "scope_name")
        for scope in items_in(answer.get("data"), "scopes")
        if scope.get("grant_status") == 1
    }
    wanted = dict(SCOPES)
    if config.access.listens_somewhere:
        wanted[_EVERYTHING] = ((f"{_EVERYTHING}:readonly",), "messages that do not mention the bot are not delivered")
    return [
        f"the app lacks the permission {scope}: {without}; {_GRANT}"
        for scope, (others, without) in wanted.items()
        if granted.isdisjoint((scope, *others))
    ]


async def _version(api: FeishuApi) -> list[str]:
    """Whether a version is published, and which events it subscribes to:
    https://open.feishu.cn/document/uAjLw4CM/ukTMukTMukTM/application-v6/application/get and application-app_version/get
    """
    path, lang = "/open-apis/application/v6/applications/me", {"lang": "en_us"}
    try:
        app = part_in((await api.call("GET", path, params=lang)).get("data"), "app")
        version = text_in(app, "online_version_id")
        if not version:
            return [
                "no version of the app is published: nothing that was set up holds before; create one and publish it"
            ]
        answer = await api.call("GET", f"{path}/app_versions/{version}", params=lang)
    except DeliveryError as error:
        unseen = f"whether {RECEIVED} is subscribed to and published cannot be seen ({_reason(error)})"
        return [f"{unseen}; look under Events & Callbacks, or let this check see it: the permission {_SELF}; {_GRANT}"]
    published = part_in(answer.get("data"), "app_version")
    events = {text_in(event, "event_type") for event in items_in(published, "event_infos")}
    names = published.get("events")
    if RECEIVED in events or (isinstance(names, list) and RECEIVED in names):
        return []
    return [f"the published version does not subscribe to {RECEIVED}: add it under Events & Callbacks, {_PUBLISH}"]


def _reason(error: DeliveryError) -> str:
    return str(error.code) if isinstance(error, FeishuError) else str(error)
