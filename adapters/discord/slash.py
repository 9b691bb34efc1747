"""The slash commands that the bot offers, registered when they changed: Discord allows 200 creations a day.

https://docs.discord.com/developers/interactions/application-commands
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from adapters.discord.parse import OPTIONS
from adapters.discord.rest import Rest
from core.commands import FOR_ADMINS
from core.texts import say

_OFFERED = (
    "new",
    "stop",
    "retry",
    "status",
    "model",
    "persona",
    "usage",
    "whoami",
    "link",
    "unlink",
    "export",
    "forget",
    "help",
    *sorted(FOR_ADMINS),
)
"""Those of core.commands that are worth a place in the menu; all can be typed as text."""

_COMMANDS = "/applications/{application_id}/commands"
_TEXT, _USER = 3, 6
"""Types of options: a text, or a person who is picked and comes as their id."""

_OPTIONS: Mapping[str, tuple[int, str, str, bool]] = {
    "chat.text": (_TEXT, "your question", "您的问题", True),
    "model.name": (_TEXT, "which one", "哪一个", False),
    "persona.name": (_TEXT, "which one", "哪一个", False),
    "link.code": (_TEXT, "the code from your other platform, or yes or no", "另一平台给出的代码，或 yes / no", False),
    "forget.confirm": (_TEXT, "yes, to delete it for good", "输入 yes 表示永久删除", False),
    "approve.code": (_TEXT, "the code that somebody was told", "对方收到的配对码", True),
    "allow.person": (_USER, "who", "谁", True),
    "block.person": (_USER, "who", "谁", True),
    "budget.person": (_USER, "who", "谁", True),
    "budget.limits": (
        _TEXT,
        "such as tokens=50000 messages=100, or default",
        "如 tokens=50000 messages=100，或 default",
        False,
    ),
}
"""By command and option: its type, what it is for in English and Chinese, and whether it must be given."""


def offered() -> list[dict[str, Any]]:
    """The commands as Discord takes them: for servers that installed the bot, and for direct messages with it."""
    return [_command("chat", "Ask me something", "向我提问"), *(_known(name) for name in _OFFERED)]


def changed(known: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those of ours that Discord does not know, or knows otherwise. Commands of others are left alone."""
    by_name = {command.get("name"): command for command in known if command.get("type", 1) == 1}
    return [command for command in offered() if not _same(command, by_name.get(command["name"], {}))]


async def register(rest: Rest) -> int:
    """Make what is offered known; returns how many commands had changed. Raises DeliveryError."""
    application = rest.application
    known = await rest.objects(_COMMANDS, params={"with_localizations": "true"}, application_id=application)
    stale = changed(known)
    for command in stale:  # creating one by the name of an old one replaces it
        await rest.call("POST", _COMMANDS, body=command, application_id=application)
    return len(stale)


def _known(name: str) -> dict[str, Any]:
    """In servers, only those who manage them see what is for admins, until they show it to others; whoever gives such a
    command is checked as always."""
    command = _command(name, say(f"help_{name}", "en").capitalize(), say(f"help_{name}", "zh"))
    return {**command, "default_member_permissions": "0"} if name in FOR_ADMINS else command


def _command(name: str, english: str, chinese: str) -> dict[str, Any]:
    command: dict[str, Any] = {
        "name": name,
        "description": english,
        "description_localizations": {"zh-CN": chinese},
        "type": 1,
        "integration_types": [0],
        "contexts": [0, 1],
    }
    if name in OPTIONS:
        command["options"] = [_option(name, option) for option in OPTIONS[name]]
    return command


def _option(command: str, name: str) -> dict[str, Any]:
    kind, english, chinese, required = _OPTIONS[f"{command}.{name}"]
    return {
        "type": kind,
        "name": name,
        "description": english,
        "description_localizations": {"zh-CN": chinese},
        "required": required,
    }


def _same(ours: Any, theirs: Any) -> bool:
    """Whether all that we say is so; Discord adds ids, versions and defaults, and leaves out what is false."""
    if isinstance(ours, dict):
        return isinstance(theirs, Mapping) and all(_same(value, theirs.get(name)) for name, value in ours.items())
    if isinstance(ours, list):
        return isinstance(theirs, list) and len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return bool(ours == theirs or (ours is False and theirs is None))
