"""When Python looks for garbage: not while the program starts, and never again in what that made.

Starting makes a hundred thousand objects, nearly all of which stay. Looking through them again and again costs a seventh
of the start; and each full collection afterwards, a few an hour, would hold the event loop up for 30 to 50 ms.
"""

from __future__ import annotations

import gc


def start_without_collecting() -> None:
    """First thing in the process."""
    gc.disable()


def started() -> None:
    """The program works from now on: what there is stays and is not looked at again, what comes is."""
    gc.freeze()
    gc.enable()
