"""Abilities of adapters whose account a person signs in by a scan; core.adapter passes them on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.messages import UserId


class LoginStep(StrEnum):
    """What a person has to do next to sign an account in."""

    SCAN = "scan"
    """Scan the code with the platform's app."""
    CONFIRM = "confirm"
    """It was scanned: confirm on the phone."""
    DIGITS = "digits"
    """The phone shows digits: enter them here (`TakesDigits`)."""
    WRONG_DIGITS = "wrong_digits"
    """Those were not the ones: enter them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginCode:
    """A code that waits to be scanned. Whoever scans it owns the bot: it is shown in the terminal and to an
    administrator, and never logged."""

    content: str = field(repr=False)
    """What the QR code holds."""
    step: LoginStep = LoginStep.SCAN


class AwaitsScan(ABC):
    """On an adapter whose account is signed in by a person who scans a code, while `run` waits for that.

    While there is a code the account counts as waiting for the scan: not connected, and not deaf either, however long
    it takes.
    """

    @abstractmethod
    def login_code(self) -> LoginCode | None:
        """The code that is to be shown now, the newest that the platform gave; None when nothing is to be scanned (any
        more). Asked about once a second."""


class TakesDigits(ABC):
    """On an adapter that AwaitsScan: the platform may ask for digits that the phone shows."""

    @abstractmethod
    def enter_digits(self, digits: str) -> None:
        """A person entered them. Of no effect unless the code's step asks for them."""


class HasOwner(ABC):
    """On an adapter whose account is somebody's own: they signed it in by a scan, and count as one of its admins."""

    @abstractmethod
    def owner(self) -> UserId | None:
        """Whose account it is; None where nobody is signed in. Asked about with each message: no I/O."""
