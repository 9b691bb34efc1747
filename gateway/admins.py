"""Who may give the admin commands, and always talk."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from core.account import AccountConfig
from core.adapter import Adapter, HasOwner
from core.messages import AccountId, InboundMessage, Person, UserId
from core.people import sender_of


class Admins:
    """Those whom an account's `access.admins` names, and whoever signed it in by a scan."""

    def __init__(self, accounts: Callable[[], Mapping[str, AccountConfig]]) -> None:
        """`accounts`: as they are configured now."""
        self._accounts = accounts
        self._owned: Mapping[AccountId, HasOwner] = {}

    def look_at(self, adapters: Mapping[AccountId, Adapter]) -> None:
        """Some of these tell whose account theirs is."""
        self._owned = {name: adapter for name, adapter in adapters.items() if isinstance(adapter, HasOwner)}

    def is_admin(self, person: Person) -> bool:
        """False also for an account that has left the configuration: what is stored may name it still."""
        account = self._accounts().get(person.account)
        return account is not None and (
            person.user in account.access.admins or person.user == self.owner(person.account)
        )

    def sent(self, message: InboundMessage) -> bool:
        """Whether one of them wrote it."""
        return self.is_admin(sender_of(message))

    def owner(self, account: AccountId) -> UserId | None:
        """Whose account it is, where an adapter tells."""
        adapter = self._owned.get(account)
        return None if adapter is None else adapter.owner()
