"""All that the command line can do with the store, put together: for a running gateway, and for one that does not run."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from core.archive import Archive
from core.clock import Clock
from core.journal import Journal
from core.links import Links
from core.pairing import Pairing
from core.people import People
from gateway.config import Config
from gateway.control import Control
from gateway.control_links import LinkControl
from gateway.control_people import PeopleControl


class Store(Journal, Archive, Protocol):
    """What is looked into."""


def control_of(
    store: Store,
    clock: Clock,
    people: People,
    pairing: Pairing,
    links: Links,
    config: Callable[[], Config],
    **told: Any,
) -> Control:
    """`config` is the one that holds now; `told` is what a running gateway is told, as Control takes it."""

    def accounts() -> Collection[str]:
        return config().account_names

    further = {
        **PeopleControl(people, pairing, links, config).commands(),
        **LinkControl(links, accounts).commands(),
    }
    return Control(store, store, clock, accounts=accounts, further=further, **told)
