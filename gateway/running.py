"""`chatgpt-ms run`: start, tell where, reload when asked, stop in order."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import structlog

from core.clock import Clock, SystemClock
from core.errors import ConfigError
from gateway import garbage
from gateway import log as logging
from gateway.app import App
from gateway.config import DEFAULT_FILE, Config, load
from gateway.supervisor import AccountState
from gateway.timing import Laps

log = structlog.get_logger(__name__)

_SAME_STOP = 0.1
"""Seconds within which two signals are one: a terminal signals the whole process group, and wrappers such as `timeout`
pass on to their child what it got already."""

_OF_CHAT = ("system_prompt", "model", "fallback_models", "models", "personas", "prices")
"""What of `chat` takes effect while running."""

_LOOK_EVERY = 2.0
"""Seconds between two looks at the configuration file."""


async def serve(path: Path | None, environ: Mapping[str, str]) -> int:
    """Run until SIGTERM or SIGINT. Raises ConfigError and StorageError when it cannot start."""
    clock = SystemClock()
    started, laps = clock.monotonic(), Laps(clock)
    if path is None and DEFAULT_FILE.exists():
        path = DEFAULT_FILE  # by name: should it vanish, a reload must not fall back to the defaults
    config = load(path, environ)
    log_as(config)
    laps.done("config")
    for account, reason in config.left_out:
        log.info("an account is left out", account=account, reason=reason)
    loop, stop, reload = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    asked_at = 0.0

    def on_stop() -> None:
        nonlocal asked_at
        if stop.is_set():
            if clock.monotonic() - asked_at < _SAME_STOP:
                return
            log.warning("stopped at once; unfinished work is taken up at the next start")
            os._exit(1)
        asked_at = clock.monotonic()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop)
    loop.add_signal_handler(signal.SIGHUP, reload.set)

    async with App(config, clock=clock) as app:
        garbage.started()
        log.info("ready", page=app.url, seconds=round(clock.monotonic() - started, 2))
        tasks = (
            asyncio.create_task(_keep_reloading(app, path, environ, reload, clock)),
            asyncio.create_task(_tell_what_took(laps.took | app.laps.took, app)),
        )
        try:
            await stop.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    log.info("stopped")
    return 0


async def _tell_what_took(steps: Mapping[str, float], app: App) -> None:
    """One line once every account has connected or failed, which the page does not wait for. Seconds of each step, and
    of each sign-in; these are done side by side."""
    supervisors = app.supervisors.values()
    for supervisor in supervisors:
        await supervisor.settled.wait()
    sign_in = {each.account: round(each.settled_after or 0.0, 3) for each in supervisors}
    failed = [each.account for each in supervisors if each.health.state is not AccountState.CONNECTED]
    log.info("started", **steps, sign_in=sign_in, not_connected=failed)


async def _keep_reloading(
    app: App, path: Path | None, environ: Mapping[str, str], reload: asyncio.Event, clock: Clock
) -> None:
    """SIGHUP or a changed file: what can take effect does; what cannot is named."""
    file = path or DEFAULT_FILE
    seen = _stamp(file)
    while True:
        asked = asyncio.create_task(reload.wait())
        timer = asyncio.create_task(clock.sleep(_LOOK_EVERY))
        try:
            await asyncio.wait((asked, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            timer.cancel()
        stamp = _stamp(file)
        if reload.is_set() or (stamp != seen and stamp is not None):
            reload.clear()
            seen = stamp
            reload_config(app, path, environ)


def reload_config(app: App, path: Path | None, environ: Mapping[str, str]) -> None:
    """Read the configuration again. A faulty one changes nothing."""
    try:
        new = load(path, environ)
    except ConfigError as error:
        log.error("the changed configuration is faulty; the former one stays in force", faults=list(error.faults))
        return
    now, later = app.config.reloadable_changes(new)
    if now:
        app.apply(_merged(app.config, new))
        log.info("the configuration was reloaded", changed=list(now))
    if later:
        log.warning("these changes need a restart", changed=list(later))
    if not now and not later:
        log.info("the configuration has not changed")


def _merged(old: Config, new: Config) -> Config:
    """What is in force from now on: the reloadable parts of `new`, the rest of `old`."""
    chat = old.chat.model_copy(update={name: getattr(new.chat, name) for name in _OF_CHAT})
    accounts = {
        name: account.model_copy(update={"access": new.accounts[name].access, "budget": new.accounts[name].budget})
        if name in new.accounts
        else account
        for name, account in old.accounts.items()
    }
    return old.model_copy(update={"chat": chat, "sessions": new.sessions, "limits": new.limits, "accounts": accounts})


def log_as(config: Config) -> None:
    """As the configuration says, and without its secrets."""
    for secret in config.secrets():
        logging.register_secret(secret)
    logging.configure(level=config.log.level, format=config.log.format)


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
