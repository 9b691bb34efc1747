"""What the gateway lends to adapters that are faces of itself (HTTP API, web page)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.archive import Archive
from core.chat import ChatClient
from core.clock import Clock
from core.journal import Journal
from core.keys import KeyRing
from core.limits import Limits, MessageRates
from core.messages import ConversationKey
from core.paid import PaidCalls


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Handed to `Hosted.host` once."""

    journal: Journal
    archive: Archive
    chat: ChatClient
    clock: Clock
    keys: KeyRing
    rates: MessageRates
    """The same limits that the inbox applies, for requests that do not pass it."""
    limits: Limits
    """What things cost."""
    paid: PaidCalls
    """The same budgets, for calls of the model that are no turns."""
    models: Callable[[], Sequence[str]]
    """The models a person may choose, the configured one first."""
    notice: Callable[[], str]
    """One line the page should show, such as that the small embedded model answers; empty for none."""
    wake: Callable[[ConversationKey], None]
    """Tell the dispatcher that a conversation has work again (after `reopen`)."""
    stop: Callable[[ConversationKey], bool]
    """Stop the running turn of a conversation; False if none runs."""
    longest_input: Callable[[], int] = lambda: 32_000
    """Characters of the longest message that is answered, for requests that do not pass the inbox."""
    secure_cookies: bool = False
    """True where the gateway is reached over https."""
