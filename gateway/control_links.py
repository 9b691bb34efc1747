"""What the command line does with links between a person's identities."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from core.archive import Link
from core.links import Links
from core.messages import AccountId, Person, UserId
from gateway.control import Refused, of_account


class LinkControl:
    """Further commands of a Control. Nobody can be linked from here: only the two sides can agree to that."""

    def __init__(self, links: Links, accounts: Callable[[], Collection[str]]) -> None:
        """`accounts`: the names in the configuration."""
        self._links = links
        self._accounts = accounts

    def commands(self) -> Mapping[str, Callable[..., Awaitable[Any]]]:
        """By name, as gateway.control carries them out."""
        return {"links.list": self.links_list, "links.remove": self.links_remove}

    async def links_list(self, account: str | None = None) -> list[dict[str, Any]]:
        links = [link for link in self._links.all() if account in (None, link.person.account, link.to.account)]
        return [_plain(link) for link in of_account(account, links, self._accounts())]

    async def links_remove(self, account: str, user: str) -> list[dict[str, Any]]:
        """An account that is not configured any more may be named: its links are those that have to be removed."""
        ended = await self._links.unlink(Person(AccountId(account), UserId(user)))
        if not ended:
            raise Refused(f"{user!r} on {account!r} is linked with nobody; `chatgpt-ms links list` shows all")
        return [_plain(link) for link in ended]


def _plain(link: Link) -> dict[str, Any]:
    return {
        "account": link.person.account,
        "user": link.person.user,
        "to_account": link.to.account,
        "to_user": link.to.user,
        "linked_at": link.linked_at.isoformat(),
    }
