"""What a bot lacks, told before somebody wonders why it is silent."""

from __future__ import annotations

from collections.abc import Sequence

import discord

from adapters.discord.config import Config
from adapters.discord.link import Link
from adapters.discord.rest import Rest
from core.errors import ConnectionLost, DeliveryError

NEEDED = discord.Permissions(
    view_channel=True,
    send_messages=True,
    send_messages_in_threads=True,
    read_message_history=True,
    attach_files=True,
)
"""What the bot needs on a server."""

_TO_OPEN_THREADS = discord.Permissions(create_public_threads=True)


def needed(config: Config) -> discord.Permissions:
    """The permissions that this account needs."""
    return NEEDED | _TO_OPEN_THREADS if config.threads else NEEDED


def invite_link(application: str, config: Config) -> str:
    """Where somebody who may manage a server adds the bot to it."""
    return (
        f"https://discord.com/oauth2/authorize?client_id={application}"
        f"&scope=bot+applications.commands&permissions={needed(config).value}"
    )


def lacks_message_content(link: Link) -> bool:
    """Whether the developer portal does not allow the Message Content Intent."""
    flags = link.application_flags
    return not (flags.gateway_message_content or flags.gateway_message_content_limited)


async def diagnose(link: Link, rest: Rest, config: Config) -> Sequence[str]:
    """One sentence for each thing that is missing. Raises ConnectionLost."""
    invite = invite_link(rest.application, config)
    found = []
    app = link.application
    if app is not None and app.interactions_endpoint_url and config.commands:
        found.append(
            "the application has an Interactions Endpoint URL, so slash commands never reach the gateway: "
            "empty it in the developer portal (General Information), or set commands: false"
        )
    if app is not None and app.bot_require_code_grant:
        found.append("the bot requires a code grant, so its invite link fails: switch it off in the portal (Bot)")
    try:
        guilds = await rest.objects("/users/@me/guilds", params={"limit": 200})
    except DeliveryError as error:
        raise ConnectionLost(str(error)) from error
    if not guilds:
        found.append(f"the bot is on no server yet; invite it with {invite}")
    for guild in guilds:
        has = discord.Permissions(int(guild.get("permissions", 0)))
        missing = (
            [] if has.administrator else [name for name, wanted in needed(config) if wanted and not getattr(has, name)]
        )
        if missing:
            words = ", ".join(name.replace("_", " ") for name in missing)
            found.append(f"on the server {guild.get('name')!r} the bot may not: {words}; invite it anew with {invite}")
    return found
