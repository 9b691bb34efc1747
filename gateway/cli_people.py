"""Commands about people: those who wait to be let in, those who were let in or kept out, and what each may use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gateway.cli_options import config_option, json_option
from gateway.cli_store import call, print_result
from gateway.tables import show


@click.group()
def pairing() -> None:
    """People who were told a code and wait to be let in."""


@pairing.command("list")
@click.option("--account", default=None, help="Only of this account.")
@json_option
@config_option
def pairing_list(path: Path | None, account: str | None, as_json: bool) -> int:
    """Who waits, longest first. The codes themselves are not stored."""
    rows = call(path, "pairing.list", account=account)
    if as_json:
        return print_result(rows, True, "")
    show(
        [{**row, "since": row["since"][:16], "expires": row["expires"][:16]} for row in rows],
        empty="nobody waits to be let in",
    )
    return 0


@pairing.command("approve")
@click.argument("words", nargs=-1, required=True, metavar="[ACCOUNT] CODE")
@json_option
@config_option
def pairing_approve(path: Path | None, words: tuple[str, ...], as_json: bool) -> int:
    """Let in whoever was told CODE. It takes effect at once."""
    account, code = _account_and_code(words)
    one = call(path, "pairing.approve", account=account, code=code)
    return print_result(one, as_json, f"{_who(one)} may talk with the bot now")


@pairing.command("reject")
@click.argument("words", nargs=-1, required=True, metavar="[ACCOUNT] CODE")
@json_option
@config_option
def pairing_reject(path: Path | None, words: tuple[str, ...], as_json: bool) -> int:
    """Make CODE void. Whoever was told it gets another one when they write again; `people block` keeps them out."""
    account, code = _account_and_code(words)
    one = call(path, "pairing.reject", account=account, code=code)
    return print_result(one, as_json, f"the code of {_who(one)} is void")


def _account_and_code(words: tuple[str, ...]) -> tuple[str | None, str]:
    if len(words) > 2:
        raise click.UsageError(f"expected [ACCOUNT] CODE, got {len(words)} words")
    return (words[0] if len(words) == 2 else None), words[-1]


@click.group()
def people() -> None:
    """Who was let in or kept out, and what each may use. Takes effect at once."""


@people.command("list")
@click.option("--account", default=None, help="Only of this account.")
@json_option
@config_option
def people_list(path: Path | None, account: str | None, as_json: bool) -> int:
    """Everybody about whom something was decided. Those in config.yaml are not listed."""
    rows = call(path, "people.list", account=account)
    if as_json:
        return print_result(rows, True, "")
    show([{**row, "at": row["at"][:16]} for row in rows], empty="nothing was decided about anybody")
    return 0


@people.command("allow")
@click.argument("account")
@click.argument("id")
@json_option
@config_option
def people_allow(path: Path | None, account: str, id: str, as_json: bool) -> int:
    """Let somebody in, wherever ACCOUNT listens."""
    one = call(path, "people.allow", account=account, user=id)
    return print_result(one, as_json, f"{_who(one)} may talk with the bot now")


@people.command("block")
@click.argument("account")
@click.argument("id")
@json_option
@config_option
def people_block(path: Path | None, account: str, id: str, as_json: bool) -> int:
    """Keep somebody out, whatever the configuration says."""
    one = call(path, "people.block", account=account, user=id)
    return print_result(one, as_json, f"{_who(one)} is kept out from now on")


@people.command("forget")
@click.argument("account")
@click.argument("id")
@json_option
@config_option
def people_forget(path: Path | None, account: str, id: str, as_json: bool) -> int:
    """Drop what was decided about somebody, their budget too: the configuration holds again."""
    one = call(path, "people.forget", account=account, user=id)
    return print_result(one, as_json, f"the configuration holds for {_who(one)} again")


@people.command("budget")
@click.argument("account")
@click.argument("id")
@click.option("--messages-per-day", type=click.IntRange(1), default=None)
@click.option("--tokens-per-day", type=click.IntRange(1), default=None, help="In and out.")
@click.option("--money-per-month", type=click.FloatRange(0, min_open=True), default=None)
@click.option(
    "--default", is_flag=True, help="What was set before goes; the configuration holds for what is not given."
)
@json_option
@config_option
def people_budget(
    path: Path | None,
    account: str,
    id: str,
    messages_per_day: int | None,
    tokens_per_day: int | None,
    money_per_month: float | None,
    default: bool,
    as_json: bool,
) -> int:
    """Show or set what somebody may use, where that differs from the configuration."""
    given = {
        "messages_per_day": messages_per_day,
        "tokens_per_day": tokens_per_day,
        "money_per_month": money_per_month,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    one = call(path, "people.budget", account=account, user=id, changes=changes, default=default)
    lines = [f"{name.replace('_', ' ')}: {one[name] if one[name] is not None else 'as configured'}" for name in given]
    return print_result(one, as_json, "\n".join((_who(one), *lines)))


def _who(one: dict[str, Any]) -> str:
    named = f" ({one['name']})" if one.get("name") else ""
    return f"{one['user']}{named} on {one['account']}"
