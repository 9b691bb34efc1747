"""A command carried out on the database itself, where no gateway runs."""

from __future__ import annotations

from typing import Any

from core.clock import SystemClock
from core.links import Links
from core.pairing import Pairing
from core.people import People
from core.storage.sqlite import SqliteStore
from gateway.admins import Admins
from gateway.config import Config
from gateway.controls import control_of


async def carry_out(config: Config, command: str, arguments: dict[str, Any]) -> Any:
    """Open the database, carry out `command`, close it. Raises as `Control.call`, and StorageBusy."""
    clock = SystemClock()
    async with SqliteStore(config.storage.path, clock=clock) as store:
        people = People(store, clock, is_admin=Admins(lambda: config.accounts).is_admin)
        pairing = Pairing(store, people, clock)
        await people.load()
        await pairing.load()
        links = Links(store, clock)
        await links.load()
        return await control_of(store, clock, people, pairing, links, lambda: config).call(command, arguments)
