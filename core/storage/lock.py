"""A lock file beside the database: one process at a time."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

from core.errors import ConfigError, StorageBusy


class LockFile:
    """Held from `acquire` to `release`, or until the process dies. The file stays; only the lock on it counts."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self.path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raises StorageBusy where another process holds it, ConfigError where the file cannot be made."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(
                f"storage: cannot create {str(self.path)!r}: {error.strerror}; choose a folder that can be written to"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise StorageBusy(
                f"storage: {str(self._database)!r} is in use by {holder}; "
                "stop that one first, or give this one a database of its own (storage.url)"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid()}).encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the next one in. May be called twice."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None


def _holder(descriptor: int) -> str:
    try:
        return f"process {int(json.loads(os.pread(descriptor, 200, 0))['pid'])}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
