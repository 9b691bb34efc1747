"""What models cost by the configuration, and whether all that may answer have a price where money is limited."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from core.prices import Price, Prices
from gateway import faults
from gateway.faults import Fault, write_path
from gateway.settings import Chat

if TYPE_CHECKING:
    from gateway.config import Config


def prices(chat: Chat, *, free: bool = False) -> Prices:
    """As configured, else as known. `free`: the embedded model answers."""
    return Prices({name: Price(price.input, price.output) for name, price in chat.prices.items()}, free=free)


def unpriced(config: Config) -> Iterator[Fault]:
    """One fault for each model without a price: it would count as free. None where nothing limits money."""
    limit = next(_money_limits(config), None)
    if limit is None:
        return
    for path, model in _unpriced(config):
        example = f"chat.prices: {{{model}: {{input: 1.25, output: 10}}}}"
        yield Fault(
            path,
            f"{model!r} has no price, so {write_path(limit)} cannot count what it costs; "
            f"add what a million tokens cost, such as {example}",
        )


def unpriced_models(config: Config) -> tuple[str, ...]:
    """Models that may answer and of which nobody knows the price: no limit of money can hold there."""
    return tuple(dict.fromkeys(model for _, model in _unpriced(config)))


def _unpriced(config: Config) -> Iterator[tuple[faults.Path, str]]:
    """With where each stands. None where the embedded model answers: it is free."""
    if config.chat.embedded:
        return
    known = prices(config.chat)
    yield from ((path, model) for path, model in _models(config) if known.of(model) is None)


def _money_limits(config: Config) -> Iterator[faults.Path]:
    if config.limits.money_per_month is not None:
        yield ("limits", "money_per_month")
    if config.limits.total.money_per_month is not None:
        yield ("limits", "total", "money_per_month")
    for name, account in config.accounts.items():
        if account.budget.money_per_month is not None:
            yield ("accounts", name, "budget", "money_per_month")


def _models(config: Config) -> Iterator[tuple[faults.Path, str]]:
    chat = config.chat
    yield ("chat", "model"), chat.model
    for key, models in (("fallback_models", chat.fallback_models), ("models", chat.models)):
        for number, model in enumerate(models):
            yield ("chat", key, number), model
    if config.sessions.summary_model is not None:
        yield ("sessions", "summary_model"), config.sessions.summary_model
