"""What was made of the texts that came last, for whoever asks for the same again."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """The values used last, as many as weigh `most` together. May be used from several threads.

    A value has to follow from its key alone: whether one is found must change nothing but the time it takes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> Value | None:
        """The value kept under `key`; None if there is none, or no longer."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                return None
            self._kept.move_to_end(key)
            return found[0]

    def keep(self, key: Key, value: Value, weight: int) -> None:
        """Keep `value`, which is not None, and let go of the oldest ones. One heavier than an eighth of all is not kept."""
        if weight > self._most // 8:
            return
        with self._lock:
            former = self._kept.pop(key, None)
            self._kept[key] = (value, weight)
            self._weight += weight - (0 if former is None else former[1])
            while self._weight > self._most:
                self._weight -= self._kept.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._kept.clear()
            self._weight = 0
