"""What an account keeps from one start to the next: the credentials of the scan, and how far it has read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a confirmed scan brings."""

    token: str = field(repr=False)
    url: str
    """Where the API is for this bot; empty: as configured."""
    bot: str
    """`…@im.bot`."""
    owner: str
    """Who scanned, `…@im.wechat`."""
    stale: bool = False
    """The platform does not accept the token any more. It is kept: shown along with a new code, it may turn out to be
    still bound."""


class Keeper:
    """Files in the account's own folder, mode 0700, each of them 0600. Reading never fails: what is damaged is absent."""

    def __init__(self, folder: Path) -> None:
        self._credentials = folder / "credentials.json"
        self._cursor = folder / "cursor"
        self._known: Credentials | None = None

    def credentials(self) -> Credentials | None:
        """Those of the last scan; None if there was none."""
        self._known = self._known or self._stored()
        return self._known

    def _stored(self) -> Credentials | None:
        text = _read(self._credentials)
        if not text:
            return None
        try:
            fields = json.loads(text)
            names = ("token", "url", "bot", "owner")
            known = Credentials(**{name: str(fields[name]) for name in names}, stale=bool(fields.get("stale")))
        except (ValueError, TypeError, KeyError):
            log.error("stored credentials are damaged; a new code is to be scanned", file=str(self._credentials))
            return None
        return known if known.token else None

    def keep(self, credentials: Credentials) -> None:
        """Store them, on disk when this returns. A disk that is full does not end the sign-in."""
        before = self.credentials()
        if before is not None and before.bot != credentials.bot:
            self.keep_cursor("")  # it is another bot's
        self._known = credentials
        try:
            _write(self._credentials, json.dumps(asdict(credentials)), lasting=True)
        except OSError as error:
            log.error(
                "credentials cannot be stored; after a restart a new code is to be scanned",
                file=str(self._credentials),
                error=error.strerror,
            )

    def cursor(self) -> str:
        """Up to where everything was handled; empty at the beginning."""
        return _read(self._cursor)

    def keep_cursor(self, cursor: str) -> None:
        """An older one does no harm: what it brings again is recognised."""
        try:
            _write(self._cursor, cursor, lasting=False)
        except OSError as error:
            log.warning("the cursor cannot be stored", file=str(self._cursor), error=error.strerror)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        log.error("a file of the account cannot be read", file=str(file), error=type(error).__name__)
        return ""


def _write(file: Path, text: str, *, lasting: bool) -> None:
    """The file appears whole, and for its owner alone."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(file.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text)
        if lasting:
            out.flush()
            os.fsync(out.fileno())
    fresh.replace(file)
