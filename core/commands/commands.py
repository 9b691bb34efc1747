"""From a command to its handler: who may give it, and what the answer is."""

from __future__ import annotations

from collections.abc import Callable

from core.adapter import ReplyChannel
from core.commands.asked import Asked, Handlers, Running
from core.commands.names import FOR_ADMINS, NAMES, parse_command
from core.journal import Outcome, Turn, TurnState
from core.messages import InboundMessage
from core.texts import Language, language_of, say


class Commands:
    """Carries out the commands that bypass the queue. What each does stands in the groups of handlers."""

    def __init__(self, *groups: Handlers, is_admin: Callable[[InboundMessage], bool]) -> None:
        self._handlers = {name: handler for group in groups for name, handler in group.items()}
        self._is_admin = is_admin

    async def run(self, turn: Turn, reply: ReplyChannel, running: Running) -> Outcome:
        """Do what the turn's message asks for; the outcome has the answer."""
        command, language = parse_command(turn.last.text), language_of(turn.last)
        admin = self._is_admin(turn.last)
        handler = self._handlers.get(command.name) if command else None
        if command is None or handler is None:
            text = self._help(language, admin=admin)
        elif command.name in FOR_ADMINS and not admin:
            text = say("admins_only", language)
        else:
            asked = Asked(turn=turn, argument=command.argument, language=language, reply=reply, running=running)
            text = await handler(asked)
        return Outcome(state=TurnState.COMMAND, parts=(text,))

    def _help(self, language: Language, *, admin: bool) -> str:
        lines = [say("help_title", language), ""]
        for name, words in NAMES.items():
            if name in FOR_ADMINS and not admin:
                continue
            word = next(word for word in words if word.isascii() == (language == "en"))
            lines.append(f"- `{word}` {say(f'help_{name}', language)}")
        return "\n".join(lines)
