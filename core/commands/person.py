"""Commands about the person who gives them."""

from __future__ import annotations

from collections.abc import Callable

from core.access import Standing
from core.account import AccountConfig
from core.commands.asked import Asked, Handlers
from core.commands.linking import identities
from core.links import Links
from core.messages import AccountId, Person
from core.people import People
from core.texts import say


class PersonCommands:
    """`/whoami`."""

    def __init__(self, links: Links, people: People, *, account: Callable[[AccountId], AccountConfig]) -> None:
        self._links = links
        self._people = people
        self._account = account

    def handlers(self) -> Handlers:
        """What is carried out here."""
        return {"whoami": self._whoami}

    async def _whoami(self, asked: Asked) -> str:
        message, language = asked.message, asked.language
        linked = self._links.others(asked.person)
        here = [] if message.is_direct else [say("whoami_channel", language, channel=message.channel)]
        if linked and not message.is_direct:  # who somebody is elsewhere is nothing for others to read
            return " ".join([say("whoami_here", language, user=message.sender.id, account=message.account), *here])
        sentences = [
            say("whoami", language, user=message.sender.id, account=message.account, conversation=asked.conversation),
            *here,
        ]
        if reason := self._reason(asked.person):
            sentences.append(say(reason, language))
        if linked:
            sentences.append(say("whoami_linked", language, others=identities(self._links, asked.person, language)))
        return " ".join(sentences)

    def _reason(self, person: Person) -> str:
        """Why somebody may talk, where not everybody may: the text's name."""
        match self._people.standing(person):
            case Standing.ADMIN:
                return "whoami_admin"
            case Standing.ALLOWED:
                return "whoami_allowed"
            case _:
                return "whoami_listed" if person.user in self._account(person.account).access.allow else ""
