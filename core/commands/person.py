"""Commands about the person who gives them."""

from __future__ import annotations

from core.commands.asked import Asked, Handlers
from core.commands.linking import identities
from core.links import Links
from core.texts import say


class PersonCommands:
    """`/whoami`."""

    def __init__(self, links: Links) -> None:
        self._links = links

    def handlers(self) -> Handlers:
        """What is carried out here."""
        return {"whoami": self._whoami}

    async def _whoami(self, asked: Asked) -> str:
        message, language = asked.message, asked.language
        linked = self._links.others(asked.person)
        if linked and not message.is_direct:  # who somebody is elsewhere is nothing for others to read
            return say("whoami_here", language, user=message.sender.id, account=message.account)
        text = say("whoami", language, user=message.sender.id, account=message.account, conversation=asked.conversation)
        if linked:
            text += " " + say("whoami_linked", language, others=identities(self._links, asked.person, language))
        return text
