"""Chat commands, typed as text on every platform: what they are called and what they do."""

from core.commands.asked import Running
from core.commands.commands import Commands
from core.commands.names import Command, parse_command

__all__ = ["Command", "Commands", "Running", "parse_command"]
