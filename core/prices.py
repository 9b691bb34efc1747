"""What models cost.

OpenAI's list prices in US dollars per million tokens as of July 2026, standard processing. Cached input is counted at
the full price, so what is counted here is never less than what OpenAI asks for. Prompts above 272,000 tokens, which
OpenAI charges double with some models, and batch and priority processing are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from core.chat import Usage


class Price(NamedTuple):
    """Per million tokens."""

    input: float
    output: float


FREE = Price(0.0, 0.0)

KNOWN: Mapping[str, Price] = {
    "gpt-5.6": Price(5.0, 30.0),
    "gpt-5.6-sol": Price(5.0, 30.0),
    "gpt-5.6-terra": Price(2.5, 15.0),
    "gpt-5.6-luna": Price(1.0, 6.0),
    "gpt-5.5": Price(5.0, 30.0),
    "gpt-5.5-pro": Price(30.0, 180.0),
    "gpt-5.4": Price(2.5, 15.0),
    "gpt-5.4-mini": Price(0.75, 4.5),
    "gpt-5.4-nano": Price(0.2, 1.25),
    "gpt-5.4-pro": Price(30.0, 180.0),
    "gpt-5.3-chat": Price(1.75, 14.0),
    "gpt-5.2": Price(1.75, 14.0),
    "gpt-5.2-chat": Price(1.75, 14.0),
    "gpt-5.2-pro": Price(21.0, 168.0),
    "gpt-5.1": Price(1.25, 10.0),
    "gpt-5.1-chat": Price(1.25, 10.0),
    "gpt-5": Price(1.25, 10.0),
    "gpt-5-chat": Price(1.25, 10.0),
    "gpt-5-mini": Price(0.25, 2.0),
    "gpt-5-nano": Price(0.05, 0.4),
    "gpt-5-pro": Price(15.0, 120.0),
    "gpt-4.1": Price(2.0, 8.0),
    "gpt-4.1-mini": Price(0.4, 1.6),
    "gpt-4.1-nano": Price(0.1, 0.4),
    "gpt-4o": Price(2.5, 10.0),
    "gpt-4o-mini": Price(0.15, 0.6),
    "gpt-4-turbo": Price(10.0, 30.0),
    "gpt-4": Price(30.0, 60.0),
    "gpt-3.5-turbo": Price(0.5, 1.5),
    "o4-mini": Price(1.1, 4.4),
    "o3": Price(2.0, 8.0),
    "o3-mini": Price(1.1, 4.4),
    "o3-pro": Price(20.0, 80.0),
    "o1": Price(15.0, 60.0),
    "o1-pro": Price(150.0, 600.0),
}

_SNAPSHOT = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4}|latest)$")
"""What may follow a model's name without making it another model: `gpt-5-2025-08-07`, never `gpt-5-ultra`."""


class Prices:
    """Looks prices up: those of the configuration first. A dated snapshot costs what its model costs."""

    def __init__(self, configured: Mapping[str, Price], *, free: bool = False) -> None:
        """`free`: nothing costs anything, as with the embedded model."""
        self._configured = configured
        self._free = free

    def of(self, model: str) -> Price | None:
        """None where nobody knows."""
        if self._free:
            return FREE
        for name in (model, _SNAPSHOT.sub("", model)):
            for prices in (self._configured, KNOWN):
                if name in prices:
                    return prices[name]
        return None

    def cost(self, usage: Usage, *models: str) -> float:
        """What `usage` costs with the first of `models` that has a price; 0 where none has."""
        for model in models:
            price = self.of(model)
            if price is not None:
                return (usage.input_tokens * price.input + usage.output_tokens * price.output) / 1_000_000
        return 0.0
