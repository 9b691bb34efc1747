"""The command line: what `chatgpt-ms` understands."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from core.errors import ConfigError, GatewayError
from gateway import cli_links, cli_people, cli_store, cli_usage, registry
from gateway.cli_options import config_option, json_option, read_config

VERSION = "0.1.0"


class _Group(click.Group):
    """Names the nearest command when one does not exist."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            if args and (near := get_close_matches(args[0], self.list_commands(ctx), n=1)):
                raise click.UsageError(f"there is no command {args[0]!r}; did you mean {near[0]!r}?", ctx) from error
            raise


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="chatgpt-ms")
def commands() -> None:
    """A self-hosted gateway: chat with ChatGPT from your team's chat tools, a browser page and over HTTP."""


def cli(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors are one line each on standard error."""
    try:
        result = commands.main(args=arguments, prog_name="chatgpt-ms", standalone_mode=False)
    except click.exceptions.Exit as finished:
        return finished.exit_code
    except click.Abort:
        click.echo("aborted", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except GatewayError as error:
        for line in error.faults if isinstance(error, ConfigError) else (str(error),):
            click.echo(f"chatgpt-ms: {line}", err=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EIO):
            raise
        place = "the output" if error.filename is None else repr(os.fsdecode(error.filename))
        click.echo(f"chatgpt-ms: {place}: {error.strerror}", err=True)
        return 1
    return result if isinstance(result, int) else 0


@commands.command()
@config_option
def run(path: Path | None) -> int:
    """Start the gateway and stay until stopped."""
    from gateway.running import serve

    return asyncio.run(serve(path, os.environ))


@commands.command()
@config_option
@click.option("--connect", is_flag=True, help="Also sign in: to the model's server and to every account.")
def check(path: Path | None, connect: bool) -> int:
    """Say everything that is wrong with the configuration, at once."""
    config = read_config(path)
    from gateway.checking import check_connections, check_surroundings
    from gateway.running import log_as

    log_as(config)
    faults = check_surroundings(config)
    for account, reason in config.left_out:
        click.echo(f"account {account}: left out, {reason}")
    if connect and not faults:
        faults = asyncio.run(check_connections(config, tell=click.echo))
    if faults:
        raise ConfigError(*faults)
    click.echo("the configuration is fine")
    return 0


@commands.command()
@click.option("--output", "-o", default="config.yaml", type=click.Path(path_type=Path), help="Where to write it.")
def init(output: Path) -> int:
    """Ask a few questions and write a configuration that works."""
    from gateway.wizard import write_config

    return write_config(output)


@commands.command()
@config_option
@click.option("--user", default=None, help="Whose session; yours on this machine by default.")
@click.option("--key", envvar="CHATGPT_MS_KEY", default=None, help="Key of the running gateway, where it needs one.")
def chat(path: Path | None, user: str | None, key: str | None) -> int:
    """Talk in the terminal: with the running gateway, or one that is started for it."""
    from gateway.terminal import talk

    return asyncio.run(talk(read_config(path), user=user, key=key))


@commands.command()
@json_option
def platforms(as_json: bool) -> int:
    """What each platform can do, taken from the adapters themselves."""
    from gateway.abilities import table

    rows = table(registry.platforms())
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return 0
    from gateway.tables import show

    show(rows, empty="no platform is installed")
    return 0


for _command in (
    cli_store.sessions,
    cli_people.people,
    cli_people.pairing,
    cli_links.links,
    cli_usage.usage,
    cli_store.keys,
    cli_store.deadletters,
    cli_store.backup,
    cli_store.trace,
):
    commands.add_command(_command)
