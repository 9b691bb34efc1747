"""The page about Slack says what the adapter needs and has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from adapters.slack import Config
from adapters.slack.adapter import SCOPES
from core.account import AccountConfig

PAGE = (Path(__file__).parents[2] / "docs" / "platforms" / "slack.md").read_text(encoding="utf-8")


def manifest() -> Any:
    block = re.search(r"```yaml\n(   display_information:.*?)   ```", PAGE, re.DOTALL)
    assert block is not None
    return yaml.safe_load(block[1])


def test_the_manifest_asks_for_what_the_adapter_looks_for() -> None:
    scopes = set(manifest()["oauth_config"]["scopes"]["bot"])
    assert set(SCOPES) <= scopes
    assert scopes - set(SCOPES) == {"commands", "files:write"}  # for what works without them


def test_every_scope_of_the_manifest_is_explained() -> None:
    table = PAGE.partition("### Scopes")[2].partition("### Keys")[0]
    for scope in manifest()["oauth_config"]["scopes"]["bot"]:
        assert f"`{scope}`" in table, scope


def test_every_key_is_in_the_table() -> None:
    table = PAGE.partition("### Keys")[2].partition("## What")[0]
    for key in set(Config.model_fields) - set(AccountConfig.model_fields):
        assert f"`{key}`" in table, key
