"""Discord, through discord.py. See docs/platforms/discord.md."""

from adapters.discord.adapter import SPEC, DiscordAdapter
from adapters.discord.config import Config
from adapters.discord.interaction import InteractionReply
from adapters.discord.parse import parse_interaction, parse_message
from adapters.discord.reply import DiscordReply

__all__ = [
    "SPEC",
    "Config",
    "DiscordAdapter",
    "DiscordReply",
    "InteractionReply",
    "parse_interaction",
    "parse_message",
]
