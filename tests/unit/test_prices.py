"""What models cost."""

from __future__ import annotations

import pytest

from core.chat import Usage
from core.prices import KNOWN, Price, Prices

MILLION = Usage(1_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("model", "price"),
    [
        ("gpt-5-mini", KNOWN["gpt-5-mini"]),
        ("gpt-5-mini-2025-08-07", KNOWN["gpt-5-mini"]),
        ("gpt-5.2-chat-latest", KNOWN["gpt-5.2-chat"]),
        ("gpt-4-0613", KNOWN["gpt-4"]),
        ("gpt-5-ultra", None),  # another model, at another price
        ("gpt-55", None),
        ("", None),
    ],
)
def test_a_dated_snapshot_costs_what_its_model_costs(model: str, price: Price | None) -> None:
    assert Prices({}).of(model) == price


def test_the_configuration_comes_first_and_a_snapshot_may_have_a_price_of_its_own() -> None:
    prices = Prices({"gpt-5": Price(1.0, 1.0), "gpt-5-2025-08-07": Price(2.0, 2.0)})
    assert prices.of("gpt-5-2025-01-01") == Price(1.0, 1.0)
    assert prices.of("gpt-5-2025-08-07") == Price(2.0, 2.0)


def test_a_model_that_answers_under_an_unknown_name_costs_what_was_asked_for() -> None:
    prices = Prices({"mine": Price(1.0, 2.0)})
    assert prices.cost(MILLION, "/models/mine.gguf", "mine") == 3.0
    assert prices.cost(MILLION, "unknown") == 0.0


def test_the_embedded_model_costs_nothing() -> None:
    assert Prices({"mine": Price(1.0, 2.0)}, free=True).cost(MILLION, "mine") == 0.0


def test_no_price_is_below_zero_and_answers_cost_at_least_what_questions_do() -> None:
    assert all(0 < price.input <= price.output for price in KNOWN.values())
