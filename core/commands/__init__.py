"""Chat commands, typed as text on every platform: what they are called and what they do."""

from core.commands.asked import Running
from core.commands.commands import Commands
from core.commands.names import (
    FOR_ADMINS,
    PRIVATE,
    Command,
    is_about_somebody,
    parse_command,
    with_person,
    without_code,
)

__all__ = [
    "FOR_ADMINS",
    "PRIVATE",
    "Command",
    "Commands",
    "Running",
    "is_about_somebody",
    "parse_command",
    "with_person",
    "without_code",
]
