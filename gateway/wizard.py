"""`chatgpt-ms init`: a few questions, and a configuration that works."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click
import yaml

from core.errors import ConfigError
from gateway.config import load
from gateway.settings import OPENAI

_HEAD = "# Written by `chatgpt-ms init`. Every key is explained in config.yaml.example.\n"


def write_config(output: Path) -> int:
    """Ask, write, and check what was written. Raises ConfigError when `output` exists: nothing is overwritten."""
    if output.exists():
        raise ConfigError(f"{output}: exists already and is not overwritten; move it away or choose another --output")
    click.echo("Press Enter to take what is in brackets.\n")
    wanted = {"chat": _ask_chat(), "server": _ask_server()}
    text = _HEAD + yaml.safe_dump(
        {name: section for name, section in wanted.items() if section}, sort_keys=False, allow_unicode=True
    )
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    load(output, os.environ | {"OPENAI_API_KEY": os.environ.get("OPENAI_API_KEY", "unset")})
    click.echo(f"\n{output} is written. Start with: chatgpt-ms run --config {output}")
    return 0


def _ask_chat() -> dict[str, object]:
    which = click.prompt(
        "Who answers: OpenAI, another OpenAI-compatible server, or the small embedded model?",
        type=click.Choice(["openai", "server", "local"]),
        default="openai" if os.environ.get("OPENAI_API_KEY") else "local",
    )
    if which == "local":
        return {"base_url": "local"}
    chat: dict[str, object] = {}
    if which == "server":
        chat["base_url"] = click.prompt("Its address, such as http://127.0.0.1:11434/v1", default=OPENAI)
    if os.environ.get("OPENAI_API_KEY"):
        click.echo("The key is taken from the environment variable OPENAI_API_KEY.")
        chat["api_key"] = "${OPENAI_API_KEY}"
    else:
        key = click.prompt("Its key (not shown; empty: none)", default="", hide_input=True, show_default=False)
        if key:
            chat["api_key"] = key
    chat["model"] = click.prompt("The model", default="gpt-5-mini")
    prompt = click.prompt("How should it behave (system prompt)?", default="You are a helpful assistant.")
    return {**chat, "system_prompt": prompt}


def _ask_server() -> dict[str, object]:
    public = click.confirm("Should other machines reach the page and the HTTP API?", default=False)
    port = click.prompt("Port", type=click.IntRange(1, 65535), default=5000)
    server: dict[str, object] = {} if port == 5000 else {"port": port}
    if public:
        key = "cms-" + secrets.token_urlsafe(32)
        server |= {"host": "0.0.0.0", "api_keys": [key]}  # noqa: S104 - asked for, and guarded by the key
        click.echo(f"Requests, and the page, will ask for this key: {key}")
    return server
