"""Commands about people who are linked: known on two accounts, with one conversation."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli_options import config_option, json_option
from gateway.cli_store import call, print_result
from gateway.tables import show


@click.group()
def links() -> None:
    """People who continue one conversation on several accounts. They link themselves, with /link in a chat."""


@links.command("list")
@click.option("--account", default=None, help="Only those with an identity on this account.")
@json_option
@config_option
def links_list(path: Path | None, account: str | None, as_json: bool) -> int:
    """Each with the identity whose conversation goes on, oldest first."""
    rows = call(path, "links.list", account=account)
    if as_json:
        return print_result(rows, True, "")
    show([{**row, "linked_at": row["linked_at"][:16]} for row in rows], empty="nobody is linked")
    return 0


@links.command("remove")
@click.argument("account")
@click.argument("user")
@json_option
@config_option
def links_remove(path: Path | None, account: str, user: str, as_json: bool) -> int:
    """End the link of a person, or all that lead to them. Takes effect at once; nothing that was said is removed."""
    ended = call(path, "links.remove", account=account, user=user)
    parted = ", ".join(f"{one['user']!r} on {one['account']!r}" for one in ended)
    return print_result(ended, as_json, f"no longer linked: {parted}; each has their own conversation again")
