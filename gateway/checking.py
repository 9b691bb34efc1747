"""`chatgpt-ms check`: what is wrong beyond the configuration's words."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

from core.adapter import Adapter, AwaitsScan, Diagnoses, HasFolder, Hosted
from core.chatgpt import ChatGPTClient
from core.clock import SystemClock
from core.errors import ChatError, GatewayError
from core.messages import AccountId
from gateway import registry, translate
from gateway.accounts import FindSpec, folder_of
from gateway.config import Config

_SIGN_IN = 30.0
"""Seconds for one account to sign in."""


def check_surroundings(config: Config) -> list[str]:
    """Faults of this machine: folder, port, packages. Nothing is changed."""
    faults = []
    for package, owners in registry.foreign_owners().items():
        faults.append(
            f"the package {package!r} is also installed by {', '.join(owners)}, which may have overwritten ours: "
            "install chatgpt-ms into an environment of its own"
        )
    faults += _folder_faults(config.storage.path)
    if config.chat.embedded:
        from gateway.local_model import local_model_available, what_to_install

        if config.chat.local.model_file is None and not local_model_available():
            faults.append(what_to_install())
    return faults


def _folder_faults(database: Path) -> list[str]:
    if database.is_dir():
        return [f"storage.url: {str(database)!r} is a folder; name a file in it"]
    folder = database.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        return [f"storage.url: {str(folder)!r} is not a folder, so the database cannot be put there"]
    if not os.access(folder, os.W_OK | os.X_OK):
        return [f"storage.url: {str(folder)!r} cannot be written to by this user; change its owner or storage.url"]
    return []


async def check_connections(
    config: Config, *, tell: Callable[[str], object], find_spec: FindSpec = registry.spec
) -> list[str]:
    """Sign in everywhere, one line each; returns the faults."""
    faults = await _check_model(config, tell)
    for name, account in config.accounts.items():
        spec = find_spec(account.platform or name)
        adapter = spec.create(AccountId(name), account)
        if isinstance(adapter, HasFolder):
            adapter.use_folder(folder_of(AccountId(name), config.storage.path))
        faults += await _check_account(name, adapter, tell)
    if config.server.port and _in_use(config.server.host, config.server.port):
        tell(f"server: port {config.server.port} is in use (by a running gateway, perhaps)")
    return faults


async def _check_model(config: Config, tell: Callable[[str], object]) -> list[str]:
    if config.chat.embedded:
        tell("model: the embedded one")
        return []
    async with ChatGPTClient(translate.chat_settings(config.chat), clock=SystemClock()) as client:
        try:
            await client.probe()
        except ChatError as error:
            return [f"chat: {error}" + (f" ({error.detail})" if error.detail else "")]
    tell(f"model: {config.chat.model} at {config.chat.base_url} answers")
    return []


async def _check_account(name: str, adapter: Adapter, tell: Callable[[str], object]) -> list[str]:
    if isinstance(adapter, Hosted):
        return []  # a face of the gateway itself: there is nowhere to sign in
    try:
        async with asyncio.timeout(_SIGN_IN), adapter:
            findings = await adapter.diagnose() if isinstance(adapter, Diagnoses) else ()
            if not (findings and isinstance(adapter, AwaitsScan)):  # entering those signs nobody in
                tell(f"account {name}: signed in")
            return [f"accounts.{name}: {finding}" for finding in findings]
    except GatewayError as error:
        return [f"accounts.{name}: {error}"]
    except TimeoutError:
        return [f"accounts.{name}: no answer within {_SIGN_IN:.0f} s; check the network and api_url"]


def _in_use(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host.strip("[]"), port)) == 0
