"""What the command line decides about people: who waits, who is let in or kept out, and what each may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from core.account import AccountConfig
from core.archive import KnownPerson, PairingRequest
from core.links import Links
from core.messages import AccountId, Person
from core.pairing import Pairing
from core.people import People, id_of
from gateway.control import Refused, of_account
from gateway.pricing import unpriced_models

if TYPE_CHECKING:
    from gateway.config import Config

_BY = "command line"


class PeopleControl:
    """Further commands of a Control. They take effect at once where a gateway runs: it is the one that keeps them."""

    def __init__(self, people: People, pairing: Pairing, links: Links, config: Callable[[], Config]) -> None:
        """`config`: the one that holds now."""
        self._people = people
        self._pairing = pairing
        self._config = config
        self._links = links

    def commands(self) -> Mapping[str, Callable[..., Awaitable[Any]]]:
        """By name, as gateway.control carries them out."""
        return {
            "pairing.list": self.pairing_list,
            "pairing.approve": self.pairing_approve,
            "pairing.reject": self.pairing_reject,
            "people.list": self.people_list,
            "people.allow": self.people_allow,
            "people.block": self.people_block,
            "people.forget": self.people_forget,
            "people.budget": self.people_budget,
        }

    async def pairing_list(self, account: str | None = None) -> list[dict[str, Any]]:
        waiting = self._pairing.waiting(None if account is None else AccountId(account))
        return [_request(request) for request in of_account(account, waiting, self._config().account_names)]

    async def pairing_approve(self, code: str, account: str | None = None) -> dict[str, Any]:
        of = None if account is None else self._account(account)
        return self._settled(await self._pairing.approve(code, by=_BY, account=of), code)

    async def pairing_reject(self, code: str, account: str | None = None) -> dict[str, Any]:
        of = None if account is None else self._account(account)
        return self._settled(await self._pairing.reject(code, by=_BY, account=of), code)

    async def people_list(self, account: str | None = None) -> list[dict[str, Any]]:
        found = self._people.all(None if account is None else AccountId(account))
        return [_known(known) for known in of_account(account, found, self._config().account_names)]

    async def people_allow(self, account: str, user: str) -> dict[str, Any]:
        person = self._person(account, user)
        await self._people.allow(person, by=_BY)
        await self._pairing.withdraw(person)
        return self._told(person)

    async def people_block(self, account: str, user: str) -> dict[str, Any]:
        person = self._person(account, user)
        if self._people.is_admin(person):
            raise Refused(
                f"{person.user!r} is an admin of the account {account!r}; take the id out of accounts.{account}.access.admins first"
            )
        await self._people.block(person, by=_BY)
        await self._pairing.withdraw(person)
        return self._told(person)

    async def people_forget(self, account: str, user: str) -> dict[str, Any]:
        person = self._person(account, user)
        if not await self._people.forget(person, by=_BY):
            raise Refused(
                f"nothing was decided about {person.user!r} on {account!r}; `chatgpt-ms people list` shows all"
            )
        return {"account": person.account, "user": person.user, "forgotten": True}

    async def people_budget(
        self, account: str, user: str, changes: Mapping[str, float | None], default: bool = False
    ) -> dict[str, Any]:
        """`changes`: fields of a PersonBudget; `default` drops what was set before."""
        person = self._person(account, user)
        payer = self._links.person(*person)
        if payer != person:
            raise Refused(
                f"{person.user!r} on {account!r} is linked with {payer.user!r} on {payer.account!r}, who uses one budget for "
                f"both: chatgpt-ms people budget {payer.account} {payer.user}"
            )
        budget = self._people.budget(person)
        if changes or default:
            try:
                changed = replace(type(budget)() if default else budget, **changes)  # type: ignore[arg-type]
            except ValueError as error:
                raise Refused(str(error)) from None
            if changes.get("money_per_month") is not None and (models := unpriced_models(self._config())):
                raise Refused(
                    f"money cannot be counted: the price of {', '.join(map(repr, models))} is not known; "
                    "add it to chat.prices in the configuration"
                )
            await self._people.set_budget(person, changed, by=_BY)
        return self._told(person)

    def _account(self, name: str) -> AccountId:
        of_account(name, (), self._config().account_names)
        return AccountId(name)

    def _person(self, account: str, user: str) -> Person:
        name = self._account(account)
        kind = type(self._config().accounts.get(account) or AccountConfig())
        try:
            return Person(name, id_of(user, kind.ID))
        except ValueError as error:
            raise Refused(f"{error}; {kind.IDS}") from None

    def _settled(self, request: PairingRequest | None, code: str) -> dict[str, Any]:
        if request is None:
            raise Refused(
                f"no code {code!r} is valid; it may be mistyped, used or expired: see `chatgpt-ms pairing list`"
            )
        return _request(request)

    def _told(self, person: Person) -> dict[str, Any]:
        known = self._people.known(person)
        if known is not None:
            return _known(known)
        return {
            "account": person.account,
            "user": person.user,
            "standing": "undecided",
            **asdict(self._people.budget(person)),
        }


def _request(request: PairingRequest) -> dict[str, Any]:
    return {
        "account": request.person.account,
        "user": request.person.user,
        "name": request.name,
        "since": request.created_at.isoformat(),
        "expires": request.expires_at.isoformat(),
    }


def _known(known: KnownPerson) -> dict[str, Any]:
    return {
        "account": known.person.account,
        "user": known.person.user,
        "name": known.name,
        "standing": known.standing.value,
        "by": known.decided_by,
        "at": known.decided_at.isoformat(),
        **asdict(known.budget),
    }
