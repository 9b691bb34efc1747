"""What the platform takes from the bot for each person, as far as that is known.

Measured by people who use it: about 10 messages for each message of the person
(https://github.com/Tencent/openclaw-weixin/issues/81), bursts of 3 in a second are refused (issues/270, and
https://github.com/chenhg5/cc-connect/issues/1640), and nothing is shown more than 24 hours after the person wrote
(issues/204). Every refusal is `ret: -2`, without a time to wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from adapters.weixin.address import Address
from core.clock import Clock
from core.errors import DeliveryError, HeldBack, RateLimited
from core.latest import Latest

WINDOW = timedelta(hours=24) - timedelta(minutes=5)
"""After the person's last message; what comes later is not shown, and nobody is told."""

_ANSWERS = 8
"""Messages of the bot after which a refusal most likely means that the person has to write first: 10 are told of."""

_PAUSES = (2.0, 8.0, 30.0)
"""Seconds after each refusal in a row, where it may have been a burst; after the last the person has to write first."""
_PAUSES_AT_LAST = (2.0,)
"""The same after so many answers."""

_REMEMBERED = 10_000
"""People."""


@dataclass(slots=True)
class _Person:
    """Since their last message."""

    address: Address
    answers: int = 0
    refused: int = 0
    """Refusals in a row."""
    shut: bool = False
    """Nothing more is taken until they write."""


class People:
    """Everybody who wrote since the program started, or is written to."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._people: Latest[str, _Person] = Latest(_REMEMBERED)

    def wrote(self, address: Address) -> None:
        """A person wrote. A message that is delivered again changes nothing."""
        known = self._people.get(address.user)
        if known is None or (address.at >= known.address.at and address != known.address):
            self._people[address.user] = _Person(address)

    def context(self, address: Address) -> str:
        """The newest `context_token` of the person. Raises HeldBack where nothing is taken until they write."""
        person = self._person(address)
        if person.shut:
            raise HeldBack("the platform takes no more answers to this message")
        if self._clock.now() - person.address.moment > WINDOW:
            raise HeldBack("the person wrote more than a day ago")
        return person.address.context or address.context

    def answered(self, address: Address) -> None:
        """A message arrived."""
        person = self._person(address)
        person.answers += 1
        person.refused = 0

    def refused(self, address: Address) -> DeliveryError:
        """A message was refused; the error that says what to do."""
        person = self._person(address)
        pauses = _PAUSES if person.answers < _ANSWERS else _PAUSES_AT_LAST
        if person.refused >= len(pauses):
            person.shut = True
            return HeldBack("the platform takes no more answers to this message")
        person.refused += 1
        return RateLimited("the platform asks to wait", retry_after=pauses[person.refused - 1])

    def _person(self, address: Address) -> _Person:
        return self._people.of(address.user, lambda: _Person(address))
