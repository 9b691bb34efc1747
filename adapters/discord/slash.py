"""The slash commands that the bot offers, registered when they changed: Discord allows 200 creations a day.

https://docs.discord.com/developers/interactions/application-commands
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from adapters.discord.parse import COMMANDS
from adapters.discord.rest import Rest
from core.texts import say

_OFFERED = ("new", "stop", "retry", "status", "model", "help")
"""Those of core.commands that are worth a place in the menu; all can be typed as text."""

_COMMANDS = "/applications/{application_id}/commands"
_TEXT = 3
"""The type of an option that is a text."""


def offered() -> list[dict[str, Any]]:
    """The commands as Discord takes them: for servers that installed the bot, and for direct messages with it."""
    chat = {
        "name": "chat",
        "description": "Ask me something",
        "description_localizations": {"zh-CN": "向我提问"},
        "options": [_option("chat", "your question", "您的问题", required=True)],
    }
    return [_everywhere(chat), *(_everywhere(_command(name)) for name in _OFFERED)]


def changed(known: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those of ours that Discord does not know, or knows otherwise. Commands of others are left alone."""
    by_name = {command.get("name"): command for command in known if command.get("type", 1) == 1}
    return [command for command in offered() if not _same(command, by_name.get(command["name"], {}))]


async def register(rest: Rest) -> int:
    """Make what is offered known; returns how many commands had changed. Raises DeliveryError."""
    application = rest.application
    known = await rest.call("GET", _COMMANDS, params={"with_localizations": "true"}, application_id=application)
    stale = changed(known if isinstance(known, list) else [])
    for command in stale:  # creating one by the name of an old one replaces it
        await rest.call("POST", _COMMANDS, body=command, application_id=application)
    return len(stale)


def _command(name: str) -> dict[str, Any]:
    command: dict[str, Any] = {
        "name": name,
        "description": say(f"help_{name}", "en").capitalize(),
        "description_localizations": {"zh-CN": say(f"help_{name}", "zh")},
    }
    if name in COMMANDS:
        command["options"] = [_option(name, "which one", "哪一个", required=False)]
    return command


def _option(command: str, english: str, chinese: str, *, required: bool) -> dict[str, Any]:
    return {
        "type": _TEXT,
        "name": COMMANDS[command],
        "description": english,
        "description_localizations": {"zh-CN": chinese},
        "required": required,
    }


def _everywhere(command: dict[str, Any]) -> dict[str, Any]:
    return {**command, "type": 1, "integration_types": [0], "contexts": [0, 1]}


def _same(ours: Any, theirs: Any) -> bool:
    """Whether all that we say is so; Discord adds ids, versions and defaults, and leaves out what is false."""
    if isinstance(ours, dict):
        return isinstance(theirs, Mapping) and all(_same(value, theirs.get(name)) for name, value in ours.items())
    if isinstance(ours, list):
        return isinstance(theirs, list) and len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return bool(ours == theirs or (ours is False and theirs is None))
