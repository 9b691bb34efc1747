"""Calls of the model that are no turns: they are paid like turns, out of the same budgets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from core.budgets import BudgetInUse, Exhausted, Payers, Spent
from core.clock import Clock
from core.delivery import until_stored
from core.headroom import Headroom
from core.journal import Journal, Reserved
from core.limits import Limits
from core.messages import Person


class NothingLeft(Exception):
    """A budget is used up: the call is not to be made. When it starts afresh is told by `exhausted`."""

    def __init__(self, exhausted: Exhausted) -> None:
        super().__init__(f"{exhausted.measure} of {exhausted.whose} is used up")
        self.exhausted = exhausted


@dataclass(slots=True)
class Bill:
    """What a call cost. Nothing is charged unless it is written here."""

    payers: Payers
    spent: Spent = field(default_factory=Spent)


class PaidCalls:
    """Reserves before a call and charges after it, also when whoever waited for the answer has left."""

    def __init__(self, journal: Journal, limits: Limits, headroom: Headroom, clock: Clock) -> None:
        self._journal = journal
        self._limits = limits
        self._headroom = headroom
        self._clock = clock
        self._charging: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def call(
        self, person: Person, *, model: str | None, weight: int, message: bool = True, patient: bool = True
    ) -> AsyncIterator[Bill]:
        """Inside, the model may be asked once. `weight` is what the question weighs in bytes, beyond a usual prompt.

        Waits while a budget is set aside for answers that are being written; raises BudgetInUse instead where it is not
        `patient`. `message`: it counts as one of the person's. Raises NothingLeft and StorageUnavailable.
        """
        reserved = await self._reserve(person, model, weight, message, patient)
        bill = Bill(reserved.payers)
        try:
            yield bill
        finally:
            await asyncio.shield(self._spawn(self._charge(reserved, bill)))

    async def close(self) -> None:
        """Wait until everything is charged."""
        await asyncio.gather(*self._charging, return_exceptions=True)

    async def _reserve(self, person: Person, model: str | None, weight: int, message: bool, patient: bool) -> Reserved:
        ticket = self._headroom.ticket()
        try:
            while True:
                ticket.attempt()
                reserving = asyncio.ensure_future(
                    self._journal.reserve(
                        person,
                        budgets=self._limits,
                        model=model,
                        weight=weight,
                        message=message,
                        ahead=ticket.ahead,
                    )
                )
                try:
                    reserved = await asyncio.shield(reserving)
                except asyncio.CancelledError:
                    reserving.add_done_callback(self._return)
                    raise
                except BudgetInUse as in_use:
                    if not patient:
                        raise
                    await ticket.wait(in_use.subject)
                else:
                    if isinstance(reserved, Exhausted):
                        raise NothingLeft(reserved)
                    return reserved
        finally:
            ticket.close()

    def _return(self, reserving: asyncio.Future[Reserved | Exhausted]) -> None:
        """Nobody is there any more to make the call."""
        if not reserving.cancelled() and reserving.exception() is None:
            reserved = reserving.result()
            if isinstance(reserved, Reserved):
                self._spawn(self._charge(reserved, Bill(reserved.payers)))

    def _spawn(self, charging: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        charge = asyncio.create_task(charging)
        self._charging.add(charge)
        charge.add_done_callback(self._charging.discard)
        return charge

    async def _charge(self, reserved: Reserved, bill: Bill) -> None:
        await until_stored(partial(self._journal.charge, reserved, bill.spent), self._clock)
        self._headroom.ended(reserved.payers.subjects)
