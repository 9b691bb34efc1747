"""Commands about the person who gives them."""

from __future__ import annotations

from core.commands.asked import Asked, Handlers
from core.texts import say


class PersonCommands:
    """`/whoami`."""

    def handlers(self) -> Handlers:
        """What is carried out here."""
        return {"whoami": self._whoami}

    async def _whoami(self, asked: Asked) -> str:
        message = asked.message
        return say(
            "whoami",
            asked.language,
            user=message.sender.id,
            account=message.account,
            conversation=asked.conversation,
        )
