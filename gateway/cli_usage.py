"""`chatgpt-ms usage`: who used how much."""

from __future__ import annotations

from pathlib import Path

import click

from core.budgets import write_money
from gateway.cli_options import config_option, json_option
from gateway.cli_store import call, print_result
from gateway.tables import show


@click.command()
@click.option("--account", default=None, help="Only of this account.")
@click.option("--month", is_flag=True, help="This month; today without it. Both by UTC.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000))
@json_option
@config_option
def usage(path: Path | None, account: str | None, month: bool, limit: int, as_json: bool) -> int:
    """What people used, those who spent most first. Linked identities count as the one they are linked to."""
    rows = call(path, "usage", account=account, month=month, limit=limit)
    if as_json:
        return print_result(rows, True, "")
    show(
        [{**row, "tokens": f"{row['tokens']:,}", "money": write_money(row["money"])} for row in rows],
        empty=f"nobody used anything {'this month' if month else 'today'}",
    )
    return 0
