"""Commands that look into the store: sessions, keys, dead letters, traces, backups.

They reach a running gateway over its control socket; without one they open the database themselves.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import click

from core.keys import SCOPES
from gateway.cli_options import config_option, json_option, read_config
from gateway.tables import show


def call(path: Path | None, command: str, **arguments: Any) -> Any:
    """Have `command` carried out, by whoever owns the database."""
    return asyncio.run(_call(path, command, arguments))


async def _call(path: Path | None, command: str, arguments: dict[str, Any]) -> Any:
    from gateway.control import ask, running_gateway

    config = read_config(path)
    database = config.storage.path
    async with running_gateway(database) as gateway:
        if gateway is not None:
            return await ask(gateway, command, arguments)
    from gateway import log
    from gateway.standalone import carry_out

    log.configure(level="warning", format=config.log.format)  # to standard error: standard output is for the answer
    return await carry_out(config, command, arguments)


def print_result(result: Any, as_json: bool, text: str) -> int:
    """As JSON for scripts, else the text."""
    click.echo(json.dumps(result, indent=2, ensure_ascii=False) if as_json else text)
    return 0


@click.group()
def sessions() -> None:
    """Stored conversations."""


@sessions.command("list")
@click.option("--account", default=None, help="Only of this account.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@json_option
@config_option
def sessions_list(path: Path | None, account: str | None, limit: int, as_json: bool) -> int:
    """Conversations, most recently active first."""
    rows = call(path, "sessions.list", account=account, limit=limit)
    if as_json:
        return print_result(rows, True, "")
    show(
        [
            {
                "key": row["key"],
                "person": row["person"],
                "turns": row["turns"],
                "active": row["last_active"][:16],
                "title": row["title"][:40],
            }
            for row in rows
        ],
        empty="there are no sessions yet",
    )
    return 0


@sessions.command("show")
@click.argument("key")
@json_option
@config_option
def sessions_show(path: Path | None, key: str, as_json: bool) -> int:
    """What was said in a conversation."""
    found = call(path, "sessions.show", key=key)
    return print_result(found, as_json, _as_text(found))


@sessions.command("export")
@click.argument("key")
@click.option("--output", "-o", type=click.Path(path_type=Path), default=None, help="A file; standard output without.")
@config_option
def sessions_export(path: Path | None, key: str, output: Path | None) -> int:
    """A conversation as JSON."""
    found = call(path, "sessions.show", key=key, limit=100_000)
    text = json.dumps(found, indent=2, ensure_ascii=False)
    if output is None:
        click.echo(text)
    else:
        with output.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
        output.chmod(0o600)
    return 0


@sessions.command("clear")
@click.argument("key")
@json_option
@config_option
def sessions_clear(path: Path | None, key: str, as_json: bool) -> int:
    """Start a conversation afresh; what was said stays stored until the retention ends."""
    return print_result(call(path, "sessions.clear", key=key), as_json, f"{key} starts afresh")


@sessions.command("forget")
@click.argument("key")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@config_option
def sessions_forget(path: Path | None, key: str, yes: bool, as_json: bool) -> int:
    """Delete everything stored of a conversation, for good."""
    if not yes:
        click.confirm(f"Delete everything stored of {key}, for good?", abort=True)
    result = call(path, "sessions.forget", key=key)
    turns = result["turns"]
    what = f"1 turn of {key} was" if turns == 1 else f"{turns} turns of {key} were"
    return print_result(result, as_json, f"{what} deleted")


@click.group()
def keys() -> None:
    """Keys of the HTTP API."""


@keys.command("create")
@click.argument("name")
@click.option("--namespace", default=None, help="Whose sessions it opens; its own by default.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="May be repeated; chat by default.")
@json_option
@config_option
def keys_create(path: Path | None, name: str, namespace: str | None, scopes: tuple[str, ...], as_json: bool) -> int:
    """Make a key. It is shown once and stored as a hash."""
    key = call(path, "keys.create", name=name, namespace=namespace, scopes=list(scopes) or ["chat"])
    return print_result(
        key,
        as_json,
        f"{key['secret']}\n\nKeep it: it is not shown again. Its id is {key['id']}, its namespace {key['namespace']}.",
    )


@keys.command("list")
@json_option
@config_option
def keys_list(path: Path | None, as_json: bool) -> int:
    """Keys that were made here. Those in config.yaml are not listed."""
    rows = call(path, "keys.list")
    if as_json:
        return print_result(rows, True, "")
    show(
        [
            {
                "id": row["id"],
                "name": row["name"],
                "namespace": row["namespace"],
                "scopes": " ".join(row["scopes"]),
                "created": row["created_at"][:16],
                "revoked": (row["revoked_at"] or "")[:16],
            }
            for row in rows
        ],
        empty="there are no keys; `chatgpt-ms keys create NAME` makes one",
    )
    return 0


@keys.command("revoke")
@click.argument("id")
@json_option
@config_option
def keys_revoke(path: Path | None, id: str, as_json: bool) -> int:
    """Make a key invalid, at once."""
    return print_result(call(path, "keys.revoke", id=id), as_json, f"the key {id} is no longer valid")


@click.group()
def deadletters() -> None:
    """Messages and replies that will not arrive unless somebody retries them."""


@deadletters.command("list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
@json_option
@config_option
def deadletters_list(path: Path | None, limit: int, as_json: bool) -> int:
    """Newest first."""
    rows = call(path, "deadletters.list", limit=limit)
    if as_json:
        return print_result(rows, True, "")
    show(
        [
            {
                "id": row["id"],
                "at": row["at"][:16],
                "account": row["account"],
                "reason": row["reason"][:60],
                "text": row["text"][:40],
            }
            for row in rows
        ],
        empty="there are no dead letters",
    )
    return 0


@deadletters.command("retry")
@click.argument("id")
@json_option
@config_option
def deadletters_retry(path: Path | None, id: str, as_json: bool) -> int:
    """Try again, at once or when the gateway next starts."""
    return print_result(call(path, "deadletters.retry", id=id), as_json, f"{id} is tried again")


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@json_option
@config_option
def backup(path: Path | None, target: Path, as_json: bool) -> int:
    """Write a consistent copy of the database, also while the gateway works."""
    result = call(path, "backup", target=str(target.absolute()))
    return print_result(result, as_json, f"{result['bytes']} bytes were written to {target}")


@click.command()
@click.argument("id", type=int)
@json_option
@config_option
def trace(path: Path | None, id: int, as_json: bool) -> int:
    """What happened to an accepted message, step by step; the log names its number."""
    steps = call(path, "trace", id=id)
    if as_json:
        return print_result(steps, True, "")
    show(steps, empty="")
    return 0


def _as_text(found: dict[str, Any]) -> str:
    lines = []
    for turn in found["turns"]:
        lines += [f"[{turn['started_at'][:16]}] {turn['state']}", f"  > {turn['question']}", f"  {turn['answer']}", ""]
    lines += [f"[{row['received_at'][:16]}] waiting\n  > {row['text']}" for row in found["waiting"]]
    return "\n".join(lines) or "nothing was said yet"
