"""The gateway with a rule of the budgets broken: what tests/scenario/test_budget_race.py must notice."""

from __future__ import annotations

from typing import Any

from core.storage import spending
from tests.scenario.breaking import run


def unreserved() -> None:
    """Answers that are being written are not counted: whoever asks before they end finds the budget unspent."""

    def check_room(*_: Any) -> None:
        return

    setattr(spending, "check_room", check_room)  # noqa: B010 - mypy would not let it be assigned


def unheard() -> None:
    """An account's and everybody's budget is forgotten: only the person's own counts."""
    limited = spending._limited

    def of_the_person(*arguments: Any) -> Any:
        return list(limited(*arguments))[:1]

    setattr(spending, "_limited", of_the_person)  # noqa: B010 - as above


if __name__ == "__main__":
    run(unreserved, unheard)
